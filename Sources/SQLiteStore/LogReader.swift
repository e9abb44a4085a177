package import ATProto
package import EventLog

/// Reads of the log on one connection, each checked against the hashes that cover it. Confined to one thread.
package final class LogReader {
    let connection: SQLiteConnection
    /// Numbers of actors that were found lately: an actor keeps its number for ever.
    private var actorRows: [DID: Int64] = [:]
    private static let actorRowsMax = 4096

    /// What one read of events gives at most, so that a page of large bodies stays small in memory.
    static let bytesMax = 8 << 20

    init(connection: SQLiteConnection) { self.connection = connection }

    /// Runs SQL and turns its errors into the log's.
    func sql<Value>(_ body: (SQLiteConnection) throws(SQLiteError) -> Value) throws(EventLogError) -> Value {
        do { return try body(connection) } catch { throw EventLogError(error) }
    }

    // MARK: Actors and heads

    /// The actor's number in this file; nil where the log has nothing of it.
    package func actorRow(_ did: DID) throws(EventLogError) -> Int64? {
        if let id = actorRows[did] { return id }
        let row = try sql { connection throws(SQLiteError) in
            try connection.single("SELECT id, checksum FROM actors WHERE did = ?", .text(did.description)) {
                ($0.integer(0), $0.integer(1))
            }
        }
        guard let (id, checksum) = row else { return nil }
        guard LogSchema.actorChecksum(id: id, did: did.description) == checksum else {
            throw .damaged(file: LogStore.fileName, position: nil, message: "the row of actor \(did) does not match its checksum")
        }
        if actorRows.count >= LogReader.actorRowsMax { actorRows.removeAll(keepingCapacity: true) }
        actorRows[did] = id
        return id
    }

    func withLog(among dids: [DID]) throws(EventLogError) -> Set<DID> {
        let rows = try sql { connection throws(SQLiteError) in
            try connection.reading { () throws(SQLiteError) in
                try dids.map { did throws(SQLiteError) in
                    try connection.single("SELECT 1 FROM actors WHERE did = ?", .text(did.description)) { _ in true } ?? false
                }
            }
        }
        return Set(zip(dids, rows).filter(\.1).map(\.0))
    }

    package func head(of did: DID, row: Int64) throws(EventLogError) -> Head {
        let last = try sql { connection throws(SQLiteError) in
            try connection.single(
                "SELECT \(LogRow.columns) FROM \(LogRow.tables) WHERE e.actor = ? ORDER BY e.sequence DESC LIMIT 1", .integer(row)
            ) { LogRow($0) }
        }
        guard let last else { throw .damaged(file: LogStore.fileName, position: nil, message: "actor \(did) has a row and no event") }
        let event = try Event(bytes: try last.stored(of: did).bytes)
        return Head(sequence: event.sequence, event: CID(hashing: last.event), time: event.time)
    }

    package func actors(after: DID?, limit: Int) throws(EventLogError) -> [DID] {
        let rows = try sql { connection throws(SQLiteError) in
            try connection.all(
                "SELECT did, id, checksum FROM actors WHERE did > ? ORDER BY did LIMIT ?", .text(after?.description ?? ""),
                .integer(Int64(limit))
            ) { ($0.text(0), $0.integer(1), $0.integer(2)) }
        }
        return try rows.map { row throws(EventLogError) in
            guard LogSchema.actorChecksum(id: row.1, did: row.0) == row.2, let did = try? DID(row.0) else {
                throw .damaged(file: LogStore.fileName, position: nil, message: "the row of actor \(row.1) does not match its checksum")
            }
            return did
        }
    }

    // MARK: Events

    /// - Parameter known: a number that the log reaches for certain; a read that ends before it has lost events.
    package func events(of did: DID, after sequence: UInt64, limit: Int, known: UInt64) throws(EventLogError) -> [StoredEvent] {
        guard let actor = try actorRow(did) else {
            guard known == 0 else { throw .brokenChain(actor: did, at: known) }
            return []
        }
        let (rows, isWhole) = try walk(
            """
            SELECT \(LogRow.columns) FROM \(LogRow.tables) WHERE e.actor = ? AND e.sequence > ? ORDER BY e.sequence LIMIT ?
            """, [.integer(actor), .integer(Int64(clamping: sequence)), .integer(Int64(limit))], limit: limit)
        var expected = sequence
        let events = try rows.map { row throws(EventLogError) in
            expected += 1
            guard row.sequence == expected else { throw .brokenChain(actor: did, at: expected) }
            return try row.stored(of: did)
        }
        if isWhole, expected < known, sequence < known { throw .brokenChain(actor: did, at: expected + 1) }
        return events
    }

    /// - Parameter known: a raw cursor that the log reaches for certain.
    package func events(afterPosition position: UInt64, limit: Int, known: UInt64) throws(EventLogError) -> [StoredEvent] {
        let (rows, isWhole) = try walk(
            "SELECT \(LogRow.columns) FROM \(LogRow.tables) WHERE e.position > ? ORDER BY e.position LIMIT ?",
            [.integer(Int64(clamping: position)), .integer(Int64(limit))], limit: limit)
        var last = position
        let events = try rows.map { row throws(EventLogError) in
            guard LogReader.follows(row.position, last) else {
                throw .damaged(file: LogStore.fileName, position: last + 1, message: "I13: no event stands at this position")
            }
            last = row.position
            return try row.stored(of: nil)
        }
        if isWhole, last < known {
            throw .damaged(file: LogStore.fileName, position: last + 1, message: "I13: no event stands at this position")
        }
        return events
    }

    /// Whether `position` is the next place after `last`: one more, or the first of a later generation.
    static func follows(_ position: UInt64, _ last: UInt64) -> Bool {
        if position == last &+ 1 { return true }
        guard let next = StreamCursor(rawValue: position), let before = StreamCursor(rawValue: last) else { return false }
        return next.position == 1 && next.generation > before.generation
    }

    /// Whole: the walk ended because there are no more rows.
    private func walk(_ text: String, _ values: [SQLiteValue], limit: Int) throws(EventLogError) -> (rows: [LogRow], isWhole: Bool) {
        precondition(limit > 0, "a read asks for one event or more")
        return try sql { connection throws(SQLiteError) in
            let statement = try connection.statement(text)
            for (index, value) in values.enumerated() { try statement.bind(Int32(index + 1), value) }
            defer { statement.reset() }
            var rows: [LogRow] = []
            var bytes = 0
            while try statement.step() {
                rows.append(LogRow(statement))
                bytes += rows[rows.count - 1].byteCount
                if bytes >= LogReader.bytesMax { return (rows, false) }
            }
            return (rows, rows.count < limit)
        }
    }

    // MARK: Blocks

    /// - Parameter known: the actor's number where it is known; it never changes.
    package func blocks(_ cids: [CID], of did: DID, actor known: Int64? = nil) throws(EventLogError) -> [CID: [UInt8]] {
        guard let actor = if let known { known } else { try actorRow(did) } else { return [:] }
        var blocks: [CID: [UInt8]] = [:]
        blocks.reserveCapacity(cids.count)
        let rows = try sql { connection throws(SQLiteError) in
            // One statement is a transaction by itself.
            if cids.count == 1 { return [try row(of: cids[0], actor)] }
            return try connection.reading { () throws(SQLiteError) in try cids.map { cid throws(SQLiteError) in try row(of: cid, actor) } }
        }
        for (cid, row) in zip(cids, rows) {
            if let row { blocks[cid] = try row.opened(as: cid) }
        }
        return blocks
    }

    /// The blocks in order, nil where the actor has none, until they come to `bytesMax`; never none of them.
    func blocks(inOrder cids: [CID], of did: DID, actor known: Int64?, bytesMax: Int) throws(EventLogError) -> [[UInt8]?] {
        guard let actor = if let known { known } else { try actorRow(did) } else { return cids.map { _ in nil } }
        let rows = try sql { connection throws(SQLiteError) in
            try connection.reading { () throws(SQLiteError) in
                var rows: [StoredBlock?] = []
                var bytes = 0
                // Blocks that were staged one after the other stand so: where two did, the next is looked for in the row behind them, which
                // is a third of the price of finding it by its CID.
                var (last, isRun): (Int64, Bool) = (.min, false)
                for cid in cids {
                    let neighbour = isRun ? try row(at: last &+ 1, holding: cid, actor) : nil
                    let row = if let neighbour { neighbour } else { try row(of: cid, actor) }
                    isRun = row.map { $0.row == last &+ 1 } ?? false
                    last = row?.row ?? .min
                    rows.append(row)
                    bytes += row?.byteCount ?? 0
                    if bytes >= bytesMax { break }
                }
                return rows
            }
        }
        var blocks: [[UInt8]?] = []
        blocks.reserveCapacity(rows.count)
        for (cid, row) in zip(cids, rows) {
            if let row { blocks.append(try row.opened(as: cid)) } else { blocks.append(nil) }
        }
        return blocks
    }

    /// The row of this number, where it holds that block of the actor.
    private func row(at row: Int64, holding cid: CID, _ actor: Int64) throws(SQLiteError) -> StoredBlock? {
        try connection.single(
            "SELECT id, slot, block FROM blocks WHERE id = ? AND actor = ? AND cid = ?", .integer(row), .integer(actor),
            .blob(BlockKey.bytes(cid)), read: StoredBlock.init)
    }

    private func row(of cid: CID, _ actor: Int64) throws(SQLiteError) -> StoredBlock? {
        try connection.single(
            "SELECT id, slot, block FROM blocks WHERE actor = ? AND cid = ?", .integer(actor), .blob(BlockKey.bytes(cid)),
            read: StoredBlock.init)
    }

    // MARK: The rest

    /// Ranges of block rows that no event refers to yet.
    func countStaged() throws(EventLogError) -> Int {
        try sql { connection throws(SQLiteError) in try connection.single("SELECT count(*) FROM staged") { Int($0.integer(0)) } ?? 0 }
    }

    /// What the log takes: pages of the file as the last commit left it.
    func byteCount() throws(EventLogError) -> UInt64 {
        try sql { connection throws(SQLiteError) in
            let pages = try connection.single("PRAGMA page_count") { $0.unsigned(0) } ?? 0
            return pages * (try connection.single("PRAGMA page_size") { $0.unsigned(0) } ?? 0)
        }
    }

    package func request(_ scope: [UInt8]) throws(EventLogError) -> RequestRow? {
        let found = try sql { connection throws(SQLiteError) in
            try connection.single("SELECT \(StoredRequest.columns) FROM requests WHERE scope = ?", .blob(scope)) { StoredRequest($0) }
        }
        return try found?.checked()
    }
}

