package import ATProto
package import Projections
import Glibc

/// Every actor's projections. An actor's file is open on one thread, always the same one, so nothing about it needs a lock; each
/// thread keeps the files it used last open, at most `openMax`, and closes the one that rested longest.
package final class ActorDatabases: ReadModel, Sendable {
    private let directory: ActorDirectory
    private let threads: [ActorThread]

    package init(directory: ActorDirectory, threads: Int = 4, openMax: Int = 512) {
        self.directory = directory
        self.threads = (0..<threads).map { _ in ActorThread(openMax: max(1, openMax / threads), directory: directory) }
    }

    /// Ends the threads once what they were given is done, and closes every file.
    package func close() {
        for thread in threads { thread.close() }
    }

    package func withActor<Result: Sendable>(
        _ actor: DID, _ body: @escaping @Sendable (any ActorRows) throws -> Result
    ) async throws -> Result {
        try await thread(of: actor).run { open in try body(open.database(of: actor)) }
    }

    package func drop(_ actor: DID?) async throws -> Int {
        if let actor { return try await thread(of: actor).run { open in try open.drop(actor) } ? 1 : 0 }
        var dropped = 0
        for actor in try directory.actors() where try await drop(actor) == 1 { dropped += 1 }
        return dropped
    }

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
    private var open: [DID: Entry] = [:]
    private var uses: UInt64 = 0

    init(directory: ActorDirectory, openMax: Int) {
        self.directory = directory
        self.openMax = openMax
    }

    func database(of actor: DID) throws -> ActorDatabase {
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
