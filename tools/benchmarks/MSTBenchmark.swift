import ATProto
import Simulation

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
        return [
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
