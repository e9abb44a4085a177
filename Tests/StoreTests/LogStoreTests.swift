import EventLog
import Foundation
import Simulation
import Synchronization
import Testing

@testable import SQLiteStore

/// Stores in directories of their own, opened again under the same options.
final class LogStores: Sendable {
    let options: LogStoreOptions
    private let directories = Mutex<[TemporaryDirectory]>([])

    init(_ options: LogStoreOptions = LogStoreOptions()) { self.options = options }

    func make() throws -> LogStore {
        let directory = try TemporaryDirectory()
        directories.withLock { $0.append(directory) }
        return try open(directory.path)
    }

    func open(_ directory: String) throws -> LogStore {
        try LogStore(directory: directory, options: options) { Issue.record("the log gives up: \($0)") }
    }

    func reopen(_ store: any EventStore) throws -> LogStore {
        guard let store = store as? LogStore else { throw EventLogError.closed }
        store.close()
        return try open(store.directory)
    }
}

extension LogStoreOptions {
    /// So small that groups are cut, blocks are staged, heads are forgotten, and the WAL starts over all the time.
    static var tiny: LogStoreOptions {
        var options = LogStoreOptions()
        options.readers = 1
        options.groupEventsMax = 3
        options.groupBytesMax = 2000
        options.headsMax = 2
        options.checkpointPages = 20
        options.idleMilliseconds = 1
        options.writerCacheKiB = 64
        options.readerCacheKiB = 64
        return options
    }
}

@Suite("The log in SQLite")
struct LogStoreTests {
    @Test("keeps the contract of a store, closed and opened", arguments: EventStoreContract.Behaviour.allCases)
    func contract(_ behaviour: EventStoreContract.Behaviour) async throws {
        let stores = LogStores()
        try await EventStoreContract(seed: TestFiles.seed, reopen: { try stores.reopen($0) }) { try stores.make() }.check(behaviour)
    }

    @Test("keeps the contract when everything in it is tiny", arguments: EventStoreContract.Behaviour.allCases)
    func contractWhenTiny(_ behaviour: EventStoreContract.Behaviour) async throws {
        let stores = LogStores(.tiny)
        try await EventStoreContract(seed: TestFiles.seed, reopen: { try stores.reopen($0) }) { try stores.make() }.check(behaviour)
    }

    @Test("keeps the contract on the disk in memory that the fault tests use", arguments: EventStoreContract.Behaviour.allCases)
    func contractInMemory(_ behaviour: EventStoreContract.Behaviour) async throws {
        let files = FaultyFiles()
        var options = LogStoreOptions.tiny
        options.vfs = files.name
        let stores = LogStores(options)
        let last = Mutex<LogStore?>(nil)
        @Sendable func kept(_ store: LogStore) -> LogStore {
            last.withLock { $0 = store }
            return store
        }
        try await EventStoreContract(seed: TestFiles.seed, reopen: { kept(try stores.reopen($0)) }) { kept(try stores.make()) }.check(
            behaviour)
        last.withLock { $0?.close() }
        #expect(!files.isOpen, "a file is left open")
    }

    @Test("a second opening is refused and names the process, until the first is closed")
    func locked() throws {
        let stores = LogStores()
        let store = try stores.make()
        let refused = #expect(throws: LogStoreError.self) { try stores.open(store.directory) }
        #expect(refused == .locked(directory: store.directory, process: getpid()))
        #expect(refused?.description.contains("(\(getpid()))") == true)
        store.close()
        try stores.open(store.directory).close()
    }

