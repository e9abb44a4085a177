extension MST {
    /// Visits the records in key order, from the first key that is `from` or after it, until `visit` says false.
    public func walk(
        from: MSTKey? = nil, _ visit: (MSTKey, CID) throws(MSTError) -> Bool
    ) throws(MSTError) {
        _ = try forward(top, from: from, visit)
    }

    /// Visits the records in reverse key order, from the last key that is `from` or before it, until `visit` says false.
    public func walkReversed(
        from: MSTKey? = nil, _ visit: (MSTKey, CID) throws(MSTError) -> Bool
    ) throws(MSTError) {
        _ = try backward(top, from: from, visit)
    }

    /// Visits the records of one collection in key order until `visit` says false.
    /// - Parameters:
    ///   - cursor: begins after this record key in the direction of the walk; it need not be there. Nil: at the end.
    ///   - reversed: from the last key down, which for TIDs is newest first.
    public func walk(
        collection: NSID, after cursor: RecordKey? = nil, reversed: Bool = false, _ visit: (MSTKey, CID) throws(MSTError) -> Bool
    ) throws(MSTError) {
        let name = collection.description
        let cursorKey = cursor.map { MSTKey(collection: collection, recordKey: $0) }
        // `0` is the character after `/`: no key of the collection comes after that text, and all other keys of later collections do.
        let first = MSTKey(bound: (name + "/").utf8)
        let last = MSTKey(bound: (name + "0").utf8)
        let visitInside = { (key: MSTKey, value: CID) throws(MSTError) in
            guard first < key, key < last else { return false }
            return key == cursorKey ? true : try visit(key, value)
        }
        if reversed {
            _ = try backward(top, from: cursorKey ?? last, visitInside)
        } else {
            _ = try forward(top, from: cursorKey ?? first, visitInside)
        }
    }

    /// The collections that have records, in key order. Skips from one to the next, so the cost does not grow with the records.
    public func collections() throws(MSTError) -> [String] {
        var collections: [String] = []
        var bound: MSTKey?
        while true {
            var found: MSTKey?
            _ = try forward(top, from: bound) { (key, _) throws(MSTError) in
                found = key
                return false
            }
            guard let found else { return collections }
            collections.append(found.collection)
            bound = MSTKey(bound: (found.collection + "0").utf8)
        }
    }

    /// The whole tree in the order in which a CAR is best streamed: a node, then its subtrees and records in key order.
    public func nodes() -> MSTTraversal { MSTTraversal(self, among: nil) }

    /// The same for some of its nodes: a subtree whose top is not among them is passed over unread.
    public func nodes(among cids: Set<CID>) -> MSTTraversal { MSTTraversal(self, among: cids) }

    /// - Returns: whether to go on.
    private func forward(
        _ subtree: MSTSubtree?, from: MSTKey?, _ visit: (MSTKey, CID) throws(MSTError) -> Bool
    ) throws(MSTError) -> Bool {
        guard let subtree else { return true }
        let node = try loader.node(subtree)
        let (start, found) = from.map(node.search) ?? (0, false)
        if !found, try !forward(node[slot: start], from: from, visit) { return false }
        for entry in node.entries[start...] {
            guard try visit(entry.key, entry.value), try forward(entry.after, from: nil, visit) else { return false }
        }
        return true
    }

    /// - Returns: whether to go on.
    private func backward(
        _ subtree: MSTSubtree?, from: MSTKey?, _ visit: (MSTKey, CID) throws(MSTError) -> Bool
    ) throws(MSTError) -> Bool {
        guard let subtree else { return true }
        let node = try loader.node(subtree)
        let (start, found) = from.map(node.search) ?? (node.entries.count, false)
        if !found, try !backward(node[slot: start], from: from, visit) { return false }
        for index in stride(from: found ? start : start - 1, through: 0, by: -1) {
            let entry = node.entries[index]
            guard try visit(entry.key, entry.value), try backward(node[slot: index], from: nil, visit) else { return false }
        }
        return true
    }
}

/// What a walk over the whole tree meets.
public enum MSTItem: Sendable {
    case node(cid: CID, bytes: [UInt8])
    case record(key: MSTKey, value: CID)
}

/// A walk over the whole tree that is asked for each next item, and holds one path of nodes meanwhile. Walking to the end checks
/// the whole tree.
public struct MSTTraversal: Sendable {
    private let loader: MSTLoader
    /// The nodes to visit; nil: all.
    private let among: Set<CID>?
    private var pending: MSTSubtree?
    private var path: [(node: MSTNode, position: Int)] = []

    init(_ tree: MST, among: Set<CID>?) {
        loader = tree.loader
        self.among = among
        pending = tree.top
    }

    /// The next item, or nil at the end. After an error it is the end.
    public mutating func next() throws(MSTError) -> MSTItem? {
        while true {
            if let subtree = pending {
                pending = nil
                guard among?.contains(subtree.cid) ?? true else { continue }
                do {
                    let (node, bytes) = try loader.nodeAndBlock(subtree)
                    path.append((node, 0))
                    return .node(cid: node.cid, bytes: bytes)
                } catch {
                    path = []
                    throw error
                }
            }
            guard let (node, position) = path.last else { return nil }
            guard position <= 2 * node.entries.count else {
                path.removeLast()
                continue
            }
            path[path.count - 1].position += 1
            if position.isMultiple(of: 2) {
                pending = node[slot: position / 2]
            } else {
                let entry = node.entries[position / 2]
                return .record(key: entry.key, value: entry.value)
            }
        }
    }
}
