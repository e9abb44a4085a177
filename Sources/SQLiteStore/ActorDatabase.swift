import ATProto
import Commands
import EventLog
import Projections

/// One actor's projections in one SQLite file (WAL, NORMAL): disposable, rebuilt from the log wherever they are missing, older,
/// or of another version. Confined to the thread that opened it.
final class ActorDatabase: ActorRows {
    /// Raised when the tables change; a file with another number is made anew.
    private static let schemaVersion: Int64 = 3
    private static let schema = """
        CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, version INTEGER NOT NULL, row BLOB NOT NULL);
        CREATE TABLE record (
            collection TEXT NOT NULL, rkey TEXT NOT NULL, cid BLOB NOT NULL, boundaries TEXT NOT NULL, sequence INTEGER NOT NULL,
            rev TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (collection, rkey)) WITHOUT ROWID;
        CREATE INDEX record_unbounded ON record (collection) WHERE boundaries = '';
        CREATE TABLE node (cid BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE usage (collection TEXT PRIMARY KEY, records INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE admin_read (
            sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, administrator TEXT NOT NULL, uri TEXT NOT NULL, reason TEXT NOT NULL);
        """

    var memory: AnyObject?
    private let actor: DID
    private let connection: SQLiteConnection

    init(path: String, actor: DID) throws {
        self.actor = actor
        connection = try SQLiteConnection(path: path, options: .disposable)
        let version = try connection.single("PRAGMA user_version") { $0.integer(0) } ?? 0
        let rowVersion = version == Self.schemaVersion ? try connection.single("SELECT version FROM state") { $0.integer(0) } : nil
        if version != Self.schemaVersion || (rowVersion ?? Int64(ProjectionVersion.actor)) != Int64(ProjectionVersion.actor) {
            try makeAnew()
        }
    }

    func close() { connection.close() }

    private func makeAnew() throws(SQLiteError) {
        try connection.transaction { () throws(SQLiteError) in
            for table in ["state", "record", "node", "usage", "admin_read"] { try connection.execute("DROP TABLE IF EXISTS \(table)") }
            try connection.execute(Self.schema)
            try connection.execute("PRAGMA user_version = \(Self.schemaVersion)")
        }
    }

    func state() throws -> ActorState? {
        guard let bytes = try connection.single("SELECT row FROM state", read: { $0.blob(0) }) else { return nil }
        guard let state = ActorState(row: try DAGCBOR.decode(bytes)) else { throw ActorStoreError.unreadable(actor: actor, row: "state") }
        return state
    }

    func record(_ path: RecordPath) throws -> RecordRow? {
        let found = try connection.single(
            "SELECT rkey, cid, boundaries, sequence, rev, size FROM record WHERE collection = ? AND rkey = ?",
            .text(path.collection.description), .text(path.recordKey.description)
        ) { row in Result { try self.recordRow(row, collection: path.collection) } }
        return try found?.get()
    }

    func records(_ collection: NSID, after: RecordKey?, reversed: Bool, limit: Int) throws -> [RecordRow] {
        let columns = "SELECT rkey, cid, boundaries, sequence, rev, size FROM record WHERE collection = ?1"
        let sql =
            switch (after, reversed) {
            case (nil, false): "\(columns) ORDER BY rkey LIMIT ?2"
            case (nil, true): "\(columns) ORDER BY rkey DESC LIMIT ?2"
            case (_, false): "\(columns) AND rkey > ?3 ORDER BY rkey LIMIT ?2"
            case (_, true): "\(columns) AND rkey < ?3 ORDER BY rkey DESC LIMIT ?2"
            }
        var values: [SQLiteValue] = [.text(collection.description), .integer(Int64(limit))]
        if let after { values.append(.text(after.description)) }
        let statement = try connection.statement(sql)
        for (index, value) in values.enumerated() { try statement.bind(Int32(index + 1), value) }
        defer { statement.reset() }
        var rows: [RecordRow] = []
        while try statement.step() { rows.append(try recordRow(statement, collection: collection)) }
        return rows
    }

    private func recordRow(_ row: SQLiteStatement, collection: NSID) throws -> RecordRow {
        RecordRow(
            path: RecordPath(collection: collection, recordKey: try RecordKey(row.text(0))), cid: try CID(bytes: row.blob(1)),
            boundaries: try BoundarySet(row.text(2).split(separator: " ").map(String.init)), sequence: row.unsigned(3),
            rev: try TID(row.text(4)), size: Int(row.integer(5)))
    }

    func collections() throws -> [NSID: Usage] {
        let rows = try connection.all("SELECT collection, records, bytes FROM usage") { row in
            (row.text(0), Usage(records: Int(row.integer(1)), bytes: Int(row.integer(2))))
        }
        return Dictionary(uniqueKeysWithValues: try rows.map { (try NSID($0.0), $0.1) })
    }

    func adminReads(before: UInt64?, limit: Int) throws -> [AdminReadRow] {
        let found = try connection.all(
            "SELECT sequence, time, administrator, uri, reason FROM admin_read WHERE sequence < ? ORDER BY sequence DESC LIMIT ?",
            .integer(Int64(clamping: before ?? .max)), .integer(Int64(limit))
        ) { row in Result { try Self.adminRead(row) } }
        return try found.map { try $0.get() }
    }

