package import ATProto
package import Keys
import Crypto
import Glibc

/// Where one actor's files stand: `actors/<first two hex digits of sha256(did)>/<did>/`, with the actor's key, which is never
/// disposable, beside the projections, which always are.
package struct ActorDirectory: Sendable {
    package let root: String

    package init(dataDirectory: String) { root = dataDirectory + "/actors" }

    /// DIDs of at most 200 bytes hold no slash and no NUL, so they are names of folders as they are.
    func folder(of actor: DID) -> String {
        let first = SHA256.hash(data: Array(actor.description.utf8)).withUnsafeBytes { $0[0] }
        return "\(root)/\(first < 16 ? "0" : "")\(String(first, radix: 16))/\(actor)"
    }

    func database(of actor: DID) -> String { folder(of: actor) + "/stratos.sqlite" }
    func key(of actor: DID) -> String { folder(of: actor) + "/signing_key" }

    /// Durable on return, since it is to hold the actor's key.
    func createFolder(of actor: DID) throws(ActorStoreError) {
        var path = ""
        for part in folder(of: actor).split(separator: "/", omittingEmptySubsequences: false) {
            path += path.isEmpty && part.isEmpty ? "/" : (path.isEmpty || path == "/" ? String(part) : "/" + part)
            guard !path.isEmpty, path != "/" else { continue }
            guard mkdir(path, 0o700) == 0 else {
                guard errno == EEXIST else { throw .directory(path: path, code: errno) }
                continue
            }
            do throws(DirectorySyncError) { try DirectorySync.syncParent(of: path) } catch {
                throw .directory(path: error.path, code: error.code)
            }
        }
    }

    /// The actors that have a folder, in no order.
    func actors() throws(ActorStoreError) -> [DID] {
        var actors: [DID] = []
        for prefix in try Self.entries(of: root) where prefix.utf8.count == 2 {
            for name in try Self.entries(of: "\(root)/\(prefix)") {
                guard let actor = try? DID(name) else { continue }  // best effort: a folder that is no DID is none of ours.
                actors.append(actor)
            }
        }
        return actors
    }

    private static func entries(of path: String) throws(ActorStoreError) -> [String] {
        guard let directory = opendir(path) else {
            guard errno != ENOENT else { return [] }
            throw .directory(path: path, code: errno)
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// The key that signs this actor's commits; nil where there is none.
    package func signingKey(of actor: DID) throws(KeysError) -> PrivateKey? {
        do throws(KeysError) { return try KeyFile.read(path: key(of: actor), curve: .p256) } catch {
            // Only what is not there is absent; what cannot be looked at may well be there.
            guard case .file(_, .missing) = error else { throw error }
            return nil
        }
    }

    /// Takes an actor's key away, and those beside it that a crash kept from getting its name; durable on return.
    package func removeKey(of actor: DID) throws(ActorStoreError) {
        let folder = folder(of: actor)
        let names = try Self.entries(of: folder).filter { $0 == "signing_key" || ($0.hasPrefix(".signing_key.") && $0.hasSuffix(".new")) }
        guard !names.isEmpty else { return }
        for name in names where unlink("\(folder)/\(name)") != 0 && errno != ENOENT {
            throw .directory(path: "\(folder)/\(name)", code: errno)
        }
        try Self.sync(folder)
    }

    /// Keeps an actor's new key in the place of an older one, durable on return.
    package func keep(_ key: PrivateKey, of actor: DID) throws {
        try createFolder(of: actor)
        try KeyFile.replace(key, at: self.key(of: actor))
        // The folders may be new too, and a key is as durable as the way to it.
        var path = folder(of: actor)
        for _ in 0..<3 {
            path = String(path[..<(path.utf8.lastIndex(of: UInt8(ascii: "/")) ?? path.endIndex)])
            try Self.sync(path)
        }
    }

    private static func sync(_ directory: String) throws(ActorStoreError) {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .directory(path: directory, code: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .directory(path: directory, code: errno) }
    }
}

/// What can go wrong with the actors' files.
package enum ActorStoreError: Error, Equatable {
    /// The folder cannot be made or read.
    case directory(path: String, code: Int32)
    /// The rows do not stand where the changes begin (I9).
    case outOfStep(actor: DID, at: UInt64, expected: UInt64)
    /// A row that no version of this program wrote.
    case unreadable(actor: DID, row: String)
}
