/// One edit of a tree: makes the changed nodes anew, from the bottom of their path up, and notes which nodes they replace.
///
/// An edit that throws is thrown away with its notes; the tree still has its old top.
struct MSTEdit {
    let loader: MSTLoader
    let stamp: UInt64
    /// Replaced nodes that were there before this generation.
    private(set) var dropped: [CID] = []

    init(loader: MSTLoader, stamp: UInt64) {
        self.loader = loader
        self.stamp = stamp
    }

    // MARK: Insert

    mutating func insert(_ key: MSTKey, _ value: CID, into top: MSTNode) throws(MSTError) -> MSTNode {
        if top.isEmptyTree {
            drop(top)
            return try make(key.layer, nil, [MSTEntry(key: key, value: value, after: nil)])
        }
        guard key.layer > top.layer else { return try insert(key, value, below: top) }
        let (before, after) = try split(.node(top), around: key)
        let right = try raise(after, to: key.layer - 1)
        return try make(key.layer, raise(before, to: key.layer - 1), [MSTEntry(key: key, value: value, after: right)])
    }

    private mutating func insert(_ key: MSTKey, _ value: CID, below node: MSTNode) throws(MSTError) -> MSTNode {
        let (index, found) = node.search(key)
        if found { throw .exists(key) }
        if key.layer < node.layer {
            let child: MSTNode
            if let subtree = node.slot(index) {
                child = try insert(key, value, below: loader.node(subtree))
            } else {
                let bottom = try make(key.layer, nil, [MSTEntry(key: key, value: value, after: nil)])
                child = try raise(bottom, to: node.layer - 1)
            }
            return try replace(index, of: node, with: .node(child))
        }
        let (before, after) = try split(node.slot(index), around: key)
        var entries: [MSTEntry] = []
        entries.reserveCapacity(node.entries.count + 1)
        entries.append(contentsOf: node.entries[..<index])
        if index > 0 { entries[index - 1].after = before }
        entries.append(MSTEntry(key: key, value: value, after: after))
        entries.append(contentsOf: node.entries[index...])
        drop(node)
        return try make(node.layer, index == 0 ? before : node.left, entries)
    }

    /// The parts of `subtree` before and after `key`, which is of a higher layer. A part that is the whole is left as it is.
    private mutating func split(_ subtree: MSTSubtree?, around key: MSTKey) throws(MSTError) -> (MSTSubtree?, MSTSubtree?) {
        guard let subtree else { return (nil, nil) }
        let node = try loader.node(subtree)
        let index = node.search(key).index
        let (before, after) = try split(node.slot(index), around: key)
        if index == 0, before == nil { return (nil, subtree) }
        if index == node.entries.count, after == nil { return (subtree, nil) }
        drop(node)
        var kept = Array(node.entries[..<index])
        if index > 0 { kept[index - 1].after = before }
        let left = try make(node.layer, index == 0 ? before : node.left, kept)
        let right = try make(node.layer, after, Array(node.entries[index...]))
        return (.node(left), .node(right))
    }

    private func raise(_ subtree: MSTSubtree?, to layer: Int) throws(MSTError) -> MSTSubtree? {
        guard let subtree else { return nil }
        return .node(try raise(loader.node(subtree), to: layer))
    }

    /// Puts nodes without entries over `node` until one stands at `layer`.
    private func raise(_ node: MSTNode, to layer: Int) throws(MSTError) -> MSTNode {
        var node = node
        while node.layer < layer { node = try make(node.layer + 1, .node(node), []) }
        return node
    }

    // MARK: Update

    mutating func update(_ key: MSTKey, _ value: CID, in node: MSTNode) throws(MSTError) -> (node: MSTNode, old: CID) {
        let (index, found) = node.search(key)
        guard found else {
            guard let subtree = node.slot(index) else { throw .absent(key) }
            let child = try loader.node(subtree)
            let (updated, old) = try update(key, value, in: child)
            return (updated === child ? node : try replace(index, of: node, with: .node(updated)), old)
        }
        let old = node.entries[index]
        if old.value == value { return (node, value) }
        var entries = node.entries
        entries[index] = MSTEntry(key: old.key, value: value, after: old.after)
        drop(node)
        return (try make(node.layer, node.left, entries), old.value)
    }

    // MARK: Delete

    mutating func delete(_ key: MSTKey, from top: MSTNode) throws(MSTError) -> (node: MSTNode, old: CID) {
        let (rest, old) = try remove(key, from: top)
        guard var top = rest else { return (try make(0, nil, []), old) }
        while top.entries.isEmpty, let below = top.left {
            drop(top)
            top = try loader.node(below)
        }
        return (top, old)
    }

    /// - Returns: what is left of `node`; nil for nothing.
    private mutating func remove(_ key: MSTKey, from node: MSTNode) throws(MSTError) -> (node: MSTNode?, old: CID) {
        let (index, found) = node.search(key)
        guard found else {
            guard let subtree = node.slot(index) else { throw .absent(key) }
            let (child, old) = try remove(key, from: loader.node(subtree))
            if child == nil, node.entries.isEmpty {
                drop(node)
                return (nil, old)
            }
            return (try replace(index, of: node, with: child.map { .node($0) }), old)
        }
        let joined = try join(node.slot(index), node.slot(index + 1))
        var entries = node.entries
        let old = entries.remove(at: index).value
        drop(node)
        if entries.isEmpty, joined == nil { return (nil, old) }
        if index > 0 { entries[index - 1].after = joined }
        return (try make(node.layer, index == 0 ? joined : node.left, entries), old)
    }

    /// Makes one subtree of two neighbours of the same layer between which no key is left.
    private mutating func join(_ left: MSTSubtree?, _ right: MSTSubtree?) throws(MSTError) -> MSTSubtree? {
        guard let left else { return right }
        guard let right else { return left }
        let before = try loader.node(left)
        let after = try loader.node(right)
        let middle = try join(before.slot(before.entries.count), after.left)
        var entries: [MSTEntry] = []
        entries.reserveCapacity(before.entries.count + after.entries.count)
        entries.append(contentsOf: before.entries)
        if !entries.isEmpty { entries[entries.count - 1].after = middle }
        entries.append(contentsOf: after.entries)
        drop(before)
        drop(after)
        return .node(try make(before.layer, before.entries.isEmpty ? middle : before.left, entries))
    }

    // MARK: Nodes

    /// `node` with another subtree at a slot.
    private mutating func replace(_ slot: Int, of node: MSTNode, with subtree: MSTSubtree?) throws(MSTError) -> MSTNode {
        drop(node)
        if slot == 0 { return try make(node.layer, subtree, node.entries) }
        var entries = node.entries
        entries[slot - 1].after = subtree
        return try make(node.layer, node.left, entries)
    }

    private func make(_ layer: Int, _ left: MSTSubtree?, _ entries: [MSTEntry]) throws(MSTError) -> MSTNode {
        guard entries.count <= loader.limits.entriesMax else {
            throw .nodeTooLarge(entries: entries.count, entriesMax: loader.limits.entriesMax)
        }
        return MSTNode(layer: layer, stamp: stamp, left: left, entries: entries)
    }

    /// Notes that `node` is no longer in the tree.
    private mutating func drop(_ node: MSTNode) {
        if node.stamp < stamp { dropped.append(node.cid) }
    }
}
