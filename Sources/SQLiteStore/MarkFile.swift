internal import Crypto

/// The last acknowledged place of the log, `log.mark`, kept beside it in a file of its own.
///
/// SQLite drops a damaged tail of its WAL without a word. The mark is written and synced after each commit and before anybody
/// is told, so a log that ends before its mark, or has another event there, has lost what was acknowledged, and refuses to start.
///
/// Two copies, 4,096 bytes apart, are overwritten in turn, each with a checksum: a write that tears leaves the copy before it,
/// and an older mark is still true. A copy, 96 bytes, integers big-endian:
/// `"STRATOSM" ‖ version u32 = 1 ‖ 0 u32 ‖ turn u64 ‖ position u64 ‖ event digest 32 ‖ SHA-256 of all before 32`.
final class MarkFile {
    static let fileName = "log.mark"

    struct Mark: Hashable, Sendable {
        /// Raw cursor; 0 before the first event.
        var position: UInt64
        /// SHA-256 of the event's bytes; zeros before the first.
        var digest: [UInt8]

        static let empty = Mark(position: 0, digest: [UInt8](repeating: 0, count: 32))
    }

    private let file: VirtualFile
    private var turn: UInt64
    /// The newest readable copy; nil in a new file, or where both copies are damaged.
    private(set) var mark: Mark?

    private static let copyByteCount = 96
    private static let copyDistance = 4096
    private static let magic = Array("STRATOSM".utf8)
    private static let version: UInt32 = 1

    init(directory: String, vfs: String?) throws(SQLiteError) {
        file = try VirtualFile(path: directory + "/" + MarkFile.fileName, create: true, vfs: vfs)
        turn = 0
        for copy in 0..<2 {
            let bytes = try file.read(MarkFile.copyByteCount, at: copy * MarkFile.copyDistance)
            if let (turn, mark) = MarkFile.decode(bytes), turn % 2 == copy, self.mark == nil || turn > self.turn {
                self.turn = turn
                self.mark = mark
            }
        }
    }

    /// Whether there is a mark file, without making one.
    static func exists(directory: String, vfs: String?) throws(SQLiteError) -> Bool {
        try VirtualFile.exists(directory + "/" + fileName, vfs: vfs)
    }

    /// Moves the mark to where the log ends when it is opened. Durable on return, and both copies have their room: from here on a
    /// mark is written in place, on a full disk too.
    ///
    /// A process that died may have left the newest copy unsynced, and after a sync that failed the system takes it for clean. So
    /// it is written again where it stands, before the other copy is touched: one of the two is always whole on the disk.
    func begin(_ mark: Mark) throws(SQLiteError) {
        let room = MarkFile.copyDistance + MarkFile.copyByteCount
        let count = try file.byteCount()
        if count < room { try file.write([UInt8](repeating: 0, count: room - count), at: count) }
        if let newest = self.mark { try put(newest, turn: turn) }
        if self.mark != mark { try write(mark) }
    }

    /// Durable on return. Where the disk refused for want of space, the copy before it stands and the next mark takes this one's
    /// place; after any other error the process must end, because nobody knows which copy holds what.
    func write(_ mark: Mark) throws(SQLiteError) {
        try put(mark, turn: turn + 1)
        turn += 1
        self.mark = mark
    }

    private func put(_ mark: Mark, turn: UInt64) throws(SQLiteError) {
        try file.write(MarkFile.encode(turn: turn, mark), at: Int(turn % 2) * MarkFile.copyDistance)
        try file.sync()
    }

    private static func encode(turn: UInt64, _ mark: Mark) -> [UInt8] {
        precondition(mark.digest.count == 32, "an event's digest has 32 bytes")
        var bytes = magic
        bytes.reserveCapacity(copyByteCount)
        for word in [version, 0] { withUnsafeBytes(of: word.bigEndian) { bytes.append(contentsOf: $0) } }
        for word in [turn, mark.position] { withUnsafeBytes(of: word.bigEndian) { bytes.append(contentsOf: $0) } }
        bytes += mark.digest
        bytes += SHA256.hash(data: bytes)
        return bytes
    }

    private static func decode(_ bytes: [UInt8]) -> (turn: UInt64, mark: Mark)? {
        let content = bytes[..<(copyByteCount - 32)]
        guard content.starts(with: magic), SHA256.hash(data: content).elementsEqual(bytes[content.endIndex...]) else { return nil }
        func word(at offset: Int) -> UInt64 { bytes[offset..<(offset + 8)].reduce(0) { $0 << 8 | UInt64($1) } }
        guard word(at: 8) == UInt64(version) << 32, word(at: 16) < 1 << 53 else { return nil }
        return (word(at: 16), Mark(position: word(at: 24), digest: Array(bytes[32..<64])))
    }
}
