internal import CSQLite

/// How a database file is opened.
package struct SQLiteOptions: Sendable {
    package enum Access: Sendable { case readWriteCreate, readWrite, readOnly }
    package enum Synchronous: Int64, Sendable {
        case off = 0
        case normal = 1
        case full = 2
    }

    /// `readOnly` opens the file for writing and refuses statements that write (`query_only`): a WAL needs a writable shared-memory file.
    package var access: Access
    /// Read back after it is set: some layers change it unasked.
    package var synchronous: Synchronous
    /// Pages in the WAL after which a commit checkpoints by itself; 0 = never.
    package var autocheckpointPages: Int64
    package var busyTimeout: Duration
    package var cacheKiB: Int64
    /// Whether closing the file's last connection copies the WAL into it and removes the WAL.
    package var checkpointsWhenClosed = true
    /// The name of a registered VFS; nil = the operating system's.
    package var vfs: String?
    /// Nobody else opens the file: its lock is taken once and kept, the WAL's index is in memory and not in a file, a new file is
    /// made without a sync, and closing leaves the WAL as it is, for whoever opens the file next.
    package var isPrivate = false

    package init(
        access: Access, synchronous: Synchronous, autocheckpointPages: Int64, busyTimeout: Duration = .seconds(5), cacheKiB: Int64 = 2048,
        vfs: String? = nil, isPrivate: Bool = false
    ) {
        self.access = access
        self.synchronous = synchronous
        self.autocheckpointPages = autocheckpointPages
        self.busyTimeout = busyTimeout
        self.cacheKiB = cacheKiB
        self.vfs = vfs
        self.isPrivate = isPrivate
    }

    /// What can be derived again, one of a thousand files that are open at a time: a commit survives the process, but not always the
    /// power, what SQLite keeps in memory is small, and whoever opens the file also says when its WAL is checkpointed.
    package static let disposable = SQLiteOptions(
        access: .readWriteCreate, synchronous: .normal, autocheckpointPages: 0, cacheKiB: 384, isPrivate: true)

    /// What cannot: durable when a commit returns.
    package static let durable = SQLiteOptions(access: .readWriteCreate, synchronous: .full, autocheckpointPages: 1000)
}

