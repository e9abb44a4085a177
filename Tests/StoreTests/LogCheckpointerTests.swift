import Simulation
import Testing

@testable import SQLiteStore

@Suite("LogCheckpointer")
struct LogCheckpointerTests {
    /// Rows of some 4,000 bytes: each has a page to itself.
    private static func write(_ numbers: ClosedRange<Int64>, to connection: SQLiteConnection) throws {
        for number in numbers {
            try connection.run("INSERT INTO rows(id, content) VALUES (?, zeroblob(4000))", .integer(number))
        }
    }

    private static func connect(_ disk: FaultyFiles, _ access: SQLiteOptions.Access) throws -> SQLiteConnection {
        var options = LogStoreOptions()
        options.vfs = disk.name
        return try SQLiteConnection(path: "/log.sqlite", options: options.connection(access, cacheKiB: 1024))
    }

    @Test("a pass that read what the WAL held before it was begun anew takes nothing of it for the new one")
    func begunAnew() async throws {
        let disk = FaultyFiles()
        let writer = try Self.connect(disk, .readWriteCreate)
        try writer.execute("CREATE TABLE rows(id INTEGER PRIMARY KEY, content BLOB)")
        let state = LogState(.init(heads: HeadCache(countMax: 16), position: 0, events: 0, actors: 0))
        let checkpointer = LogCheckpointer(
            connection: try Self.connect(disk, .readWrite), holder: try Self.connect(disk, .readOnly), state: state
        ) {
            Issue.record("a pass failed: \($0)")
        }
        defer {
            disk.release()
            checkpointer.close()
            writer.close()
        }
        try Self.write(1...40, to: writer)
        #expect(try writer.checkpoint().left == 0)

        disk.holdCheckpoints()
        checkpointer.request()
        try await Group.until { disk.heldCount == 1 }
        try Self.write(41...50, to: writer)
        disk.release()
        try await Group.until { state.with { $0.activity.checkpoints } == 1 }

        // Past the place where the WAL ended before: it may be begun anew there, if all of it is in the file.
        for number in Int64(51)...150 {
            try Self.write(number...number, to: writer)
            let fresh = try Self.connect(disk, .readOnly)
            defer { fresh.close() }
            #expect(try fresh.single("SELECT count(*) FROM rows") { $0.integer(0) } == number)
        }
        #expect(try writer.checkpoint().left == 0)
        #expect(try writer.all("PRAGMA integrity_check") { $0.text(0) } == ["ok"])
        #expect(try writer.single("SELECT count(*) FROM rows WHERE length(content) = 4000") { $0.integer(0) } == 150)
    }
}
