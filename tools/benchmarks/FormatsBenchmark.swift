import ATProto
import Simulation

/// DAG-CBOR, data-model JSON and CIDs on posts of about 300 bytes.
enum FormatsBenchmark {
    /// The same for us and for the peers.
    static func values(_ count: Int, seed: UInt64) -> [Value] {
        var posts = PostGenerator(seed: seed)
        return (0..<count).map { _ in posts.next().record }
    }

    /// What `libipld` and `cbrrr` do with the same records, as often; nothing without a Python that has them.
    static func peers(_ request: BenchmarkRequest, records: Int = 1000, rounds: Int = 20) throws -> [BenchmarkSuite.Piece] {
        let blocks = values(records, seed: request.seed).map { DAGCBOR.encode($0) }
        guard let peers = try Peers(request, records: blocks, rounds: rounds) else { return [] }
        return [{ try peers.measure() }]
    }

    /// The pieces of one repetition; each goes through `records` different records `rounds` times.
    static func pieces(seed: UInt64, records: Int = 1000, rounds: Int = 100) -> [BenchmarkSuite.Piece] {
        let values = values(records, seed: seed)
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
}
