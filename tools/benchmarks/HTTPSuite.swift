import ATProto
import Commands
import Engine
import EventLog
import Foundation
import Simulation

/// Suite `http`: the program as it is served and used, and the engine under it.
enum HTTPSuite {
    static let suite = BenchmarkSuite(
        name: "http",
        summary: "`stratos serve` under load, beside a bare server; the engine, rebuild, import and export, big repos, many actors",
        subjects: [
            .init(name: "requests", run: requests), .init(name: "engine", run: engine), .init(name: "transfer", run: RepoTransfer.figures),
            .init(name: "big-repo", run: bigRepo), .init(name: "many-actors", run: manyActors),
        ])

    /// 32 connections, each of an actor with 10,000 records: reads, proofs and writes, after a server that does nothing.
    private static func requests(_ request: BenchmarkRequest) async throws -> [Figure] {
        let actors = try OpenDirectory.actors(32, seed: request.seed)
        let directory = try await OpenDirectory(request.directory)
        try await directory.enroll(actors)
        var keys: [[RecordKey]] = []
        for (index, did) in actors.enumerated() {
            keys.append(try await directory.importPosts(request.size(10_000, quick: 100), into: did, seed: request.seed + UInt64(index)))
        }
        directory.close()

        var figures = try bare(seconds: request.seconds(4))
        let server = try ServedDirectory(request.directory)
        var random = SeededGenerator(seed: request.seed)
        func target(_ method: String, _ repo: String, _ connection: Int) -> String {
            let key = keys[connection][Int.random(in: 0..<keys[connection].count, using: &random)]
            return "/xrpc/\(method)?\(repo)=\(actors[connection])&collection=\(RecordRules.postCollection)&rkey=\(key)"
        }
        figures += try server.measure("getRecord", seconds: request.seconds(10), rate: .atLeast(15_000)) { connection in
            HTTPLoad.request("GET", target("com.atproto.repo.getRecord", "repo", connection), by: actors[connection].description)
        }
        figures += try server.measure("proof CAR", seconds: request.seconds(10), rate: .atLeast(8000)) { connection in
            HTTPLoad.request("GET", target("com.atproto.sync.getRecord", "did", connection), by: actors[connection].description)
        }
        var posts = PostRequests(seed: request.seed)
        figures += try server.measure("createRecord", seconds: request.seconds(15), rate: .atLeast(3000), p99: .atMost(50)) { connection in
            posts.next(by: actors[connection])
        }
        figures.append(Figure("server, peak memory", Double(try server.process.peakMemory()) / 1e6, .megabytes))
        try server.stop()
        return figures
    }

    private static func bare(seconds: Double) throws -> [Figure] {
        let port = try HTTPLoad.freePort()
        let process = try ChildProcess(CommandLine.arguments[0], ["constant-server", String(port)])
        try HTTPLoad.awaitHealth(port: port, of: process)
        let figures = try ServedDirectory.measure(
            "bare server", process, port, connections: 32, seconds: seconds, rate: nil, p99: nil,
            request: { _ in HTTPLoad.request("GET", "/health") })
        process.terminate()
        try process.wait()
        return figures
    }

    /// 64 writers on 1,000 actors through the engine, then the fold of all they wrote from the start.
    private static func engine(_ request: BenchmarkRequest) async throws -> [Figure] {
        let directory = try await OpenDirectory(request.directory)
        let actors = try OpenDirectory.actors(request.size(1000, quick: 64), seed: request.seed)
        try await directory.enroll(actors)
        let load = try EngineLoad(engine: directory.engine, actors: actors, seed: request.seed)
        _ = try await load.write(writers: 64, seconds: request.seconds(2))
        let outcome = try await load.write(writers: 64, seconds: request.seconds(15))
        let processor = Clocks.processor()
        let wall = Clocks.wall()
        let report = try await directory.engine.rebuild(nil) { _, _ in }
        let seconds = Clocks.wall() - wall
        directory.close()
        return [
            Figure("64 writers on 1,000 actors, whole writes", outcome.rate, .perSecond, .atLeast(5000)),
            Figure("64 writers, processor", outcome.processorSeconds / outcome.seconds, .cores),
            Figure("64 writers, processor, each", outcome.processorSeconds / Double(outcome.events) * 1e6, .microseconds),
        ] + outcome.latencies.figures("64 writers") + [
            Figure("rebuild, events", Double(report.events) / seconds, .perSecond, .atLeast(20_000)),
            Figure("rebuild, processor", (Clocks.processor() - processor) / seconds, .cores),
            Figure("engine, peak memory", Double(Environment.peakMemory()) / 1e6, .megabytes),
        ]
    }

    /// One writer in turn to a repo of 100 records and to one of 100,000.
    private static func bigRepo(_ request: BenchmarkRequest) async throws -> [Figure] {
        let actors = try OpenDirectory.actors(2, seed: request.seed)
        let directory = try await OpenDirectory(request.directory)
        try await directory.enroll(actors)
        _ = try await directory.importPosts(100, into: actors[0], seed: request.seed)
        _ = try await directory.importPosts(request.size(100_000, quick: 2000), into: actors[1], seed: request.seed + 1)
        let loads = try actors.map { try EngineLoad(engine: directory.engine, actors: [$0], seed: request.seed) }
        var latencies = [Latencies(), Latencies()]
        for _ in 0..<request.size(8, quick: 1) {
            for (index, load) in loads.enumerated() {
                latencies[index].add(try await load.write(writers: 1, seconds: request.seconds(1)).latencies)
            }
        }
        directory.close()
        let (small, big) = (latencies[0].milliseconds(50), latencies[1].milliseconds(50))
        return [
            Figure("a write to a repo of 100 records, p50", small, .milliseconds),
            Figure("a write to a repo of 100,000 records, p50", big, .milliseconds),
            Figure("the same, p99", latencies[1].milliseconds(99), .milliseconds),
            Figure("a write to the big repo beside the small one", big / small, .times, .atMost(3)),
        ]
    }

    /// 10,000 actors, one record each written before, and writes to any of them.
    private static func manyActors(_ request: BenchmarkRequest) async throws -> [Figure] {
        let actors = try OpenDirectory.actors(request.size(10_000, quick: 600), seed: request.seed)
        let directory = try await OpenDirectory(request.directory)
        try await directory.enroll(actors)
        directory.close()
        let server = try ServedDirectory(request.directory)
        var random = SeededGenerator(seed: request.seed)
        var posts = PostRequests(seed: request.seed)
        let figures = try server.measure("createRecord, any of 10,000 actors", seconds: request.seconds(40), rate: .atLeast(500)) { _ in
            posts.next(by: actors[Int.random(in: 0..<actors.count, using: &random)])
        }
        let memory = Double(try server.process.peakMemory()) / 1e6
        try server.stop()
        return figures + [Figure("server, peak memory", memory, .megabytes, .atMost(300))]
    }
}
