/// Walks a repository's tree in key order as far as the blocks allow: it says which block it needs next, is given it, and goes on.
///
/// The order is that of a streamable file (atproto.com/specs/repository, "CAR File Serialization"): a node, then by turns its
/// subtrees and its records. Each node is checked against its place by `MSTNode`: canonical, in order, between its neighbours, on its
/// layer. Hence no path is longer than the root's layer, whoever answers, and no cycle can be followed.
struct RepoWalk {
    enum Need {
        case node(MSTStub)
        case record(MSTKey, CID)
    }

    private struct Frame {
        let node: MSTNode
        let cid: CID
        let offset: Int
        /// What comes next: 0 the subtree `l`, then for entry i its record at 2i + 1 and its subtree `t` at 2i + 2.
        var position = 0
    }

    /// Nil at the end of the tree.
    private(set) var need: Need?
    private(set) var nodes = 0
    private(set) var records = 0
    private var frames: [Frame] = []
    private let limits: MSTLimits

    init(root: CID, limits: MSTLimits) {
        need = .node(MSTStub(root: root))
        self.limits = limits
    }

    /// Goes on past the node that is needed.
    /// - Parameter offset: of its bytes in the file, for the error.
    mutating func take(node bytes: [UInt8], of stub: MSTStub, offset: Int) throws(RepoError) {
        do throws(MSTError) {
            frames.append(Frame(node: try MSTNode(block: bytes, of: stub, limits: limits), cid: stub.cid, offset: offset))
        } catch .invalidNode(let cid, let fault) {
            throw .node(cid, offset: offset, fault)
        } catch {
            preconditionFailure("a node from bytes fails as a node only: \(error)")
        }
        nodes += 1
        try advance()
    }

    /// Goes on past the record that is needed.
    mutating func takeRecord() throws(RepoError) {
        records += 1
        try advance()
    }

    private mutating func advance() throws(RepoError) {
        while let frame = frames.last {
            let index = frame.position / 2
            if frame.position == 2 * frame.node.entries.count + 1 {
                frames.removeLast()
                continue
            }
            frames[frames.count - 1].position += 1
            if frame.position % 2 == 1 {
                let entry = frame.node.entries[index]
                guard entry.key.isRecordPath else { throw .key(entry.key.description, node: frame.cid, offset: frame.offset) }
                need = .record(entry.key, entry.value)
                return
            }
            if case .stored(let stub)? = frame.node[slot: index] {
                need = .node(stub)
                return
            }
        }
        need = nil
    }
}

extension MSTKey {
    /// Whether the collection is an NSID and the record key one, which a repository asks for and the tree does not.
    fileprivate var isRecordPath: Bool {
        let bytes = storage.span
        let slash = bytes.firstIndex(of: UInt8(ascii: "/"), from: 1, to: bytes.count)
        return slash < bytes.count && NSID.verdict(bytes.extracting(1..<slash)) == .accepted
            && RecordKey.verdict(bytes.extracting(slash + 1..<bytes.count)) == .accepted
    }
}
