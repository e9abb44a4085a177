import Glibc

extension ActorDirectory {
    /// Throws where an actor's files could not be made now: makes a file beside their folders, and removes it again. Blocks.
    package func probe() throws(ActorStoreError) {
        if mkdir(root, 0o700) != 0, errno != EEXIST { throw .directory(path: root, code: errno) }
        let path = root + "/.probe"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .directory(path: path, code: errno) }
        close(descriptor)
        if unlink(path) != 0, errno != ENOENT { throw .directory(path: path, code: errno) }  // Another probe may have been faster.
    }
}
