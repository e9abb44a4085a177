import ATProto
import EventLog
import Simulation
import Testing

@testable import SQLiteStore

/// What a start makes of the files that it finds: it goes on from a log that is shown to be complete, and from nothing else.
@Suite("Opening a log")
struct LogOpeningTests {
    private let seed = TestFiles.seed
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func killed(seed: UInt64? = nil) async throws -> LogSample.Moment {
        let place = try TemporaryDirectory()
        return try await LogSample.killed(seed: seed ?? self.seed, directory: place.path, bytesMin: 0, walBytesMin: 1)
    }

    private func closed() async throws -> LogSample.Moment {
        let place = try TemporaryDirectory()
        return try await LogSample.closed(seed: seed, directory: place.path, bytesMin: 1)
    }

    private func open(_ image: LogImage) throws -> LogStore {
        try image.write(to: directory.path)
        return try LogStore(directory: directory.path, options: LogJudge.options) { _ in }
    }

    /// Opens, and gives the refusal; the files must be as they were.
    private func refusal(of image: LogImage) throws -> LogStoreError {
        do {
            try open(image).close()
        } catch let error as LogStoreError {
            #expect(try LogImage(of: directory.path) == image, "a refused log was changed, seed \(seed)")
            return error
        }
        throw Unrefused()
    }

    private struct Unrefused: Error {}

    /// Changes the tables of a closed log.
    private func changed(_ image: LogImage, _ statements: String...) throws -> LogImage {
        let place = try TemporaryDirectory()
        try image.write(to: place.path)
        let connection = try SQLiteConnection(path: place.file(LogStore.fileName), options: .durable)
        for statement in statements { try connection.execute(statement) }
        connection.close()
        return try LogImage(of: place.path)
    }

    private func damaging(_ image: LogImage, copiesOfMark copies: [Int]) -> LogImage {
        var image = image
        for copy in copies { image.flip((copy * 4096 + 40) * 8, of: .mark) }
        return image
    }

    @Test("a WAL that is longer than one call of the system writes is made durable, and copied, when it is opened")
    func longWAL() async throws {
        let place = try TemporaryDirectory()
        // A call's size is taken modulo 128 KiB, and 1 MiB is a piece of the WAL.
        let moment = try await LogSample.killed(seed: seed, directory: place.path, bytesMin: 0, walBytesMin: 1_200_000)
        let store = try open(moment.image)
        var copied = try LogImage(of: directory.path)
        let events = try await store.statistics().events
        store.close()
        copied[.wal] = nil
        let alone = try open(copied)
        #expect(try await alone.statistics().events == events, "seed \(seed)")
        #expect(await ChainVerifier(alone).verify().findings == [], "seed \(seed)")
        alone.close()
    }

    @Test("a whole log opens, after an orderly stop and after none, and its mark then names its last event")
    func whole() async throws {
        for moment in [try await killed(), try await closed()] {
            try open(moment.image).close()
            let last = try #require(moment.recorded.events.last)
            let mark = try MarkFile(directory: directory.path, vfs: nil).mark
            #expect(mark == MarkFile.Mark(position: last.position!, digest: last.cid.digest), "seed \(seed)")
        }
    }

    @Test("events without a mark are refused: the file is gone, or neither of its copies can be read (I6)")
    func noMark() async throws {
        for moment in [try await killed(), try await closed()] {
            var image = moment.image
            image[.mark] = nil
            #expect(try refusal(of: image) == .markMissing(file: "log.mark"))
            let error = try refusal(of: damaging(moment.image, copiesOfMark: [0, 1]))
            #expect(error == .markMissing(file: "log.mark"))
            #expect(error.description.contains("log.mark is missing or unreadable"))
        }
    }

    @Test("one damaged copy of the mark is no harm: the other is true, and the last event is marked again", arguments: [0, 1])
    func oneCopy(copy: Int) async throws {
        let moment = try await killed()
        let verdict = try await judged(damaging(moment.image, copiesOfMark: [copy]), moment.recorded)
        guard case .whole = verdict else {
            Issue.record("\(verdict), seed \(seed)")
            return
        }
        let last = try #require(moment.recorded.events.last)
        #expect(try MarkFile(directory: directory.path, vfs: nil).mark?.position == last.position)
    }

