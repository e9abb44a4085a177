internal import Crypto
internal import EventLog

/// The tables of `log.sqlite`, format 1.
///
/// Events and bodies share a rowid, the raw stream cursor, so that they stand in the order of durability; bodies are a table of
/// their own, so that what is erased touches no event. Blocks have a rowid of their own and one unique index. Rows of actors,
/// events and bodies are only ever added; what is erased keeps its row with a NULL in place of its bytes. Blocks are removed with
/// their rows: those that were staged for an append that never came, and all of an actor who has left and taken them away, who
/// stands in `erasing` until they are gone. Rows of requests and uses go when they no longer count.
///
/// `body` and `block` are what `SealedRow` describes: a sealing prefix and the content, with the slot of their key. Of the leaf
/// only the tag is stored, because the rest is the event's digest. A checksum is the first eight bytes of a SHA-256, and covers what no
/// hash elsewhere covers: the place and the tag of an event, an actor's number, a request's row, a use, which blocks may be removed and whose are to go. It is
/// against accidents; what somebody changed who makes the checksum anew, `verify` compares with what is signed. For that a
/// request's row names the position of its event.
enum LogSchema {
    static let applicationID: Int64 = 0x5354_5241  // "STRA"
    static let format: Int64 = 1
    static let rowVersion: Int64 = 1

    static let statements = [
        "CREATE TABLE meta(name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE actors(id INTEGER PRIMARY KEY, did TEXT NOT NULL UNIQUE, checksum INTEGER NOT NULL)",
        """
        CREATE TABLE events(position INTEGER PRIMARY KEY, actor INTEGER NOT NULL, sequence INTEGER NOT NULL, event BLOB NOT NULL, \
        tag BLOB NOT NULL, checksum INTEGER NOT NULL)
        """,
        "CREATE UNIQUE INDEX events_of_actor ON events(actor, sequence)",
        "CREATE TABLE bodies(position INTEGER PRIMARY KEY, slot INTEGER, body BLOB)",
        "CREATE TABLE blocks(id INTEGER PRIMARY KEY, actor INTEGER NOT NULL, cid BLOB NOT NULL, slot INTEGER, block BLOB)",
        "CREATE UNIQUE INDEX blocks_of_actor ON blocks(actor, cid)",
        "CREATE TABLE staged(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, checksum INTEGER NOT NULL)",
        """
        CREATE TABLE requests(id INTEGER PRIMARY KEY, scope BLOB NOT NULL UNIQUE, input BLOB NOT NULL, sequence INTEGER NOT NULL, \
        time INTEGER NOT NULL, position INTEGER NOT NULL, checksum INTEGER NOT NULL)
        """,
        "CREATE TABLE erasing(actor INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, checksum INTEGER NOT NULL)",
        "CREATE TABLE uses(id INTEGER PRIMARY KEY, scope BLOB NOT NULL UNIQUE, expires INTEGER NOT NULL, checksum INTEGER NOT NULL)",
    ]

    static func create(on connection: SQLiteConnection) throws(SQLiteError) {
        try connection.transaction { () throws(SQLiteError) in
            for statement in statements { try connection.execute(statement) }
            try connection.run("INSERT INTO meta(name, value) VALUES ('rowVersion', ?), ('requestsKeptFrom', 0)", .integer(rowVersion))
            try connection.execute("PRAGMA application_id = \(applicationID)")
            try connection.execute("PRAGMA user_version = \(format)")
        }
    }

    /// Whether the file has no tables yet.
    static func isAbsent(on connection: SQLiteConnection) throws(SQLiteError) -> Bool {
        try connection.single("SELECT count(*) FROM sqlite_schema") { $0.integer(0) } == 0
    }

    /// Compares the file's own description of itself with ours, letter for letter: a table that is not declared as it was
    /// made would be read as something else.
    static func check(on connection: SQLiteConnection) throws(LogStoreError) {
        let application: Int64?, version: Int64?, row: Int64?, found: [String]
        do throws(SQLiteError) {
            application = try connection.single("PRAGMA application_id") { $0.integer(0) }
            version = try connection.single("PRAGMA user_version") { $0.integer(0) }
            found = try connection.all("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid") { $0.text(0) }
            guard found == statements else {
                throw SQLiteError(operation: "check", code: 11, message: "the tables are not those of a log", path: connection.path)
            }
            row = try connection.single("SELECT value FROM meta WHERE name = 'rowVersion'") { $0.integer(0) }
        } catch {
            throw .storage(error)
        }
        guard application == applicationID else { throw .format(file: LogStore.fileName, message: "not a log of this program") }
        guard version == format, row == rowVersion else {
            throw .format(
                file: LogStore.fileName,
                message: "format \(version ?? 0), rows \(row ?? 0), where this version knows format \(format), rows \(rowVersion)")
        }
    }

    // MARK: Checksums

    static func eventChecksum(position: UInt64, digest: [UInt8], tag: UnsafeRawBufferPointer) -> Int64 {
        // Put together first: this is made and compared for every event, and three updates of a hash cost more than one.
        withUnsafeTemporaryAllocation(byteCount: 8 + digest.count + tag.count, alignment: 8) { bytes in
            bytes.storeBytes(of: position.bigEndian, as: UInt64.self)
            UnsafeMutableRawBufferPointer(rebasing: bytes[8...]).copyBytes(from: digest)
            UnsafeMutableRawBufferPointer(rebasing: bytes[(8 + digest.count)...]).copyMemory(from: tag)
            return first(of: SHA256.hash(data: UnsafeRawBufferPointer(bytes)))
        }
    }

    static func actorChecksum(id: Int64, did: String) -> Int64 {
        var hash = SHA256()
        withUnsafeBytes(of: id.bigEndian) { hash.update(bufferPointer: $0) }
        hash.update(data: Array(did.utf8))
        return first(of: hash.finalize())
    }

    static func stagedChecksum(_ range: ClosedRange<Int64>) -> Int64 {
        var hash = SHA256()
        withUnsafeBytes(of: range.lowerBound.bigEndian) { hash.update(bufferPointer: $0) }
        withUnsafeBytes(of: range.upperBound.bigEndian) { hash.update(bufferPointer: $0) }
        return first(of: hash.finalize())
    }

    static func erasureChecksum(actor: Int64, sequence: UInt64) -> Int64 {
        var hash = SHA256()
        withUnsafeBytes(of: actor.bigEndian) { hash.update(bufferPointer: $0) }
        withUnsafeBytes(of: sequence.bigEndian) { hash.update(bufferPointer: $0) }
        return first(of: hash.finalize())
    }

    static func requestChecksum(_ row: RequestRow, position: UInt64) -> Int64 {
        var hash = SHA256()
        hash.update(data: row.scope)
        hash.update(data: row.input)
        withUnsafeBytes(of: row.sequence.bigEndian) { hash.update(bufferPointer: $0) }
        withUnsafeBytes(of: row.time.milliseconds.bigEndian) { hash.update(bufferPointer: $0) }
        withUnsafeBytes(of: position.bigEndian) { hash.update(bufferPointer: $0) }
        return first(of: hash.finalize())
    }

    static func useChecksum(_ use: SingleUse) -> Int64 {
        var hash = SHA256()
        hash.update(data: use.scope)
        withUnsafeBytes(of: use.expires.bigEndian) { hash.update(bufferPointer: $0) }
        return first(of: hash.finalize())
    }

    private static func first(of digest: SHA256.Digest) -> Int64 {
        digest.withUnsafeBytes { Int64(bigEndian: $0.loadUnaligned(as: Int64.self)) }
    }
}
