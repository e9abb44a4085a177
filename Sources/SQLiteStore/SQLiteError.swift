internal import CSQLite

/// What SQLite answered when it did not do as it was told, with the file it was working on.
package struct SQLiteError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was tried, a constant such as `open` or `step`.
    package let operation: String
    /// SQLite's extended result code.
    package let code: Int32
    /// `errno` of the file call that failed, 0 where none did.
    package let systemCode: Int32
    package let message: String
    /// The database file.
    package let path: String

    package init(operation: String, code: Int32, systemCode: Int32 = 0, message: String, path: String) {
        self.operation = operation
        self.code = code
        self.systemCode = systemCode
        self.message = message
        self.path = path
    }

    init(_ operation: String, code: Int32, handle: OpaquePointer?, path: String) {
        self.init(
            operation: operation, code: handle.map { sqlite3_extended_errcode($0) } ?? code,
            systemCode: handle.map { sqlite3_system_errno($0) } ?? 0,
            message: String(cString: handle.map { sqlite3_errmsg($0) } ?? sqlite3_errstr(code)), path: path)
    }

    package var description: String { "\(path): \(operation): \(message) (\(code))" }

    private var primary: Int32 { code & 0xff }

    /// The file contradicts itself: a human must act.
    package var isCorruption: Bool { primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB }

    /// The disk or the quota is full: nothing was done, and the same may work later.
    package var isNoSpace: Bool {
        if primary == SQLITE_FULL { return true }
        return primary == SQLITE_IOERR && !isSync && (systemCode == Self.noSpace || systemCode == Self.overQuota)
    }

    /// A file call failed other than for want of space.
    package var isInputOutput: Bool { primary == SQLITE_IOERR && !isNoSpace }

    /// Another connection holds the lock.
    package var isBusy: Bool { primary == SQLITE_BUSY || primary == SQLITE_LOCKED }

    package var isConstraint: Bool { primary == SQLITE_CONSTRAINT }

    /// What a failed sync wrote is unknown, whatever `errno` says, so it is never "no space".
    private var isSync: Bool {
        code == SQLITE_IOERR | (4 << 8) || code == SQLITE_IOERR | (5 << 8)  // SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC
    }

    private static let noSpace: Int32 = 28
    private static let overQuota: Int32 = 122
}
