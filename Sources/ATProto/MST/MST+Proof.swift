extension MST {
    /// The nodes from the root to `key`, or to where it would be: they prove that the record is there, or that none is. Whoever
    /// trusts the root asks `MST(root:blocks:)` of them for the key.
    public func proof(of key: MSTKey) throws(MSTError) -> [Block] {
        var blocks: [Block] = []
        var subtree: MSTSubtree? = top
        while let current = subtree {
            let (node, bytes) = try loader.nodeAndBlock(current)
            blocks.append((node.cid, bytes))
            let (index, found) = node.search(key)
            subtree = found ? nil : node[slot: index]
        }
        return blocks
    }

    /// The nodes of this tree that are needed to undo operations on `keys`, in any order: for each key the nodes that may hold it
    /// and, when it is there, those on the way to the keys beside it, because removing it joins the subtrees on both its sides.
    /// In other words every node whose bounds, ends included, reach the key.
    ///
    /// Source: atproto.com/specs/sync, "Commit Validation"; the interop vectors firehose/commit-proof-fixtures.json.
    /// - Returns: each node once, the root first, and each after its parent.
    public func coveringProof(of keys: [MSTKey]) throws(MSTError) -> [Block] {
        var proof = CoveringProof(loader: loader)
        for key in keys { try proof.cover(key, in: top) }
        return proof.blocks
    }

    /// The nodes of this tree, the one after the operations, that are needed to undo them.
    public func coveringProof(of operations: [MSTOperation]) throws(MSTError) -> [Block] {
        try coveringProof(of: operations.map(\.key))
    }
}

private struct CoveringProof {
    private let loader: MSTLoader
    private(set) var blocks: [MST.Block] = []
    /// Nodes that are in the proof already, so that the keys of one commit read the nodes they share once.
    private var nodes: [CID: MSTNode] = [:]

    init(loader: MSTLoader) {
        self.loader = loader
    }

    mutating func cover(_ key: MSTKey, in subtree: MSTSubtree) throws(MSTError) {
        var subtree: MSTSubtree? = subtree
        while let current = subtree {
            let node = try add(current)
            let (index, found) = node.search(key)
            subtree = node[slot: index]
            guard found else { continue }
            try addRightEdge(of: subtree)
            try addLeftEdge(of: node[slot: index + 1])
            return
        }
    }

    private mutating func addRightEdge(of subtree: MSTSubtree?) throws(MSTError) {
        var subtree = subtree
        while let current = subtree {
            let node = try add(current)
            subtree = node[slot: node.entries.count]
        }
    }

    private mutating func addLeftEdge(of subtree: MSTSubtree?) throws(MSTError) {
        var subtree = subtree
        while let current = subtree { subtree = try add(current).left }
    }

    private mutating func add(_ subtree: MSTSubtree) throws(MSTError) -> MSTNode {
        if let node = nodes[subtree.cid] { return node }
        let (node, bytes) = try loader.nodeAndBlock(subtree)
        nodes[node.cid] = node
        blocks.append((node.cid, bytes))
        return node
    }
}
