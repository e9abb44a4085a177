internal import Glibc
package import Projections

/// The reactors' part of `service.sqlite`, on a thread and a connection of its own. Other parts of the service keep other tables in
/// this file through connections of theirs; none needs the others' tables to be there.
///
/// A commit survives the process at once and the power a little later, in order: then effects are repeated, and none is lost.
package final class ReactorDatabase: ReactorStore, Sendable {
    package static let fileName = "service.sqlite"

    private typealias Job = @Sendable (SQLiteReactorRows) -> Void
    private let queue: BlockingQueue<Job>
    private let thread: BackgroundThread

    /// - Parameters:
    ///   - directory: the data directory.
    ///   - isReadOnly: for whoever only looks; the file must be there.
    package init(directory: String, isReadOnly: Bool = false, waitingMax: Int = 4096) throws(SQLiteError) {
        let path = directory + "/" + Self.fileName
        let options = SQLiteOptions(
            access: isReadOnly ? .readOnly : .readWriteCreate, synchronous: .normal, autocheckpointPages: isReadOnly ? 0 : 1000)
        let connection = try SQLiteConnection(path: path, options: options)
        if !isReadOnly {
            chmod(path, 0o600)  // People's sessions lie in it too.
            try ServiceDatabase.turn.withLock { _ throws(SQLiteError) in try SQLiteReactorRows.create(on: connection) }
        }
        let rows = SQLiteReactorRows(connection, isReadOnly: isReadOnly)
        let queue = BlockingQueue<Job>(waitingMax: waitingMax)
        self.queue = queue
        thread = BackgroundThread {
            while let jobs = queue.take(wait: .forever, while: { _ in false }) {
                for job in jobs { ServiceDatabase.turn.withLock { _ in job(rows) } }
            }
            ServiceDatabase.turn.withLock { _ in rows.close() }
        }
    }

    /// For whoever only looks; nil where no reactor has kept anything in this directory.
    package static func look(into directory: String) throws(SQLiteError) -> ReactorDatabase? {
        guard access(directory + "/" + fileName, F_OK) == 0 else { return nil }
        let connection = try SQLiteConnection(
            path: directory + "/" + fileName, options: SQLiteOptions(access: .readOnly, synchronous: .normal, autocheckpointPages: 0))
        defer { connection.close() }
        guard try SQLiteReactorRows.isThere(on: connection) else { return nil }
        return try ReactorDatabase(directory: directory, isReadOnly: true)
    }

    package func transaction<Result: Sendable>(_ body: @escaping @Sendable (any ReactorRows) throws -> Result) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            let push = queue.push { rows in continuation.resume(with: Swift.Result { try rows.transaction(body) }) }
            if push != .queued { continuation.resume(throwing: ReactorDatabaseError.busy) }
        }
    }

    /// Does what waits and closes the file. Called once.
    package func close() {
        queue.close()
        thread.join()
    }
}

package enum ReactorDatabaseError: Error, Equatable {
    /// More waits than is taken in, or the file was closed.
    case busy
    /// A row that no version of this program wrote.
    case unreadable(row: String)
}
