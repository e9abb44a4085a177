import Simulation

/// A set of measurements that belong in one table, run in one process in turn.
struct BenchmarkSuite: Sendable {
    let name: String
    /// One sentence: what is measured, and against what.
    let summary: String
    let content: Content

    enum Content: Sendable {
        /// Rates of small pieces of code: prepares what all repetitions share, then gives the pieces that are run in turn, again and again.
        case pieces(@Sendable (BenchmarkRequest) async throws -> [Piece])
        /// Figures of the whole program, each beside its target.
        case subjects([Subject])
    }

    /// One piece of a repetition; may give several measurements.
    typealias Piece = @Sendable () async throws -> [Timing]

    /// A part of a suite that can be run alone: it makes its own data, measures, and gives figures.
    struct Subject: Sendable {
        let name: String
        let run: @Sendable (BenchmarkRequest) async throws -> [Figure]
    }

    init(name: String, summary: String, prepare: @escaping @Sendable (BenchmarkRequest) async throws -> [Piece]) {
        self.name = name
        self.summary = summary
        content = .pieces(prepare)
    }

    init(name: String, summary: String, subjects: [Subject]) {
        self.name = name
        self.summary = summary
        content = .subjects(subjects)
    }
}

struct BenchmarkRequest: Sendable {
    var seed: UInt64
    /// A directory that this run owns.
    var directory: String
    /// A Python interpreter with the peers' libraries, or nil: then the peers are left out, and the table says so.
    var python: String?
    /// Seconds instead of minutes and small data: the figures then say nothing, only that everything works.
    var isQuick = false

    func size(_ full: Int, quick: Int) -> Int { isQuick ? quick : full }
    func seconds(_ full: Double) -> Double { isQuick ? min(full, 1) : full }
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
        LogSuite.suite,
        HTTPSuite.suite,
        AuthSuite.suite,
        StreamsSuite.suite,
    ]
}