extension LogReader {
    /// How far rows of requests were removed for their age.
    func requestsKeptFrom() throws(EventLogError) -> Timestamp {
        let time = try sql { connection throws(SQLiteError) in
            try connection.single("SELECT value FROM meta WHERE name = 'requestsKeptFrom'") { $0.integer(0) }
        }
        guard let time else { throw .damaged(file: LogStore.fileName, position: nil, message: "meta says nothing of requests") }
        return Timestamp(milliseconds: time)
    }
}

/// A block as it stands in its row.
private struct StoredBlock {
    let row: Int64
    private let block: SealedCells

    init(_ statement: SQLiteStatement) {
        row = statement.integer(0)
        block = SealedCells(statement, slot: 1, bytes: 2)
    }

    /// As it is stored; 0 once erased.
    var byteCount: Int { block.bytes?.count ?? 0 }

    /// The content, compared with its CID; nil once erased.
    func opened(as cid: CID) throws(EventLogError) -> [UInt8]? {
        let opened: [UInt8]?
        do { opened = try block.opened() } catch { throw damage("\(error)") }
        guard let content = opened else { return nil }
        guard CID(hashing: content, codec: cid.codec) == cid else { throw damage("its bytes do not match \(cid)") }
        return content
    }

    private func damage(_ message: String) -> EventLogError {
        .damaged(file: LogStore.fileName, position: nil, message: "block row \(row): \(message)")
    }
}

