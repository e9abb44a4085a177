internal import Glibc
internal import Synchronization

/// The lock of a data directory: one process at a time, until it ends in whatever way.
package final class DirectoryLock: Sendable {
    package static let fileName = "lock"
    /// Nil once released.
    private let descriptor: Mutex<Int32?>

    /// Locks `directory/lock`, made where it is missing, and writes the process's number into it for the message of the next one.
    package init(directory: String) throws(LogStoreError) {
        let path = directory + "/" + DirectoryLock.fileName
        let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .input("open", path, errno) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            let holder = DirectoryLock.holder(descriptor)
            Glibc.close(descriptor)
            if code == EWOULDBLOCK { throw .locked(directory: directory, process: holder) }
            throw .input("lock", path, code)
        }
        self.descriptor = Mutex(descriptor)
        // best effort: the number is for people; the lock holds without it, on a full disk too.
        let text = Array("\(getpid())\n".utf8)
        if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, text, text.count, 0) }
    }

    deinit { release() }

    /// Lets the next one in. Unlocked by name: a child process that is just being started holds a copy of the descriptor until it
    /// runs its own program, and closing ours would leave the lock with it.
    package func release() {
        descriptor.withLock { descriptor in
            if let open = descriptor {
                _ = flock(open, LOCK_UN)  // best effort: closing does it too, a moment later.
                Glibc.close(open)
            }
            descriptor = nil
        }
    }

    private static func holder(_ descriptor: Int32) -> Int32? {
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        guard count > 0 else { return nil }
        return Int32(String(decoding: bytes[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
    }
}
