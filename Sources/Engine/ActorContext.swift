import ATProto
import Commands
import EventLog
import Keys
import Projections

/// What the engine keeps in memory beside an actor's open rows: the fold as it stands and the tree, with the nodes that were
/// loaded. It lives and dies with the open rows, on their thread.
final class ActorContext {
    private(set) var state: ActorState
    private(set) var tree: MST
    /// Whether the fold has reached the end of the actor's log, which this process then keeps it at.
    var isCurrent = false
    /// The key that signs commits, once it was needed.
    var signingKey: PrivateKey?
    /// What an append that is on its way to the log will change.
    private var prepared: Folded?
    /// Records that were edited since the tree's nodes in memory were last counted.
    private var edits = 0

    /// Nodes that stay in memory; more for as long as it takes to edit `editsMax` records. What is edited again and again has fewer,
    /// and a repo that is written all over reads most of its nodes anyway.
    static let nodesMax = 512
    static let editsMax = 64

    private struct Folded {
        let changes: ActorChanges
        let tree: MST
    }

    private init(state: ActorState, tree: MST) {
        self.state = state
        self.tree = tree
    }

    static func of(_ actor: DID, in rows: any ActorRows) throws -> ActorContext {
        if let context = rows.memory as? ActorContext { return context }
        let state = try rows.state() ?? ActorState(did: actor)
        let context = ActorContext(state: state, tree: state.repo.map { tree(of: $0, in: rows) } ?? MST())
        rows.memory = context
        return context
    }

    /// The tree of a stored repo, its nodes read as they are needed, on the rows' own thread only.
    static func tree(of repo: RepoHead, in rows: any ActorRows) -> MST {
        let source = NodeSource(rows)
        return MST(root: repo.data, source: { cid throws(MSTError) in try source.node(cid) })
    }

    /// Folds events upon this context and moves rows and context together; neither moves where anything is refused (I9).
    func apply(_ step: FoldStep, to rows: any ActorRows) throws {
        switch step {
        case .events(let events, let chunks):
            try move(try fold(events, upon: rows) { try chunks[$0].map(RepoImport.Chunk.init(bytes:)) }, rows)
        case .erased(let changes):
            guard changes.from == state.head.sequence else {
                throw FoldError.outOfOrder(actor: state.did, at: changes.state.head.sequence)
            }
            try move(Folded(changes: changes, tree: MST()), rows)
        }
    }

    /// Folds what is about to be appended, and keeps the result for `settle`. An event that its own fold refuses would stop the
    /// actor for ever, so it must never reach the log (I8).
    /// - Parameter chunks: those of an import's operations, read back from the blocks of the append.
    func prepare(_ append: Append, chunks: [CID: RepoImport.Chunk] = [:], upon rows: any ActorRows) throws {
        prepared = try fold(append.stored, upon: rows) { chunks[$0] }
    }

    /// Moves rows and context over an append that the log has taken.
    func settle(_ append: Append, _ rows: any ActorRows) throws {
        let folded = prepared
        prepared = nil
        if let folded, folded.changes.from == state.head.sequence, folded.changes.state.head == append.head {
            try move(folded, rows)
        } else {
            // The rows were closed meanwhile and opened again.
            try apply(.events(append.stored, chunks: append.chunks), to: rows)
        }
    }

    private func fold(
        _ events: [StoredEvent], upon rows: any ActorRows, chunk: (CID) throws -> RepoImport.Chunk?
    ) throws -> Folded {
        let usage = try rows.collections()
        // Where no collection has records, no record has to be looked for.
        let row: (RecordPath) throws -> RecordRow? = usage.isEmpty ? { _ in nil } : { try rows.record($0) }
        var fold = ActorFold(upon: state, tree: tree, row: row, usage: usage)
        for event in events { try fold.apply(event, chunk: chunk) }
        let (changes, tree) = fold.finish()
        return Folded(changes: changes, tree: tree)
    }

    private func move(_ folded: Folded, _ rows: any ActorRows) throws {
        do { try rows.apply(folded.changes) } catch {
            // I9: whether they moved is not known, so the next touch reads from them where they stand.
            rows.memory = nil
            throw error
        }
        state = folded.changes.state
        tree = folded.tree
        boundTree(afterEditing: folded.changes.records.count + folded.changes.created.count, rows)
    }

    /// An edit keeps the nodes that it went through, so a repo that is written all over would come to be in memory as a whole. Where
    /// there are too many the tree becomes a reference to its root again: the rows have every node.
    private func boundTree(afterEditing records: Int, _ rows: any ActorRows) {
        edits += records
        guard edits >= Self.editsMax else { return }
        edits = 0
        if let repo = state.repo, tree.loadedNodeCount > Self.nodesMax { tree = Self.tree(of: repo, in: rows) }
    }
}

extension Append {
    /// The events as the store will give them, but for positions, which no fold needs.
    fileprivate var stored: [StoredEvent] {
        events.map { StoredEvent(position: nil, bytes: $0.bytes, cid: $0.cid, body: $0.bodyBytes, leaf: $0.leaf) }
    }

    /// The chunks of an import's operations.
    fileprivate var chunks: [CID: [UInt8]] {
        var chunks: [CID: [UInt8]] = [:]
        for signed in events where signed.event.kind == .repoImport {
            // best effort: a body that cannot be read is refused when it is folded.
            guard case .repoImport(let bulk)? = try? EventBody(kind: .repoImport, bytes: signed.bodyBytes) else { continue }
            let wanted = Set(bulk.chunks)
            for block in blocks where wanted.contains(block.cid) { chunks[block.cid] = block.bytes }
        }
        return chunks
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
