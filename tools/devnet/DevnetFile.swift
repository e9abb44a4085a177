import ATProto
import Glibc
import Keys
import Synchronization

/// The devnet's memory in a file, so that its DIDs and handles outlive a restart: one DAG-CBOR map, written whole after each
/// change and renamed into place.
final class DevnetFile: Sendable {
    private let path: String
    /// One writer at a time, so that the last to write has seen every change before it.
    private let writing = Mutex(())

    init(path: String) { self.path = path }

    /// - Parameter contents: asked for when nobody else writes.
    func write(_ contents: () -> Value) throws(DevnetError) {
        let outcome = writing.withLock { _ in
            let bytes = DAGCBOR.encode(contents())
            return Result { () throws(DevnetError) in try replace(with: bytes) }
        }
        try outcome.get()
    }

    /// nil when there is no file yet.
    func read() throws(DevnetError) -> Value? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        if file < 0, errno == ENOENT { return nil }
        guard file >= 0 else { throw .file(path: path, "open: \(errno)") }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(file, &buffer, buffer.count)
            guard count >= 0 else { throw .file(path: path, "read: \(errno)") }
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        do { return try DAGCBOR.decode(bytes, limits: DecodingLimits(bytesMax: 1 << 30)) } catch { throw .file(path: path, "\(error)") }
    }

    /// The file holds private keys, so it is its owner's alone.
    private func replace(with bytes: [UInt8]) throws(DevnetError) {
        let draft = path + ".new"
        let file = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw .file(path: draft, "open: \(errno)") }
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            guard count > 0 else {
                let code = errno
                close(file)
                throw .file(path: draft, "write: \(code)")
            }
            written += count
        }
        guard fsync(file) == 0, close(file) == 0, rename(draft, path) == 0 else { throw .file(path: path, "replace: \(errno)") }
    }
}

/// Reads the fields of a saved devnet; what is missing or of another type makes the whole unreadable.
struct SavedFields {
    private let map: ValueMap

    init(_ value: Value?) throws(DevnetError) {
        guard let map = value?.mapValue else { throw .unreadable("a map is missing") }
        self.map = map
    }

    func string(_ name: String) throws(DevnetError) -> String { try require(map[name]?.stringValue, name) }
    func integer(_ name: String) throws(DevnetError) -> Int64 { try require(map[name]?.integerValue, name) }
    func bool(_ name: String) throws(DevnetError) -> Bool { try require(map[name]?.boolValue, name) }
    func bytes(_ name: String) throws(DevnetError) -> [UInt8] { try require(map[name]?.bytesValue, name) }
    func array(_ name: String) throws(DevnetError) -> [Value] { try require(map[name]?.arrayValue, name) }
    func value(_ name: String) throws(DevnetError) -> Value { try require(map[name], name) }

    /// A key as `PrivateKey.saved` writes it.
    func key(_ name: String) throws(DevnetError) -> PrivateKey {
        let fields = try SavedFields(map[name])
        let curve: Curve = try fields.string("curve") == "ES256" ? .p256 : .k256
        do { return try PrivateKey(curve: curve, rawBytes: try fields.bytes("scalar")) } catch { throw .unreadable("\(name): \(error)") }
    }

    private func require<Field>(_ field: Field?, _ name: String) throws(DevnetError) -> Field {
        guard let field else { throw .unreadable("\(name) is missing or of another type") }
        return field
    }
}

extension PrivateKey {
    var saved: Value { ["curve": .string(curve.algorithm), "scalar": .bytes(withRawBytes { Array($0) })] }
}
