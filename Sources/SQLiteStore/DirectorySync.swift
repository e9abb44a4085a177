internal import Glibc

/// Makes the names in a directory durable. A file that was synced is gone after a loss of power where its name was not.
enum DirectorySync {
    /// Syncs the directory in which `path` is named.
    static func syncParent(of path: String) throws(DirectorySyncError) {
        let parent = parent(of: path)
        let descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw DirectorySyncError(path: parent, code: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw DirectorySyncError(path: parent, code: errno) }
    }

    private static func parent(of path: String) -> String {
        let trimmed = path.utf8.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        guard let slash = trimmed.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
    }
}

struct DirectorySyncError: Error {
    let path: String
    let code: Int32
}
