import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Foundation
import Glibc
import Simulation
import Synchronization

/// Suite `streams`: how fast a subscriber catches up, how soon a commit is told, and what subscribers cost.
enum StreamsSuite {
    static let suite = BenchmarkSuite(
        name: "streams",
        summary:
            "subscribers of `stratos serve`: catching up, commit to socket, a thousand idle ones, a hundred beside writers, a stalled one",
        subjects: [
            .init(name: "catch-up", run: catchUp), .init(name: "live", run: live), .init(name: "idle", run: idle),
            .init(name: "beside-writers", run: besideWriters), .init(name: "stalled", run: stalled),
        ])

    static let syncToken = "bench"
    private static let settings = ["STRATOS_SYNC_TOKEN": syncToken, "STRATOS_STREAM_IDLE_SECONDS": "600"]

    /// One actor's commits from the beginning, by a reader in this process and by one over a socket.
    private static func catchUp(_ request: BenchmarkRequest) async throws -> [Figure] {
        let count = request.size(40_000, quick: 400)
        let actors = try OpenDirectory.actors(1, seed: request.seed)
        var directory = try await OpenDirectory(request.directory)
        try await directory.enroll(actors)
        try await write(count, by: actors[0], directory.engine, seed: request.seed)
        directory.close()

        directory = try await OpenDirectory(request.directory)
        var rates: [Double] = []
        var cores = 0.0
        for _ in 0..<3 {
            let streams = Streams(
                engine: directory.engine, service: try DID(StratosPosts.service), serviceURL: "http://localhost", retentionDays: 30)
            let processor = Clocks.processor(), began = Clocks.wall()
            let subscription = try await streams.subscribe(
                to: .commits(of: actors[0]), after: nil, domain: nil, as: .appView(try DID(StratosPosts.service)))
            var told = 0
            while let batch = try await subscription.next(waits: false) { told += batch.content.frames.count }
            guard told == count else { throw BenchmarkFailure("\(told) of \(count) commits were told") }
            let seconds = Clocks.wall() - began
            rates.append(Double(count) / seconds)
            cores = (Clocks.processor() - processor) / seconds
        }
        directory.close()

        let server = try ServedDirectory(request.directory, settings: settings)
        var overSocket: [Double] = []
        for _ in 0..<3 {
            let began = Clocks.wall()
            let socket = try StreamSocket(port: server.port, query: "&did=\(actors[0])")
            var told = 0
            while told < count { told += try socket.read() }
            overSocket.append(Double(count) / (Clocks.wall() - began))
        }
        let memory = Double(try server.process.peakMemory()) / 1e6
        try server.stop()
        return [
            Figure("commits to a reader in the process", rates.sorted()[1], .perSecond, .atLeast(80_000)),
            Figure("the same, processor", cores, .cores),
            Figure("commits over a socket", overSocket.sorted()[1], .perSecond, .atLeast(50_000)),
            Figure("server, peak memory", memory, .megabytes),
        ]
    }

    private static func write(_ count: Int, by actor: DID, _ engine: Engine, seed: UInt64) async throws {
        var posts = StratosPosts(seed: seed)
        let collection = try NSID(RecordRules.postCollection)
        for number in 0..<count {
            var post = posts.next().record
            post["text"] = .string("\(number)")
            _ = try await engine.write(
                WriteRequest(
                    repo: actor, writes: [RecordWrite(action: .create, collection: collection, recordKey: nil, record: .map(post))],
                    agent: Agent(did: actor, credential: .dev)))
        }
    }

    /// 500 writes a second to eight actors, one subscriber each: from the moment a write is due until its message is here.
    private static func live(_ request: BenchmarkRequest) async throws -> [Figure] {
        let actors = try OpenDirectory.actors(8, seed: request.seed)
        let server = try await served(actors, request)
        let load = PacedWriters(port: server.port, actors: actors, perSecond: 500, seconds: request.seconds(10))
        let port = server.port
        async let told = withThrowingTaskGroup(of: Latencies.self) { group in
            for actor in actors {
                group.addTask {
                    try await onThread {
                        let socket = try StreamSocket(port: port, query: "&did=\(actor)")
                        var latencies = Latencies()
                        while latencies.count < load.count(of: actor) {
                            _ = try socket.read { message in latencies.record(seconds: Clocks.wall() - load.due(of: message)) }
                        }
                        return latencies
                    }
                }
            }
            return try await group.reduce(into: Latencies()) { $0.add($1) }
        }
        try await Task.sleep(for: .milliseconds(300))  // Everybody follows by now.
        let written = try await load.run()
        let latencies = try await told
        try server.stop()
        return latencies.figures("commit to socket at 500 writes/s", p99: .atMost(30))
            + [Figure("the writes themselves, p99", written.milliseconds(99), .milliseconds)]
    }

