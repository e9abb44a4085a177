package import EventLog

/// Why a log refuses to open. Nothing was changed: a damaged log is left as it was found, for a human or a backup to mend.
package enum LogStoreError: Error, Equatable, CustomStringConvertible {
    /// Another process works on this directory.
    case locked(directory: String, process: Int32?)
    /// Acknowledged events are missing: the log ends before the mark that was written when they were durable.
    case shorterThanMark(file: String, position: UInt64, mark: UInt64)
    /// The log holds another event at the mark than the one that was acknowledged there.
    case otherThanMark(file: String, position: UInt64)
    /// The log has events and its mark is gone, or no copy in it can be read.
    case markMissing(file: String)
    /// The log contradicts itself.
    case damaged(file: String, position: UInt64?, message: String)
    /// Written by another program, or by a later version of this one.
    case format(file: String, message: String)
    case storage(SQLiteError)
    case noDirectory(path: String, code: Int32)

    static func input(_ operation: String, _ path: String, _ code: Int32) -> LogStoreError {
        .storage(SQLiteError(operation: operation, code: 10, systemCode: code, message: "errno \(code)", path: path))
    }

    package var description: String {
        switch self {
        case .locked(let directory, let process):
            "\(directory) is in use by another process\(process.map { " (\($0))" } ?? ""): stop it, or let it do the work"
        case .shorterThanMark(let file, let position, let mark):
            "\(file) ends at position \(position), but position \(mark) was acknowledged: restore the missing events from a backup"
        case .otherThanMark(let file, let position):
            "\(file) holds another event at position \(position) than the one that was acknowledged there"
        case .markMissing(let file): "\(file) is missing or unreadable, but the log has events: it cannot be shown to be complete"
        case .damaged(let file, let position, let message): "\(file)\(position.map { ", position \($0)" } ?? ""): \(message)"
        case .format(let file, let message): "\(file): \(message)"
        case .storage(let error): error.description
        case .noDirectory(let path, let code): "\(path) is not a directory that can be used (errno \(code))"
        }
    }

    /// How `verify` names it; nil where the log was not looked at.
    package var finding: Finding? {
        switch self {
        case .locked, .noDirectory: nil
        case .shorterThanMark(let file, let position, _):
            Finding(position: position, file: file, invariant: "I6", message: description)
        case .otherThanMark(let file, let position): Finding(position: position, file: file, invariant: "I1", message: description)
        case .markMissing(let file), .format(let file, _): Finding(file: file, invariant: "storage", message: description)
        case .damaged(let file, let position, let message):
            Finding(position: position, file: file, invariant: "storage", message: message)
        case .storage(let error): Finding(file: LogStore.name(ofFileAt: error.path), invariant: "storage", message: error.description)
        }
    }
}
