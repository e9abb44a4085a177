import ATProto
import Commands
import Engine
import EventLog
import Foundation
import Keys
import Logging
import SQLiteStore
import Simulation

/// A data directory as the program has it, open in this process.
final class OpenDirectory: Sendable {
    let engine: Engine
    private let store: LogStore
    private let actors: ActorDatabases

    init(_ path: String) async throws {
        store = try LogStore(directory: path) { fatalError("the log failed: \($0)") }
        let files = ActorDirectory(dataDirectory: path)
        actors = ActorDatabases(directory: files)
        let surroundings = Surroundings(
            now: { Int64(Date.now.timeIntervalSince1970 * 1e6) },
            random: { count in
                var generator = SystemRandomNumberGenerator()
                let words = (0..<(count + 7) / 8).flatMap { _ in withUnsafeBytes(of: generator.next()) { Array($0) } }
                return Array(words.prefix(count))
            })
        let keyPath = path + "/signing_key"
        let deployment = Deployment(
            serviceDID: try DID(StratosPosts.service), allowedDomains: ["general"], autoEnrollDomains: [], missing: [], version: "bench",
            build: [UInt8](repeating: 0, count: 32))
        let authority = try await Authority.take(
            over: store, deployment: deployment, isStart: false, surroundings: surroundings,
            key: { _ in
                if FileManager.default.fileExists(atPath: keyPath) { return try KeyFile.read(path: keyPath, curve: .k256) }
                let key = PrivateKey.generate(.k256)
                try KeyFile.write(key, to: keyPath)
                return key
            })
        engine = Engine(
            log: store, readModel: actors,
            keys: ActorKeys(
                read: { try files.signingKey(of: $0) }, keep: { try files.keep($0, of: $1) }, remove: { try files.removeKey(of: $0) }),
            authority: authority,
            lexicons: .embedded, surroundings: surroundings, logger: Logger(label: "bench"))
    }

    func close() {
        store.close()
        actors.close()
    }

    /// Enrolls so many actors, a few dozen at a time.
    func enroll(_ dids: [DID]) async throws {
        let agent = Agent(did: try DID(StratosPosts.service), credential: .operator)
        try await inTurn(dids, width: 32) { [engine] did in _ = try await engine.enroll(did, boundaries: [], pds: nil, by: agent) }
    }

    /// Imports a repo of so many posts.
    /// - Returns: the keys of its records.
    func importPosts(_ count: Int, into did: DID, seed: UInt64) async throws -> [RecordKey] {
        let repo = try StratosRepo(of: did, posts: count, seed: seed)
        let source = ImportSource(size: repo.file.count) { offset, count in Array(repo.file[offset..<offset + count]) }
        _ = try await engine.importRepo(
            source, into: did, options: ImportOptions(), by: Agent(did: did, credential: .operator), progress: { _, _ in })
        return repo.recordKeys
    }

    static func actors(_ count: Int, seed: UInt64) throws -> [DID] {
        var generator = SeededGenerator(seed: seed)
        return try (0..<count).map { _ in try DID("did:plc:\(Base32.encode(generator.bytes(15)))") }
    }
}

/// Runs `body` for each item, so many at a time.
func inTurn<Item: Sendable>(_ items: [Item], width: Int, _ body: @escaping @Sendable (Item) async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
        for (index, item) in items.enumerated() {
            if index >= width { try await group.next() }
            group.addTask { try await body(item) }
        }
        try await group.waitForAll()
    }
}

/// `stratos serve` on a data directory, in development mode, without a limit on writes.
struct ServedDirectory {
    let process: ChildProcess
    let port: UInt16

    /// - Parameter settings: beside those that every benchmark has, or in their place.
    init(_ path: String, settings: [String: String] = [:]) throws {
        sync()  // What making the data has left to be written.
        port = try HTTPLoad.freePort()
        process = try ChildProcess(
            ChildProcess.path(of: "stratos"), ["serve"],
            environment: Self.environment(path, port: port).merging(settings) { $1 })
        try HTTPLoad.awaitHealth(port: port, of: process)
    }

    /// How it ends is not what is measured here.
    func stop() throws {
        process.terminate()
        _ = try process.waitForEnd()
    }

    /// The settings of the program on such a directory.
    static func environment(_ path: String, port: UInt16 = 3100) -> [String: String] {
        [
            "STRATOS_DEV_MODE": "true", "STRATOS_SERVICE_DID": StratosPosts.service, "STRATOS_PUBLIC_URL": "http://localhost:\(port)",
            "STRATOS_PORT": String(port), "STRATOS_ALLOWED_DOMAINS": "general", "STRATOS_DATA_DIR": path, "STRATOS_LOG_LEVEL": "error",
            "STRATOS_WRITE_RATE_MAX_WRITES": "1000000000", "STRATOS_WRITE_RATE_WINDOW_MS": "1000",
        ]
    }

    /// Warms up, then loads, and tells the rate, the latencies, and who used how much of the processor.
    func measure(
        _ name: String, connections: Int = 32, seconds: Double, rate: Figure.Target? = nil, p99: Figure.Target? = nil,
        request: (_ connection: Int) throws -> [UInt8]
    ) throws -> [Figure] {
        try Self.measure(name, process, port, connections: connections, seconds: seconds, rate: rate, p99: p99, request: request)
    }

    static func measure(
        _ name: String, _ process: ChildProcess, _ port: UInt16, connections: Int, seconds: Double, rate: Figure.Target?,
        p99: Figure.Target?, request: (_ connection: Int) throws -> [UInt8]
    ) throws -> [Figure] {
        let load = HTTPLoad(port: port, connections: connections)
        _ = try load.run(seconds: seconds / 5, request: request)
        let processor = try process.processorSeconds()
        let outcome = try load.run(seconds: seconds, request: request)
        let used = try process.processorSeconds() - processor
        return [
            Figure(name, outcome.rate, .perSecond, rate), Figure("\(name), server", used / outcome.seconds, .cores),
            Figure("\(name), server, each", used / Double(outcome.answers) * 1e6, .microseconds),
            Figure("\(name), client", outcome.processorSeconds / outcome.seconds, .cores),
        ] + outcome.latencies.figures(name, p99: p99)
    }
}
