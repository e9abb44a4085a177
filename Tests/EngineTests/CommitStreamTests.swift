import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Simulation
import Testing

@Suite("Streams: an actor's commits")
struct CommitStreamTests {
    private func begin(seed: UInt64 = TestFiles.seed) async throws -> Trial {
        let it = try await Trial(.sqlite, seed: seed)
        try await it.deployment.enroll(it.alice, ["engineering", "general", "design"])
        return it
    }

    private func note(_ text: String, _ it: Trial, in boundaries: String...) -> Value {
        var record: ValueMap = ["text": .string(text)]
        if !boundaries.isEmpty {
            record["boundary"] = ["values": .array(boundaries.map { ["value": .string(it.deployment.boundary($0))] })]
        }
        return .map(record)
    }

    @Test("a commit is one message, in the form of the lexicon, with the records as they are stored")
    func form() async throws {
        let it = try await begin()
        let receipt = try await it.deployment.write(
            it.alice,
            [.create(it.deployment.post("one"), at: .tid(1)), .create(note("two", it, in: "general"), in: .note, at: .named("k"))])
        let news = try await it.follow(it.alice).read()
        #expect(news.count == 1 && news[0].type == "#commit")
        try it.engine.lexicons.validate(message: news[0].body, named: "#commit", of: NSID("zone.stratos.sync.subscribeRecords"))
        #expect(news[0].body["did"]?.stringValue == it.alice.description && news[0].body["rev"]?.stringValue == receipt.rev.description)
        #expect(UInt64(news[0].cursor ?? 0) == (try await it.log.statistics()).position)
        let operations = news[0].operations
        #expect(operations.map(\.path) == [path(.tid(1)).description, path(.named("k"), in: .note).description])
        for (operation, result) in zip(operations, receipt.results) {
            #expect(operation.action == "create" && operation.cid == result.cid)
            #expect(operation.record.map { CID(hashing: DAGCBOR.encode($0)) } == operation.cid)
        }
        // Canonical: what decodes encodes to the same bytes.
        var bytes = DAGCBOR.encode(["t": "#commit", "op": 1])
        bytes += DAGCBOR.encode(news[0].body)
        #expect(bytes == news[0].bytes)
    }

    @Test("nothing is told twice and nothing is left out, from any cursor, before and after the cut-over")
    func resumes() async throws {
        let it = try await begin()
        let follower = try await it.follow(it.alice, as: .user(it.alice))
        #expect(try await follower.read().isEmpty, "an enrollment is no commit that anybody is told of")
        for number in 0..<20 {
            try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"), at: .tid(number))])
            if number % 3 == 0 { try await follower.read() }
        }
        try await follower.read()
        #expect(follower.phase == .live)
        #expect(follower.messages.told == (0..<20).map { "create \(RecordKey.tid($0))" })
        let cursors = follower.messages.compactMap(\.cursor)
        #expect(cursors == cursors.sorted() && Set(cursors).count == 20)
        for (index, cursor) in cursors.enumerated() {
            let rest = try await it.follow(it.alice, after: UInt64(cursor), as: .user(it.alice)).read()
            #expect(rest == Array(follower.messages[(index + 1)...]), "after \(index)")
            let all = try await it.follow(it.alice, after: UInt64(cursor) - 1, as: .user(it.alice)).read()
            #expect(all == Array(follower.messages[index...]), "a cursor is exclusive, and may stand anywhere")
        }
        #expect(try await it.follow(it.alice, after: 0).read() == follower.messages, "0 is everything, and never too old")
    }

