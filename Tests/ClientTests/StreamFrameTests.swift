@testable import Client
import ATProto
import Simulation
import Testing

@Suite("Frames of a stream")
struct StreamFrameTests {
    private let limits = StreamLimits()

    private func decode(_ bytes: [UInt8]) throws -> StreamFrame { try StreamFrame.decode(bytes, limits: limits) }

    private func commit(_ body: Value, type: String = "#commit") throws -> StreamCommit {
        guard case .message(.commit(let commit)) = try decode(StreamSample.frame(type, body)) else { throw FrameFault.header }
        return commit
    }

    @Test("a commit in the lexicon's form is read whole, its header the published bytes")
    func lexiconForm() throws {
        let bytes = StreamSample.frame("#commit", StreamSample.commit(17, rev: 3, [StreamSample.create("a"), StreamSample.delete("b")]))
        let header: [UInt8] = [0xA2, 0x61, 0x74, 0x67] + Array("#commit".utf8) + [0x62, 0x6F, 0x70, 0x01]
        #expect(bytes.starts(with: header))
        guard case .message(.commit(let commit)) = try decode(bytes) else {
            Issue.record("no commit")
            return
        }
        #expect(commit.sequence == 17 && commit.account == StreamSample.account && commit.rev == StreamSample.rev(3))
        #expect(commit.operations.map(\.path) == ["zone.stratos.feed.post/a", "zone.stratos.feed.post/b"])
        let record = StreamSample.record("text of a")
        #expect(commit.operations[0].action == .create(CID(hashing: DAGCBOR.encode(record)), record: record))
        #expect(commit.operations[1].action == .delete)
    }

    @Test("the reference's form says the same: CID as text, a slash before the path, a full type, members of its own")
    func referenceForm() throws {
        let own = try commit(StreamSample.commit(17, rev: 3, [StreamSample.create("a")]))
        guard case .map(var operation) = StreamSample.create("a"), case .map(var body) = StreamSample.commit(17, rev: 3, []) else { return }
        operation["cid"] = .string(operation["cid"]!.linkValue!.description)
        operation["path"] = "/zone.stratos.feed.post/a"
        operation["trace"] = ["requestId": "createRecord-1", "queuedAtMs": 1_767_225_600_000]
        operation["commit"] = "bafyreib"
        body["ops"] = [.map(operation)]
        body["$type"] = "zone.stratos.sync.subscribeRecords#commit"
        #expect(try commit(.map(body), type: "zone.stratos.sync.subscribeRecords#commit") == own)
    }

    @Test("memberships, notices and errors are read; what did not exist yet is passed over")
    func otherFrames() throws {
        guard case .message(.enrollment(let enrollment)) = try decode(StreamSample.enrollment(5, "update")) else {
            Issue.record("no enrollment")
            return
        }
        #expect(enrollment.sequence == 5 && enrollment.action == .update)
        #expect(enrollment.boundaries == ["did:web:stratos.example.com/general"])
        let bare: Value = ["did": .string(StreamSample.account.description), "action": "unenroll", "time": .string(StreamSample.time)]
        guard case .message(.enrollment(let reference)) = try decode(StreamSample.frame("#enrollment", bare)) else {
            Issue.record("the reference's enrollments have no sequence")
            return
        }
        #expect(reference.sequence == nil && reference.boundaries == nil && reference.action == .unenroll)
        let info = StreamSample.frame("#info", ["name": "OutdatedCursor", "message": "old"])
        #expect(try decode(info) == .message(.notice(StreamNotice(name: "OutdatedCursor", message: "old"))))
        #expect(try decode(StreamSample.error("FutureCursor", "soon")) == .error(name: "FutureCursor", message: "soon"))
        #expect(try decode(StreamSample.frame("#later", ["anything": 1])) == .unknown)
        #expect(try decode(DAGCBOR.encode(["op": 2, "t": "#commit"]) + DAGCBOR.encode([:])) == .unknown)
    }

    @Test(
        "a commit without one of its fields, or with another type in it, is refused and the field named",
        arguments: ["seq", "did", "time", "rev", "ops"])
    func fields(name: String) throws {
        guard case .map(let whole) = StreamSample.commit(1, rev: 1, [StreamSample.create("a")]) else { return }
        for value in [nil, .null, .bool(true), .bytes([1]), .integer(-1), "", "\u{0}"] as [Value?] {
            var body = whole
            body[name] = value
            #expect(throws: FrameFault.field(name), "\(name): \(String(describing: value))") { try commit(.map(body)) }
        }
    }

