import ATProto
import EventLog
import Projections

/// The reactors' tables. Every name begins with `reactor_`, since the file is not theirs alone.
final class SQLiteReactorRows: ReactorRows {
    private let connection: SQLiteConnection

    private let isReadOnly: Bool

    init(_ connection: SQLiteConnection, isReadOnly: Bool) {
        self.connection = connection
        self.isReadOnly = isReadOnly
    }

    func close() { connection.close() }

    static func create(on connection: SQLiteConnection) throws(SQLiteError) {
        try connection.transaction { () throws(SQLiteError) in
            for statement in statements { try connection.execute(statement) }
        }
    }

    static func isThere(on connection: SQLiteConnection) throws(SQLiteError) -> Bool {
        try connection.single("SELECT count(*) FROM sqlite_schema WHERE name = 'reactor_items'") { $0.integer(0) } == 1
    }

    /// Times are milliseconds since 1970; a `turn` is 0 live, 1 backlog, 2 echo.
    private static let statements = [
        "CREATE TABLE IF NOT EXISTS reactor_meta(name TEXT NOT NULL PRIMARY KEY, number INTEGER, bytes BLOB, text TEXT) WITHOUT ROWID",
        """
        CREATE TABLE IF NOT EXISTS reactor_actors(id INTEGER PRIMARY KEY, did TEXT NOT NULL UNIQUE, host TEXT NOT NULL, \
        state TEXT NOT NULL, sweeps INTEGER NOT NULL, tidies INTEGER NOT NULL, leaving INTEGER NOT NULL, left INTEGER, since INTEGER, \
        attempts INTEGER NOT NULL, failing_since INTEGER, next_attempt INTEGER, backlog_time INTEGER, last_error TEXT, \
        parked_marks INTEGER NOT NULL)
        """,
        "CREATE INDEX IF NOT EXISTS reactor_actors_due ON reactor_actors(next_attempt) WHERE next_attempt IS NOT NULL",
        """
        CREATE TABLE IF NOT EXISTS reactor_items(id INTEGER PRIMARY KEY, actor INTEGER NOT NULL, path TEXT NOT NULL, done BLOB, \
        marks INTEGER NOT NULL, due INTEGER NOT NULL, last INTEGER NOT NULL, turn INTEGER NOT NULL, not_before INTEGER NOT NULL, doubtful INTEGER NOT NULL, \
        refusal TEXT)
        """,
        "CREATE UNIQUE INDEX IF NOT EXISTS reactor_items_of_actor ON reactor_items(actor, path)",
        "CREATE INDEX IF NOT EXISTS reactor_items_due ON reactor_items(actor, turn, not_before, due, id) WHERE marks > 0",
        "CREATE INDEX IF NOT EXISTS reactor_items_refused ON reactor_items(actor) WHERE refusal IS NOT NULL",
    ]

    func transaction<Result>(_ body: (any ReactorRows) throws -> Result) throws -> Result {
        if isReadOnly { return try reading(body) }
        let transaction = try SQLiteTransaction(on: connection)
        let result = try body(self)
        try transaction.commit()
        return result
    }

    /// Upon one state of the file.
    private func reading<Result>(_ body: (any ReactorRows) throws -> Result) throws -> Result {
        var outcome: Swift.Result<Result, any Error>?
        try connection.reading { outcome = Swift.Result { try body(self) } }
        guard let outcome else { preconditionFailure("what is read is read once") }
        return try outcome.get()
    }

    // MARK: How far

    func cursor() throws -> ReactorCursor {
        let found = try connection.single("SELECT number, bytes FROM reactor_meta WHERE name = 'cursor'") { row in
            (position: row.unsigned(0), event: row.isNull(1) ? nil : row.blob(1))
        }
        guard let found else { return .start }
        return ReactorCursor(position: found.position, event: try found.event.map { try CID(bytes: $0) })
    }

    func set(_ cursor: ReactorCursor) throws {
        try connection.run(
            "INSERT OR REPLACE INTO reactor_meta(name, number, bytes) VALUES ('cursor', ?, ?)", .integer(Int64(cursor.position)),
            cursor.event.map { .blob($0.bytes) } ?? .null)
    }

    func form() throws -> String? { try connection.single("SELECT text FROM reactor_meta WHERE name = 'form'") { $0.text(0) } }

    func set(form: String) throws {
        try connection.run("INSERT OR REPLACE INTO reactor_meta(name, text) VALUES ('form', ?)", .text(form))
    }

    // MARK: Actors

    private static let actorColumns =
        "did, host, state, sweeps, tidies, leaving, left, since, attempts, failing_since, next_attempt, backlog_time, last_error, "
        + "parked_marks"

    func actor(_ did: DID) throws -> ReactorActor? {
        try connection.single("SELECT \(Self.actorColumns) FROM reactor_actors WHERE did = ?", .text(did.description), read: Self.actor)?
            .get()
    }

