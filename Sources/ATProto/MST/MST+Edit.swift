/// One edit of a tree.
///
/// On its way down it reads the nodes of the path and copies those that other trees share, which changes nothing that anybody can
/// see; whatever may fail comes then. Only when nothing can fail any more does it change the nodes, on its way up, and note which
/// stored ones are gone. So an edit that throws is thrown away with its notes, and the tree is as it was.
struct MSTEdit {
    let loader: MSTLoader
    let stamp: UInt64
    /// Nodes of earlier generations that are no longer in the tree.
    private(set) var dropped: [CID] = []

    init(loader: MSTLoader, stamp: UInt64) {
        self.loader = loader
        self.stamp = stamp
    }

    // MARK: Insert

    mutating func insert(_ key: MSTKey, _ value: CID, at top: inout MSTSubtree?) throws(MSTError) {
        guard let layer = try layer(of: &top) else {
            let first = try make(key.layer, nil, [MSTEntry(key: key, value: value, after: nil)])
            if case .node(let root)? = top { drop(root) }
            top = .node(first)
            return
        }
        if key.layer > layer {
            let (before, after) = try split(top, around: key)
            let right = try raise(after, to: key.layer - 1)
            top = .node(try make(key.layer, raise(before, to: key.layer - 1), [MSTEntry(key: key, value: value, after: right)]))
        } else {
            try insert(key, value, below: &top)
        }
    }

    private mutating func insert(_ key: MSTKey, _ value: CID, below place: inout MSTSubtree?) throws(MSTError) {
        let node = try open(&place)
        defer { place = .node(node) }
        let (index, found) = node.search(key)
        if found { throw .exists(key) }
        if key.layer == node.layer {
            guard node.entries.count < loader.limits.entriesMax else { throw tooLarge(node.entries.count + 1) }
            let (before, after) = try split(node[slot: index], around: key)
            node[slot: index] = before
            node.entries.insert(MSTEntry(key: key, value: value, after: after), at: index)
        } else if node[slot: index] == nil {
            let bottom = try make(key.layer, nil, [MSTEntry(key: key, value: value, after: nil)])
            node[slot: index] = .node(try raise(bottom, to: node.layer - 1))
        } else {
            try insert(key, value, below: &node[slot: index])
        }
        markChanged(node)
    }

    /// The parts of `subtree` before and after `key`, which is of a higher layer. A part that is the whole is left as it is, and
    /// the nodes of `subtree` are not changed.
    private mutating func split(_ subtree: MSTSubtree?, around key: MSTKey) throws(MSTError) -> (MSTSubtree?, MSTSubtree?) {
        guard let subtree else { return (nil, nil) }
        let node = try loader.node(subtree)
        let index = node.search(key).index
        let (before, after) = try split(node[slot: index], around: key)
        if index == 0, before == nil { return (nil, subtree) }
        if index == node.entries.count, after == nil { return (subtree, nil) }
        drop(node)
        let left = try make(node.layer, node.left, Array(node.entries[..<index]))
        left[slot: index] = before
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

    mutating func update(_ key: MSTKey, _ value: CID, at place: inout MSTSubtree?) throws(MSTError) -> CID {
        let node = try open(&place)
        defer { place = .node(node) }
        let (index, found) = node.search(key)
        let old: CID
        if found {
            old = node.entries[index].value
            if old != value { node.entries[index].value = value }
        } else {
            guard node[slot: index] != nil else { throw .absent(key) }
            old = try update(key, value, at: &node[slot: index])
        }
        if old != value { markChanged(node) }
        return old
    }

    // MARK: Delete

    mutating func delete(_ key: MSTKey, at top: inout MSTSubtree?) throws(MSTError) -> CID {
        guard try layer(of: &top) != nil else { throw .absent(key) }
        if case .node(let root)? = top, root.entries.count == 1, root.entries[0].key == key {
            top = try rest(of: root)
            drop(root)
            return root.entries[0].value
        }
        return try remove(key, at: &top)
    }

    /// What a root that loses its only key leaves: the first node below that has keys, or the empty tree.
    private mutating func rest(of root: MSTNode) throws(MSTError) -> MSTSubtree {
        var rest = try join(root.left, root.entries[0].after)
        while let subtree = rest {
            let node = try loader.node(subtree)
            rest = .node(node)
            guard node.entries.isEmpty else { break }
            drop(node)
            rest = node.left
        }
        if let rest { return rest }
        return .node(try make(0, nil, []))
    }

    /// Leaves nil at `place` when the key was the last one there. The node at `place` is not the only one of an empty tree.
    private mutating func remove(_ key: MSTKey, at place: inout MSTSubtree?) throws(MSTError) -> CID {
        let node = try open(&place)
        defer { place = node.isEmptyTree ? nil : .node(node) }
        let (index, found) = node.search(key)
        let old: CID
        if found {
            let joined = try join(node[slot: index], node[slot: index + 1])
            old = node.entries.remove(at: index).value
            node[slot: index] = joined
        } else {
            guard node[slot: index] != nil else { throw .absent(key) }
            old = try remove(key, at: &node[slot: index])
        }
        markChanged(node)
        return old
    }

    /// Makes one subtree of two neighbours of the same layer between which no key is left. Their nodes are not changed.
    private mutating func join(_ left: MSTSubtree?, _ right: MSTSubtree?) throws(MSTError) -> MSTSubtree? {
        guard let left else { return right }
        guard let right else { return left }
        let before = try loader.node(left)
        let after = try loader.node(right)
        let middle = try join(before[slot: before.entries.count], after.left)
        let node = try make(before.layer, before.left, before.entries + after.entries)
        node[slot: before.entries.count] = middle
        drop(before)
        drop(after)
        return .node(node)
    }

    // MARK: Nodes

    /// The layer of the root, which is read if it was not; nil for the empty tree.
    private func layer(of top: inout MSTSubtree?) throws(MSTError) -> Int? {
        let root = try open(&top)
        top = .node(root)
        return root.isEmptyTree ? nil : root.layer
    }

    /// Takes the node out of its place, to be changed and put back: read if it was not, and copied if others have it too. When it
    /// cannot be read it stays.
    private func open(_ place: inout MSTSubtree?) throws(MSTError) -> MSTNode {
        switch place.take() {
        case .node(var node)?:
            return isKnownUniquelyReferenced(&node) ? node : node.copy()
        case .stored(let stub)?:
            place = .stored(stub)
            return try loader.node(.stored(stub))
        case nil: preconditionFailure("only a subtree that is there is opened")
        }
    }

    private func make(_ layer: Int, _ left: MSTSubtree?, _ entries: [MSTEntry]) throws(MSTError) -> MSTNode {
        guard entries.count <= loader.limits.entriesMax else { throw tooLarge(entries.count) }
        return MSTNode(layer: layer, stamp: stamp, left: left, entries: entries)
    }

    private func tooLarge(_ entries: Int) -> MSTError {
        .nodeTooLarge(entries: entries, entriesMax: loader.limits.entriesMax)
    }

    private mutating func markChanged(_ node: MSTNode) {
        drop(node)
        node.markChanged(stamp: stamp)
    }

    /// Notes that `node`, as it is, is no longer in the tree.
    private mutating func drop(_ node: MSTNode) {
        guard node.stamp < stamp else { return }
        if dropped.isEmpty { dropped.reserveCapacity(16) }
        dropped.append(node.cid)
    }
}
