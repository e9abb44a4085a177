import ATProto
import CCountingVFS
import EventLog
import Foundation
import SQLiteStore
import Simulation

/// Suite `log`: the log on SQLite by itself, with signatures, without engine and server.
enum LogSuite {
    static let suite = BenchmarkSuite(
        name: "log",
        summary: "the log: syncs counted, durable writes beside bare syncs, latency at half load, verification, bytes an event",
        subjects: [
            .init(name: "syncs", run: syncs), .init(name: "writers", run: writers), .init(name: "one-writer", run: oneWriter),
            .init(name: "verify", run: verify), .init(name: "bytes", run: LogBytes.figures), .init(name: "checkpoints", run: checkpoints),
        ])

    /// A log whose file calls are counted; it never checkpoints, so that every sync counted is one of a commit.
    private static func syncs(_ request: BenchmarkRequest) async throws -> [Figure] {
        try CountingVFS.register()
        var options = LogStoreOptions()
        options.vfs = CountingVFS.name
        options.checkpointPages = .max
        options.idleMilliseconds = 3_600_000
        var load = try await LogLoad.make(in: request.directory, actors: 256, seed: request.seed, options: options)
        var figures: [Figure] = []
        for (name, writers) in [("one writer", 1), ("64 writers", 64)] {
            let (log, mark) = (CountingVFS.counts(of: "log.sqlite-wal"), CountingVFS.counts(of: "log.mark"))
            let groups = load.store.activity().groups
            let outcome = try await load.write(writers: writers, seconds: request.seconds(3))
            let made = Double(load.store.activity().groups - groups)
            let (logSyncs, markSyncs) = (
                Double(CountingVFS.counts(of: "log.sqlite-wal").syncs - log.syncs),
                Double(CountingVFS.counts(of: "log.mark").syncs - mark.syncs)
            )
            figures += [
                Figure("\(name): acknowledged groups", made, .count, .atLeast(1), isRequired: true),
                Figure("\(name): syncs of the log a group", logSyncs / made, .count, .atLeast(1), isRequired: true),
                Figure("\(name): syncs of the mark a group", markSyncs / made, .count, .atLeast(1), isRequired: true),
                Figure("\(name): syncs a group", (logSyncs + markSyncs) / made, .count, .atLeast(2), isRequired: true),
                Figure("\(name): events a group", Double(outcome.events) / made, .count),
                Figure(
                    "\(name): bytes written to the WAL an event",
                    Double(CountingVFS.counts(of: "log.sqlite-wal").bytes - log.bytes) / Double(outcome.events), .bytes),
            ]
        }
        load.store.close()
        return figures
    }

    /// 64 and 256 writers as fast as they can, then an open load of half of that.
    private static func writers(_ request: BenchmarkRequest) async throws -> [Figure] {
        var load = try await LogLoad.make(in: request.directory, actors: request.size(1000, quick: 300), seed: request.seed)
        _ = try await load.write(writers: 64, seconds: request.seconds(2))
        var figures: [Figure] = []
        var rate = 0.0
        for (writers, target) in [(64, nil), (256, .atLeast(15_000))] as [(Int, Figure.Target?)] {
            let outcome = try await load.write(writers: writers, seconds: request.seconds(8))
            rate = outcome.rate
            figures += [
                Figure("\(writers) writers, signed durable events", rate, .perSecond, target),
                Figure("\(writers) writers, processor", outcome.processorSeconds / outcome.seconds, .cores),
                Figure("\(writers) writers, processor, each", outcome.processorSeconds / Double(outcome.events) * 1e6, .microseconds),
            ]
            figures += outcome.latencies.figures("\(writers) writers")
        }
        let half = try await load.write(rate: rate / 2, writers: 256, seconds: request.seconds(10))
        load.store.close()
        return figures + [Figure("half load, events", half.rate, .perSecond)] + half.latencies.figures("half load", p99: .atMost(25))
    }

