import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Keys
import Projections
import SQLiteStore
import Simulation
import Testing

/// The logs that the engine is tested over.
enum Backend: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case memory, sqlite

    var testDescription: String { rawValue }
}

/// One service of a test in a directory of its own, with some actors; removed with everything when the test ends.
final class Trial {
    let directory: TemporaryDirectory
    private(set) var deployment: SimulatedDeployment
    let backend: Backend
    private var store: LogStore?

    init(
        _ backend: Backend = .memory, seed: UInt64 = TestFiles.seed, over log: (any EventStore)? = nil,
        _ change: (inout SimulatedDeployment.Options) -> Void = { _ in }
    ) async throws {
        self.backend = backend
        directory = try TemporaryDirectory()
        var options = SimulatedDeployment.Options(seed: seed)
        change(&options)
        store = backend == .sqlite ? try Self.open(directory) : nil
        deployment = try await SimulatedDeployment.open(log ?? store ?? MemoryEventStore(), in: directory.path, options: options)
    }

    deinit {
        deployment.close()
        store?.close()
    }

    private static func open(_ directory: TemporaryDirectory) throws -> LogStore {
        var options = LogStoreOptions()
        options.idleMilliseconds = 20
        return try LogStore(directory: directory.path + "/log", options: options) { error in preconditionFailure("\(error)") }
    }

    /// Ends the service and starts it again over what it left.
    /// - Parameter log: another log in place of its own.
    func restart(over log: (any EventStore)? = nil, _ change: (inout SimulatedDeployment.Options) -> Void = { _ in }) async throws {
        deployment.close()
        if let store {
            store.close()
            self.store = try Self.open(directory)
        }
        deployment = try await deployment.reopened(over: log ?? store, change)
    }

    var engine: Engine { deployment.engine }
    var clock: VirtualClock { deployment.clock }
    var log: any EventStore { deployment.log }
    let alice = SimulatedDeployment.actor(1)
    let bob = SimulatedDeployment.actor(2)
    let carol = SimulatedDeployment.actor(3)

    // MARK: What is compared

    /// The repo as whoever runs the program may have it.
    func export(_ did: DID) async throws -> [UInt8] {
        var file: [UInt8] = []
        try await perform(.export(did: did)) { output in if case .bytes(let bytes) = output { file += bytes } }
        return file
    }

    /// The records of a repo, by its verified file.
    func records(of did: DID) async throws -> [RecordPath: CID] {
        try RepoFile.read(try await export(did), key: try await state(of: did).key).records
    }

    func state(of did: DID) async throws -> SimulatedState { try await SimulatedState(of: did, in: log) }

    func perform(_ command: OperatorCommand, _ take: (OperatorOutput) -> Void) async throws {
        let outputs = Outputs()
        try await engine.perform(command, open: { _ in throw Refusal.invalidRequest("no file") }) { await outputs.take($0) }
        for output in await outputs.taken { take(output) }
    }

    private actor Outputs {
        var taken: [OperatorOutput] = []
        func take(_ output: OperatorOutput) { taken.append(output) }
    }

    /// The stored rows are what the log gives, and the log is whole (I8).
    func expectSound(_ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let head = try await log.statistics().position
        let rows = try await engine.digest(of: nil)
        let folded = try await engine.digestFromLog(of: nil, until: head)
        #expect(rows.digest == folded.digest, comment ?? "seed \(TestFiles.seed)", sourceLocation: sourceLocation)
        #expect(rows.events == folded.events && rows.actors == folded.actors, comment, sourceLocation: sourceLocation)
        let report = await ChainVerifier(log, options: ChainVerifier.Options()).verify()
        #expect(report.findings == [], comment ?? "seed \(TestFiles.seed)", sourceLocation: sourceLocation)
    }

    // MARK: Imports

    func importing(
        _ file: [UInt8], into did: DID, _ options: ImportOptions = ImportOptions()
    ) async throws -> ImportReceipt {
        let source = ImportSource(size: file.count) { offset, count in Array(file[offset..<offset + count]) }
        return try await engine.importRepo(source, into: did, options: options, by: deployment.agent(did), progress: { _, _ in })
    }

    func importing(
        _ records: [(path: RecordPath, record: Value)], into did: DID, _ options: ImportOptions = ImportOptions()
    ) async throws -> ImportReceipt {
        try await importing(try RepoFile.make(of: did, records, signedWith: Self.foreignKey), into: did, options)
    }

    static let foreignKey = PrivateKey.generate(.k256)
}

/// The refusal that `body` ends in; nil where it does not.
func refusal(_ body: () async throws -> some Any) async throws -> Refusal? {
    do {
        _ = try await body()
        return nil
    } catch let refusal as Refusal {
        return refusal
    }
}

extension Value {
    /// The map with a field changed; nil takes it away.
    func with(_ field: String, _ value: Value?) -> Value {
        guard case .map(var fields) = self else { return self }
        fields[field] = value
        return .map(fields)
    }
}

func path(_ key: RecordKey, in collection: NSID = .post) -> RecordPath { RecordPath(collection: collection, recordKey: key) }

func uri(_ key: RecordKey, of did: DID, in collection: NSID = .post) -> String { "at://\(did)/\(collection)/\(key)" }

/// `{root, parent}` of a reply; the root is the parent.
func reply(to uri: String) -> Value {
    let reference: Value = ["uri": .string(uri), "cid": "bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae"]
    return ["root": reference, "parent": reference]
}
