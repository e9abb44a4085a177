extension MST {
    /// What a store must do to follow the tree: exactly the node blocks that are in the tree now and were not at the last call (or
    /// when the tree was loaded), and exactly the nodes that were and are not.
    ///
    /// Nodes carry the generation that made them, and a node's children are never younger than it, so the new ones hang together
    /// below the top and are found without looking at the rest. What edits replaced has been noted by them; a node that was
    /// replaced and made again is in both and cancels.
    ///
    /// Hashes what edits have changed, so that ``root()`` costs nothing after it; the other way about every new node is written
    /// twice.
    /// - Returns: `added` with every node after its children, the root last; `removed` in no order.
    public mutating func takeChanges() -> (added: [Block], removed: [CID]) {
        var added: [Block] = []
        added.reserveCapacity(16)
        Self.collect(top, generation, into: &added)
        var removed = dropped
        generation += 1
        dropped = []
        Self.cancel(&added, &removed)
        return (added, removed)
    }

    private static func collect(_ subtree: MSTSubtree?, _ generation: UInt64, into blocks: inout [Block]) {
        guard case .node(let node)? = subtree, node.stamp == generation else { return }
        for index in 0...node.entries.count { collect(node[slot: index], generation, into: &blocks) }
        blocks.append(node.hashedBlock())
    }

    private static func cancel(_ added: inout [Block], _ removed: inout [CID]) {
        if added.count * removed.count <= 1024 {
            guard removed.contains(where: { cid in added.contains { $0.cid == cid } }) else { return }
        }
        let both = Set(removed).intersection(added.map(\.cid))
        guard !both.isEmpty else { return }
        added.removeAll { both.contains($0.cid) }
        removed.removeAll { both.contains($0) }
    }
}
