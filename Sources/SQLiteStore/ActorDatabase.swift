import ATProto
import Commands
import EventLog
import Projections

/// One actor's projections in one SQLite file (WAL, NORMAL): disposable, rebuilt from the log wherever they are missing, older,
/// or of another version. Confined to the thread that opened it. Listings and their index: `ActorDatabase+Listing.swift`.
final class ActorDatabase: ActorRows {
    /// Raised when the tables change; a file with another number is made anew.
    private static let schemaVersion: Int64 = 4
    private static let schema = """
        CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL, version INTEGER NOT NULL, row BLOB NOT NULL);
        CREATE TABLE record (
            collection TEXT NOT NULL, rkey TEXT NOT NULL, cid BLOB NOT NULL, boundaries TEXT NOT NULL, sequence INTEGER NOT NULL,
            created INTEGER NOT NULL, rev TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (collection, rkey)) WITHOUT ROWID;
        CREATE INDEX record_unbounded ON record (collection) WHERE boundaries = '';
        \(ActorDatabase.listingSchema)
        CREATE TABLE node (cid BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE usage (collection TEXT PRIMARY KEY, records INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE admin_read (
            sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, administrator TEXT NOT NULL, uri TEXT NOT NULL, reason TEXT NOT NULL);
        """

    var memory: AnyObject?
    let actor: DID
    let connection: SQLiteConnection
    /// What was applied and is not committed yet, and the transaction that holds the rest of it; both or neither.
    private var unwritten: UnwrittenRows?
    private var transaction: SQLiteTransaction?
    /// The numbers of boundaries that are known, those of the open transaction too.
    var boundaryNumbers: [String: Int64] = [:]
    /// The last names that a row was read with.
    private var lastBoundaries: (text: String, set: BoundarySet) = ("", .empty)

    /// Pages in the WAL from which it is checkpointed: while the file is open, and before it is closed.
    private static let checkpointPages = 200
    private static let checkpointPagesAtClose = 24

    init(path: String, actor: DID, options: SQLiteOptions = .disposable) throws {
        self.actor = actor
        connection = try SQLiteConnection(path: path, options: options)
        connection.watchWAL()
        let version = try connection.single("PRAGMA user_version") { $0.integer(0) } ?? 0
        let rowVersion = version == Self.schemaVersion ? try connection.single("SELECT version FROM state") { $0.integer(0) } : nil
        if version != Self.schemaVersion || (rowVersion ?? Int64(ProjectionVersion.actor)) != Int64(ProjectionVersion.actor) {
            try makeAnew()
        }
    }

    /// Commits what was applied, where that can be done: the log has it too.
    func close() {
        do throws(SQLiteError) {
            try commit()
            if connection.walPages >= Self.checkpointPagesAtClose { try connection.checkpoint(truncates: true) }
        } catch {
            // best effort: what is not in the file is folded again when the actor is next touched.
            abandon()
        }
        connection.close()
    }

    /// Closes a file that is about to be removed.
    func discard() {
        abandon()
        connection.close()
    }

    private func makeAnew() throws(SQLiteError) {
        let isNew = try connection.single("SELECT count(*) FROM sqlite_schema") { $0.integer(0) } == 0
        guard isNew else { return try makeTables() }
        // SQLite would sync the first page of every new WAL, so that frames of an older one are not taken for its own: there is none.
        try connection.unsynced { () throws(SQLiteError) in try makeTables() }
    }

    private func makeTables() throws(SQLiteError) {
        try connection.transaction { () throws(SQLiteError) in
            // Whatever another version has left, its own tables too.
            for table in try connection.all("SELECT name FROM sqlite_schema WHERE type = 'table'", read: { $0.text(0) }) {
                try connection.execute("DROP TABLE \"\(table)\"")
            }
            try connection.execute(Self.schema)
            try connection.execute("PRAGMA user_version = \(Self.schemaVersion)")
        }
    }

    func state() throws -> ActorState? {
        if let unwritten { return unwritten.state }
        guard let bytes = try connection.single("SELECT row FROM state", read: { $0.blob(0) }) else { return nil }
        guard let row = try? DAGCBOR.decode(bytes), let state = ActorState(row: row) else {
            throw ActorStoreError.unreadable(actor: actor, row: "state")
        }
        return state
    }

    func record(_ path: RecordPath) throws -> RecordRow? {
        let found = try connection.single(
            "SELECT rkey, cid, boundaries, sequence, rev, size, created FROM record WHERE collection = ? AND rkey = ?",
            .text(path.collection.description), .text(path.recordKey.description)
        ) { row in Result { try self.recordRow(row, collection: path.collection) } }
        return try found?.get()
    }

    func recordRow(_ row: SQLiteStatement, collection: NSID) throws -> RecordRow {
        guard row.integer(3) > 0, row.integer(5) > 0, (1...row.integer(3)).contains(row.integer(6)) else {
            throw ActorStoreError.unreadable(actor: actor, row: "record \(collection)/\(row.text(0)): a number that none has")
        }
        do {
            return RecordRow(
                path: RecordPath(collection: collection, recordKey: try RecordKey(row.text(0))), cid: try cid(row, 1),
                boundaries: try boundaries(row.text(2)), sequence: row.unsigned(3), created: row.unsigned(6),
                rev: try TID(row.text(4)), size: Int(row.integer(5)))
        } catch {
            throw ActorStoreError.unreadable(actor: actor, row: "record \(collection)/\(row.text(0)): \(error)")
        }
    }

    private func cid(_ row: SQLiteStatement, _ column: Int32) throws(CIDError) -> CID {
        try row.withBlob(column) { (bytes) throws(CIDError) in try CID(bytes: bytes.bytes) }
    }

