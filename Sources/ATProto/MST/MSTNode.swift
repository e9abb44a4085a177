import Synchronization

/// A node in memory: a run of records of one layer in key order, with the subtrees that hold the keys before, between and after
/// them one layer down.
///
/// Trees share nodes. An edit changes a node in place when its tree is the only one that has it, and otherwise changes a copy,
/// so nobody ever sees a node change. `left` and each entry's `after` are the wire's `l` and `t`, so two subtrees side by side, or
/// one without its place, cannot be written.
///
/// The CID comes later, when somebody asks: hashing costs more than all the rest of an edit, and most nodes of a batch of edits
/// are changed again before the batch ends.
///
/// `@unchecked Sendable`: an edit writes only while it holds the only reference. While a node is shared, one property is written:
/// `hash`, once, by the one thread that moved `hashState` from `unset` to `writing`, before its releasing store of `set`; and it is
/// read only after an acquiring load of `set`. The run-time's check of exclusive access is off for the same reason, and because it
/// took a seventh of the time of a commit.
final class MSTNode: @unchecked Sendable {
    let layer: Int
    /// The generation of the tree that made this node or changed it last; 0 for a node as it was read. See `MST.takeChanges`.
    @exclusivity(unchecked) private(set) var stamp: UInt64
    @exclusivity(unchecked) var left: MSTSubtree?
    @exclusivity(unchecked) var entries: [MSTEntry]

    private let hashState: Atomic<UInt8>
    @exclusivity(unchecked) private var hash: CID?
    private static let unset: UInt8 = 0
    private static let writing: UInt8 = 1
    private static let set: UInt8 = 2

    init(layer: Int, stamp: UInt64, left: MSTSubtree?, entries: [MSTEntry], cid: CID? = nil) {
        self.layer = layer
        self.stamp = stamp
        self.left = left
        self.entries = entries
        hash = cid
        hashState = Atomic(cid == nil ? Self.unset : Self.set)
    }

    /// Another node with the same content, for an edit that must not change this one.
    func copy() -> MSTNode {
        MSTNode(layer: layer, stamp: stamp, left: left, entries: entries, cid: known)
    }

    /// Notes that an edit has changed this node, of which it holds the only reference.
    func markChanged(stamp: UInt64) {
        self.stamp = stamp
        hash = nil
        hashState.store(Self.unset, ordering: .relaxed)
    }

    /// The root of the empty tree.
    var isEmptyTree: Bool { entries.isEmpty && left == nil }

    /// The subtree before entry `index`, or after the last one for `entries.count`.
    subscript(slot index: Int) -> MSTSubtree? {
        get { index == 0 ? left : entries[index - 1].after }
        _modify {
            if index == 0 { yield &left } else { yield &entries[index - 1].after }
        }
    }

    /// The first entry whose key is `key` or after it, and whether it is `key`.
    func search(_ key: MSTKey) -> (index: Int, found: Bool) {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            let order = MSTKey.order(entries[middle].key, key)
            if order == 0 { return (middle, true) }
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        return (low, false)
    }

    /// Hashes this node and whatever below it has not been hashed.
    var cid: CID {
        if let known { return known }
        // Encoding asks the children for theirs.
        let cid = withUnsafeTemporaryAllocation(byteCount: blockCapacity, alignment: 8) { buffer in
            // A node's capacity is never zero, so the buffer has an address.
            CID(hashing: UnsafeRawBufferPointer(rebasing: buffer[..<encode(to: buffer.baseAddress!)]))
        }
        publish(cid)
        return cid
    }

    /// The block of this node.
    var block: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: blockCapacity) { buffer, count in
            count = encode(to: UnsafeMutableRawPointer(buffer.baseAddress!))
        }
    }

    /// CID and block in one encoding.
    func hashedBlock() -> (cid: CID, bytes: [UInt8]) {
        let bytes = block
        if let known { return (known, bytes) }
        let cid = CID(hashing: bytes)
        publish(cid)
        return (cid, bytes)
    }

    private var known: CID? {
        hashState.load(ordering: .acquiring) == Self.set ? hash : nil
    }

    /// A second thread that has computed the same CID meanwhile leaves the writing to the first.
    private func publish(_ cid: CID) {
        guard hashState.compareExchange(expected: Self.unset, desired: Self.writing, ordering: .relaxed).exchanged else { return }
        hash = cid
        hashState.store(Self.set, ordering: .releasing)
    }
}

/// One record, and the subtree of the keys between it and the next record of its node.
struct MSTEntry: Sendable {
    let key: MSTKey
    var value: CID
    var after: MSTSubtree?
}

/// A reference to a node: in memory, or still where the source keeps it.
enum MSTSubtree: Sendable {
    case node(MSTNode)
    case stored(MSTStub)

    var cid: CID {
        switch self {
        case .node(let node): node.cid
        case .stored(let stub): stub.cid
        }
    }

    /// Nil only for a root that has not been read.
    var layer: Int? {
        switch self {
        case .node(let node): node.layer
        case .stored(let stub): stub.layer
        }
    }
}

/// A node that has not been read, and all that its place in the tree says about it: what the bytes must then satisfy.
///
/// The bounds stay true while the tree around it is edited: a key that goes between them has the node read and split.
final class MSTStub: Sendable {
    let cid: CID
    /// Nil for a root: its keys say.
    let layer: Int?
    /// Every key of the subtree comes after this one; nil: no bound.
    let lower: MSTKey?
    /// Every key of the subtree comes before this one; nil: no bound.
    let upper: MSTKey?

    init(root cid: CID) {
        self.cid = cid
        layer = nil
        lower = nil
        upper = nil
    }

    init(cid: CID, layer: Int, lower: MSTKey?, upper: MSTKey?) {
        self.cid = cid
        self.layer = layer
        self.lower = lower
        self.upper = upper
    }
}

/// Reads nodes from a source, and believes nothing.
struct MSTLoader: Sendable {
    var source: MST.BlockSource?
    var limits = MSTLimits.standard
    /// The source has hashed its blocks already.
    var hashesChecked = false

    func node(_ subtree: MSTSubtree) throws(MSTError) -> MSTNode {
        switch subtree {
        case .node(let node): node
        case .stored(let stub): try MSTNode(block: bytes(stub.cid), of: stub, limits: limits)
        }
    }

    func nodeAndBlock(_ subtree: MSTSubtree) throws(MSTError) -> (node: MSTNode, bytes: [UInt8]) {
        switch subtree {
        case .node(let node): return (node, node.block)
        case .stored(let stub):
            let bytes = try bytes(stub.cid)
            return (try MSTNode(block: bytes, of: stub, limits: limits), bytes)
        }
    }

    func bytes(_ cid: CID) throws(MSTError) -> [UInt8] {
        guard let bytes = try source?(cid) else { throw .missingBlock(cid) }
        guard hashesChecked || CID(hashing: bytes) == cid else { throw .hashMismatch(cid) }
        return bytes
    }
}