    func put(_ actor: ReactorActor) throws {
        try connection.run(
            """
            INSERT INTO reactor_actors(\(Self.actorColumns)) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(did) DO UPDATE SET \
            host = excluded.host, state = excluded.state, sweeps = excluded.sweeps, tidies = excluded.tidies, \
            leaving = excluded.leaving, left = excluded.left, since = excluded.since, attempts = excluded.attempts, \
            failing_since = excluded.failing_since, next_attempt = excluded.next_attempt, backlog_time = excluded.backlog_time, \
            last_error = excluded.last_error, parked_marks = excluded.parked_marks
            """, .text(actor.did.description), .text(actor.host), .text(actor.state.rawValue), .integer(Int64(actor.sweeps)),
            .integer(Int64(actor.tidies)), .integer(Int64(actor.leaving)), .time(actor.left), .time(actor.since),
            .integer(Int64(actor.attempts)), .time(actor.failingSince), .time(actor.nextAttempt), .time(actor.backlogTime),
            actor.lastError.map { .text($0) } ?? .null, .integer(Int64(actor.parkedMarks)))
    }

    func remove(_ did: DID) throws {
        try connection.run(
            "DELETE FROM reactor_items WHERE actor = (SELECT id FROM reactor_actors WHERE did = ?)", .text(did.description))
        try connection.run("DELETE FROM reactor_actors WHERE did = ?", .text(did.description))
    }

    func actors(after: DID?, limit: Int) throws -> [ReactorActor] {
        try connection.all(
            "SELECT \(Self.actorColumns) FROM reactor_actors WHERE did > ? ORDER BY did LIMIT ?", .text(after?.description ?? ""),
            .integer(Int64(limit)), read: Self.actor
        ).map { try $0.get() }
    }

    func due(at now: Timestamp, limit: Int, except actors: Set<DID>, hosts: Set<String>) throws -> [ReactorActor] {
        let statement = try connection.statement(
            """
            SELECT \(Self.actorColumns) FROM reactor_actors WHERE next_attempt <= ? ORDER BY next_attempt
            """)
        try statement.bind(1, now.milliseconds)
        defer { statement.reset() }
        var found: [ReactorActor] = []
        while found.count < limit, try statement.step() {
            let actor = try Self.actor(statement).get()
            if !actors.contains(actor.did), !hosts.contains(actor.host) { found.append(actor) }
        }
        return found
    }

    func nextDue(after now: Timestamp) throws -> Timestamp? {
        try connection.single(
            "SELECT next_attempt FROM reactor_actors WHERE next_attempt > ? ORDER BY next_attempt LIMIT 1", .integer(now.milliseconds)
        ) { Timestamp(milliseconds: $0.integer(0)) }
    }

    func resumeParked(at now: Timestamp) throws {
        try connection.run(
            "UPDATE reactor_actors SET state = 'pending', attempts = 0, next_attempt = ? WHERE state = 'parked'",
            .integer(now.milliseconds))
    }

    private static func actor(_ row: SQLiteStatement) -> Result<ReactorActor, ReactorDatabaseError> {
        guard let did = try? DID(row.text(0)), let state = ReactorActor.State(rawValue: row.text(2)) else {
            return .failure(.unreadable(row: row.text(0)))
        }
        var actor = ReactorActor(did: did)
        actor.host = row.text(1)
        actor.state = state
        actor.sweeps = row.unsigned(3)
        actor.tidies = row.unsigned(4)
        actor.leaving = row.unsigned(5)
        actor.left = row.time(6)
        actor.since = row.time(7)
        actor.attempts = Int(row.integer(8))
        actor.failingSince = row.time(9)
        actor.nextAttempt = row.time(10)
        actor.backlogTime = row.time(11)
        actor.lastError = row.isNull(12) ? nil : row.text(12)
        actor.parkedMarks = Int(row.integer(13))
        return .success(actor)
    }
}

// MARK: - Items

extension SQLiteReactorRows {
    private static let itemColumns = "path, done, marks, due, last, turn, not_before, doubtful, refusal"

    func item(_ path: RecordPath, of did: DID) throws -> ReactorItem? {
        guard let id = try id(of: did) else { return nil }
        return try connection.single(
            "SELECT \(Self.itemColumns) FROM reactor_items WHERE actor = ? AND path = ?", .integer(id), .text(path.description),
            read: Self.item)?.get()
    }

