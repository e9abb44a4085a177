import ATProto
import Commands
import EventLog
import Projections

/// Listings and lookups, each at the price of what it shows: `audience` has a row for each boundary of each record, so what a viewer may
/// see of a collection is a merge of a few ranges of it, and what is hidden is never read (I12).
///
/// The index holds nothing that the `record` rows do not say, moves in their transaction (I9), and numbers boundaries in the order
/// in which this file met them, so it enters no digest.
extension ActorDatabase {
    static let listingSchema = """
        CREATE TABLE boundary (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
        CREATE TABLE audience (
            boundary INTEGER NOT NULL, collection TEXT NOT NULL, rkey TEXT NOT NULL, PRIMARY KEY (boundary, collection, rkey)) WITHOUT ROWID;
        """

    func record(_ path: RecordPath, _ selection: RecordSelection) throws -> RecordRow? {
        try isSelected(path, selection) ? record(path) : nil
    }

    /// Finds the same nothing, at the same price, for a record that is not selected and for one that is not there.
    private func isSelected(_ path: RecordPath, _ selection: RecordSelection) throws(SQLiteError) -> Bool {
        let (collection, key) = (SQLiteValue.text(path.collection.description), SQLiteValue.text(path.recordKey.description))
        switch selection {
        case .all: return true
        case .bounded:
            return try connection.single(
                "SELECT 1 FROM boundary CROSS JOIN audience ON audience.boundary = boundary.id WHERE collection = ? AND rkey = ? LIMIT 1",
                collection, key
            ) { _ in true } ?? false
        case .sharing(let boundaries):
            for name in boundaries {
                let isNamed = try connection.single(
                    "SELECT 1 FROM audience WHERE boundary = (SELECT id FROM boundary WHERE name = ?) AND collection = ? AND rkey = ?",
                    .text(name), collection, key
                ) { _ in true }
                if isNamed ?? false { return true }
            }
            return false
        }
    }

    func records(_ collection: NSID, _ selection: RecordSelection, in range: KeyRange) throws -> [RecordRow] {
        switch selection {
        case .all: return try allRecords(of: collection, in: range)
        case .bounded: return try records(collection, of: try connection.all("SELECT id FROM boundary") { $0.integer(0) }, in: range)
        case .sharing(let boundaries):
            let known = try boundaries.compactMap { name in
                try connection.single("SELECT id FROM boundary WHERE name = ?", .text(name)) { $0.integer(0) }
            }
            return try records(collection, of: known, in: range)
        }
    }

    private func allRecords(of collection: NSID, in range: KeyRange) throws -> [RecordRow] {
        let columns = "SELECT rkey, cid, boundaries, sequence, rev, size, created FROM record WHERE collection = ?1"
        let statement = try connection.statement(Self.page(columns, range))
        try bind(statement, collection, range)
        defer { statement.reset() }
        var rows: [RecordRow] = []
        while try statement.step() { rows.append(try recordRow(statement, collection: collection)) }
        return rows
    }

    /// The first keys of each boundary hold the first keys of all of them.
    private func records(_ collection: NSID, of boundaries: [Int64], in range: KeyRange) throws -> [RecordRow] {
        var keys: Set<String> = []
        for boundary in boundaries {
            let statement = try connection.statement(
                Self.page("SELECT rkey FROM audience WHERE boundary = ?4 AND collection = ?1", range))
            try bind(statement, collection, range)
            try statement.bind(4, boundary)
            while try statement.step() { keys.insert(statement.text(0)) }
        }
        let page = keys.sorted { ($0 < $1) != range.reversed }.prefix(range.limit)
        return try page.map { key in
            let path = RecordPath(collection: collection, recordKey: try RecordKey(key))
            guard let row = try record(path) else { throw ActorStoreError.unreadable(actor: actor, row: "record \(path)") }
            return row
        }
    }

    /// - Parameter selection: ends in a condition; `?1` is the collection, `?2` the limit, `?3` the key behind which the page begins.
    private static func page(_ selection: String, _ range: KeyRange) -> String {
        switch (range.after, range.reversed) {
        case (nil, false): "\(selection) ORDER BY rkey LIMIT ?2"
        case (nil, true): "\(selection) ORDER BY rkey DESC LIMIT ?2"
        case (_, false): "\(selection) AND rkey > ?3 ORDER BY rkey LIMIT ?2"
        case (_, true): "\(selection) AND rkey < ?3 ORDER BY rkey DESC LIMIT ?2"
        }
    }

    private func bind(_ statement: SQLiteStatement, _ collection: NSID, _ range: KeyRange) throws(SQLiteError) {
        try statement.bind(1, collection.description)
        try statement.bind(2, Int64(range.limit))
        if let after = range.after { try statement.bind(3, after.description) }
    }

    /// Moves the index to the boundaries that a record has from now on, before its row moves.
    /// - Parameter boundaries: nil for a record that goes.
    func list(_ path: RecordPath, for boundaries: BoundarySet?) throws(SQLiteError) {
        let (collection, key) = (SQLiteValue.text(path.collection.description), SQLiteValue.text(path.recordKey.description))
        let text = try connection.single("SELECT boundaries FROM record WHERE collection = ? AND rkey = ?", collection, key) { $0.text(0) }
        let before = (text ?? "").split(separator: " ").map(String.init)
        let after = boundaries.map(Array.init) ?? []
        guard before != after else { return }
        for name in before where !after.contains(name) {
            try connection.run(
                "DELETE FROM audience WHERE boundary = (SELECT id FROM boundary WHERE name = ?) AND collection = ? AND rkey = ?",
                .text(name), collection, key)
        }
        for name in after where !before.contains(name) {
            try connection.run(
                "INSERT INTO audience (boundary, collection, rkey) VALUES (?, ?, ?)", .integer(try number(ofBoundary: name)), collection,
                key)
        }
    }

    /// The number of a boundary in this file, which gets one where it has none.
    func number(ofBoundary name: String) throws(SQLiteError) -> Int64 {
        if let number = boundaryNumbers[name] { return number }
        try connection.run("INSERT OR IGNORE INTO boundary (name) VALUES (?)", .text(name))
        guard let number = try connection.single("SELECT id FROM boundary WHERE name = ?", .text(name), read: { $0.integer(0) }) else {
            throw SQLiteError(operation: "insert", code: 11, message: "a boundary was not kept", path: connection.path)  // SQLITE_CORRUPT
        }
        boundaryNumbers[name] = number
        return number
    }
}