/// The row of a request as it was read, before anything in it is believed.
struct StoredRequest {
    private let scope: [UInt8]
    private let input: [UInt8]
    private let sequence: UInt64
    private let time: Int64
    let position: UInt64
    private let checksum: Int64

    static let columns = "scope, input, sequence, time, position, checksum"

    init(_ statement: SQLiteStatement) {
        scope = statement.blob(0)
        input = statement.blob(1)
        sequence = statement.unsigned(2)
        time = statement.integer(3)
        position = statement.unsigned(4)
        checksum = statement.integer(5)
    }

    func checked() throws(EventLogError) -> RequestRow {
        let row =
            scope.count == 32 && input.count == 32
            ? RequestRow(scope: scope, input: input, sequence: sequence, time: Timestamp(milliseconds: time)) : nil
        guard let row, LogSchema.requestChecksum(row, position: position) == checksum else {
            throw .damaged(file: LogStore.fileName, position: nil, message: "the row of a request does not match its checksum")
        }
        return row
    }
}

/// A CID as it stands in the index: the codec and the digest, 33 bytes.
enum BlockKey {
    static func bytes(_ cid: CID) -> [UInt8] { [cid.codec.rawValue] + cid.digest }

    static func cid(_ bytes: [UInt8]) -> CID? {
        guard bytes.count == 33, let codec = CID.Codec(rawValue: bytes[0]) else { return nil }
        return CID(codec: codec, digest: Array(bytes.dropFirst()))
    }
}

extension EventLogError {
    init(_ error: SQLiteError) {
        if error.isCorruption {
            self = .damaged(file: LogStore.name(ofFileAt: error.path), position: nil, message: error.message)
        } else if error.isNoSpace {
            self = .noSpace
        } else {
            self = .storage(operation: "\(LogStore.name(ofFileAt: error.path)): \(error.operation)", code: error.code)
        }
    }
}