    private static func adminRead(_ row: SQLiteStatement) throws -> AdminReadRow {
        AdminReadRow(
            sequence: row.unsigned(0), time: Timestamp(milliseconds: row.integer(1)), administrator: row.text(2),
            uri: try ATURI(row.text(3)),
            reason: row.text(4))
    }

    private func insert(_ read: AdminReadRow) throws(SQLiteError) {
        try connection.run(
            "INSERT INTO admin_read (sequence, time, administrator, uri, reason) VALUES (?, ?, ?, ?, ?)", .integer(Int64(read.sequence)),
            .integer(read.time.milliseconds), .text(read.administrator), .text(read.uri.description), .text(read.reason))
    }

    func node(_ cid: CID) throws -> [UInt8]? {
        try connection.single("SELECT bytes FROM node WHERE cid = ?", .blob(cid.bytes)) { $0.blob(0) }
    }

    func everyRecordHasBoundary() throws -> Bool {
        try connection.single("SELECT 1 FROM record INDEXED BY record_unbounded WHERE boundaries = '' LIMIT 1") { _ in true } == nil
    }

    // I9: rows and checkpoint move in one transaction, and only from where they stand.
    func apply(_ changes: ActorChanges) throws {
        let transaction = try SQLiteTransaction(on: connection)
        let standing = try connection.single("SELECT sequence FROM state") { $0.unsigned(0) } ?? 0
        guard standing == changes.from else {
            throw ActorStoreError.outOfStep(actor: actor, at: standing, expected: changes.from)
        }
        if changes.clears {
            for table in ["record", "node", "usage", "admin_read"] { try connection.run("DELETE FROM \(table)") }
        }
        for (path, row) in changes.records { try put(row, at: path) }
        for (cid, bytes) in changes.nodesAdded {
            try connection.run("INSERT OR IGNORE INTO node (cid, bytes) VALUES (?, ?)", .blob(cid.bytes), .blob(bytes))
        }
        for cid in changes.nodesRemoved { try connection.run("DELETE FROM node WHERE cid = ?", .blob(cid.bytes)) }
        for (collection, usage) in changes.usage { try put(usage, of: collection) }
        for read in changes.adminReads { try insert(read) }
        try connection.run(
            "INSERT OR REPLACE INTO state (id, sequence, version, row) VALUES (1, ?, ?, ?)",
            .integer(Int64(changes.state.head.sequence)), .integer(Int64(ProjectionVersion.actor)),
            .blob(DAGCBOR.encode(changes.state.row)))
        try transaction.commit()
    }

    private func put(_ row: RecordRow?, at path: RecordPath) throws(SQLiteError) {
        guard let row else {
            return try connection.run(
                "DELETE FROM record WHERE collection = ? AND rkey = ?", .text(path.collection.description),
                .text(path.recordKey.description))
        }
        try connection.run(
            "INSERT OR REPLACE INTO record (collection, rkey, cid, boundaries, sequence, rev, size) VALUES (?, ?, ?, ?, ?, ?, ?)",
            .text(path.collection.description), .text(path.recordKey.description), .blob(row.cid.bytes),
            .text(row.boundaries.joined(separator: " ")), .integer(Int64(row.sequence)), .text(row.rev.description),
            .integer(Int64(row.size)))
    }

    private func put(_ usage: Usage, of collection: NSID) throws(SQLiteError) {
        guard usage.records > 0 else {
            return try connection.run("DELETE FROM usage WHERE collection = ?", .text(collection.description))
        }
        try connection.run(
            "INSERT OR REPLACE INTO usage (collection, records, bytes) VALUES (?, ?, ?)", .text(collection.description),
            .integer(Int64(usage.records)), .integer(Int64(usage.bytes)))
    }

    func forEachRow(_ visit: (_ projection: String, _ key: String, _ row: Value) throws -> Void) throws {
        guard let state = try state() else { return }
        try forEach("SELECT sequence, time, administrator, uri, reason FROM admin_read ORDER BY sequence") { row in
            let read = try Self.adminRead(row)
            try visit("adminRead", read.key, read.row)
        }
        try forEach("SELECT cid, bytes FROM node ORDER BY cid") { row in
            let cid = try CID(bytes: row.blob(0))
            try visit("node", cid.description, .bytes(row.blob(1)))
        }
        try forEach("SELECT rkey, cid, boundaries, sequence, rev, size, collection FROM record ORDER BY collection, rkey") { row in
            let record = try self.recordRow(row, collection: try NSID(row.text(6)))
            try visit("record", record.path.description, record.row)
        }
        try visit("state", "", state.row)
        try forEach("SELECT collection, records, bytes FROM usage ORDER BY collection") { row in
            try visit("usage", row.text(0), ["records": .integer(row.integer(1)), "bytes": .integer(row.integer(2))])
        }
    }

    private func forEach(_ sql: String, _ visit: (SQLiteStatement) throws -> Void) throws {
        let statement = try connection.statement(sql)
        defer { statement.reset() }
        while try statement.step() { try visit(statement) }
    }
}
