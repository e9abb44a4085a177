import Engine
import Glibc
import HTTPTypes
import Hummingbird
import NIOCore

/// Keeps an uploaded CAR in a file while it is imported, so that its size is no matter of memory. The file has no name: it is gone
/// with its descriptor, whatever happens to the process.
package struct ImportStaging: Sendable {
    let directory: String
    let bytesMax: Int

    package init(directory: String, bytesMax: Int) {
        self.directory = directory
        self.bytesMax = bytesMax
    }

    func staged<Result>(_ request: Request, _ body: (ImportSource) async throws -> Result) async throws -> Result {
        let type = request.headers[.contentType]?.split(separator: ";").first.map { $0.lowercased() }
        guard type == "application/vnd.ipld.car" else {
            throw XRPCError.invalidRequest("Wrong request encoding (Content-Type): \(type ?? "none"); a repo is application/vnd.ipld.car")
        }
        if let length = request.headers[.contentLength].flatMap(Int.init), length > bytesMax { throw tooLarge }
        let file = try StagedFile(directory: directory)
        for try await chunk in request.body {
            guard file.count + chunk.readableBytes <= bytesMax else { throw tooLarge }
            try chunk.withUnsafeReadableBytes { try file.append($0) }
        }
        guard file.count > 0 else { throw XRPCError(.badRequest, "InvalidCar", "CAR file body required") }
        return try await body(ImportSource(size: file.count, read: { try file.read(at: $0, count: $1) }))
    }

    private var tooLarge: XRPCError { XRPCError(.badRequest, "InvalidCar", "CAR file exceeds maximum size of \(bytesMax) bytes") }
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
                if errno == ENOSPC {
                    throw XRPCError(
                        .init(code: 507, reasonPhrase: "Insufficient Storage"), "InsufficientStorage",
                        "The service has no space left for this")
                }
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