    @Test(
        "an operation without one of its fields, or with another type in it, is refused and the field named",
        arguments: ["action", "path", "cid", "record"])
    func operationFields(name: String) throws {
        guard case .map(let whole) = StreamSample.create("a") else { return }
        for value in [nil, .null, .bool(true), .bytes([1]), .integer(-1), "", "\u{0}", "a/../b"] as [Value?] {
            var operation = whole
            operation[name] = value
            #expect(throws: FrameFault.field(name), "\(name): \(String(describing: value))") {
                try commit(StreamSample.commit(1, rev: 1, [.map(operation)]))
            }
        }
    }

    @Test("a record that does not hash to its CID is refused, and so is one path twice")
    func integrity() throws {
        guard case .map(var operation) = StreamSample.create("a") else { return }
        operation["record"] = StreamSample.record("another text")
        #expect(throws: FrameFault.recordMismatch(path: "zone.stratos.feed.post/a")) {
            try commit(StreamSample.commit(1, rev: 1, [.map(operation)]))
        }
        #expect(throws: FrameFault.repeatedPath("zone.stratos.feed.post/a")) {
            try commit(StreamSample.commit(1, rev: 1, [StreamSample.create("a"), StreamSample.delete("a")]))
        }
    }

    @Test("two hundred operations are a message, one more is none")
    func operationsMax() throws {
        let operations = (0...200).map { StreamSample.delete("k\($0)") }
        #expect(try commit(StreamSample.commit(1, rev: 1, Array(operations.dropLast()))).operations.count == 200)
        #expect(throws: FrameFault.tooManyOperations(max: 200)) { try commit(StreamSample.commit(1, rev: 1, operations)) }
    }

    @Test("a cursor has 53 bits")
    func cursorMax() throws {
        #expect(try commit(StreamSample.commit(1 << 53 - 1, rev: 1, [])).sequence == 1 << 53 - 1)
        #expect(throws: FrameFault.field("seq")) { try commit(StreamSample.commit(1 << 53, rev: 1, [])) }
    }

    @Test("a record may be as deep as records are, and no deeper")
    func depth() throws {
        func deep(_ depth: Int) -> Value { (1..<depth).reduce([:] as Value) { inner, _ in ["a": inner] } }
        func body(_ record: Value) -> Value {
            StreamSample.commit(
                1, rev: 1,
                [["action": "create", "path": "a.b.c/d", "cid": .link(CID(hashing: DAGCBOR.encode(record))), "record": record]])
        }
        #expect(try commit(body(deep(32))).operations.count == 1)
        #expect(throws: FrameFault.self) { try commit(body(deep(33))) }
    }

    @Test("a message of exactly the limit is read, one byte more is not")
    func bytesMax() throws {
        let body = StreamSample.commit(1, rev: 1, [StreamSample.create("a")])
        let frame = StreamSample.frame("#commit", body)
        let count = DAGCBOR.encode(body).count
        #expect(throws: Never.self) { try StreamFrame.decode(frame, limits: StreamLimits(messageBytesMax: count)) }
        #expect(throws: FrameFault.self) { try StreamFrame.decode(frame, limits: StreamLimits(messageBytesMax: count - 1)) }
    }

    @Test("whatever is cut short is refused, and so is what has bytes behind it")
    func cut() throws {
        let frame = StreamSample.frame("#commit", StreamSample.commit(1, rev: 1, [StreamSample.create("a"), StreamSample.delete("b")]))
        for count in 0..<frame.count { #expect(throws: FrameFault.self, "\(count) bytes") { try decode(Array(frame[..<count])) } }
        #expect(throws: FrameFault.self) { try decode(frame + [0]) }
    }

    @Test("with any byte changed a record is refused or is another frame, never the same")
    func damage() throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        let frame = StreamSample.frame("#commit", StreamSample.commit(9, rev: 2, [StreamSample.create("a"), StreamSample.delete("b")]))
        let whole = try decode(frame)
        for _ in 0..<4000 {
            var bytes = frame
            let index = Int.random(in: 0..<bytes.count, using: &generator)
            bytes[index] ^= UInt8.random(in: 1...255, using: &generator)
            do { #expect(try decode(bytes) != whole, "seed \(seed), byte \(index)") } catch is FrameFault {}
        }
    }
}
