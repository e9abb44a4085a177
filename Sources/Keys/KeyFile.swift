import CP256
import Glibc

/// A private key in a file: its 32 raw bytes, nothing else, mode 0600.
///
/// Reading refuses a file that others may read, because then the key is no secret any more; writing never replaces
/// anything, replacing leaves either the old key or the new one, and when they return, the file and its name are on the disk.
/// Buffers are wiped.
public enum KeyFile {
    private static let keyBytes = 32

    /// - Throws: `file` with what the operator must put right; `invalidScalar` when the bytes are no key of the curve.
    public static func read(path: String, curve: Curve) throws(KeysError) -> PrivateKey {
        try withContents(of: path) { bytes throws(KeysError) in
            try PrivateKey(curve: curve, scalar: bytes.baseAddress!.assumingMemoryBound(to: UInt8.self))
        }
    }

    public static func readEd25519(path: String) throws(KeysError) -> Ed25519PrivateKey {
        try withContents(of: path) { bytes throws(KeysError) in
            var seed = Array(bytes)
            defer { cp256_wipe(&seed, seed.count) }
            return try Ed25519PrivateKey(rawBytes: seed)
        }
    }

    /// Durable on return.
    /// - Throws: `file` with `exists` when there is anything at `path`, a dangling link too.
    public static func write(_ key: PrivateKey, to path: String) throws(KeysError) {
        try key.withRawBytes { bytes in Result { () throws(KeysError) in try write(bytes, path: path) } }.get()
    }

    public static func write(_ key: Ed25519PrivateKey, to path: String) throws(KeysError) {
        try key.withRawBytes { bytes in Result { () throws(KeysError) in try write(bytes, path: path) } }.get()
    }

    /// Puts a key in the place of whatever stands at `path`, or of nothing. Durable on return.
    package static func replace(_ key: PrivateKey, at path: String) throws(KeysError) {
        try key.withRawBytes { bytes in Result { () throws(KeysError) in try write(bytes, path: path, replaces: true) } }.get()
    }
}

// MARK: Reading

extension KeyFile {
    private static func withContents<Value>(
        of path: String, _ body: (UnsafeRawBufferPointer) throws(KeysError) -> Value
    ) throws(KeysError) -> Value {
        let outcome = withUnsafeTemporaryAllocation(byteCount: keyBytes + 1, alignment: 1) { buffer in
            defer { cp256_wipe(buffer.baseAddress, buffer.count) }
            return Result { () throws(KeysError) in
                do throws(KeyFileProblem) {
                    try fill(buffer, from: path)
                } catch {
                    throw KeysError.file(path: path, error)
                }
                return try body(UnsafeRawBufferPointer(rebasing: buffer[..<keyBytes]))
            }
        }
        return try outcome.get()
    }

    /// - Parameter buffer: one byte longer than a key, to notice a longer file.
    private static func fill(_ buffer: UnsafeMutableRawBufferPointer, from path: String) throws(KeyFileProblem) {
        // O_NONBLOCK: a pipe in the file's place must not hold us.
        let descriptor = open(try checked(path), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            switch errno {
            case ENOENT: throw .missing
            case ELOOP: throw .symbolicLink
            case let code: throw .system(operation: "open", code: code)
            }
        }
        defer { close(descriptor) }
        // Of the open file, not of the name: nobody can put another file there in between.
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system(operation: "fstat", code: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile }
        guard status.st_mode & 0o077 == 0 else { throw .openToOthers(mode: status.st_mode & 0o777) }
        guard status.st_size == keyBytes else { throw .wrongLength(Int(status.st_size)) }
        var count = 0
        while count < buffer.count {
            let more = Glibc.read(descriptor, buffer.baseAddress! + count, buffer.count - count)
            if more == 0 { break }
            if more > 0 { count += more } else if errno != EINTR { throw .system(operation: "read", code: errno) }
        }
        guard count == keyBytes else { throw .wrongLength(count) }
    }

    /// A path with a zero byte would name another file to the system.
    private static func checked(_ path: String) throws(KeyFileProblem) -> String {
        guard !path.utf8.contains(0) else { throw .system(operation: "open", code: EINVAL) }
        return path
    }
}

// MARK: Writing

extension KeyFile {
    /// Writes a temporary file beside `path`, syncs it, gives it the name, if that is free or to be replaced, syncs the directory.
    private static func write(_ bytes: UnsafeRawBufferPointer, path: String, replaces: Bool = false) throws(KeysError) {
        do throws(KeyFileProblem) {
            let (directory, name) = split(try checked(path))
            let temporary = "\(directory)/.\(name).\(String(UInt64.random(in: .min ... .max), radix: 36)).new"
            try writeSynced(bytes, to: temporary)
            defer { unlink(temporary) }  // best effort: after a success it is a second name of the key, gone at the next line
            if replaces {
                guard rename(temporary, path) == 0 else { throw .system(operation: "rename", code: errno) }
            } else {
                guard link(temporary, path) == 0 else { throw errno == EEXIST ? .exists : .system(operation: "link", code: errno) }
                guard unlink(temporary) == 0 else { throw .system(operation: "unlink", code: errno) }
            }
            try syncDirectory(directory)
        } catch {
            throw .file(path: path, error)
        }
    }

    private static func split(_ path: String) -> (directory: String, name: String) {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
        let directory = String(path[..<slash])
        return (directory.isEmpty ? "/" : directory, String(path[path.utf8.index(after: slash)...]))
    }

    private static func writeSynced(_ bytes: UnsafeRawBufferPointer, to temporary: String) throws(KeyFileProblem) {
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw errno == ENOENT ? .missing : .system(operation: "open", code: errno) }
        defer { close(descriptor) }
        do throws(KeyFileProblem) {
            var count = 0
            while count < bytes.count {
                let more = Glibc.write(descriptor, bytes.baseAddress! + count, bytes.count - count)
                if more > 0 { count += more } else if errno != EINTR { throw .system(operation: "write", code: errno) }
            }
            guard fsync(descriptor) == 0 else { throw .system(operation: "fsync", code: errno) }
        } catch {
            unlink(temporary)  // best effort: the first error is the one to tell
            throw error
        }
    }

    private static func syncDirectory(_ directory: String) throws(KeyFileProblem) {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(operation: "open directory", code: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .system(operation: "fsync directory", code: errno) }
    }
}
