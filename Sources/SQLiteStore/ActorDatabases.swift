package import ATProto
package import Projections
import Glibc
import Synchronization

/// Every actor's projections. An actor's file is open on one thread, always the same one, so nothing about it needs a lock; each
/// thread keeps the files it used last open, at most `openMax`, and closes the one that rested longest.
///
/// A file that SQLite calls damaged, or that holds what no version of this program wrote, is made anew: nothing is lost with it.
package final class ActorDatabases: ReadModel, Sendable {
    private let directory: ActorDirectory
    private let threads: [ActorThread]
    private let isClosed = Atomic<Bool>(false)

    /// - Parameter onDamage: told of each damaged file, on the thread that found it: the disk may need a human.
    package init(
        directory: ActorDirectory, threads: Int = 4, openMax: Int = 512,
        onDamage: @escaping @Sendable (DID, any Error) -> Void = { _, _ in }
    ) {
        self.directory = directory
        self.threads = (0..<threads).map { _ in
            ActorThread(directory: directory, openMax: max(1, openMax / threads), onDamage: onDamage)
        }
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

/// The files that one thread has open.
final class OpenActors {
    private struct Entry {
        let database: ActorDatabase
        var lastUse: UInt64
    }

    private let directory: ActorDirectory
    private let openMax: Int
    private let onDamage: @Sendable (DID, any Error) -> Void
    private var open: [DID: Entry] = [:]
    private var uses: UInt64 = 0

    init(directory: ActorDirectory, openMax: Int, onDamage: @escaping @Sendable (DID, any Error) -> Void) {
        self.directory = directory
        self.openMax = openMax
        self.onDamage = onDamage
    }

    /// Runs `body` upon an actor's rows; a second time, upon no rows at all, where it found them damaged.
    func run<Result>(_ actor: DID, _ body: (any ActorRows) throws -> Result) throws -> Result {
        do {
            return try body(database(of: actor))
        } catch let error where Self.isDamage(error) {
            onDamage(actor, error)
            _ = try drop(actor)
            return try body(database(of: actor))
        }
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
        if open.count >= openMax, let rested = open.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            rested.value.database.close()
            open[rested.key] = nil
        }
        try directory.createFolder(of: actor)
        let database = try ActorDatabase(path: directory.database(of: actor), actor: actor)
        open[actor] = Entry(database: database, lastUse: uses)
        return database
    }

    /// - Returns: whether there was anything to remove.
    func drop(_ actor: DID) throws -> Bool {
        open[actor]?.database.close()
        open[actor] = nil
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

    func closeAll() {
        for entry in open.values { entry.database.close() }
        open = [:]
    }
}