    /// A thousand subscribers of a hundred actors, of whom nobody writes.
    private static func idle(_ request: BenchmarkRequest) async throws -> [Figure] {
        let actors = try OpenDirectory.actors(100, seed: request.seed)
        let server = try await served(actors, request)
        let count = request.size(1000, quick: 50)
        let warm = try StreamSocket(port: server.port, query: "")
        while try warm.read() == 0 {}
        let before = try server.process.memory()
        let sockets = try (0..<count).map {
            try StreamSocket(port: server.port, query: "&did=\(actors[$0 % actors.count])", receiveBytes: 4096)
        }
        try await Task.sleep(for: .seconds(request.seconds(3)))
        let after = try server.process.memory()
        let processor = try server.process.processorSeconds()
        try await Task.sleep(for: .seconds(request.seconds(5)))
        let idle = try server.process.processorSeconds() - processor
        withExtendedLifetime(sockets) {}
        try server.stop()
        return [
            Figure("\(count) idle subscribers", Double(after - before) / 1e6, .megabytes, .atMost(100)),
            Figure("the same, processor", idle / request.seconds(5), .cores),
        ]
    }

    /// 100 writes a second to one actor, alone and with a hundred who follow.
    private static func besideWriters(_ request: BenchmarkRequest) async throws -> [Figure] {
        let actors = try OpenDirectory.actors(1, seed: request.seed)
        let server = try await served(actors, request)
        func load() -> PacedWriters { PacedWriters(port: server.port, actors: actors, perSecond: 100, seconds: request.seconds(12)) }
        _ = try await PacedWriters(port: server.port, actors: actors, perSecond: 100, seconds: request.seconds(2)).run()
        var processor = try server.process.processorSeconds()
        let alone = try await load().run()
        let usedAlone = try server.process.processorSeconds() - processor

        let head = try await onThread { [port = server.port] in try StreamCrowdReader.cursor(port: port, actor: actors[0]) }
        let crowd = try StreamCrowdReader(count: request.size(100, quick: 10), port: server.port, query: "&did=\(actors[0])&cursor=\(head)")
        processor = try server.process.processorSeconds()
        let beside = load()
        async let frames = onThread { try crowd.read(beside.count(of: actors[0])) }
        let together = try await beside.run()
        let told = try await frames
        let used = try server.process.processorSeconds() - processor
        try server.stop()
        let (before, after) = (alone.milliseconds(99), together.milliseconds(99))
        let allowed = max(before * 1.15, before + 2)
        return [
            Figure("writes, p99, alone", before, .milliseconds),
            Figure("writes, p99, beside 100 subscribers", after, .milliseconds, .atMost((allowed * 1000).rounded() / 1000)),
            Figure("messages sent", Double(told), .count),
            Figure("processor, each message", (used - usedAlone) / Double(max(1, told)) * 1e6, .microseconds),
        ]
    }

    /// A subscriber who takes nothing in, with 60 MB that wait for them.
    private static func stalled(_ request: BenchmarkRequest) async throws -> [Figure] {
        let actors = try OpenDirectory.actors(2, seed: request.seed)
        let directory = try await OpenDirectory(request.directory)
        try await directory.enroll(actors)
        for (index, actor) in actors.enumerated() {
            _ = try await directory.importPosts(request.size(200_000, quick: 20_000), into: actor, seed: request.seed + UInt64(index))
        }
        directory.close()
        let server = try ServedDirectory(request.directory, settings: settings.merging(["STRATOS_STREAM_IDLE_SECONDS": "2"]) { $1 })
        // Somebody who reads all of it shows what memory that takes.
        do {
            let quick = try StreamSocket(port: server.port, query: "&did=\(actors[1])")
            var told = 0
            while told < request.size(200_000, quick: 20_000) / 200 { told += try quick.read() }
        }
        usleep(500_000)
        let before = try server.process.memory(), descriptors = try server.process.descriptorCount()
        let began = Clocks.wall()
        let stalled = try (0..<4).map { _ in try StreamSocket(port: server.port, query: "&did=\(actors[0])", receiveBytes: 4096) }
        var peak = 0
        while try server.process.descriptorCount() >= descriptors + 4 || Clocks.wall() - began < 1 {
            peak = max(peak, try server.process.memory())
            guard Clocks.wall() - began < 60 else { throw BenchmarkFailure("a stalled subscriber was not closed within a minute") }
            usleep(20_000)
        }
        let seconds = Clocks.wall() - began
        withExtendedLifetime(stalled) {}
        try server.stop()
        return [
            Figure("until stalled subscribers are closed, bound 2 s and 5 s for the closing", seconds * 1000, .milliseconds, .atMost(8500)),
            Figure("memory meanwhile, each of four", Double(peak - before) / 4e6, .megabytes, .atMost(10)),
        ]
    }

    private static func served(_ actors: [DID], _ request: BenchmarkRequest) async throws -> ServedDirectory {
        let directory = try await OpenDirectory(request.directory)
        try await directory.enroll(actors)
        directory.close()
        return try ServedDirectory(request.directory, settings: settings)
    }
}

