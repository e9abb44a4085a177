extension MST {
    /// Builds a tree at once from entries in ascending key order: one pass, each node made once.
    /// - Throws: `unsorted` at a key that does not ascend; `nodeTooLarge`.
    public static func build(
        sorted entries: some Sequence<(key: MSTKey, value: CID)>, limits: MSTLimits = .standard
    ) throws(MSTError) -> MST {
        var builder = Builder(limits: limits)
        for (key, value) in entries { try builder.add(key, value) }
        var tree = MST(top: try builder.finish())
        tree.loader.limits = limits
        return tree
    }

    /// The right edge of a tree under construction: for each layer the node that may still grow.
    private struct Builder {
        private let limits: MSTLimits
        private var open: [(left: MSTSubtree?, entries: [MSTEntry])] = []
        private var last: MSTKey?

        init(limits: MSTLimits) {
            self.limits = limits
        }

        mutating func add(_ key: MSTKey, _ value: CID) throws(MSTError) {
            if let last, key <= last { throw .unsorted(key) }
            last = key
            while open.count <= key.layer { open.append((nil, [])) }
            var below: MSTNode?
            for layer in 0..<key.layer { below = try close(layer, over: below) }
            hang(below, in: key.layer)
            open[key.layer].entries.append(MSTEntry(key: key, value: value, after: nil))
        }

        mutating func finish() throws(MSTError) -> MSTNode {
            var top: MSTNode?
            for layer in open.indices { top = try close(layer, over: top) }
            return top ?? MSTNode(layer: 0, stamp: 1, left: nil, entries: [])
        }

        /// Makes the open node of a layer, over the one below it, and opens a new one. Nil when there is nothing in it.
        private mutating func close(_ layer: Int, over below: MSTNode?) throws(MSTError) -> MSTNode? {
            hang(below, in: layer)
            let (left, entries) = open[layer]
            guard left != nil || !entries.isEmpty else { return nil }
            guard entries.count <= limits.entriesMax else {
                throw .nodeTooLarge(entries: entries.count, entriesMax: limits.entriesMax)
            }
            open[layer] = (nil, [])
            return MSTNode(layer: layer, stamp: 1, left: left, entries: entries)
        }

        /// Hangs a finished node into the last slot of a layer's open node.
        private mutating func hang(_ node: MSTNode?, in layer: Int) {
            guard let node else { return }
            let end = open[layer].entries.count
            if end == 0 { open[layer].left = .node(node) } else { open[layer].entries[end - 1].after = .node(node) }
        }
    }
}