    @Test("an AppView is told of records with a boundary; the owner of all; nobody else of any (I12)")
    func audiences() async throws {
        let it = try await begin()
        try await it.deployment.enroll(it.bob, ["engineering"])
        try await it.deployment.write(
            it.alice,
            [.create(note("open", it, in: "general"), in: .note, at: .named("a")), .create(note("own", it), in: .note, at: .named("b"))])
        try await it.deployment.write(it.alice, [.create(note("own too", it), in: .note, at: .named("c"))])
        #expect(try await it.follow(it.alice).read().told == ["create a"], "a commit of which nothing is told makes no message")
        #expect(try await it.follow(it.alice, as: .user(it.alice)).read().told == ["create a", "create b", "create c"])
        for stranger in [Caller.anonymous, .user(it.bob), .user(it.carol), .administrator(name: "ines")] {
            for owner in [it.alice, it.carol] where stranger != .user(owner) {
                let refusal = try await streamRefusal { try await it.follow(owner, as: stranger) }
                #expect(refusal == .authenticationRequired("Service auth or owner authentication required"), "\(stranger)")
            }
            #expect(
                try await streamRefusal { try await it.follow(nil, as: stranger) }
                    == .authenticationRequired("Service auth required for service-level subscription"))
        }
    }

    @Test("a record that comes into sight is new, one that goes out of sight is deleted, and a deleted one is only told to be gone")
    func inAndOutOfSight() async throws {
        let it = try await begin()
        func put(_ key: String, _ record: Value) async throws {
            try await it.deployment.write(it.alice, [.put(record, in: .note, at: .named(key))])
        }
        let live = try await it.follow(it.alice)
        let filtered = try await it.follow(it.alice, domain: "design")
        var seen: [String] = []
        func expectTold(_ told: [String], _ inDesign: [String] = []) async throws {
            #expect(try await live.read().told == told)
            #expect(try await filtered.read().told == inDesign)
            seen += told
        }
        try await expectTold([])
        try await put("a", note("hidden", it))
        try await expectTold([])
        try await put("a", note("seen", it, in: "general"))
        try await expectTold(["create a"])
        try await put("a", note("seen again", it, in: "general", "design"))
        try await expectTold(["update a"], ["create a"])
        try await put("a", note("elsewhere", it, in: "general"))
        try await expectTold(["update a"], ["delete a"])
        try await put("a", note("hidden again", it))
        try await expectTold(["delete a"])
        try await it.deployment.write(it.alice, [.delete(in: .note, at: .named("a"))])
        try await expectTold([], [])
        try await put("b", note("other", it, in: "design"))
        try await expectTold(["create b"], ["create b"])
        try await it.deployment.write(it.alice, [.delete(in: .note, at: .named("b"))])
        try await expectTold(["delete b"], ["delete b"])
        // From the beginning, all of it is judged by what stands now: nothing does.
        #expect(try await it.follow(it.alice).read().told == ["delete a", "delete b"])
        #expect(try await it.follow(it.alice, as: .user(it.alice)).read().told == ["delete a", "delete b"])
    }

    @Test("an older version is told while it is younger than the retention, and one of a record that was deleted never")
    func retention() async throws {
        let it = try await begin()
        try await it.deployment.write(it.alice, [.create(note("1", it, in: "general"), in: .note, at: .named("a"))])
        try await it.deployment.write(it.alice, [.create(note("1", it, in: "general"), in: .note, at: .named("b"))])
        it.clock.advance(seconds: 86_400 * 30 - 60)
        try await it.deployment.write(it.alice, [.update(note("2", it, in: "general"), in: .note, at: .named("a"))])
        try await it.deployment.write(it.alice, [.delete(in: .note, at: .named("b"))])
        try await it.deployment.write(it.alice, [.create(note("3", it, in: "general"), in: .note, at: .named("b"))])
        let streams = try it.streams(retentionDays: 30)
        #expect(try await it.follow(it.alice, over: streams).read().told == ["create a", "update a", "delete b", "create b"])
        it.clock.advance(seconds: 120)
        #expect(try await it.follow(it.alice, over: streams).read().told == ["update a", "delete b", "create b"])
        try await it.expectSound()
    }

    @Test("a version that was shared is not told once the record is its owner's alone")
    func hiddenSince() async throws {
        let it = try await begin()
        try await it.deployment.write(it.alice, [.create(note("1", it, in: "general"), in: .note, at: .named("a"))])
        try await it.deployment.write(it.alice, [.update(note("2", it), in: .note, at: .named("a"))])
        #expect(try await it.follow(it.alice).read().told == ["delete a"])
        #expect(try await it.follow(it.alice, as: .user(it.alice)).read().told == ["create a", "update a"])
    }

    @Test("an actor who leaves is not told of any more, and is not found; who comes back is told of from what stands then")
    func leaving() async throws {
        let it = try await begin()
        try await it.deployment.write(it.alice, [.create(note("1", it, in: "general"), in: .note, at: .named("a"))])
        let follower = try await it.follow(it.alice)
        #expect(try await follower.read().told == ["create a"])
        let late = try await it.follow(it.alice)
        try await it.engine.leave(it.alice, content: .erase, reason: "", by: it.deployment.agent(it.alice))
        #expect(try await streamRefusal { try await follower.read() } == .notFound)
        #expect(try await streamRefusal { try await late.read() } == .notFound, "who had begun is told nothing either")
        for caller in [Trial.appView, .user(it.alice)] {
            #expect(try await streamRefusal { try await it.follow(it.alice, as: caller) } == .notFound)
            #expect(try await streamRefusal { try await it.follow(it.carol, as: Trial.appView) } == .notFound, "as one who never was here")
        }
    }

    @Test("a commit of more than 200 operations goes out in parts, under the cursor before it in all but the last")
    func parts() async throws {
        let it = try await begin()
        let records = (0..<450).map { (path(.tid($0)), it.deployment.post("post \($0)")) }
        _ = try await it.importing(records, into: it.alice)
        let news = try await it.follow(it.alice).read()
        #expect(news.map { $0.operations.count } == [200, 200, 50])
        let cursor = Int64((try await it.log.statistics()).position)
        #expect(news.map(\.cursor) == [cursor - 1, cursor - 1, cursor])
        #expect(Set(news.told).count == 450)
        #expect(try await it.follow(it.alice, after: UInt64(cursor) - 1).read() == news, "whoever lost the last part gets all again")
        #expect(try await it.follow(it.alice, after: UInt64(cursor)).read().isEmpty)
        // What has gone since is not told, and the last part of what is left has the cursor.
        try await it.deployment.write(it.alice, (100..<300).map { .delete(at: .tid($0)) })
        let rest = try await it.follow(it.alice).read()
        #expect(rest.prefix(2).map { $0.operations.count } == [200, 50] && rest[1].cursor == cursor)
        #expect(rest[2].operations.allSatisfy { $0.action == "delete" } && rest[2].operations.count == 200)
    }

    @Test("a message has at most 2 MiB of records, unless one alone has more")
    func large() async throws {
        let it = try await begin()
        let text = String(repeating: "x", count: 900_000)
        let records = (0..<5).map { number in
            (path(.named("k\(number)"), in: .note), it.deployment.post("\(number)\(text)").with("$type", .string(NSID.note.description)))
        }
        _ = try await it.importing(records, into: it.alice)
        let news = try await it.follow(it.alice).read()
        #expect(news.map { $0.operations.count } == [2, 2, 1])
        #expect(news.allSatisfy { $0.bytes.count <= 2 << 20 })
    }

    @Test("a cursor of the future is refused; one from before the retention is told so, and then all that is still served")
    func cursors() async throws {
        let it = try await begin()
        for number in 0..<3 { try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"), at: .tid(number))]) }
        let head = (try await it.log.statistics()).position
        #expect(try await it.follow(it.alice, after: head).read().isEmpty)
        #expect(try await streamRefusal { try await it.follow(it.alice, after: head + 1) } == .futureCursor)
        #expect(try await streamRefusal { try await it.follow(nil, after: head + 1) } == .futureCursor)
        it.clock.advance(seconds: 86_400 * 31)
        let late = try await it.follow(it.alice, after: head - 1).read()
        #expect(late.map(\.type) == ["#info", "#commit"])
        #expect(late[0].body["name"]?.stringValue == "OutdatedCursor")
        #expect(try await it.follow(it.alice, after: 0).read().map(\.type) == ["#commit", "#commit", "#commit"])
        #expect(try await it.follow(it.alice, after: head).read().isEmpty, "nothing was missed, so nothing is said")
    }

    @Test("those who follow live and may see the same are given the same bytes, judged anew after each append")
    func shared() async throws {
        let it = try await begin()
        let streams = try it.streams()
        let followers = [
            try await it.follow(it.alice, over: streams), try await it.follow(it.alice, over: streams),
            try await it.follow(it.alice, as: .user(it.alice), over: streams),
            try await it.follow(it.alice, domain: "design", over: streams),
        ]
        for follower in followers { try await follower.read() }
        try await it.deployment.write(it.alice, [.create(note("1", it, in: "general"), in: .note, at: .named("a"))])
        #expect(try await followers[0].read().told == ["create a"])
        try await it.deployment.write(it.alice, [.delete(in: .note, at: .named("a"))])
        #expect(try await followers[1].read().told == ["delete a"], "not what was made for the first one before the record was gone")
        #expect(try await followers[0].read().told == ["delete a"])
        #expect(try await followers[2].read().told == ["delete a"])
        #expect(try await followers[3].read().isEmpty)
    }

    @Test("the stream after a rebuild is the stream before, byte for byte (I8)")
    func rebuilt() async throws {
        let it = try await begin()
        var random = SeededGenerator(seed: TestFiles.seed)
        for number in 0..<60 {
            let key = RecordKey.named("k\(Int.random(in: 0..<12, using: &random))")
            let record = note("\(number)", it, in: ["general", "design"].randomElement(using: &random)!)
            let write: RecordWrite =
                Int.random(in: 0..<4, using: &random) == 0 ? .delete(in: .note, at: key) : .put(record, in: .note, at: key)
            try await it.deployment.write(it.alice, [write])
        }
        let before = try await it.follow(it.alice).read()
        let filtered = try await it.follow(it.alice, domain: "design").read()
        #expect(before.count > 20, "seed \(TestFiles.seed)")
        _ = try await it.engine.dropProjections()
        try await it.restart()
        #expect(try await it.follow(it.alice).read() == before, "seed \(TestFiles.seed)")
        #expect(try await it.follow(it.alice, domain: "design").read() == filtered, "seed \(TestFiles.seed)")
    }

    @Test("while the projections are made anew no stream goes on")
    func whileRebuilding() async throws {
        let it = try await begin()
        let follower = try await it.follow(it.alice)
        try await it.engine.gate.closed {
            let refusals = [
                try await streamRefusal { try await follower.read() }, try await streamRefusal { try await it.follow(it.alice) },
            ]
            #expect(refusals == [.unavailable, .unavailable])
        }
    }

    @Test("whoever waits is woken by an append, by many at once, and by a stop")
    func woken() async throws {
        let it = try await begin()
        let streams = try it.streams()
        let subscription = try await streams.subscribe(to: .commits(of: it.alice), after: nil, domain: nil, as: Trial.appView)
        let stop = subscription.stop
        let (deployment, alice) = (it.deployment, it.alice)
        async let writing: Void = {
            for number in 0..<50 {
                try await deployment.write(alice, [.create(deployment.post("\(number)"), at: .tid(number))])
                if number % 7 == 0 { try await Task.sleep(for: .milliseconds(1)) }
            }
        }()
        var messages: [SeenMessage] = []
        while messages.count < 50, let batch = try await subscription.next() {
            messages += try batch.content.frames.map(SeenMessage.init)
        }
        try await writing
        #expect(messages.told == (0..<50).map { "create \(RecordKey.tid($0))" })
        async let stopping: Void = {
            try await Task.sleep(for: .milliseconds(5))
            stop.stop()
        }()
        #expect(try await subscription.next() == nil)
        try await stopping
    }
}