    func put(_ item: ReactorItem, of did: DID) throws {
        guard let id = try id(of: did) else { preconditionFailure("items are of an actor that has a row") }
        let (turn, notBefore) = Self.encoded(item.turn)
        try connection.run(
            """
            INSERT INTO reactor_items(actor, path, done, marks, due, last, turn, not_before, doubtful, refusal) \
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(actor, path) DO UPDATE SET done = excluded.done, marks = excluded.marks, \
            due = excluded.due, last = excluded.last, turn = excluded.turn, not_before = excluded.not_before, doubtful = excluded.doubtful, \
            refusal = excluded.refusal
            """, .integer(id), .text(item.path.description), item.done.map { .blob($0.bytes) } ?? .null, .integer(Int64(item.marks)),
            .integer(Int64(item.due)), .integer(Int64(item.last)), .integer(turn), .integer(notBefore), .integer(item.isDoubtful ? 1 : 0),
            item.refusal.map { .text($0) } ?? .null)
    }

    func remove(_ path: RecordPath, of did: DID) throws {
        guard let id = try id(of: did) else { return }
        try connection.run("DELETE FROM reactor_items WHERE actor = ? AND path = ?", .integer(id), .text(path.description))
    }

    func items(of did: DID, after: RecordPath?, limit: Int) throws -> [ReactorItem] {
        guard let id = try id(of: did) else { return [] }
        return try connection.all(
            "SELECT \(Self.itemColumns) FROM reactor_items WHERE actor = ? AND path > ? ORDER BY path LIMIT ?", .integer(id),
            .text(after?.description ?? ""), .integer(Int64(limit)), read: Self.item
        ).map { try $0.get() }
    }

    func next(of did: DID, at now: Timestamp, withBacklog: Bool) throws -> ReactorItem? {
        guard let id = try id(of: did) else { return nil }
        let echo = try connection.single(
            """
            SELECT \(Self.itemColumns) FROM reactor_items WHERE actor = ? AND marks > 0 AND turn = 2 AND not_before <= ? \
            ORDER BY not_before, due, id LIMIT 1
            """, .integer(id), .integer(now.milliseconds), read: Self.item)
        if let echo { return try echo.get() }
        return try connection.single(
            """
            SELECT \(Self.itemColumns) FROM reactor_items WHERE actor = ? AND marks > 0 AND turn <= ? \
            ORDER BY turn, not_before, due, id LIMIT 1
            """, .integer(id), .integer(withBacklog ? 1 : 0), read: Self.item)?.get()
    }

    func counts(of did: DID) throws -> (due: Int, refused: Int) {
        guard let id = try id(of: did) else { return (0, 0) }
        let due = try connection.single("SELECT count(*) FROM reactor_items WHERE actor = ? AND marks > 0", .integer(id)) { $0.integer(0) }
        let refused = try connection.single(
            "SELECT count(*) FROM reactor_items WHERE actor = ? AND refusal IS NOT NULL", .integer(id)
        ) { $0.integer(0) }
        return (Int(due ?? 0), Int(refused ?? 0))
    }

    func nextEcho(of did: DID) throws -> Timestamp? {
        guard let id = try id(of: did) else { return nil }
        return try connection.single(
            "SELECT not_before FROM reactor_items WHERE actor = ? AND marks > 0 AND turn = 2 ORDER BY not_before LIMIT 1", .integer(id)
        ) { Timestamp(milliseconds: $0.integer(0)) }
    }

    private func id(of did: DID) throws(SQLiteError) -> Int64? {
        try connection.single("SELECT id FROM reactor_actors WHERE did = ?", .text(did.description)) { $0.integer(0) }
    }

    private static func encoded(_ turn: ReactorItem.Turn) -> (turn: Int64, notBefore: Int64) {
        switch turn {
        case .live: (0, 0)
        case .backlog: (1, 0)
        case .echo(let time): (2, time.milliseconds)
        }
    }

    private static func item(_ row: SQLiteStatement) -> Result<ReactorItem, ReactorDatabaseError> {
        guard let path = RecordPath(row.text(0)) else { return .failure(.unreadable(row: row.text(0))) }
        var item = ReactorItem(path: path)
        if !row.isNull(1) {
            guard let cid = try? CID(bytes: row.blob(1)) else { return .failure(.unreadable(row: row.text(0))) }
            item.done = cid
        }
        item.marks = row.unsigned(2)
        item.due = row.unsigned(3)
        item.last = row.unsigned(4)
        switch row.integer(5) {
        case 0: item.turn = .live
        case 1: item.turn = .backlog
        default: item.turn = .echo(at: Timestamp(milliseconds: row.integer(6)))
        }
        item.isDoubtful = row.integer(7) != 0
        item.refusal = row.isNull(8) ? nil : row.text(8)
        return .success(item)
    }
}

extension SQLiteValue {
    fileprivate static func time(_ time: Timestamp?) -> SQLiteValue { time.map { .integer($0.milliseconds) } ?? .null }
}

extension SQLiteStatement {
    fileprivate func time(_ column: Int32) -> Timestamp? { isNull(column) ? nil : Timestamp(milliseconds: integer(column)) }
}