    @Test("a file layer that makes commits less durable, or keeps another journal, is refused (I6)")
    func durability() throws {
        for (pragma, answer) in [("synchronous", "1"), ("journal_mode", "delete"), ("mmap_size", "4096"), ("wal_autocheckpoint", "1000")] {
            let files = FaultyFiles()
            files.answer(pragma, with: answer)
            var options = LogStoreOptions()
            options.vfs = files.name
            let directory = try TemporaryDirectory()
            #expect(throws: LogStoreError.self, "\(pragma)") {
                try LogStore(directory: directory.path, options: options) { Issue.record("\($0)") }
            }
            #expect(!files.isOpen)
        }
    }

    @Test("the writer syncs each commit, and so says the connection (I6)")
    func full() throws {
        let options = LogStoreOptions()
        #expect(options.connection(.readWriteCreate, cacheKiB: 1).synchronous == .full)
        #expect(options.connection(.readWriteCreate, cacheKiB: 1).autocheckpointPages == 0)
        let directory = try TemporaryDirectory()
        let connection = try SQLiteConnection(
            path: directory.file("a.sqlite"), options: options.connection(.readWriteCreate, cacheKiB: 100))
        #expect(try connection.single("PRAGMA synchronous") { $0.integer(0) } == 2)
    }

    @Test("closing writes what waits, makes the log one file, and refuses what comes after")
    func closing() async throws {
        let files = FaultyFiles()
        var options = LogStoreOptions()
        options.vfs = files.name
        options.idleMilliseconds = 1 << 30
        let stores = LogStores(options)
        let store = try stores.make()
        let actors = try await Group.enrolled(5, in: store)
        // What was sent before the closing goes through: the first is held on its way, the others wait behind it.
        let closed = Counter()
        let results = try await Group.appendBehind(actors, to: store, files) {
            Thread.detachNewThread {
                store.close()
                closed.increment()
            }
            try await Group.until { store.isClosing }
        }
        for result in results { _ = try result.get() }
        try await Group.until { closed.value == 1 }
        store.close()
        #expect(Set(files.contents.keys) == ["log.sqlite", "log.mark"])
        let late = try Group.append(of: actors[0])
        await #expect(throws: EventLogError.closed) { try await store.append(late) }
        await #expect(throws: EventLogError.closed) { try await store.events(afterPosition: 0, limit: 1) }
        let again = try stores.open(store.directory)
        #expect(try await again.statistics().events == 11)
        again.close()
    }
}

final class Counter: Sendable {
    private let count = Atomic<Int>(0)

    var value: Int { count.load(ordering: .acquiring) }
    func increment() { count.wrappingAdd(1, ordering: .acquiringAndReleasing) }
}

/// Appends of many actors at once.
enum Group {
    static func enrolled(_ count: Int, in store: LogStore, seed: UInt64 = TestFiles.seed) async throws -> [SimulatedActor] {
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        var actors: [SimulatedActor] = []
        for number in 0..<count {
            var actor = try SimulatedActor(number: number, seed: seed, service: service)
            _ = try await store.append(try actor.enroll())
            actors.append(actor)
        }
        return actors
    }

    static func append(of actor: SimulatedActor) throws -> Append {
        var actor = actor
        return try actor.putBlob()
    }

    /// One append of each.
    static func append(_ actors: [SimulatedActor], to store: LogStore) async -> [Result<[Appended], any Error>] {
        await withTaskGroup(of: Result<[Appended], any Error>.self) { group in
            for actor in actors {
                group.addTask {
                    do { return .success(try await store.append(try append(of: actor))) } catch { return .failure(error) }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
    }

    /// The first is held in its sync until the others wait behind it, and something else was done.
    static func appendBehind(
        _ actors: [SimulatedActor], to store: LogStore, _ files: FaultyFiles, meanwhile: () async throws -> Void = {}
    ) async throws -> [Result<[Appended], any Error>] {
        files.hold([.sync])
        async let first = append([actors[0]], to: store)
        try await until { files.heldCount == 1 }
        async let others = append(Array(actors.dropFirst()), to: store)
        try await until { store.waitingCount == actors.count - 1 }
        try await meanwhile()
        files.release()
        return await first + others
    }

    /// Waits until it holds: what another thread does in a moment.
    static func until(_ holds: () -> Bool) async throws {
        for _ in 0..<5000 where !holds() { try await Task.sleep(for: .milliseconds(1)) }
        #expect(holds(), "nothing happens")
    }
}