    private func judged(_ image: LogImage, _ recorded: RecordedLog) async throws -> LogVerdict {
        try image.write(to: directory.path)
        return await LogJudge().judge(directory.path, recorded: recorded)
    }

    @Test("a mark ahead of the log is refused, and both places are named (I6)")
    func markAhead() async throws {
        let place = try TemporaryDirectory()
        let moments = try await LogSample.moments(seed: seed, directory: place.path, rounds: 1)
        var image = moments[0].image
        image[.mark] = moments[1].image[.mark]
        let (before, after) = (UInt64(moments[0].recorded.events.count), UInt64(moments[1].recorded.events.count))
        let error = try refusal(of: image)
        #expect(error == .shorterThanMark(file: "log.sqlite", position: before, mark: after))
        #expect(error.description.contains("ends at position \(before), but position \(after) was acknowledged"))
    }

    @Test("another event at the mark than the one that was acknowledged there is refused (I1)")
    func otherAtMark() async throws {
        let place = try TemporaryDirectory()
        let moment = try await closed()
        try moment.image.write(to: place.path)
        let position = UInt64(moment.recorded.events.count)
        try MarkFile(directory: place.path, vfs: nil).write(MarkFile.Mark(position: position, digest: CID(hashing: []).digest))
        let error = try refusal(of: try LogImage(of: place.path))
        #expect(error == .otherThanMark(file: "log.sqlite", position: position))
        #expect(error.description.contains("another event at position \(position)"))
    }

    @Test("a log that is gone or empty is refused, with its WAL or without, as long as anything tells of it")
    func noLog() async throws {
        let moment = try await killed()
        let position = UInt64(moment.recorded.events.count)
        for bytes: [UInt8]? in [nil, []] {
            var image = moment.image
            image[.log] = bytes
            #expect(try refusal(of: image) == .shorterThanMark(file: "log.sqlite", position: 0, mark: position))
            image[.wal] = nil
            #expect(try refusal(of: image) == .shorterThanMark(file: "log.sqlite", position: 0, mark: position))
            image[.wal] = moment.image[.wal]
            image[.mark] = nil
            #expect(try refusal(of: image).description.contains("the file is missing or empty, yet its WAL is not"))
        }
    }