    /// How far the WAL grows before it is checkpointed: a larger one is copied less often, and each time for longer.
    private static func checkpoints(_ request: BenchmarkRequest) async throws -> [Figure] {
        var figures: [Figure] = []
        for megabytes in [1, 4, 16, 64] {
            var options = LogStoreOptions()
            options.checkpointPages = megabytes << 8
            let directory = request.directory + "/\(megabytes)"
            var load = try await LogLoad.make(in: directory, actors: request.size(1000, quick: 300), seed: request.seed, options: options)
            let full = try await load.write(writers: 256, seconds: request.seconds(6))
            let half = try await load.write(rate: 6000, writers: 256, seconds: request.seconds(6))
            figures += [
                Figure("\(megabytes) MiB: 256 writers, events", full.rate, .perSecond),
                Figure("\(megabytes) MiB: 256 writers, processor, each", full.processorSeconds / Double(full.events) * 1e6, .microseconds),
                Figure("\(megabytes) MiB: checkpoints", Double(load.store.activity().checkpoints), .count),
                Figure("\(megabytes) MiB: 6,000 a second, p99", half.latencies.milliseconds(99), .milliseconds),
                Figure("\(megabytes) MiB: 6,000 a second, p99.9", half.latencies.milliseconds(99.9), .milliseconds),
            ]
            load.store.close()
            try FileManager.default.removeItem(atPath: directory)
        }
        return figures
    }

    /// One writer and the bare loop, in turn, so that both meet the same disk.
    private static func oneWriter(_ request: BenchmarkRequest) async throws -> [Figure] {
        var load = try await LogLoad.make(in: request.directory, actors: 100, seed: request.seed)
        let bare = try BareSync(directory: request.directory)
        defer { bare.close() }
        var (ours, theirs, shares): ([Double], [Double], [Double]) = ([], [], [])
        var latencies = Latencies()
        _ = try await load.write(writers: 1, seconds: request.seconds(1))
        for _ in 0..<request.size(7, quick: 2) {
            let outcome = try await load.write(writers: 1, seconds: request.seconds(1.5))
            let rate = try bare.rate(seconds: request.seconds(1))
            latencies.add(outcome.latencies)
            ours.append(outcome.rate)
            theirs.append(rate)
            shares.append(outcome.rate / rate * 100)
        }
        load.store.close()
        return [
            Figure("one writer, signed durable events", Table.Spread(ours).median, .perSecond),
            Figure("bare loop of the same two syncs", Table.Spread(theirs).median, .perSecond),
            Figure("one writer of the bare loop", Table.Spread(shares).median, .percent, .atLeast(60)),
        ] + latencies.figures("one writer")
    }

    /// A log of one-operation writes, verified: the chains alone, and all that `stratos verify` looks at.
    private static func verify(_ request: BenchmarkRequest) async throws -> [Figure] {
        var load = try await LogLoad.make(in: request.directory, actors: request.size(1000, quick: 300), seed: request.seed)
        while load.store.activity().events < UInt64(request.size(150_000, quick: 2_000)) {
            _ = try await load.write(writers: 256, seconds: request.seconds(1))
        }
        load.store.close()
        let store = try LogStore(directory: request.directory) { fatalError("the log failed: \($0)") }
        defer { store.close() }
        let bare = UninspectedStore(base: store)
        return [
            try await verify("the chains, events", bare, signatures: false, contents: false, .atLeast(300_000)),
            try await verify("and bodies and blocks, events", bare, signatures: false, contents: true),
            try await verify("and signatures, events", bare, signatures: true, contents: true, .atLeast(15_000)),
            try await verify("stratos verify --no-signatures, events", store, signatures: false, contents: true),
            try await verify("stratos verify, events", store, signatures: true, contents: true),
        ]
    }

    private static func verify(
        _ name: String, _ store: any EventStore, signatures: Bool, contents: Bool, _ target: Figure.Target? = nil
    ) async throws -> Figure {
        var options = ChainVerifier.Options()
        options.signatures = signatures
        options.contents = contents
        let wall = Clocks.wall()
        let report = await ChainVerifier(store, options: options).verify()
        let seconds = Clocks.wall() - wall
        guard report.isWhole else { throw BenchmarkFailure("the log does not verify: \(report.findings.prefix(3))") }
        return Figure(name, Double(report.events) / seconds, .perSecond, target)
    }
}

/// A store that does not look at its file as a whole: what is left is the walk along the chains.
private struct UninspectedStore: WrappingEventStore {
    let base: any EventStore

    var hashesEventsRead: Bool { base.hashesEventsRead }
    func inspect() async -> [Finding] { [] }
}

/// What makes a run worthless: it is said, and nothing is measured.
struct BenchmarkFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// The counting file layer of `tools/counting-vfs`.
enum CountingVFS {
    static let name = "counting"

    /// SQLite keeps the pointer to the name, so the name lives as long as the process.
    private static let registered: Int32 = counting_vfs_register(strdup(name))

    static func register() throws {
        guard registered == 0 else { throw BenchmarkFailure("the counting file layer was refused with code \(registered)") }
    }

    static func counts(of file: String) -> counting_vfs_counts { counting_vfs_counts_of(file) }
}
