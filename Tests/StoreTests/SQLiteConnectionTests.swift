import Simulation
import Testing

@testable import SQLiteStore

@Suite struct SQLiteConnectionTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func open(_ options: SQLiteOptions = .durable) throws -> SQLiteConnection {
        try SQLiteConnection(path: directory.file("a.sqlite"), options: options)
    }

    @Test("what durability rests on reads back as it was set")
    func pragmas() throws {
        let connection = try open()
        #expect(try connection.single("PRAGMA journal_mode") { $0.text(0) } == "wal")
        #expect(try connection.single("PRAGMA synchronous") { $0.integer(0) } == 2)
        #expect(try connection.single("PRAGMA mmap_size") { $0.integer(0) } ?? 0 == 0)
        #expect(try connection.single("PRAGMA trusted_schema") { $0.integer(0) } == 0)
        #expect(try connection.single("PRAGMA cell_size_check") { $0.integer(0) } == 1)
        let disposable = try open(.disposable)
        #expect(try disposable.single("PRAGMA synchronous") { $0.integer(0) } == 1)
    }

    @Test("every kind of value comes back as it went in, empty ones too")
    func values() throws {
        let connection = try open()
        try connection.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, v)")
        let values: [SQLiteValue] = [.null, .integer(.min), .integer(.max), .text(""), .text("ä\u{0}b"), .blob([]), .blob([0, 255])]
        for (key, value) in values.enumerated() { try connection.run("INSERT INTO t VALUES (?, ?)", .integer(Int64(key)), value) }
        let read = try connection.all("SELECT v FROM t ORDER BY k") { $0.value(0) }
        #expect(read == values)
        let statement = try connection.statement("INSERT INTO t VALUES (?, ?)")
        let large = [UInt8](repeating: 7, count: 300_000)
        try statement.bind(1, 100)
        try statement.run(binding: 2, uncopied: large)
        try statement.bind(1, UInt64.max)
        try statement.run(binding: 2, uncopied: [])
        #expect(try connection.single("SELECT v FROM t WHERE k = 100") { $0.blob(0) } == large)
        #expect(try connection.single("SELECT v FROM t WHERE k = -1") { $0.value(0) } == .blob([]))
        #expect(try connection.single("SELECT k FROM t WHERE k = -1") { $0.unsigned(0) } == .max)
    }

    @Test("a transaction that is not committed leaves nothing, and one that is stays")
    func transactions() throws {
        let connection = try open()
        try connection.execute("CREATE TABLE t(k INTEGER PRIMARY KEY)")
        do {
            let transaction = try SQLiteTransaction(on: connection)
            try connection.run("INSERT INTO t VALUES (1)")
            _ = consume transaction
        }
        #expect(throws: SQLiteError.self) {
            try connection.transaction { () throws(SQLiteError) in
                try connection.run("INSERT INTO t VALUES (2)")
                try connection.run("INSERT INTO t VALUES (2)")
            }
        }
        #expect(try connection.single("SELECT count(*) FROM t") { $0.integer(0) } == 0)
        try connection.transaction { () throws(SQLiteError) in try connection.run("INSERT INTO t VALUES (3)") }
        connection.close()
        #expect(try open().single("SELECT k FROM t") { $0.integer(0) } == 3)
    }

    @Test("an error names the file, the operation and SQLite's code")
    func errors() throws {
        let connection = try open()
        try connection.execute("CREATE TABLE t(k INTEGER PRIMARY KEY)")
        try connection.run("INSERT INTO t VALUES (1)")
        let repeated = #expect(throws: SQLiteError.self) { try connection.run("INSERT INTO t VALUES (1)") }
        #expect(repeated?.isConstraint == true && repeated?.operation == "step" && repeated?.path == directory.file("a.sqlite"))
        let prepare = #expect(throws: SQLiteError.self) { try connection.statement("SELECT k FROM nowhere") }
        #expect(prepare?.message == "no such table: nowhere")
        try directory.write([UInt8](repeating: 65, count: 8192), to: "b.sqlite")
        let other = #expect(throws: SQLiteError.self) { try SQLiteConnection(path: directory.file("b.sqlite"), options: .durable) }
        #expect(other?.isCorruption == true)
        #expect(throws: SQLiteError.self) { try SQLiteConnection(path: directory.file("no/c.sqlite"), options: .durable) }
    }

    @Test("a reader's connection refuses to write and sees what was committed")
    func readOnly() throws {
        let writer = try open()
        try writer.execute("CREATE TABLE t(k INTEGER PRIMARY KEY)")
        let reader = try open(SQLiteOptions(access: .readOnly, synchronous: .full, autocheckpointPages: 0))
        try writer.run("INSERT INTO t VALUES (1)")
        #expect(try reader.single("SELECT count(*) FROM t") { $0.integer(0) } == 1)
        #expect(throws: SQLiteError.self) { try reader.run("INSERT INTO t VALUES (2)") }
    }
}
