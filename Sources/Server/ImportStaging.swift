import ATProto
import Engine
import Glibc
import HTTPTypes
import Hummingbird
import NIOCore
import Synchronization

/// Keeps an uploaded CAR in a file while it is imported, so that its size is no matter of memory. The file has no name: it is gone
/// with its descriptor, whatever happens to the process.
///
/// One import is worked on at a time, for it holds what it knows of each record in memory; others wait with their files staged. Beyond
/// `stagedMax` of them, and beyond one of each member, they are refused with 429.
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

    /// Takes the request's file in, where an import into `member`'s repo may come to something, and runs `body` on it in its turn.
    func staged<Result>(
        _ request: Request, into member: DID, of engine: Engine, _ body: (ImportSource) async throws -> Result
    ) async throws -> Result {
        if let length = request.headers[.contentLength].flatMap(Int.init), length > bytesMax { throw tooLarge }
        guard staged.enter(member, countMax: Self.stagedMax) else { throw XRPCError.busy }
        defer { staged.leave(member) }
        try await engine.requireEmptyRepo(of: member)
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

/// Whose files are staged.
private final class Staged: Sendable {
    private let members = Mutex<Set<DID>>([])

    func enter(_ member: DID, countMax: Int) -> Bool {
        members.withLock { members in
            guard members.count < countMax else { return false }
            return members.insert(member).inserted
        }
    }

    func leave(_ member: DID) { members.withLock { _ = $0.remove(member) } }
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
