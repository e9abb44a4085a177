import ATProto
import EventLog
import Commands

/// The rows of an import. There are many, none was there before, and they come in the order of their keys or nearly so: they are written
/// sixteen with one statement, which is twice as fast as one by one.
extension ActorDatabase {
    private static let rowsAtOnce = 16

    func create(_ rows: [RecordRow]) throws(SQLiteError) {
        guard !rows.isEmpty else { return }
        // There are none; where a damaged file has some nevertheless, they are not to be mixed with these.
        for table in ["record", "audience"] { try connection.run("DELETE FROM \(table)") }
        var (boundaries, text): (BoundarySet, String) = (.empty, "")
        try forEachGroup(of: Array(rows.indices), in: rows) { group throws(SQLiteError) in
            let insertion = try connection.statement(Self.recordInsertion(of: group.count))
            let first = rows[group[group.startIndex]]
            try insertion.bind(1, first.path.collection.description)
            try insertion.bind(2, first.sequence)
            try insertion.bind(3, first.rev.description)
            var place: Int32 = 4
            for index in group {
                if rows[index].boundaries != boundaries {
                    boundaries = rows[index].boundaries
                    text = boundaries.joined(separator: " ")
                }
                try insertion.bind(place, rows[index].path.recordKey.description)
                try insertion.bind(place + 1, rows[index].cid.bytes)
                try insertion.bind(place + 2, text)
                try insertion.bind(place + 3, rows[index].size)
                place += 4
            }
            try insertion.run()
        }
        try list(created: rows)
    }

    private func list(created rows: [RecordRow]) throws(SQLiteError) {
        var listed: [String: [Int]] = [:]
        for index in rows.indices {
            for name in rows[index].boundaries { listed[name, default: []].append(index) }
        }
        for (name, indices) in listed.sorted(by: { $0.key < $1.key }) {
            let number = try number(ofBoundary: name)
            try forEachGroup(of: indices, in: rows) { group throws(SQLiteError) in
                let insertion = try connection.statement(Self.listing(of: group.count))
                try insertion.bind(1, number)
                try insertion.bind(2, rows[group[group.startIndex]].path.collection.description)
                var place: Int32 = 3
                for index in group {
                    try insertion.bind(place, rows[index].path.recordKey.description)
                    place += 1
                }
                try insertion.run()
            }
        }
    }

    /// Neighbours of one collection, as many as one statement takes; or a single one.
    private func forEachGroup(
        of indices: [Int], in rows: [RecordRow], _ body: (ArraySlice<Int>) throws(SQLiteError) -> Void
    ) throws(SQLiteError) {
        var left = indices[...]
        while let first = left.first {
            let group = left.prefix(Self.rowsAtOnce)
            let isWhole = group.count == Self.rowsAtOnce && group.allSatisfy { rows[$0].path.collection == rows[first].path.collection }
            try body(isWhole ? group : left.prefix(1))
            left = left.dropFirst(isWhole ? group.count : 1)
        }
    }

    private static func recordInsertion(of count: Int) -> String { count == 1 ? oneRecord : manyRecords }
    private static let oneRecord = recordInsertion(rows: 1)
    private static let manyRecords = recordInsertion(rows: rowsAtOnce)

    private static func recordInsertion(rows: Int) -> String {
        let values = (0..<rows).map { 4 + 4 * $0 }.map { "(?1, ?\($0), ?\($0 + 1), ?\($0 + 2), ?2, ?2, ?3, ?\($0 + 3))" }
        return
            "INSERT INTO record (collection, rkey, cid, boundaries, sequence, created, rev, size) VALUES \(values.joined(separator: ", "))"
    }

    private static func listing(of count: Int) -> String { count == 1 ? oneListing : manyListings }
    private static let oneListing = listing(rows: 1)
    private static let manyListings = listing(rows: rowsAtOnce)

    private static func listing(rows: Int) -> String {
        let values = (0..<rows).map { "(?1, ?2, ?\(3 + $0))" }
        return "INSERT INTO audience (boundary, collection, rkey) VALUES \(values.joined(separator: ", "))"
    }
}
