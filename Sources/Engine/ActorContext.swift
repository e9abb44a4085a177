import ATProto
import Commands
import EventLog
import Keys
import Projections

/// What the engine keeps in memory beside an actor's open rows: the fold as it stands and the tree, with the nodes that were
/// loaded. It lives and dies with the open rows, on their thread.
final class ActorContext {
    var state: ActorState
    var tree: MST
    /// Whether the fold has reached the end of the actor's log, which this process then keeps it at.
    var isCurrent = false
    /// The key that signs commits, once it was needed.
    var signingKey: PrivateKey?

    private init(state: ActorState, tree: MST) {
        self.state = state
        self.tree = tree
    }

    static func of(_ actor: DID, in rows: any ActorRows) throws -> ActorContext {
        if let context = rows.memory as? ActorContext { return context }
        let state = try rows.state() ?? ActorState(did: actor)
        let context = ActorContext(state: state, tree: tree(of: state, in: rows))
        rows.memory = context
        return context
    }

    /// The tree of a stored state, its nodes read as they are needed, on the rows' own thread only.
    static func tree(of state: ActorState, in rows: any ActorRows) -> MST {
        guard let repo = state.repo else { return MST() }
        let source = NodeSource(rows)
        return MST(root: repo.data, source: { cid throws(MSTError) in try source.node(cid) })
    }

    /// Folds events upon this context and moves rows and context together; neither moves where anything is refused (I9).
    func apply(_ events: [StoredEvent], chunks: [CID: [UInt8]], to rows: any ActorRows) throws {
        let usage = try rows.collections()
        // Where no collection has records, no record has to be looked for: an import asks for each of its own.
        let row: (RecordPath) throws -> RecordRow? = usage.isEmpty ? { _ in nil } : { try rows.record($0) }
        var fold = ActorFold(upon: state, tree: tree, row: row, usage: { usage[$0] ?? Usage() })
        for event in events { try fold.apply(event, chunk: { chunks[$0] }) }
        let (changes, tree) = fold.finish()
        try rows.apply(changes)
        state = changes.state
        self.tree = tree
    }
}

/// Reads the tree's nodes from an actor's rows.
///
/// `@unchecked Sendable`: a tree is a value that may travel, but it is only ever walked inside `ReadModel.withActor`, on the one
/// thread that has these rows open.
private final class NodeSource: @unchecked Sendable {
    private unowned let rows: any ActorRows

    init(_ rows: any ActorRows) { self.rows = rows }

    func node(_ cid: CID) throws(MSTError) -> [UInt8]? {
        do { return try rows.node(cid) } catch { throw .unreadableBlock(cid, reason: "\(error)") }
    }
}
