internal import CSQLite

/// One plain file through SQLite's own file layer, so that whatever stands below the database (in tests a layer that fails,
/// tears and forgets) stands below the files beside it too, in the order of the calls.
///
/// Confined to its owner's thread, like a connection.
final class VirtualFile {
    let path: String
    private let layer: UnsafeMutablePointer<sqlite3_vfs>
    private let file: UnsafeMutablePointer<sqlite3_file>
    /// The system's file layer takes the size of a call modulo 128 KiB, and says that the disk is full, or reads zeros.
    private static let callBytesMax = 64 << 10
    /// SQLite keeps no copy of the name it opens, so it lives as long as the file. Two zero bytes more: the end of URI parameters.
    private let name: UnsafeMutablePointer<CChar>

    /// Opens `path`, makes it where it is missing and `create` is true; the directory entry of a new file is durable after its first sync.
    init(path: String, create: Bool, vfs: String?) throws(SQLiteError) {
        guard let layer = sqlite3_vfs_find(vfs) else {
            throw SQLiteError(operation: "open", code: SQLITE_NOTFOUND, message: "no such file layer: \(vfs ?? "")", path: path)
        }
        self.path = path
        self.layer = layer
        name = VirtualFile.copy(path)
        let storage = UnsafeMutableRawPointer.allocate(byteCount: Int(layer.pointee.szOsFile), alignment: 16)
        storage.initializeMemory(as: UInt8.self, repeating: 0, count: Int(layer.pointee.szOsFile))
        file = storage.bindMemory(to: sqlite3_file.self, capacity: 1)
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_SUPER_JOURNAL | (create ? SQLITE_OPEN_CREATE : 0)
        var granted: Int32 = 0
        let code = layer.pointee.xOpen(layer, name, file, flags, &granted)
        guard code == SQLITE_OK else { throw error("open", code) }
    }

    deinit {
        if let methods = file.pointee.pMethods { _ = methods.pointee.xClose(file) }
        UnsafeMutableRawPointer(file).deallocate()
        name.deallocate()
    }

    /// Whether there is a file of this name with any bytes.
    static func exists(_ path: String, vfs: String?) throws(SQLiteError) -> Bool {
        guard let layer = sqlite3_vfs_find(vfs) else { return false }
        let name = copy(path)
        defer { name.deallocate() }
        var found: Int32 = 0
        let code = layer.pointee.xAccess(layer, name, SQLITE_ACCESS_EXISTS, &found)
        guard code == SQLITE_OK else {
            throw SQLiteError(operation: "access", code: code, message: String(cString: sqlite3_errstr(code)), path: path)
        }
        return found != 0
    }

    func byteCount() throws(SQLiteError) -> Int {
        var size: Int64 = 0
        let code = file.pointee.pMethods.pointee.xFileSize(file, &size)
        guard code == SQLITE_OK else { throw error("size", code) }
        return Int(size)
    }

    /// Bytes past the end of the file read as zero.
    func read(_ count: Int, at offset: Int) throws(SQLiteError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        for start in stride(from: 0, to: count, by: VirtualFile.callBytesMax) {
            let code = bytes.withUnsafeMutableBytes { bytes in
                let piece = bytes[start..<min(count, start + VirtualFile.callBytesMax)]
                return file.pointee.pMethods.pointee.xRead(
                    file, UnsafeMutableRawBufferPointer(rebasing: piece).baseAddress, Int32(piece.count), Int64(offset + start))
            }
            guard code == SQLITE_OK || code == SQLITE_IOERR | (2 << 8) else { throw error("read", code) }  // SQLITE_IOERR_SHORT_READ
        }
        return bytes
    }

    func write(_ bytes: [UInt8], at offset: Int) throws(SQLiteError) {
        for start in stride(from: 0, to: bytes.count, by: VirtualFile.callBytesMax) {
            let code = bytes.withUnsafeBytes { bytes in
                let piece = bytes[start..<min(bytes.count, start + VirtualFile.callBytesMax)]
                return file.pointee.pMethods.pointee.xWrite(
                    file, UnsafeRawBufferPointer(rebasing: piece).baseAddress, Int32(piece.count), Int64(offset + start))
            }
            guard code == SQLITE_OK else { throw error("write", code) }
        }
    }

    /// `fdatasync`: contents and size.
    func sync() throws(SQLiteError) {
        let code = file.pointee.pMethods.pointee.xSync(file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY)
        guard code == SQLITE_OK else { throw error("sync", code) }
    }

    private func error(_ operation: String, _ code: Int32) -> SQLiteError {
        SQLiteError(
            operation: operation, code: code, systemCode: layer.pointee.xGetLastError(layer, 0, nil),
            message: String(cString: sqlite3_errstr(code)), path: path)
    }

    private static func copy(_ path: String) -> UnsafeMutablePointer<CChar> {
        let bytes = Array(path.utf8)
        let name = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 3)
        name.initialize(repeating: 0, count: bytes.count + 3)
        for (index, byte) in bytes.enumerated() { name[index] = CChar(bitPattern: byte) }
        return name
    }
}
