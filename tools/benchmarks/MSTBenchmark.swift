import ATProto
import Simulation
import Synchronization

/// The tree of a repo with 100,000 records: what one commit costs, and what reading it costs.
enum MSTBenchmark {
    static let records = 100_000
    static let edits = 20_000

    /// - Parameter seed: of the keys.
    static func pieces(seed: UInt64) throws -> [BenchmarkSuite.Piece] {
        let entries = try entries(records, seed: seed)
        let tree = try MST.build(sorted: entries)
        _ = tree.root()
        let later = try (0..<edits).map { try key(records + $0) }
        var generator = SeededGenerator(seed: seed &+ 1)
        let anywhere = try (0..<edits).map { _ in try MSTKey("app.bsky.feed.post/3k\(text(generator.next() >> 9))") }
        let blocks = try stored(tree)
        let root = tree.root()
        let spread = (0..<edits).map { entries[$0 &* 7919 % records].key }
        let small = try MST.build(sorted: Array(entries[..<100]))
        let again = (0..<edits).map { entries[$0 % 100].key }
        return [
            { [try updates("MST update + changes, 100,000 stored records", of: tree, spread, nodesMax: nil)] },
            { [try updates("MST update + changes, 100,000 stored records, bounded", of: tree, spread, nodesMax: 512)] },
            { [try updates("MST update + changes, 100 stored records", of: small, again, nodesMax: nil)] },
            { [try updates("MST update + changes, 100 stored records, bounded", of: small, again, nodesMax: 512)] },
            { [try inserts("MST insert + changes + root, 100,000 records, TID order", into: tree, later)] },
            { [try inserts("MST insert + changes + root, 100,000 records, random", into: tree, anywhere)] },
            { [try Timing.of("MST build, records", operations: records) { try MST.build(sorted: entries).root() }] },
            {
                [
                    try Timing.of("MST verify stored tree, records", operations: records) {
                        try MST(root: root, hashesChecked: true, source: { (cid) throws(MSTError) in blocks[cid] }).verify()
                    }
                ]
            },
            {
                [
                    try Timing.of("MST get in memory", operations: edits) {
                        var found = 0
                        for index in 0..<edits where try tree.get(entries[index &* 7919 % records].key) != nil { found += 1 }
                        return found
                    }
                ]
            },
        ]
    }

    /// Each edit as a commit does it: the record, the blocks to store and to forget, the new root.
    private static func inserts(_ name: String, into tree: MST, _ keys: [MSTKey]) throws -> Timing {
        var tree = tree
        _ = tree.takeChanges()
        let value = CID(hashing: [1])
        return try Timing.of(name, operations: keys.count) {
            var bytes = 0
            for key in keys {
                try tree.insert(key, value)
                let changes = tree.takeChanges()
                bytes += tree.root().codec == .dagCBOR ? changes.added[0].bytes.count : 0
            }
            return bytes
        }
    }

    /// Edits of a tree whose nodes are read as they are needed, each kept as a commit does it.
    /// - Parameter nodesMax: counted every 64 edits, as for an actor's tree; where there are more, none are kept.
    private static func updates(_ name: String, of tree: MST, _ keys: [MSTKey], nodesMax: Int?) throws -> Timing {
        let store = NodeStore(try stored(tree))
        let source: MST.BlockSource = { cid throws(MSTError) in store.blocks.withLock { $0[cid] } }
        var tree = MST(root: tree.root(), source: source)
        return try Timing.of(name, operations: keys.count) {
            for (number, key) in keys.enumerated() {
                try tree.update(key, CID(hashing: [UInt8(truncatingIfNeeded: number), UInt8(truncatingIfNeeded: number >> 8)]))
                let changes = tree.takeChanges()
                store.blocks.withLock { blocks in
                    for block in changes.added { blocks[block.cid] = block.bytes }
                    for cid in changes.removed { blocks[cid] = nil }
                }
                guard let nodesMax, number % 64 == 63, tree.loadedNodeCount > nodesMax else { continue }
                tree = MST(root: tree.root(), source: source)
            }
            return tree.root()
        }
    }

    private final class NodeStore: Sendable {
        let blocks: Mutex<[CID: [UInt8]]>

        init(_ blocks: [CID: [UInt8]]) { self.blocks = Mutex(blocks) }
    }

    private static func entries(_ count: Int, seed: UInt64) throws -> [(key: MSTKey, value: CID)] {
        var generator = SeededGenerator(seed: seed)
        return try (0..<count).map { (try key($0), CID(hashing: generator.bytes(8))) }
    }

    /// Records written about a minute apart.
    private static func key(_ number: Int) throws -> MSTKey {
        try MSTKey("app.bsky.feed.post/3k\(text(UInt64(1 << 53) + UInt64(number) * 61_000_003))")
    }

    /// Eleven digits that sort as the numbers do: the tail of a TID.
    private static func text(_ number: UInt64) -> String {
        let digits = Array("234567abcdefghijklmnopqrstuvwxyz")
        return String((0..<11).reversed().map { digits[Int(number >> UInt64(5 * $0) & 31)] })
    }

    private static func stored(_ tree: MST) throws -> [CID: [UInt8]] {
        var blocks: [CID: [UInt8]] = [:]
        var traversal = tree.nodes()
        while let item = try traversal.next() {
            if case .node(let cid, let bytes) = item { blocks[cid] = bytes }
        }
        return blocks
    }
}