/// One connection to one SQLite file in WAL mode, with its prepared statements.
///
/// It is opened without SQLite's own mutexes, so it belongs to one thread, or one lane, at a time; it is not `Sendable`, and the
/// compiler keeps it so. To hand it over, send it (`sending`) or hold it in what serialises.
package final class SQLiteConnection {
    package let path: String
    let handle: OpaquePointer
    private var statements: [String: SQLiteStatement] = [:]
    private var isClosed = false
    var closesCleanly = true
    /// Written by SQLite's hook, on this connection's thread, for as long as the connection is open.
    let walPageCount: UnsafeMutablePointer<Int>

    /// Pages in the WAL that are not in the file yet, as far as this connection's own commits and checkpoints tell; see `watchWAL`.
    var walPages: Int {
        get { walPageCount.pointee }
        set { walPageCount.pointee = newValue }
    }

    /// Opens `path`, makes it where the options say so, and reads back what durability rests on.
    package init(path: String, options: SQLiteOptions) throws(SQLiteError) {
        SQLiteLibrary.configure()
        self.path = path
        walPageCount = .allocate(capacity: 1)
        walPageCount.initialize(to: 0)
        var opened: OpaquePointer?
        let create = options.access == .readWriteCreate ? SQLITE_OPEN_CREATE : 0
        let code = sqlite3_open_v2(
            path, &opened, SQLITE_OPEN_READWRITE | create | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, options.vfs)
        guard let handle = opened, code == SQLITE_OK else {
            let error = SQLiteError("open", code: code, handle: opened, path: path)
            sqlite3_close_v2(opened)
            walPageCount.deallocate()
            throw error
        }
        self.handle = handle
        // Before anything else is tried: a connection that fails is closed too.
        checkpointsWhenClosed = options.checkpointsWhenClosed
        do {
            try configure(options)
        } catch {
            close()
            throw error
        }
    }

    deinit {
        close()
        walPageCount.deallocate()
    }

    /// Finalizes every statement and closes the file; the last connection of a file checkpoints its WAL and removes it.
    package func close() {
        guard !isClosed else { return }
        isClosed = true
        for statement in statements.values { statement.finalize() }
        statements = [:]
        sqlite3_close_v2(handle)
    }

    private func configure(_ options: SQLiteOptions) throws(SQLiteError) {
        sqlite3_busy_timeout(handle, Int32(options.busyTimeout / .milliseconds(1)))
        try execute("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY")
        if options.isPrivate { try configurePrivately() }
        try execute("PRAGMA cache_size = -\(options.cacheKiB)")
        try expect("PRAGMA mmap_size = 0", 0)
        let mode = try single("PRAGMA journal_mode = WAL") { row in row.text(0) }
        guard mode == "wal" else { throw refusal("journal_mode", "the file stays in journal mode \(mode ?? "none")") }
        try execute("PRAGMA synchronous = \(options.synchronous.rawValue)")
        try expect("PRAGMA synchronous", options.synchronous.rawValue)
        try expect("PRAGMA wal_autocheckpoint = \(options.autocheckpointPages)", options.autocheckpointPages)
        if options.access == .readOnly { try execute("PRAGMA query_only = ON") }
    }

    /// Before the file is read for the first time: only then is the WAL's index put into memory.
    private func configurePrivately() throws(SQLiteError) {
        csqlite_config_lookaside(handle, 256, 32)
        checkpointsWhenClosed = false
        try execute("PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = OFF; PRAGMA journal_size_limit = \(128 << 10)")
        // A new file becomes one with a WAL through a journal, and that needs no file either; one that has a WAL says so here.
        if try single("PRAGMA journal_mode", read: { row in row.text(0) }) != "wal" { try execute("PRAGMA journal_mode = MEMORY") }
    }

    /// Runs a pragma and refuses another answer than `value`; a build without the feature answers nothing, which is as good as 0.
    private func expect(_ pragma: String, _ value: Int64) throws(SQLiteError) {
        let answer = try single(pragma) { row in row.integer(0) } ?? 0
        guard answer == value else { throw refusal(pragma, "\(answer) where \(value) was asked for") }
    }

    private func refusal(_ operation: String, _ message: String) -> SQLiteError {
        SQLiteError(operation: operation, code: SQLITE_MISUSE, message: message, path: path)
    }

    /// Runs `body` with commits that no power loss is kept from undoing, in a file that has nothing to lose yet. What is committed later is
    /// synced with all before it, or is lost with it.
    func unsynced(_ body: () throws(SQLiteError) -> Void) throws(SQLiteError) {
        let synchronous = try single("PRAGMA synchronous") { row in row.integer(0) } ?? 0
        try execute("PRAGMA synchronous = OFF")
        try body()
        try execute("PRAGMA synchronous = \(synchronous)")
        try expect("PRAGMA synchronous", synchronous)
    }

    // MARK: Statements

    /// The prepared statement for `sql`, kept for the life of the connection; its parameters are NULL.
    package func statement(_ sql: String) throws(SQLiteError) -> SQLiteStatement {
        if let statement = statements[sql] {
            precondition(!statement.isRunning, "a statement is asked for while it is walked: \(sql)")
            statement.clearBindings()
            return statement
        }
        let statement = try SQLiteStatement(sql, connection: handle, path: path)
        statements[sql] = statement
        return statement
    }

    /// Runs one or more statements without parameters; rows are dropped.
    package func execute(_ sql: String) throws(SQLiteError) {
        let code = sqlite3_exec(handle, sql, nil, nil, nil)
        guard code == SQLITE_OK else { throw SQLiteError("execute", code: code, handle: handle, path: path) }
    }

    /// Binds `values` in order and runs the statement to its end.
    package func run(_ sql: String, _ values: SQLiteValue...) throws(SQLiteError) {
        let statement = try bound(sql, values)
        try statement.run()
    }

    /// Reads the first row, or nil where there is none.
    package func single<Value>(_ sql: String, _ values: SQLiteValue..., read: (SQLiteStatement) -> Value) throws(SQLiteError) -> Value? {
        let statement = try bound(sql, values)
        guard try statement.step() else { return nil }
        defer { statement.reset() }
        return read(statement)
    }

    /// Reads every row in order.
    package func all<Value>(_ sql: String, _ values: SQLiteValue..., read: (SQLiteStatement) -> Value) throws(SQLiteError) -> [Value] {
        let statement = try bound(sql, values)
        defer { statement.reset() }
        var rows: [Value] = []
        while try statement.step() { rows.append(read(statement)) }
        return rows
    }

    private func bound(_ sql: String, _ values: [SQLiteValue]) throws(SQLiteError) -> SQLiteStatement {
        let statement = try statement(sql)
        for (index, value) in values.enumerated() { try statement.bind(Int32(index + 1), value) }
        return statement
    }

    /// Rows changed by the last statement that ended.
    package var changes: Int { Int(sqlite3_changes64(handle)) }

    // MARK: Transactions

    /// Runs `body` in a write transaction, which is rolled back where it throws.
    package func transaction<Value>(_ body: () throws(SQLiteError) -> Value) throws(SQLiteError) -> Value {
        let transaction = try SQLiteTransaction(on: self)
        let value = try body()
        try transaction.commit()
        return value
    }

    /// Runs several reads upon one state of the file, which is looked up and locked once for all of them.
    package func reading<Value>(_ body: () throws(SQLiteError) -> Value) throws(SQLiteError) -> Value {
        try statement("BEGIN").run()
        let value: Value
        do throws(SQLiteError) { value = try body() } catch {
            rollBack()
            throw error
        }
        try statement("COMMIT").run()
        return value
    }

    /// True between BEGIN and the end of the transaction, however it ended.
    var isInTransaction: Bool { sqlite3_get_autocommit(handle) == 0 }

    func rollBack() {
        // best effort: SQLite has rolled back by itself where this is refused, and the next BEGIN would say otherwise.
        if isInTransaction { sqlite3_exec(handle, "ROLLBACK", nil, nil, nil) }
    }
}

/// A write transaction; rolled back unless it is committed.
package struct SQLiteTransaction: ~Copyable {
    private let connection: SQLiteConnection
    private var isOpen = true

    /// Takes the write lock at once (`BEGIN IMMEDIATE`).
    package init(on connection: SQLiteConnection) throws(SQLiteError) {
        self.connection = connection
        try connection.statement("BEGIN IMMEDIATE").run()
    }

    /// Durable on return where the connection is `full`. On an error nothing of the transaction is visible to anybody, but after
    /// a failed sync it may yet be found in the file when it is opened again.
    package consuming func commit() throws(SQLiteError) {
        try connection.statement("COMMIT").run()
        isOpen = false
    }

    deinit {
        if isOpen { connection.rollBack() }
    }
}