    /// Most records name the boundaries that the one before names.
    private func boundaries(_ text: String) throws -> BoundarySet {
        if lastBoundaries.text != text { lastBoundaries = (text, try BoundarySet(text.split(separator: " ").map(String.init))) }
        return lastBoundaries.set
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
        switch unwritten?.node(cid) {
        case .added(let bytes): return bytes
        case .removed: return nil
        case .asStored, nil: break
        }
        return try connection.single("SELECT bytes FROM node WHERE cid = ?", .blob(cid.bytes)) { $0.blob(0) }
    }

    func nodes() throws -> [CID: [UInt8]] {
        try settle()
        var nodes: [CID: [UInt8]] = [:]
        nodes.reserveCapacity(Int(try connection.single("SELECT count(*) FROM node") { $0.integer(0) } ?? 0))
        try forEach("SELECT cid, bytes FROM node") { nodes[try cid($0, 0)] = $0.blob(1) }
        return nodes
    }

    func everyRecordHasBoundary() throws -> Bool {
        try connection.single("SELECT 1 FROM record INDEXED BY record_unbounded WHERE boundaries = '' LIMIT 1") { _ in true } == nil
    }

    // I9: rows and checkpoint move in one transaction, and only from where they stand. Where that fails, the rows stand again where
    // they were last committed, and what was in memory beside them is gone.
    func apply(_ changes: ActorChanges) throws {
        let standing = try unwritten?.state.head.sequence ?? connection.single("SELECT sequence FROM state") { $0.unsigned(0) } ?? 0
        guard standing == changes.from else {
            throw ActorStoreError.outOfStep(actor: actor, at: standing, expected: changes.from)
        }
        do throws(SQLiteError) {
            if transaction == nil { transaction = try SQLiteTransaction(on: connection) }
            try write(changes)
            if unwritten?.isDue ?? false { try commit() }
        } catch {
            abandon()
            throw error
        }
    }

    private func write(_ changes: ActorChanges) throws(SQLiteError) {
        var unwritten = unwritten.take() ?? UnwrittenRows(state: changes.state)
        if changes.clears {
            for table in ["record", "audience", "boundary", "node", "usage", "admin_read"] { try connection.run("DELETE FROM \(table)") }
            unwritten.forgetNodes()
            boundaryNumbers = [:]
        }
        try create(changes.created)
        // In the order of their keys, so that many are written page by page.
        let records = changes.records.sorted { ($0.key.collection, $0.key.recordKey) < ($1.key.collection, $1.key.recordKey) }
        for (path, row) in records { try put(row, at: path) }
        for (collection, usage) in changes.usage { try put(usage, of: collection) }
        for read in changes.adminReads { try insert(read) }
        unwritten.take(changes)
        self.unwritten = unwritten
    }

    /// Commits what was applied since the last time.
    func commit() throws(SQLiteError) {
        guard let unwritten, let transaction = transaction.take() else { return }
        let addition = try connection.statement("INSERT OR IGNORE INTO node (cid, bytes) VALUES (?, ?)")
        for (cid, bytes) in unwritten.addedInOrder {
            try addition.bind(1, cid.bytes)
            try addition.run(binding: 2, uncopied: bytes)
        }
        for cid in unwritten.removed { try connection.run("DELETE FROM node WHERE cid = ?", .blob(cid.bytes)) }
        try connection.run(
            "INSERT OR REPLACE INTO state (id, sequence, version, row) VALUES (1, ?, ?, ?)",
            .integer(Int64(unwritten.state.head.sequence)), .integer(Int64(ProjectionVersion.actor)),
            .blob(DAGCBOR.encode(unwritten.state.row)))
        try transaction.commit()
        self.unwritten = nil
        if connection.walPages >= Self.checkpointPages { try connection.checkpoint(truncates: true) }
    }

    /// Commits, or stands again where the file does.
    func settle() throws(SQLiteError) {
        do throws(SQLiteError) { try commit() } catch {
            abandon()
            throw error
        }
    }

    /// Whether something was applied that is not committed.
    var isUnwritten: Bool { unwritten != nil }

    /// Forgets what was applied since the last commit. The rows then stand where the file does; the log leads them on from there.
    func abandon() {
        transaction = nil
        unwritten = nil
        boundaryNumbers = [:]
        memory = nil
    }

    private func put(_ row: RecordRow?, at path: RecordPath) throws(SQLiteError) {
        try list(path, for: row?.boundaries)
        guard let row else {
            return try connection.run(
                "DELETE FROM record WHERE collection = ? AND rkey = ?", .text(path.collection.description),
                .text(path.recordKey.description))
        }
        try connection.run(
            "INSERT OR REPLACE INTO record (collection, rkey, cid, boundaries, sequence, created, rev, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            .text(path.collection.description), .text(path.recordKey.description), .blob(row.cid.bytes),
            .text(row.boundaries.joined(separator: " ")), .integer(Int64(row.sequence)), .integer(Int64(row.created)),
            .text(row.rev.description),
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
        try settle()
        guard let state = try state() else { return }
        try forEach("SELECT sequence, time, administrator, uri, reason FROM admin_read ORDER BY sequence") { row in
            let read = try Self.adminRead(row)
            try visit("adminRead", read.key, read.row)
        }
        try forEach("SELECT cid, bytes FROM node ORDER BY cid") { row in
            let cid = try self.cid(row, 0)
            try visit("node", cid.description, .bytes(row.blob(1)))
        }
        var collection: NSID?
        try forEach("SELECT rkey, cid, boundaries, sequence, rev, size, created, collection FROM record ORDER BY collection, rkey") { row in
            let name = row.text(7)
            let known = if let collection, collection.description == name { collection } else { try NSID(name) }
            collection = known
            let record = try self.recordRow(row, collection: known)
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
