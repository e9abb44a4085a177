import ATProto
import Crypto
import EventLog
import Simulation
import Testing

@testable import SQLiteStore

/// What `verify` sees of a log that somebody changed who can write every file, makes every checksum anew and moves the mark, and has
/// no key; and what it cannot see. FORMAT.md, section 7.
@Suite("A forged log")
struct ForgedLogTests {
    private let seed = TestFiles.seed
    private let directory: TemporaryDirectory
    private let recorded: RecordedLog
    private let image: LogImage

    init() async throws {
        directory = try TemporaryDirectory()
        var sample = try LogSample(seed: seed, directory: directory.path)
        try await sample.begin()
        // Opening looks at the last 64 events itself: those below are `verify`'s to judge.
        try await sample.appendSome(60)
        try await sample.appendRequest()
        try await sample.appendRequest()
        try await sample.appendSome(4)
        try sample.close()
        let moment = try sample.moment()
        (recorded, image) = (moment.recorded, moment.image)
    }

    /// Changes the tables, and moves the mark to where they then end.
    private func forge(_ change: (SQLiteConnection) throws -> Void) throws {
        try image.write(to: directory.path)
        let connection = try SQLiteConnection(path: directory.file(LogStore.fileName), options: .durable)
        try change(connection)
        let last = try #require(
            try connection.single("SELECT position, event FROM events ORDER BY position DESC LIMIT 1") { ($0.unsigned(0), $0.blob(1)) })
        connection.close()
        try MarkFile(directory: directory.path, vfs: nil).write(MarkFile.Mark(position: last.0, digest: CID(hashing: last.1).digest))
    }

    private func findings(actor: DID? = nil) async throws -> [Finding] {
        let store: LogStore
        do {
            store = try LogStore(directory: directory.path, options: LogJudge.options) { _ in }
        } catch {
            return [try #require(error.finding)]
        }
        defer { store.close() }
        var options = ChainVerifier.Options()
        options.actor = actor
        return await ChainVerifier(store, options: options).verify().findings
    }

    private func expectFound(_ invariant: String, _ name: String, _ change: (SQLiteConnection) throws -> Void) async throws {
        try forge(change)
        let found = try await findings()
        #expect(found.contains { $0.invariant == invariant && !$0.message.isEmpty }, "\(name): \(found), seed \(seed)")
    }

    private func expectUnseen(_ name: String, _ change: (SQLiteConnection) throws -> Void) async throws {
        try forge(change)
        #expect(try await findings() == [], "\(name), seed \(seed)")
    }

    @Test("numbers that no service gives are refused when the log is opened")
    func absurdNumbers() async throws {
        try await expectFound("storage", "the row of a block") {
            try $0.run("UPDATE blocks SET id = ? WHERE id = (SELECT max(id) FROM blocks)", .integer(.max))
        }
        try await expectFound("storage", "the actor of a block") {
            try $0.run("UPDATE blocks SET actor = ? WHERE id = (SELECT max(id) FROM blocks)", .integer(.max))
        }
        try await expectFound("storage", "a position below the first") { connection in
            for table in ["events", "bodies"] {
                try connection.run("DELETE FROM \(table) WHERE position > 20")
                try connection.run("UPDATE \(table) SET position = -1 WHERE position = 20")
            }
            try Self.sum(connection, at: .max)
        }
    }

    @Test("a mark whose turn no log comes to is none")
    func absurdTurn() throws {
        try image.write(to: directory.path)
        var copy = Array("STRATOSM".utf8) + [0, 0, 0, 1, 0, 0, 0, 0] + [UInt8](repeating: 0xFF, count: 8)
        copy += [UInt8](repeating: 0, count: 40)
        copy += SHA256.hash(data: copy)
        try VirtualFile(path: directory.file(MarkFile.fileName), create: false, vfs: nil).write(copy, at: 4096)
        let mark = try MarkFile(directory: directory.path, vfs: nil)
        try mark.write(mark.mark ?? .empty)
    }

    /// Events with a body, of two actors, with the same number.
    private func pair() throws -> (StoredEvent, StoredEvent) {
        let actors = recorded.actors.filter { $0.description.hasPrefix("did:plc") }
        return (recorded.logs[actors[0]]![1], recorded.logs[actors[1]]![1])
    }

    /// Writes the checksum that belongs to the row as it is now.
    private static func sum(_ connection: SQLiteConnection, at position: UInt64) throws {
        let place = SQLiteValue.integer(Int64(bitPattern: position))
        let row = try #require(
            try connection.single("SELECT event, tag FROM events WHERE position = ?", place) { ($0.blob(0), $0.blob(1)) })
        let checksum = row.1.withUnsafeBytes { LogSchema.eventChecksum(position: position, digest: CID(hashing: row.0).digest, tag: $0) }
        try connection.run("UPDATE events SET checksum = ? WHERE position = ?", .integer(checksum), place)
    }

    /// Gives an event and its body another position, and the checksum for it.
    private static func move(_ connection: SQLiteConnection, from position: UInt64, to other: UInt64) throws {
        for table in ["events", "bodies"] {
            try connection.run(
                "UPDATE \(table) SET position = ? WHERE position = ?", .integer(Int64(bitPattern: other)),
                .integer(Int64(bitPattern: position)))
        }
        try sum(connection, at: other)
    }

    private static func remove(_ connection: SQLiteConnection, behind position: UInt64, through last: UInt64) throws {
        for table in ["events", "bodies"] {
            try connection.run(
                "DELETE FROM \(table) WHERE position > ? AND position <= ?", .integer(Int64(position)), .integer(Int64(last)))
        }
    }

    // MARK: Found

    @Test("nothing is found in the log as it was written")
    func whole() async throws {
        try forge { _ in }
        #expect(try await findings() == [], "seed \(seed)")
        for actor in recorded.actors { #expect(try await findings(actor: actor) == [], "seed \(seed)") }
    }

    @Test("events that were exchanged between two actors are found (I2)")
    func exchanged() async throws {
        let (one, other) = try pair()
        try await expectFound("I2", "rows of each other's actor") { connection in
            func number(_ position: UInt64) throws -> Int64 {
                try #require(try connection.single("SELECT actor FROM events WHERE position = \(position)") { $0.integer(0) })
            }
            let (first, second) = (try number(one.position!), try number(other.position!))
            try connection.run("UPDATE events SET actor = -1 WHERE position = ?", .integer(Int64(one.position!)))
            try connection.run("UPDATE events SET actor = ? WHERE position = ?", .integer(first), .integer(Int64(other.position!)))
            try connection.run("UPDATE events SET actor = ? WHERE position = ?", .integer(second), .integer(Int64(one.position!)))
        }
    }

    @Test("a row that says whose blocks are to go, and is none, is found")
    func erasing() async throws {
        for row in ["1, 1, 1", "-1, 1, 1"] {
            try await expectFound("storage", "somebody's blocks are said to go") {
                try $0.execute("INSERT INTO erasing(actor, sequence, checksum) VALUES (\(row))")
            }
        }
    }

    @Test("an event that was removed, repeated or hidden is found")
    func places() async throws {
        let count = UInt64(recorded.events.count)
        let (one, _) = try pair()
        try await expectFound("storage", "a gap in the positions") { try $0.run("DELETE FROM events WHERE position = 2") }
        try await expectFound("I3", "an event that is gone, the others moved up") { connection in
            try Self.remove(connection, behind: one.position! - 1, through: one.position!)
            for position in (one.position! + 1)...count { try Self.move(connection, from: position, to: position - 1) }
        }
        try await expectFound("storage", "an event once more, at the end") { connection in
            let place = "position = \(one.position!)"
            try connection.execute(
                """
                INSERT INTO events(position, actor, sequence, event, tag, checksum) \
                SELECT \(count + 1), actor, 1000000, event, tag, checksum FROM events WHERE \(place)
                """)
            try connection.execute("INSERT INTO bodies(position, slot, body) SELECT \(count + 1), slot, body FROM bodies WHERE \(place)")
            try Self.sum(connection, at: count + 1)
            // The number in the row is nobody's word: the event has its own.
            try connection.run("UPDATE events SET sequence = 1000000 WHERE position = ?", .integer(Int64(count + 1)))
        }
        let last = recorded.events[Int(count) - 1]
        try await expectFound("I13", "the last event where no walk by position comes") { connection in
            try Self.move(connection, from: last.position!, to: UInt64(bitPattern: -5))
        }
    }

    @Test("a body in another's place, one that belongs to no event, and one that was taken away are found")
    func bodies() async throws {
        let (one, other) = try pair()
        try await expectFound("storage", "another's body") {
            try $0.execute(
                "UPDATE bodies SET body = (SELECT body FROM bodies WHERE position = \(other.position!)) WHERE position = \(one.position!)")
        }
        try await expectFound("I13", "a body without an event") {
            try $0.execute("INSERT INTO bodies(position, slot, body) SELECT 5000, slot, body FROM bodies WHERE position = 2")
        }
        try await expectFound("I11", "a body that nobody erased") {
            try $0.execute("UPDATE bodies SET body = NULL WHERE position = \(one.position!)")
        }
        try await expectFound("storage", "a body in the clear that names a slot") {
            try $0.execute("UPDATE bodies SET slot = 1 WHERE position = \(one.position!)")
        }
    }

    @Test("blocks that were taken away, given to another actor or filled with something else are found (I11)")
    func blocks() async throws {
        let block = "id = (SELECT max(id) FROM blocks)"
        try await expectFound("I11", "a block that nobody erased") { try $0.execute("UPDATE blocks SET block = NULL WHERE \(block)") }
        try await expectFound("I11", "a block that is gone") { try $0.execute("DELETE FROM blocks WHERE \(block)") }
        try await expectFound("I11", "a block of another actor") { try $0.execute("UPDATE blocks SET actor = actor + 1 WHERE \(block)") }
        try await expectFound("storage", "a block with other bytes") {
            try $0.execute("UPDATE blocks SET block = (SELECT block FROM blocks WHERE id = 1) WHERE \(block)")
        }
    }

    @Test("an actor's row that was removed, renamed or made up is found")
    func actors() async throws {
        let actor = try #require(recorded.actors.last { $0.description.hasPrefix("did:plc") })
        try await expectFound("storage", "removed") { try $0.run("DELETE FROM actors WHERE did = ?", .text(actor.description)) }
        try await expectFound("I2", "renamed") { connection in
            let id = try #require(
                try connection.single("SELECT id FROM actors WHERE did = ?", .text(actor.description)) { $0.integer(0) })
            let name = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
            try connection.run(
                "UPDATE actors SET did = ?, checksum = ? WHERE id = ?", .text(name),
                .integer(LogSchema.actorChecksum(id: id, did: name)), .integer(id))
        }
        try await expectFound("storage", "made up") { connection in
            let name = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
            try connection.run(
                "INSERT INTO actors(id, did, checksum) VALUES (99, ?, ?)", .text(name),
                .integer(LogSchema.actorChecksum(id: 99, did: name)))
        }
    }

    @Test("a leaf with another tag is found (I13)")
    func leaves() async throws {
        let (one, other) = try pair()
        try await expectFound("I13", "another's tag") { connection in
            try connection.execute(
                "UPDATE events SET tag = (SELECT tag FROM events WHERE position = \(other.position!)) WHERE position = \(one.position!)")
            try Self.sum(connection, at: one.position!)
        }
    }

    @Test("the row of a request that points elsewhere, says something else, or was made up is found")
    func requests() async throws {
        #expect(recorded.requests.count >= 2)
        let rows = recorded.requests.values.sorted { $0.sequence < $1.sequence || ($0.sequence == $1.sequence && $0.time < $1.time) }
        func rewrite(_ connection: SQLiteConnection, _ row: RequestRow, as new: RequestRow, at position: UInt64) throws {
            try connection.run(
                "UPDATE requests SET scope = ?, input = ?, sequence = ?, time = ?, position = ?, checksum = ? WHERE scope = ?",
                .blob(new.scope), .blob(new.input), .integer(Int64(new.sequence)), .integer(new.time.milliseconds),
                .integer(Int64(position)), .integer(LogSchema.requestChecksum(new, position: position)), .blob(row.scope))
        }
        func place(_ connection: SQLiteConnection, _ row: RequestRow) throws -> UInt64 {
            try #require(try connection.single("SELECT position FROM requests WHERE scope = ?", .blob(row.scope)) { $0.unsigned(0) })
        }
        let (one, other) = (rows[0], rows[1])
        try await expectFound("storage", "another event") { connection in
            try rewrite(connection, one, as: one, at: try place(connection, other))
        }
        try await expectFound("storage", "another number") { connection in
            let changed = RequestRow(scope: one.scope, input: one.input, sequence: one.sequence + 1, time: one.time)
            try rewrite(connection, one, as: changed, at: try place(connection, one))
        }
        try await expectFound("storage", "another input") { connection in
            let changed = RequestRow(scope: one.scope, input: other.scope, sequence: one.sequence, time: one.time)
            try rewrite(connection, one, as: changed, at: try place(connection, one))
        }
        try await expectFound("storage", "made up") { connection in
            let changed = RequestRow(scope: CID(hashing: [1]).digest, input: one.input, sequence: one.sequence, time: one.time)
            try rewrite(connection, one, as: changed, at: try place(connection, one))
        }
        try await expectFound("storage", "an event that does not exist") { connection in
            try rewrite(connection, one, as: one, at: 5000)
        }
        try await expectFound("I8", "a row that is gone") { try $0.run("DELETE FROM requests WHERE scope = ?", .blob(one.scope)) }
        try await expectFound("storage", "a body that is gone") { connection in
            try connection.run("UPDATE bodies SET body = NULL WHERE position = ?", .integer(Int64(try place(connection, one))))
        }
    }

    // MARK: Not to be seen without somebody who remembers

    @Test("what only a witness can tell: an end that was cut off, with the mark moved to it")
    func cutEnd() async throws {
        let last = UInt64(recorded.events.count)
        try await expectUnseen("the last two events") { connection in
            // A request's row would tell of its event.
            try connection.run("DELETE FROM requests WHERE position > ?", .integer(Int64(last - 2)))
            try Self.remove(connection, behind: last - 2, through: last)
            try connection.execute("DELETE FROM actors WHERE id NOT IN (SELECT actor FROM events)")
        }
    }

    @Test("what only a witness can tell: the end of one actor's log cut off, and all positions behind it moved up")
    func cutActor() async throws {
        let actor = try #require(
            recorded.actors.filter { $0.description.hasPrefix("did:plc") }
                .min { recorded.logs[$0]!.last!.position! < recorded.logs[$1]!.last!.position! })
        let position = recorded.logs[actor]!.last!.position!
        try await expectUnseen("the last event of \(actor)") { connection in
            try connection.run("DELETE FROM requests WHERE position = ?", .integer(Int64(position)))
            try Self.remove(connection, behind: position - 1, through: position)
            guard position < UInt64(recorded.events.count) else { return }
            for next in (position + 1)...UInt64(recorded.events.count) { try Self.move(connection, from: next, to: next - 1) }
            let rows = try connection.all("SELECT scope FROM requests WHERE position > ?", .integer(Int64(position))) { $0.blob(0) }
            for scope in rows {
                let row = try #require(recorded.requests[scope])
                let place = try #require(
                    try connection.single("SELECT position FROM requests WHERE scope = ?", .blob(scope)) { $0.unsigned(0) })
                try connection.run(
                    "UPDATE requests SET position = ?, checksum = ? WHERE scope = ?", .integer(Int64(place - 1)),
                    .integer(LogSchema.requestChecksum(row, position: place - 1)), .blob(scope))
            }
        }
    }

    @Test("what nothing tells: the row of a request that is gone, and a block that no event names")
    func unnamed() async throws {
        try await expectUnseen("no rows of requests, since they are said to be old") { connection in
            let last = try #require(try recorded.events.map { try Event(bytes: $0.bytes).time }.max())
            try connection.execute("DELETE FROM requests")
            try connection.run("UPDATE meta SET value = ? WHERE name = 'requestsKeptFrom'", .integer(last.milliseconds + 1))
        }
        try await expectUnseen("a copy of a block under another actor") { connection in
            try connection.execute(
                "INSERT INTO blocks(id, actor, cid, slot, block) SELECT 5000, actor + 1, cid, slot, block FROM blocks WHERE id = 1")
        }
    }

    @Test("what only a witness can tell: a service key that somebody declared lost, and what was signed since")
    func lostKey() async throws {
        let store = MemoryEventStore()
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        var actor = try SimulatedActor(number: 0, seed: seed, service: service)
        _ = try await store.append(try actor.enroll())
        // `changeKey(lost:)` needs nothing of the old key.
        _ = try await store.append(try service.changeKey(lost: true))
        _ = try await store.append(try actor.attestAnew(by: service))
        #expect(await ChainVerifier(store).verify().findings == [], "seed \(seed)")
    }
}
