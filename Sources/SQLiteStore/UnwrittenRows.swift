import ATProto
import Commands
import Projections

/// What was applied to one actor's rows and is not in its file yet: the state, and the nodes of the tree that came and went. The
/// other rows stand in the file's open transaction.
///
/// Rows are committed after so many applications, when their thread has nothing else to do, and before the file is closed, not with
/// every write: most nodes that a write makes are replaced by the next one, and so never reach the file. Meanwhile they are seen by
/// this process alone, and nobody else may open the file. A crash takes them, and the log gives them back. State, nodes
/// and the rest still move together, by the one commit (I9).
struct UnwrittenRows {
    enum Node {
        case added([UInt8])
        case removed
        case asStored
    }

    private(set) var state: ActorState
    private var added: [CID: [UInt8]] = [:]
    private(set) var removed: Set<CID> = []
    private var applications = 0
    private var bytes = 0

    private static let applicationsMax = 32
    private static let bytesMax = 256 << 10

    init(state: ActorState) { self.state = state }

    /// Whether there is enough of it to be committed.
    var isDue: Bool { applications >= Self.applicationsMax || bytes >= Self.bytesMax }

    /// In the order of the file, so that many are written page by page.
    var addedInOrder: [(CID, [UInt8])] { added.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }

    func node(_ cid: CID) -> Node {
        if let bytes = added[cid] { return .added(bytes) }
        return removed.contains(cid) ? .removed : .asStored
    }

    mutating func take(_ changes: ActorChanges) {
        state = changes.state
        applications += 1
        for (cid, block) in changes.nodesAdded where removed.remove(cid) == nil {
            added[cid] = block
            bytes += block.count
        }
        for cid in changes.nodesRemoved {
            if let block = added.removeValue(forKey: cid) { bytes -= block.count } else { removed.insert(cid) }
        }
    }

    /// For a repo that is cleared: its stored nodes are gone.
    mutating func forgetNodes() {
        (added, removed, bytes) = ([:], [], 0)
    }
}