    @Test("a log whose making ended at the head of its WAL is made anew; a byte more may be of a commit, and is refused")
    func unmadeLog() async throws {
        let moment = try await killed()
        var image = moment.image
        (image[.log], image[.mark]) = ([], nil)
        image[.wal] = Array(try #require(moment.image[.wal]).prefix(LogImage.walHeaderByteCount + 1))
        #expect(try refusal(of: image).description.contains("yet its WAL is not"))
        image[.wal]?.removeLast()
        let store = try open(image)
        #expect(try await store.statistics().events == 0)
        _ = try await Group.enrolled(2, in: store)
        #expect(await ChainVerifier(store).verify().findings == [])
        store.close()
    }

    @Test("a WAL that is gone has taken acknowledged events with it, and that is refused (I6)")
    func noWAL() async throws {
        let moment = try await killed()
        var image = moment.image
        image[.wal] = nil
        guard case .shorterThanMark(_, _, let mark) = try refusal(of: image) else {
            Issue.record("not refused as shorter, seed \(seed)")
            return
        }
        #expect(mark == UInt64(moment.recorded.events.count))
    }

    @Test("a file of another program, of a later format, or of no format is refused, and what is unlike is said")
    func otherFormats() async throws {
        let image = try await closed().image
        let cases: [(statements: [String], message: String)] = [
            (["PRAGMA application_id = 1"], "not a log of this program"),
            (["PRAGMA user_version = 2"], "format 2, rows 1, where this version knows format 1, rows 1"),
            (["UPDATE meta SET value = 2 WHERE name = 'rowVersion'"], "format 1, rows 2, where this version knows format 1, rows 1"),
            (["DELETE FROM meta"], "rows 0"),
            (["ALTER TABLE events ADD COLUMN more INTEGER"], "the tables are not those of a log"),
            (["DROP INDEX events_of_actor"], "the tables are not those of a log"),
            (["CREATE TABLE more(a)"], "the tables are not those of a log"),
            (["CREATE TRIGGER more AFTER INSERT ON events BEGIN DELETE FROM bodies; END"], "the tables are not those of a log"),
            (["DROP TABLE requests", "CREATE TABLE requests(id INTEGER PRIMARY KEY, scope BLOB)"], "the tables are not those of a log"),
        ]
        for (statements, message) in cases {
            var altered = image
            for statement in statements { altered = try changed(altered, statement) }
            let error = try refusal(of: altered)
            #expect(error.description.contains(message) && error.description.contains("log.sqlite"), "\(statements): \(error)")
        }
        var noise = image
        noise[.log] = [UInt8](repeating: 0x5A, count: 8192)
        #expect(try refusal(of: noise).description.contains("file is not a database"))
    }

    @Test("a last event that is gone, or whose row was changed, is refused with its position (I13)")
    func tail() async throws {
        let moment = try await closed()
        let last = UInt64(moment.recorded.events.count)
        let cases: [(statement: String, position: UInt64)] = [
            ("DELETE FROM events WHERE position = \(last - 3)", last - 2),
            ("UPDATE events SET checksum = checksum + 1 WHERE position = \(last)", last),
            ("UPDATE events SET sequence = sequence + 100 WHERE position = \(last - 1)", last - 1),
            ("DELETE FROM bodies WHERE position = \(last)", last),
            ("UPDATE bodies SET body = x'00' || body WHERE position = \(last - 2)", last - 2),
        ]
        for (statement, expected) in cases {
            guard case .damaged("log.sqlite", let position, let message) = try refusal(of: try changed(moment.image, statement)) else {
                Issue.record("\(statement): refused otherwise")
                continue
            }
            #expect(position == expected && !message.isEmpty, "\(statement)")
        }
    }

    @Test("a wrong row of staged blocks removes nothing: its checksum or the table's own structure tells, and the log is refused")
    func staged() async throws {
        let moment = try await closed()
        let forged = try changed(moment.image, "INSERT INTO staged(first, last, checksum) VALUES (1, 4, 1)")
        #expect(try refusal(of: forged).description.contains("does not match its checksum"))

        // One bit of the table's page brings a row back that was deleted when its blocks were referred to.
        try moment.image.write(to: directory.path)
        let log = try SQLiteConnection(path: directory.file(LogStore.fileName), options: .durable)
        let root = try #require(try log.single("SELECT rootpage FROM sqlite_schema WHERE name = 'staged'") { Int($0.integer(0)) })
        log.close()
        var image = moment.image
        image.flip(((root - 1) * LogImage.pageByteCount + 4) * 8, of: .log)
        #expect(try refusal(of: image).description.contains("the table of staged blocks"), "seed \(seed)")
    }

    @Test("what was staged for an append that never came is removed, and a log without events needs no mark")
    func unfinished() async throws {
        let first = try changed(
            try await closed().image,
            "INSERT INTO blocks(id, actor, cid, slot, block) VALUES (1000, 1, x'71', NULL, x'00')",
            "INSERT INTO staged(first, last, checksum) VALUES (1000, 1000, \(LogSchema.stagedChecksum(1000...1000)))")
        try open(first).close()
        let connection = try SQLiteConnection(path: directory.file(LogStore.fileName), options: .durable)
        #expect(try connection.single("SELECT count(*) FROM blocks WHERE id = 1000") { $0.integer(0) } == 0)
        #expect(try connection.single("SELECT count(*) FROM staged") { $0.integer(0) } == 0)
        connection.close()

        let place = try TemporaryDirectory()
        try LogStore(directory: place.path) { _ in }.close()
        var empty = try LogImage(of: place.path)
        empty[.mark] = nil
        try open(empty).close()
        #expect(try MarkFile(directory: directory.path, vfs: nil).mark == .empty)
    }
}
