import Engine
import Glibc
import HTTPTypes
import Hummingbird
import NIOCore
import Synchronization

/// Keeps an uploaded CAR in a file while it is imported, so that its size is no matter of memory. The file has no name: it is gone
/// with its descriptor, whatever happens to the process.
///
/// One import is worked on at a time, for it holds what it knows of each record in memory; others wait with their files staged, and beyond
/// `stagedMax` of them are refused with 429.
package struct ImportStaging: Sendable {
    private static let stagedMax = 8

    let directory: String
    let bytesMax: Int
    private let turns = Turns(weightMax: 1)
    private let staged = Staged()

    package init(directory: String, bytesMax: Int) {
        self.directory = directory
        self.bytesMax = bytesMax
    }

    func staged<Result>(_ request: Request, _ body: (ImportSource) async throws -> Result) async throws -> Result {
        if let length = request.headers[.contentLength].flatMap(Int.init), length > bytesMax { throw tooLarge }
        guard staged.enter(max: Self.stagedMax) else { throw XRPCError.busy }
        defer { staged.leave() }
        let file = try StagedFile(directory: directory)
        try await request.body.forEachPiece { piece in
            guard file.count + piece.readableBytes <= bytesMax else { throw tooLarge }
            try piece.withUnsafeReadableBytes { try file.append($0) }
        }
        guard file.count > 0 else { throw XRPCError(.badRequest, "InvalidCar", "CAR file body required") }
        return try await turns.run { try await body(ImportSource(size: file.count, read: { try file.read(at: $0, count: $1) })) }
    }

    private var tooLarge: XRPCError { XRPCError(.badRequest, "InvalidCar", "CAR file exceeds maximum size of \(bytesMax) bytes") }
}

/// How many files are staged.
private final class Staged: Sendable {
    private let count = Mutex(0)

    func enter(max: Int) -> Bool {
        count.withLock { count in
            guard count < max else { return false }
            count += 1
            return true
        }
    }

    func leave() { count.withLock { $0 -= 1 } }
}

/// A file without a name.
///
/// `@unchecked Sendable`: one task writes it to its end; only then is it read, by place.
private final class StagedFile: @unchecked Sendable {
    private let descriptor: Int32
    private(set) var count = 0

    init(directory: String) throws {
        // O_TMPFILE, which Swift does not import: __O_TMPFILE | O_DIRECTORY.
        descriptor = open(directory, 0o20000000 | O_DIRECTORY | O_RDWR | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw IOError(errnoCode: errno, reason: "a file for the upload") }
    }

    deinit { close(descriptor) }

    func append(_ bytes: UnsafeRawBufferPointer) throws {
        var done = 0
        while done < bytes.count {
            let written = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(count + done))
            if written < 0 {
                if errno == EINTR { continue }
                if errno == ENOSPC || errno == EDQUOT { throw XRPCError.insufficientStorage }
                throw IOError(errnoCode: errno, reason: "write an upload")
            }
            done += written
        }
        count += bytes.count
    }

    func read(at offset: Int, count: Int) throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            while initialized < count {
                let got = pread(descriptor, buffer.baseAddress! + initialized, count - initialized, off_t(offset + initialized))
                if got < 0, errno == EINTR { continue }
                guard got > 0 else { throw IOError(errnoCode: got == 0 ? EIO : errno, reason: "read an upload") }
                initialized += got
            }
        }
    }
}