/// Writers who begin a write whenever one is due, and not when the one before is done. A record's text says when it was due.
struct PacedWriters: Sendable {
    private let port: UInt16
    private let actors: [DID]
    private let perSecond: Double
    private let writes: Int
    private let start = Mutexed(0.0)
    private static let threads = 16
    private static let mark = Array("due-".utf8)

    init(port: UInt16, actors: [DID], perSecond: Double, seconds: Double) {
        self.port = port
        self.actors = actors
        self.perSecond = perSecond
        writes = Int(perSecond * seconds)
    }

    func count(of actor: DID) -> UInt64 {
        UInt64((0..<writes).count { actors[$0 % actors.count] == actor })
    }

    /// How long each write took from when it was due.
    func run() async throws -> Latencies {
        let begin = Clocks.wall() + 0.05
        start.set(begin)
        return try await withThrowingTaskGroup(of: Latencies.self) { group in
            for thread in 0..<Self.threads { group.addTask { try await onThread { try self.write(thread) } } }
            return try await group.reduce(into: Latencies()) { $0.add($1) }
        }
    }

    private func write(_ thread: Int) throws -> Latencies {
        var latencies = Latencies()
        let connection = try HTTPConnection(port: port)
        for number in stride(from: thread, to: writes, by: Self.threads) {
            let due = start.value + Double(number) / perSecond
            let wait = due - Clocks.wall()
            if wait > 0 { usleep(UInt32(wait * 1e6)) }
            let actor = actors[number % actors.count].description
            let text = "due-" + String(number + 1_000_000)
            let body =
                #"{"repo":"\#(actor)","collection":"\#(RecordRules.postCollection)","record":{"$type":"\#(RecordRules.postCollection)","#
                + #""text":"\#(text)","createdAt":"2026-01-01T00:00:00.000Z","boundary":{"values":[{"value":"\#(StratosPosts.service)/general"}]}}}"#
            let answer = try connection.ask(
                "POST", "/xrpc/com.atproto.repo.createRecord",
                headers: [("Authorization", "Bearer \(actor)"), ("Content-Type", "application/json")], body: Array(body.utf8))
            guard answer.status == 200 else { throw BenchmarkFailure("a write: \(answer.text)") }
            latencies.record(seconds: Clocks.wall() - due)
        }
        return latencies
    }

    /// When the write of a message was due.
    func due(of message: UnsafeRawBufferPointer) -> Double {
        let found = (0..<max(0, message.count - 11)).last { index in Self.mark.indices.allSatisfy { message[index + $0] == Self.mark[$0] } }
        guard let found else { return .infinity }
        let number = message[(found + 4)..<(found + 11)].reduce(0) { $0 * 10 + Int($1) - 48 } - 1_000_000
        return start.value + Double(number) / perSecond
    }
}

/// Many subscribers, read by one thread.
final class StreamCrowdReader: @unchecked Sendable {
    // One thread works with it.
    private let sockets: [StreamSocket]

    init(count: Int, port: UInt16, query: String) throws {
        sockets = try (0..<count).map { _ in try StreamSocket(port: port, query: query) }
    }

    /// Reads until each has so many messages.
    /// - Returns: how many that were.
    func read(_ each: UInt64) throws -> Int {
        var counts = [Int](repeating: 0, count: sockets.count)
        var waits = sockets.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        while counts.contains(where: { $0 < Int(each) }) {
            guard poll(&waits, nfds_t(waits.count), 30_000) > 0 else { throw BenchmarkFailure("no message within 30 s") }
            for index in waits.indices where waits[index].revents != 0 { counts[index] += try sockets[index].read() }
        }
        return counts.reduce(0, +)
    }

    /// The cursor of the last message of an actor's stream.
    static func cursor(port: UInt16, actor: DID) throws -> Int64 {
        let target = "/xrpc/zone.stratos.sync.subscribeRecords?syncToken=\(StreamsSuite.syncToken)&did=\(actor)"
        let client = try WebSocketClient(port: port, target, timeout: .milliseconds(500))
        var last: Int64 = 0
        do {
            while case .message(let message) = try client.next() { last = message.cursor ?? last }
        } catch HTTPConnection.Failure.timedOut {
            // Nothing more comes.
        }
        return last
    }
}

/// A number that one thread sets before others read it.
final class Mutexed: Sendable {
    private let state: Mutex<Double>

    init(_ value: Double) { state = Mutex(value) }

    var value: Double { state.withLock { $0 } }
    func set(_ value: Double) { state.withLock { $0 = value } }
}

extension ChildProcess {
    /// What it has in memory now, in bytes.
    func memory() throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(processID)/statm", encoding: .utf8)
        guard let pages = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            throw BenchmarkFailure("/proc/\(processID)/statm cannot be read")
        }
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }

    func descriptorCount() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/\(processID)/fd").count }
}
