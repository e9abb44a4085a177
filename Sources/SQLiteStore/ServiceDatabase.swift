package import ATProto
internal import Glibc
internal import Synchronization

/// `service.sqlite`, as far as people's sessions are in it: flows by which they join, and what they gave at the end of one. It is neither
/// truth nor derivable: without it nothing is wrong, and everybody must come by once more. What lies here is sealed; this knows no key.
///
/// One thread has the file open and does what it is given in order. Other tables of the file are others', with connections of their own;
/// whoever writes holds `turn`.
package final class ServiceDatabase: Sendable {
    package static let fileName = "service.sqlite"

    package enum Failure: Error, Equatable {
        /// Too much waits already, or the database is closed.
        case overloaded
        case storage(SQLiteError)
    }

    package enum Session: Hashable, Sendable {
        case sealed([UInt8])
        case ended(reason: String, at: Int64)
    }

    /// Held by whichever connection of `service.sqlite` does anything: before 3.51.3 SQLite can damage a WAL where one connection
    /// checkpoints while another writes, and commits do both.
    static let turn = Mutex(())

    private typealias Job = @Sendable (SQLiteConnection) -> Void

    private let queue: BlockingQueue<Job>
    private let thread: BackgroundThread
    private let flowsMax: Int

    /// - Parameter flowsMax: flows that may be under way.
    /// - Throws: where the file cannot be opened or is none of ours.
    package init(directory: String, flowsMax: Int = 10_000, waitingMax: Int = 1024) throws(SQLiteError) {
        let path = directory + "/" + Self.fileName
        let connection = try SQLiteConnection(path: path, options: .durable)
        // Sealed or not, it is nobody else's.
        chmod(path, 0o600)
        try Self.turn.withLock { _ throws(SQLiteError) in
            try connection.execute(
                """
                BEGIN IMMEDIATE;
                CREATE TABLE IF NOT EXISTS oauth_flow (
                    id BLOB PRIMARY KEY, sealed BLOB NOT NULL, expires INTEGER NOT NULL
                ) STRICT, WITHOUT ROWID;
                CREATE INDEX IF NOT EXISTS oauth_flow_expires ON oauth_flow (expires);
                CREATE TABLE IF NOT EXISTS oauth_session (
                    did TEXT PRIMARY KEY, sealed BLOB, ended TEXT, ended_at INTEGER,
                    CHECK ((sealed IS NULL) = (ended IS NOT NULL) AND (ended IS NULL) = (ended_at IS NULL))
                ) STRICT, WITHOUT ROWID;
                COMMIT;
                """)
        }
        self.flowsMax = flowsMax
        let queue = BlockingQueue<Job>(waitingMax: waitingMax)
        self.queue = queue
        nonisolated(unsafe) let handed = connection
        thread = BackgroundThread {
            while let jobs = queue.take(wait: .forever, while: { _ in true }) {
                for job in jobs { Self.turn.withLock { _ in job(handed) } }
            }
            Self.turn.withLock { _ in handed.close() }
        }
    }

    /// Takes nothing more, does what waits, and closes the file. Called once.
    package func close() {
        queue.close()
        thread.join()
    }

    private func run<Result: Sendable>(
        _ body: @escaping @Sendable (SQLiteConnection) throws(SQLiteError) -> Result
    ) async throws(Failure) -> Result {
        let outcome: Swift.Result<Result, Failure> = await withCheckedContinuation { continuation in
            let push = queue.push { connection in
                do throws(SQLiteError) { continuation.resume(returning: .success(try body(connection))) } catch {
                    continuation.resume(returning: .failure(.storage(error)))
                }
            }
            if push != .queued { continuation.resume(returning: .failure(.overloaded)) }
        }
        return try outcome.get()
    }

    // MARK: Flows

    /// Keeps a flow; what has expired goes first.
    /// - Parameters:
    ///   - expires: seconds since 1970, as `now` is.
    /// - Returns: false where as many wait already as may.
    package func keepFlow(_ id: [UInt8], _ sealed: [UInt8], expires: Int64, now: Int64) async throws(Failure) -> Bool {
        try await run { [flowsMax] connection throws(SQLiteError) in
            try connection.transaction { () throws(SQLiteError) in
                try connection.run("DELETE FROM oauth_flow WHERE expires <= ?", .integer(now))
                let count = try connection.single("SELECT count(*) FROM oauth_flow") { $0.integer(0) } ?? 0
                guard count < flowsMax else { return false }
                try connection.run(
                    "INSERT INTO oauth_flow (id, sealed, expires) VALUES (?, ?, ?)", .blob(id), .blob(sealed), .integer(expires))
                return true
            }
        }
    }

    package func flow(_ id: [UInt8]) async throws(Failure) -> [UInt8]? {
        try await run { connection throws(SQLiteError) in
            try connection.single("SELECT sealed FROM oauth_flow WHERE id = ?", .blob(id)) { $0.blob(0) }
        }
    }

    /// Removes a flow; true for whoever removed it.
    package func takeFlow(_ id: [UInt8]) async throws(Failure) -> Bool {
        try await run { connection throws(SQLiteError) in
            try connection.run("DELETE FROM oauth_flow WHERE id = ?", .blob(id))
            return connection.changes == 1
        }
    }

    // MARK: Sessions

    package func session(of account: DID) async throws(Failure) -> Session? {
        try await run { connection throws(SQLiteError) in
            try connection.single(
                "SELECT sealed, ended, ended_at FROM oauth_session WHERE did = ?", .text(account.description)
            ) { row in
                row.isNull(0) ? .ended(reason: row.text(1), at: row.integer(2)) : .sealed(row.blob(0))
            }
        }
    }

    /// Durable on return, in place of an earlier one.
    package func keep(_ session: Session, of account: DID) async throws(Failure) {
        let values: (SQLiteValue, SQLiteValue, SQLiteValue) =
            switch session {
            case .sealed(let bytes): (.blob(bytes), nil, nil)
            case .ended(let reason, let at): (nil, .text(reason), .integer(at))
            }
        try await run { connection throws(SQLiteError) in
            try connection.run(
                "INSERT OR REPLACE INTO oauth_session (did, sealed, ended, ended_at) VALUES (?, ?, ?, ?)", .text(account.description),
                values.0, values.1, values.2)
        }
    }

    package func removeSession(of account: DID) async throws(Failure) {
        try await run { connection throws(SQLiteError) in
            try connection.run("DELETE FROM oauth_session WHERE did = ?", .text(account.description))
        }
    }
}
