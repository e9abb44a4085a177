internal import CSQLite

/// A prepared statement, confined to the thread (or the lane) that owns its connection.
///
/// Parameters count from 1 and columns from 0, as in SQLite. After `step` has returned true the columns may be read until the
/// next `step` or `reset`. A statement comes from `SQLiteConnection.statement(_:)`, which keeps it prepared.
package final class SQLiteStatement {
    private var handle: OpaquePointer?
    private let path: String

    init(_ sql: String, connection: OpaquePointer, path: String) throws(SQLiteError) {
        self.path = path
        let code = sqlite3_prepare_v3(connection, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &handle, nil)
        guard code == SQLITE_OK, handle != nil else {
            throw SQLiteError("prepare", code: code, handle: connection, path: path)
        }
    }

    deinit { finalize() }

    /// Only the connection calls this, when it closes; the statement is unusable after.
    func finalize() {
        sqlite3_finalize(handle)
        handle = nil
    }

    // MARK: Running

    /// One step. True: a row stands ready. False: done, and the statement is reset, its parameters kept.
    package func step() throws(SQLiteError) -> Bool {
        let code = sqlite3_step(handle)
        switch code {
        case SQLITE_ROW: return true
        case SQLITE_DONE:
            sqlite3_reset(handle)
            return false
        default:
            let error = SQLiteError("step", code: code, handle: sqlite3_db_handle(handle), path: path)
            sqlite3_reset(handle)  // Repeats the error that is thrown already.
            throw error
        }
    }

    /// Runs a statement that gives no rows, or whose rows do not matter.
    package func run() throws(SQLiteError) {
        while try step() {}
    }

    /// Ends a walk before its last row, so that no read transaction stays open. Parameters keep their values.
    package func reset() { sqlite3_reset(handle) }

    package func clearBindings() { sqlite3_clear_bindings(handle) }

    var isRunning: Bool { sqlite3_stmt_busy(handle) != 0 }

    // MARK: Parameters

    package func bind(_ index: Int32, _ value: Int64) throws(SQLiteError) {
        try check(sqlite3_bind_int64(handle, index, value))
    }

    /// Bound as the 64-bit pattern, so that values from 2^63 come back equal through `unsigned`.
    package func bind(_ index: Int32, _ value: UInt64) throws(SQLiteError) {
        try check(sqlite3_bind_int64(handle, index, Int64(bitPattern: value)))
    }

    package func bind(_ index: Int32, _ value: Int) throws(SQLiteError) {
        try check(sqlite3_bind_int64(handle, index, Int64(value)))
    }

    package func bindNull(_ index: Int32) throws(SQLiteError) {
        try check(sqlite3_bind_null(handle, index))
    }

    package func bind(_ index: Int32, _ value: String) throws(SQLiteError) {
        var value = value
        let code = value.withUTF8 { text in
            text.withMemoryRebound(to: CChar.self) {
                sqlite3_bind_text(handle, index, $0.baseAddress ?? emptyText, Int32($0.count), csqlite_transient)
            }
        }
        try check(code)
    }

    /// Copies the bytes; an empty array is an empty blob, not NULL.
    package func bind(_ index: Int32, _ value: [UInt8]) throws(SQLiteError) {
        try check(value.withUnsafeBytes { bindCopy(index, $0) })
    }

    package func bind(_ index: Int32, _ value: UnsafeRawBufferPointer) throws(SQLiteError) {
        try check(bindCopy(index, value))
    }

    /// Binds the bytes without a copy and runs the statement to its end while they stand still: for blobs that are large.
    package func run(binding index: Int32, uncopied value: [UInt8]) throws(SQLiteError) {
        let outcome: Result<Void, SQLiteError> = value.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress, !bytes.isEmpty else {
                return Result { () throws(SQLiteError) in
                    try check(sqlite3_bind_zeroblob(handle, index, 0))
                    try run()
                }
            }
            defer { sqlite3_bind_null(handle, index) }
            return Result { () throws(SQLiteError) in
                try check(sqlite3_bind_blob64(handle, index, base, UInt64(bytes.count), nil))
                try run()
            }
        }
        try outcome.get()
    }

    package func bind(_ index: Int32, _ value: SQLiteValue) throws(SQLiteError) {
        switch value {
        case .null: try bindNull(index)
        case .integer(let integer): try bind(index, integer)
        case .text(let text): try bind(index, text)
        case .blob(let bytes): try bind(index, bytes)
        }
    }

    private func bindCopy(_ index: Int32, _ bytes: UnsafeRawBufferPointer) -> Int32 {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return sqlite3_bind_zeroblob(handle, index, 0) }
        return sqlite3_bind_blob64(handle, index, base, UInt64(bytes.count), csqlite_transient)
    }

    // MARK: Columns

    /// `SQLITE_INTEGER`, `SQLITE_TEXT`, `SQLITE_BLOB` and so on, as the value stands in its row.
    func type(_ column: Int32) -> Int32 { sqlite3_column_type(handle, column) }

    package func isNull(_ column: Int32) -> Bool { sqlite3_column_type(handle, column) == SQLITE_NULL }

    package func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(handle, column) }

    package func unsigned(_ column: Int32) -> UInt64 { UInt64(bitPattern: sqlite3_column_int64(handle, column)) }

    /// The text; bytes that are no UTF-8 become replacement characters, so what is compared byte by byte is kept as a blob.
    package func text(_ column: Int32) -> String {
        guard let start = sqlite3_column_text(handle, column) else { return "" }
        return String(decoding: UnsafeBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column))), as: UTF8.self)
    }

    /// A copy of the blob; empty for NULL.
    package func blob(_ column: Int32) -> [UInt8] {
        withBlob(column) { bytes in [UInt8](bytes) }
    }

    /// The blob where SQLite keeps it, for the length of `body`.
    package func withBlob<Value: ~Copyable, Failure: Error>(
        _ column: Int32, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let start = sqlite3_column_blob(handle, column)
        return try body(UnsafeRawBufferPointer(start: start, count: start == nil ? 0 : Int(sqlite3_column_bytes(handle, column))))
    }

    package func value(_ column: Int32) -> SQLiteValue {
        switch sqlite3_column_type(handle, column) {
        case SQLITE_INTEGER: .integer(integer(column))
        case SQLITE_NULL: .null
        case SQLITE_TEXT: .text(text(column))
        default: .blob(blob(column))
        }
    }

    private func check(_ code: Int32) throws(SQLiteError) {
        guard code == SQLITE_OK else { throw SQLiteError("bind", code: code, handle: sqlite3_db_handle(handle), path: path) }
    }
}

/// A value on its way into a statement or out of a row.
package enum SQLiteValue: Hashable, Sendable, ExpressibleByIntegerLiteral, ExpressibleByStringLiteral, ExpressibleByNilLiteral {
    case null
    case integer(Int64)
    case text(String)
    case blob([UInt8])

    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(stringLiteral value: String) { self = .text(value) }
    package init(nilLiteral: ()) { self = .null }
}

/// Text of no bytes still needs an address: a null one would bind NULL. Never written to, and never freed.
private nonisolated(unsafe) let emptyText: UnsafePointer<CChar> = {
    let byte = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
    byte.initialize(to: 0)
    return UnsafePointer(byte)
}()
