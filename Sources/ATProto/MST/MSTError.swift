/// Why a tree could not be read or changed. A failed change leaves the tree as it was.
public enum MSTError: Error, Hashable, Sendable {
    /// Not `collection/record-key`; at most the first 64 characters of the text. The sender's fault.
    case invalidKey(String)
    /// An insert met a record at its key: update instead, or refuse.
    case exists(MSTKey)
    /// An update or a delete met no record at its key.
    case absent(MSTKey)
    /// The source does not have this node: a partial tree that lacks what the question needs, or a damaged store.
    case missingBlock(CID)
    /// The source could not be asked; its own words.
    case unreadableBlock(CID, reason: String)
    /// The source gave other bytes than the CID names.
    case hashMismatch(CID)
    /// The bytes are not a node that may stand where the tree refers to it.
    case invalidNode(CID, MSTNodeFault)
    /// The change would make a node that every reader of this limit refuses. Only keys chosen for their hashes get here.
    case nodeTooLarge(entries: Int, entriesMax: Int)
    /// An operation of a list cannot be undone: the tree holds something else than the operation left. `found` is nil for no
    /// record.
    case notResult(of: MSTOperation, found: CID?)
    /// A list of operations names a key twice.
    case repeatedKey(MSTKey)
    /// Entries for a bulk build do not ascend at this key.
    case unsorted(MSTKey)
}

/// What is wrong with the bytes of a node.
public enum MSTNodeFault: Error, Hashable, Sendable {
    /// Not the one canonical encoding of a node; `offset` is where reading stopped.
    case encoding(offset: Int)
    /// A subtree link that is not to a DAG-CBOR block.
    case link(offset: Int)
    /// More entries than the limit.
    case entries(count: Int)
    /// A key that is not `collection/record-key`, or is too long; the number of its entry.
    case key(entry: Int)
    /// A key shares more, or less, with the key before it than its prefix length says.
    case prefix(entry: Int)
    /// A key not after the key before it.
    case order(entry: Int)
    /// A key not between the keys around the reference to this node.
    case bounds(entry: Int)
    /// A key of another layer than the node's.
    case layer(entry: Int)
    /// A node without entries that is neither the root of the empty tree nor between two layers.
    case empty
    /// A subtree under layer 0.
    case belowLayerZero
    /// The root stands higher than the limit.
    case depth(layer: Int)
}

/// What is accepted of a stranger's tree. An edit that would pass `entriesMax` is refused, so that what is written can be read.
public struct MSTLimits: Hashable, Sendable {
    /// Entries in one node. Keys whose hashes were not chosen fill 1,024 with a chance of 0.75¹⁰²⁴.
    public var entriesMax: Int
    /// The layer of the root. Chance puts a tree of n keys at about log₄ n; 64 zero bits are out of anybody's reach.
    public var layerMax: Int

    public init(entriesMax: Int = 1024, layerMax: Int = 32) {
        self.entriesMax = entriesMax
        self.layerMax = layerMax
    }

    public static let standard = MSTLimits()
}

extension MSTError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .invalidKey(let text): "not a record path: \"\(text)\"; expected collection/record-key, at most \(MSTKey.byteCountMax) bytes"
        case .exists(let key): "there is already a record at \(key)"
        case .absent(let key): "there is no record at \(key)"
        case .missingBlock(let cid): "the tree's node \(cid) is missing"
        case .unreadableBlock(let cid, let reason): "the tree's node \(cid) could not be read: \(reason)"
        case .hashMismatch(let cid): "the bytes given for the tree's node \(cid) have another hash"
        case .invalidNode(let cid, let fault): "the tree's node \(cid) is not valid: \(fault)"
        case .nodeTooLarge(let entries, let entriesMax):
            "a node of the tree would hold \(entries) records; at most \(entriesMax) are allowed"
        case .notResult(let operation, let found):
            "the tree does not hold what the operation on \(operation.key) left, but \(found.map(\.description) ?? "no record")"
        case .repeatedKey(let key): "two operations name \(key)"
        case .unsorted(let key): "\(key) does not come after the key before it"
        }
    }
}

extension MSTNodeFault: CustomStringConvertible {
    public var description: String {
        switch self {
        case .encoding(let offset): "not the canonical encoding of a node, at byte \(offset)"
        case .link(let offset): "a subtree is not a DAG-CBOR block, at byte \(offset)"
        case .entries(let count): "\(count) entries are too many"
        case .key(let entry): "entry \(entry) has no valid key"
        case .prefix(let entry): "entry \(entry) states a wrong shared prefix"
        case .order(let entry): "entry \(entry) is out of order"
        case .bounds(let entry): "entry \(entry) is outside the keys around its node"
        case .layer(let entry): "entry \(entry) belongs to another layer"
        case .empty: "a node without entries where none may be"
        case .belowLayerZero: "a subtree under the lowest layer"
        case .depth(let layer): "the root is at layer \(layer), too high"
        }
    }
}
