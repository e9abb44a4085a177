import Foundation
import SQLiteStore

/// The files of a log as they stand on disk, in memory: to be copied while the log is open, damaged, and put back.
package struct LogImage: Equatable, Sendable {
    package enum File: String, CaseIterable, Sendable, CustomStringConvertible {
        case log = "log.sqlite"
        case wal = "log.sqlite-wal"
        case mark = "log.mark"

        package var description: String { rawValue }
    }

    package static let pageByteCount = 4096
    package static let walHeaderByteCount = 32
    package static let frameByteCount = 24 + pageByteCount

    /// A file that is absent has no entry.
    private var bytes: [File: [UInt8]]

    package subscript(file: File) -> [UInt8]? {
        get { bytes[file] }
        set { bytes[file] = newValue }
    }

    package func byteCount(_ file: File) -> Int { bytes[file]?.count ?? 0 }

    /// Reads what stands in `directory`.
    package init(of directory: String) throws {
        bytes = [:]
        for file in File.allCases { bytes[file] = try Self.read(directory + "/" + file.rawValue) }
    }

    /// Whether both are one log. A WAL without a byte is none: SQLite makes it when it opens the log.
    package static func == (one: LogImage, other: LogImage) -> Bool {
        one.bytes.filter { $0 != .wal || $1 != [] } == other.bytes.filter { $0 != .wal || $1 != [] }
    }

    /// Makes `directory` hold exactly this; writes only what is different there.
    package func write(to directory: String) throws {
        for file in File.allCases {
            let path = directory + "/" + file.rawValue
            guard let wanted = bytes[file] else {
                unlink(path)
                continue
            }
            if try Self.read(path) != wanted { try Self.write(wanted, to: path) }
        }
        // What a process shares with others while it has the log open; SQLite makes it anew.
        unlink(directory + "/log.sqlite-shm")
    }

    /// Turns one bit of a file.
    package mutating func flip(_ bit: Int, of file: File) { bytes[file]![bit / 8] ^= 1 << UInt8(bit % 8) }

    /// The places of a file that SQLite writes as one: pages of the log, frames of the WAL.
    package func units(of file: File) -> [Range<Int>] {
        let (first, size) =
            switch file {
            case .log: (0, Self.pageByteCount)
            case .wal: (Self.walHeaderByteCount, Self.frameByteCount)
            case .mark: (0, Self.pageByteCount)
            }
        return stride(from: first, to: byteCount(file), by: size).map { $0..<min($0 + size, byteCount(file)) }
    }

    private static func read(_ path: String) throws -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            guard errno == ENOENT else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
            return nil
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw POSIXError(.EIO) }
        let size = Int(status.st_size)
        return try [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            while count < size {
                let got = pread(descriptor, buffer.baseAddress! + count, size - count, off_t(count))
                guard got > 0 else { throw POSIXError(.EIO) }
                count += got
            }
        }
    }

    private static func write(_ bytes: [UInt8], to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        defer { close(descriptor) }
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { pwrite(descriptor, $0.baseAddress! + written, bytes.count - written, off_t(written)) }
            guard count > 0 else { throw POSIXError(.EIO) }
            written += count
        }
        guard ftruncate(descriptor, off_t(bytes.count)) == 0 else { throw POSIXError(.EIO) }
    }
}
