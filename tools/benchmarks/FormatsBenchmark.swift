import ATProto
import Simulation

/// DAG-CBOR, data-model JSON and CIDs on records like those of the network: posts with one image, about 300 bytes of DAG-CBOR.
enum FormatsBenchmark {
    /// The pieces of one repetition; each goes through `records` different records `rounds` times.
    static func pieces(seed: UInt64, records: Int = 1000, rounds: Int = 100) -> [BenchmarkSuite.Piece] {
        var generator = SeededGenerator(seed: seed)
        let values = (0..<records).map { _ in post(&generator) }
        let blocks = values.map { DAGCBOR.encode($0) }
        let texts = values.map { DataModelJSON.encode($0) }
        let bytes = blocks.reduce(0) { $0 + $1.count } / records

        func piece(_ name: String, _ operation: @escaping @Sendable (Int) throws -> Int) -> BenchmarkSuite.Piece {
            {
                [
                    try Timing.of("\(name), \(bytes) B", operations: records * rounds) { () throws -> Int in
                        var sum = 0
                        for _ in 0..<rounds { for index in 0..<records { sum &+= try operation(index) } }
                        return sum
                    }
                ]
            }
        }
        return [
            piece("DAG-CBOR encode") { DAGCBOR.encode(values[$0]).count },
            piece("DAG-CBOR decode") { try DAGCBOR.decode(blocks[$0]).mapValue?.count ?? 0 },
            piece("JSON decode") { try DataModelJSON.decode(texts[$0]).mapValue?.count ?? 0 },
            piece("JSON encode") { DataModelJSON.encode(values[$0]).count },
            piece("JSON to DAG-CBOR to CID") { CID(hashing: DAGCBOR.encode(try DataModelJSON.decode(texts[$0]))).codec == .raw ? 1 : 0 },
            piece("CID of a block") { CID(hashing: blocks[$0]).codec == .raw ? 1 : 0 },
        ]
    }

    private static func post(_ generator: inout SeededGenerator) -> Value {
        let letters = "abcdefghijklmnopqrstuvwxyz     ,."
        let text = String((0..<96).map { _ in letters.randomElement(using: &generator)! })
        let image: Value = [
            "$type": "blob", "mimeType": "image/jpeg", "ref": .link(CID(codec: .raw, digest: generator.bytes(32))),
            "size": .integer(Int64.random(in: 1...1_000_000, using: &generator)),
        ]
        return [
            "$type": "app.bsky.feed.post", "createdAt": "2026-11-22T10:40:36.123Z", "langs": ["en"], "text": .string(text),
            "embed": ["$type": "app.bsky.embed.images", "image": image],
        ]
    }
}
