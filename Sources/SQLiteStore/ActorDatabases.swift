package import ATProto
package import Projections
import Glibc
import Synchronization

/// Every actor's projections. An actor's file is open on one thread, always the same one, so nothing about it needs a lock; each
/// thread keeps the files it used last open, at most `openMax` over all threads, and closes the one that rested longest.
///
/// A file that SQLite calls damaged, or that holds what no version of this program wrote, is made anew: nothing is lost with it.
package final class ActorDatabases: ReadModel, Sendable {
    private let directory: ActorDirectory
    private let threads: [ActorThread]
    private let isClosed = Atomic<Bool>(false)

    /// - Parameter onDamage: told of each damaged file, on the thread that found it: the disk may need a human.
    package init(
        directory: ActorDirectory, threads: Int = 4, openMax: Int = 1024,
        onDamage: @escaping @Sendable (DID, any Error) -> Void = { _, _ in }
    ) {
        self.directory = directory
        let places = OpenPlaces(countMax: openMax)
        self.threads = (0..<threads).map { _ in ActorThread(places: places, directory: directory, onDamage: onDamage) }
    }

    /// Ends the threads once what they were given is done, and closes every file.
    package func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        for thread in threads { thread.close() }
    }

    package func withActor<Result: Sendable>(
        _ actor: DID, _ body: @escaping @Sendable (any ActorRows) throws -> Result
    ) async throws -> Result {
        try await thread(of: actor).run { open in try open.run(actor, body) }
    }

    package func actors() async throws -> [DID] { try directory.actors() }

    package func drop(_ actor: DID) async throws -> Bool { try await thread(of: actor).run { open in try open.drop(actor) } }

    private func thread(of actor: DID) -> ActorThread {
        // Not `hashValue`: an actor keeps its thread, whatever the process was seeded with.
        let hash = actor.description.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return threads[Int(hash % UInt64(threads.count))]
    }
}

/// How many files all threads together may have open. A thread that finds none free closes one of its own.
final class OpenPlaces: Sendable {
    private let free: Atomic<Int>

    init(countMax: Int) { free = Atomic(countMax) }

    /// - Returns: whether there was one.
    func take() -> Bool {
        if free.subtract(1, ordering: .relaxed).newValue >= 0 { return true }
        free.add(1, ordering: .relaxed)
        return false
    }

    func giveBack() { free.add(1, ordering: .relaxed) }
}

/// The files that one thread has open.
final class OpenActors {
    private struct Entry {
        let database: ActorDatabase
        /// Whether it has one of the places that all threads share.
        let hasPlace: Bool
        var lastUse: UInt64
    }

    private let directory: ActorDirectory
    private let places: OpenPlaces
    private let onDamage: @Sendable (DID, any Error) -> Void
    private var open: [DID: Entry] = [:]
    /// Those of the open ones that may have something to commit.
    private var unwritten: Set<DID> = []
    private var uses: UInt64 = 0

    init(directory: ActorDirectory, places: OpenPlaces, onDamage: @escaping @Sendable (DID, any Error) -> Void) {
        self.directory = directory
        self.places = places
        self.onDamage = onDamage
    }

    /// Runs `body` upon an actor's rows; a second time, upon no rows at all, where it found them damaged.
    func run<Result>(_ actor: DID, _ body: (any ActorRows) throws -> Result) throws -> Result {
        do {
            return try runOnce(actor, body)
        } catch let error where Self.isDamage(error) {
            onDamage(actor, error)
            _ = try drop(actor)
            return try runOnce(actor, body)
        }
    }

    private func runOnce<Result>(_ actor: DID, _ body: (any ActorRows) throws -> Result) throws -> Result {
        let database = try database(of: actor)
        defer { if database.isUnwritten { unwritten.insert(actor) } }
        return try body(database)
    }

    private static func isDamage(_ error: any Error) -> Bool {
        if let error = error as? SQLiteError { return error.isCorruption }
        if case .unreadable? = error as? ActorStoreError { return true }
        return false
    }

    private func database(of actor: DID) throws -> ActorDatabase {
        uses += 1
        if let entry = open[actor] {
            open[actor]!.lastUse = uses
            return entry.database
        }
        let hasPlace = makeRoom()
        do {
            try directory.createFolder(of: actor)
            let database = try ActorDatabase(path: directory.database(of: actor), actor: actor)
            open[actor] = Entry(database: database, hasPlace: hasPlace, lastUse: uses)
            return database
        } catch {
            if hasPlace { places.giveBack() }
            throw error
        }
    }

    /// Takes a free place, or that of the file that rested longest, which is closed. A thread that has neither, because the others
    /// took all, works with one file at a time.
    private func makeRoom() -> Bool {
        if places.take() { return true }
        guard let rested = open.min(by: { $0.value.lastUse < $1.value.lastUse }) else { return false }
        rested.value.database.close()
        open[rested.key] = nil
        unwritten.remove(rested.key)
        return rested.value.hasPlace
    }

    /// - Returns: whether there was anything to remove.
    func drop(_ actor: DID) throws -> Bool {
        if let entry = open.removeValue(forKey: actor) {
            entry.database.discard()
            if entry.hasPlace { places.giveBack() }
            unwritten.remove(actor)
        }
        var existed = false
        for suffix in ["", "-wal", "-shm"] {
            let path = directory.database(of: actor) + suffix
            if unlink(path) == 0 {
                existed = true
            } else if errno != ENOENT {
                throw ActorStoreError.directory(path: path, code: errno)
            }
        }
        return existed
    }

    /// Whether an open file may have something to commit.
    var isUnwritten: Bool { !unwritten.isEmpty }

    /// Commits what was applied to the open files, for a thread that has nothing else to do.
    func commitAll() {
        for actor in unwritten {
            // best effort: where the disk refuses, the rows stand again where they were, and the log leads them on.
            try? open[actor]?.database.settle()
        }
        unwritten = []
    }

    func closeAll() {
        for entry in open.values { entry.database.close() }
        open = [:]
    }
}
