internal import CSQLite
internal import Glibc

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

    /// Made at once after the call that failed: `errno` still says why. SQLite's own copy of it, `sqlite3_system_errno`, is not set
    /// where a COMMIT fails, and is then that of some earlier failure.
    init(_ operation: String, code: Int32, handle: OpaquePointer?, path: String) {
        let systemCode = errno
        let code = handle.map { sqlite3_extended_errcode($0) } ?? code
        let isOfSystem = code & 0xff == SQLITE_IOERR || code & 0xff == SQLITE_CANTOPEN
        self.init(
            operation: operation, code: code, systemCode: isOfSystem ? systemCode : 0,
            message: String(cString: handle.map { sqlite3_errmsg($0) } ?? sqlite3_errstr(code)), path: path)
    }

    package var description: String { "\(path): \(operation): \(message) (\(code))" }

    private var primary: Int32 { code & 0xff }

    /// The file contradicts itself: a human must act.
    package var isCorruption: Bool { primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB }

    /// The disk or the quota is full: nothing was done, and the same may work later.
    package var isNoSpace: Bool {
        if primary == SQLITE_FULL { return true }
        return primary == SQLITE_IOERR && !isUnknown && (systemCode == Self.noSpace || systemCode == Self.overQuota)
    }

    /// A file call failed other than for want of space.
    package var isInputOutput: Bool { primary == SQLITE_IOERR && !isNoSpace }

    /// Another connection holds the lock.
    package var isBusy: Bool { primary == SQLITE_BUSY || primary == SQLITE_LOCKED }

    package var isConstraint: Bool { primary == SQLITE_CONSTRAINT }

    /// What was written is unknown, whatever `errno` says, so it is never "no space": after a failed sync, and where the WAL's
    /// index could not grow, which SQLite finds out when a commit is in the WAL already and synced.
    private var isUnknown: Bool {
        // SQLITE_IOERR_FSYNC, _DIR_FSYNC; _SHMOPEN, _SHMSIZE, _SHMLOCK, _SHMMAP
        [4, 5, 18, 19, 20, 21].contains(code >> 8)
    }

    private static let noSpace: Int32 = 28
    private static let overQuota: Int32 = 122
}
