import Simulation

/// A set of measurements that belong in one table, run in one process in turn.
struct BenchmarkSuite: Sendable {
    let name: String
    /// One sentence: what is measured, and against what.
    let summary: String
    /// Prepares what all repetitions share, then gives the pieces that are run in turn, again and again.
    let prepare: @Sendable (BenchmarkRequest) async throws -> [Piece]

    /// One piece of a repetition; may give several measurements.
    typealias Piece = @Sendable () async throws -> [Timing]
}

struct BenchmarkRequest: Sendable {
    var seed: UInt64
    /// A directory that this run owns.
    var directory: String
    /// A Python interpreter with the peers' libraries, or nil: then the peers are left out, and the table says so.
    var python: String?
}

/// Every suite that `tools/bench` knows.
enum Catalogue {
    static let suites: [BenchmarkSuite] = [
        BenchmarkSuite(
            name: "formats",
            summary:
                "DAG-CBOR, data-model JSON and CIDs, on posts of about 300 bytes, beside libipld and cbrrr; a tree and a CAR of 100,000 records"
        ) { request in
            try FormatsBenchmark.pieces(seed: request.seed) + FormatsBenchmark.peers(request) + MSTBenchmark.pieces(seed: request.seed)
                + CARBenchmark.pieces(seed: request.seed)
        },
        CARBenchmark.large,
    ]
}
