import ATProto
import Commands
import Engine
import EventLog
import Simulation
import Testing

@Suite("Writing records")
struct WriteTests {
    /// A member with one post at `tid(1)`.
    private func begin(_ backend: Backend = .memory) async throws -> (Trial, WriteReceipt) {
        let it = try await Trial(backend)
        try await it.deployment.enroll(it.alice)
        return (it, try await it.deployment.write(it.alice, [.create(it.deployment.post("one"), at: .tid(1))]))
    }

    // MARK: What a write does

    @Test("a create makes one event and one commit, and its answer is what the log holds", arguments: Backend.allCases)
    func create(backend: Backend) async throws {
        let (it, receipt) = try await begin(backend)
        let state = try await it.state(of: it.alice)
        #expect(state.events.map(\.kind) == [.accountEnroll, .repoWrite])
        let commit = try #require(state.commits.last)
        #expect(receipt.commit == commit.commit(of: it.alice).cid && receipt.rev == commit.rev)
        #expect(receipt.isNew && !receipt.isRepeated)
        let cid = try #require(receipt.results.first?.cid)
        #expect(receipt.results == [.init(path: path(.tid(1)), cid: cid)])
        #expect(try await it.records(of: it.alice) == [path(.tid(1)): cid])
        #expect(try await it.log.block(cid, of: it.alice) == DAGCBOR.encode(it.deployment.post("one")))
        try await it.expectSound()
    }

    @Test("a create does not overwrite, an update does not create, a put does either")
    func actions() async throws {
        let (it, _) = try await begin()
        let two = it.deployment.post("two")
        let head = try await it.log.head(of: it.alice)
        let write = { (write: RecordWrite) in try await refusal { try await it.deployment.write(it.alice, [write]) } }
        #expect(try await write(.create(two, at: .tid(1))) == .invalidRequest("a record stands at \(path(.tid(1))) already"))
        #expect(
            try await write(.create(it.deployment.post("one"), at: .tid(1)))
                == .invalidRequest("a record stands at \(path(.tid(1))) already"))
        #expect(try await write(.update(two, at: .tid(2))) == .recordNotFound)
        #expect(try await it.log.head(of: it.alice) == head)
        #expect(try await write(.update(two, at: .tid(1))) == nil)
        #expect(try await write(.put(two, at: .tid(2))) == nil)
        #expect(try await write(.put(it.deployment.post("three"), at: .tid(2))) == nil)
        let operations = try await it.state(of: it.alice).operations
        let isKind = operations.map { operation in
            switch operation.change {
            case .create: "create"
            case .update: "update"
            case .delete: "delete"
            }
        }
        #expect(isKind == ["create", "update", "create", "update"])
        #expect(operations[1].previous?.cid == operations[0].written?.cid)
        try await it.expectSound()
    }

    @Test("what stands as it is asked for makes no commit and answers with the one that stands")
    func unchanged() async throws {
        let (it, first) = try await begin()
        let head = try await it.log.head(of: it.alice)
        let cid = first.results[0].cid
        for write in [RecordWrite.put(it.deployment.post("one"), at: .tid(1)), .update(it.deployment.post("one"), at: .tid(1))] {
            let receipt = try await it.deployment.write(it.alice, [write])
            #expect(
                receipt == WriteReceipt(results: [.init(path: path(.tid(1)), cid: cid)], commit: first.commit, rev: first.rev, isNew: false)
            )
        }
        let deleted = try await it.deployment.write(it.alice, [.delete(at: .tid(9))])
        #expect(
            deleted == WriteReceipt(results: [.init(path: path(.tid(9)), cid: nil)], commit: first.commit, rev: first.rev, isNew: false))
        #expect(try await it.log.head(of: it.alice) == head)
        // Beside something that does change, each write has its result.
        let mixed = try await it.deployment.write(
            it.alice, [.put(it.deployment.post("one"), at: .tid(1)), .delete(at: .tid(9)), .put(it.deployment.post("two"), at: .tid(2))])
        #expect(mixed.isNew && mixed.results.map(\.cid) == [cid, nil, CID(hashing: DAGCBOR.encode(it.deployment.post("two")))])
        #expect(try await it.state(of: it.alice).operations.count == 2)
    }

    @Test("deleting what is not there comes to nothing alone, and refuses a batch as a whole")
    func deletes() async throws {
        let (it, _) = try await begin()
        let head = try await it.log.head(of: it.alice)
        let batch = [RecordWrite.create(it.deployment.post("two"), at: .tid(2)), .delete(at: .tid(9))]
        let found = try await refusal { try await it.deployment.write(it.alice, batch, refusesAbsentDelete: true) }
        #expect(found == .recordNotFound)
        #expect(try await it.log.head(of: it.alice) == head)
        let receipt = try await it.deployment.write(it.alice, [.delete(at: .tid(1))])
        #expect(receipt.isNew && receipt.results == [.init(path: path(.tid(1)), cid: nil)])
        #expect(try await it.records(of: it.alice).isEmpty)
        // A collection of somebody else's has nothing to delete.
        let foreign = try await refusal {
            try await it.deployment.write(it.alice, [.delete(in: .named("app.bsky.feed.post"), at: .tid(1))])
        }
        #expect(foreign == .invalidCollection)
        try await it.expectSound()
    }

    @Test("a batch is one event and one commit, all of it or nothing")
    func batch() async throws {
        let (it, _) = try await begin()
        let writes: [RecordWrite] = [
            .create(it.deployment.post("two"), at: .tid(2)), .update(it.deployment.post("uno"), at: .tid(1)),
            .create(["text": "a note"], in: .note), .put(it.deployment.post("three"), at: .tid(3)),
        ]
        let receipt = try await it.deployment.write(it.alice, writes, refusesAbsentDelete: true)
        let state = try await it.state(of: it.alice)
        #expect(state.events.count == 3 && state.operations.count == 5)
        #expect(receipt.results.map(\.path.collection) == [.post, .post, .note, .post])
        let head = try await it.log.head(of: it.alice)
        let bad = try await refusal {
            try await it.deployment.write(
                it.alice,
                writes.map { $0.recordKey == nil ? $0 : .delete(at: $0.recordKey!) } + [.update(it.deployment.post("x"), at: .tid(9))])
        }
        #expect(bad == .recordNotFound)
        #expect(try await it.log.head(of: it.alice) == head)
        #expect(try await it.records(of: it.alice).count == 4)
        try await it.expectSound()
    }

    @Test("a path is written once in a commit")
    func pathTwice() async throws {
        let (it, _) = try await begin()
        let pairs: [[RecordWrite]] = [
            [.create(it.deployment.post("a"), at: .tid(2)), .create(it.deployment.post("b"), at: .tid(2))],
            [.delete(at: .tid(1)), .create(it.deployment.post("b"), at: .tid(1))],
            [.put(it.deployment.post("one"), at: .tid(1)), .delete(at: .tid(1))],
            [.delete(at: .tid(9)), .delete(at: .tid(9))],
        ]
        for pair in pairs {
            let found = try await refusal { try await it.deployment.write(it.alice, pair) }
            #expect(found == .invalidRequest("\(path(try #require(pair[1].recordKey))) is written twice in one commit"))
        }
        // The same key in two collections is two paths.
        try await it.deployment.write(
            it.alice, [.create(it.deployment.post("a"), at: .tid(2)), .create(["text": "a"], in: .note, at: .tid(2))])
    }

    @Test("a write without a key is a create, and gets a fresh TID")
    func freshKeys() async throws {
        let (it, _) = try await begin()
        for action in [RecordWrite.Action.update, .put, .delete] {
            let write = RecordWrite(action: action, collection: .post, recordKey: nil, record: it.deployment.post("x"))
            let found = try await refusal { try await it.deployment.write(it.alice, [write]) }
            #expect(found == .invalidRequest("rkey is required for all but a create"))
        }
        let posts = (0..<200).map { RecordWrite.create(it.deployment.post("\($0)")) }
        let first = try await it.deployment.write(it.alice, posts)
        let second = try await it.deployment.write(it.alice, posts)
        let keys = try (first.results + second.results).map { try TID($0.path.recordKey.description) }
        #expect(keys == keys.sorted() && Set(keys).count == 400, "each once, in the order of the writes")
        #expect(keys.allSatisfy { $0 < second.rev }, "a key is never above the rev that brings it, so the next ones are above it (I10)")
    }

    @Test("fresh keys do not meet what stands, nor what the batch names, though the clock stands still")
    func freshKeysAreFree() async throws {
        let (it, first) = try await begin()
        it.clock.setTick(0)
        it.clock.set(Int64(first.rev.microseconds) + 50)
        // What a client has named a moment ahead of the clock.
        let ahead = try (0..<6).map { number in
            try RecordKey(TID(microseconds: Int64(first.rev.microseconds) + 50 + number, clockID: first.rev.clockID).description)
        }
        try await it.deployment.write(
            it.alice, [.create(it.deployment.post("x"), at: ahead[0]), .create(it.deployment.post("y"), at: ahead[4])])
        let receipt = try await it.deployment.write(
            it.alice, [.create(it.deployment.post("a")), .create(it.deployment.post("b")), .create(it.deployment.post("c"), at: ahead[2])])
        #expect(receipt.results.map(\.path.recordKey) == [ahead[1], ahead[3], ahead[2]])
        #expect(try await it.records(of: it.alice).count == 6)
    }

    @Test("somebody who is not enrolled writes nothing, and leaves no files")
    func strangers() async throws {
        let (it, _) = try await begin()
        for did in [
            it.bob,
            try DID(
                "did:web:" + String(repeating: "a", count: 60) + String(repeating: ".b" + String(repeating: "c", count: 58), count: 30)),
        ] {
            for write in [RecordWrite.create(it.deployment.post("x")), .delete(at: .tid(1))] {
                #expect(try await refusal { try await it.deployment.write(did, [write]) } == .notEnrolled)
            }
            let foreign = try await refusal { try await it.deployment.write(did, [.create([:], in: .named("app.bsky.feed.post"))]) }
            #expect(foreign == .invalidCollection, "said first, as on the wire")
        }
        #expect(try await it.deployment.databases.actors() == [it.alice])
    }

    // MARK: Bounds

    @Test("a commit has 1 to 200 writes")
    func writeCounts() async throws {
        let (it, _) = try await begin()
        let refused = Refusal.invalidRequest("1 to 200 writes make a commit")
        #expect(try await refusal { try await it.deployment.write(it.alice, []) } == refused)
        let posts = (0..<201).map { RecordWrite.create(it.deployment.post("\($0)"), at: .tid(100 + $0)) }
        #expect(try await refusal { try await it.deployment.write(it.alice, posts) } == refused)
        try await it.deployment.write(it.alice, Array(posts.prefix(200)))
        #expect(try await it.records(of: it.alice).count == 201)
    }

    /// A note of exactly so many bytes of DAG-CBOR.
    private func note(bytes count: Int) -> Value {
        let empty =
            DAGCBOR.encode(["$type": "zone.stratos.test.note", "text": .string(String(repeating: "x", count: 70_000))]).count - 70_000
        let note: Value = ["$type": "zone.stratos.test.note", "text": .string(String(repeating: "x", count: count - empty))]
        precondition(DAGCBOR.encode(note).count == count)
        return note
    }

    @Test("a record has at most 1,000,000 bytes, and the records of a commit 2,000,000")
    func sizes() async throws {
        let (it, _) = try await begin()
        let write = { (sizes: [Int]) in
            try await refusal { try await it.deployment.write(it.alice, sizes.map { .create(note(bytes: $0), in: .note) }) }
        }
        #expect(try await write([1_000_001]) == .invalidRequest("a record has at most 1000000 bytes, this one has 1000001"))
        #expect(try await write([1_000_000]) == nil)
        #expect(
            try await write([1_000_000, 900_000, 100_001])
                == .invalidRequest("the records of one commit have at most 2000000 bytes, these have 2000001"))
        #expect(try await write([1_000_000, 900_000, 100_000]) == nil)
    }

    @Test("what is to be said of the writes fits into an event")
    func bodySize() async throws {
        let (it, _) = try await begin()
        // 160 records with 160 blobs each: 25,600 links of 41 bytes and more.
        let notes = { (blobs: Int) in
            (0..<160).map { record in
                let items = (0..<blobs).map { number -> Value in
                    let cid = CID(hashing: withUnsafeBytes(of: UInt64(record * 1000 + number)) { Array($0) }, codec: .raw)
                    return ["$type": "blob", "ref": .link(cid)]
                }
                return RecordWrite.create(["blobs": .array(items)], in: .note)
            }
        }
        guard case .invalidRequest(let text) = try await refusal({ try await it.deployment.write(it.alice, notes(160)) }) else {
            Issue.record("a body past its bound was taken")
            return
        }
        #expect(text.hasPrefix("what is to be said of these writes takes ") && text.hasSuffix(" bytes, and an event holds 1048576"))
        try await it.deployment.write(it.alice, notes(100))
        // One record has at most 1,000 blobs.
        let many = { (count: Int) -> RecordWrite in
            let items = (0..<count).map { number -> Value in
                ["$type": "blob", "ref": .link(CID(hashing: withUnsafeBytes(of: UInt64(number)) { Array($0) }, codec: .raw))]
            }
            return .create(["blobs": .array(items)], in: .note)
        }
        try await it.deployment.write(it.alice, [many(1000)])
        #expect(
            try await refusal { try await it.deployment.write(it.alice, [many(1001)]) }
                == .invalidRecord("a record refers to at most 1000 blobs"))
        try await it.expectSound()
    }

    @Test("a record that could not be read again is not kept")
    func nesting() async throws {
        let (it, _) = try await begin()
        let nested = { (depth: Int) in (1..<depth).reduce(Value.array([])) { inner, _ in .array([inner]) } }
        // The record itself is the first container.
        try await it.deployment.write(it.alice, [.create(["deep": nested(31)], in: .note)])
        let found = try await refusal { try await it.deployment.write(it.alice, [.create(["deep": nested(32)], in: .note)]) }
        #expect(found?.name == "InvalidRequest")
        let page = try await it.engine.records(in: .note, of: it.alice, after: nil, reversed: false, limit: 10, to: .user(it.alice))
        #expect(page?.content.records.count == 1)
    }

    @Test("record keys that were chosen for their hashes do not make a tree that nobody reads")
    func minedKeys() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        // Keys of layer 0 in a row: one node would hold them all, and 1,024 is the most.
        var keys: [RecordKey] = []
        var number = 0
        while keys.count < 1025 {
            let key = RecordKey.named("k\(1_000_000 + number)")
            number += 1
            if MSTKey(collection: .note, recordKey: key).layer == 0 { keys.append(key) }
        }
        for start in stride(from: 0, to: 1000, by: 200) {
            try await it.deployment.write(it.alice, keys[start..<start + 200].map { .create(["n": 1], in: .note, at: $0) })
        }
        try await it.deployment.write(it.alice, keys[1000..<1024].map { .create(["n": 1], in: .note, at: $0) })
        let found = try await refusal { try await it.deployment.write(it.alice, [.create(["n": 1], in: .note, at: keys[1024])]) }
        guard case .invalidRequest(let text) = found else {
            Issue.record("\(String(describing: found))")
            return
        }
        #expect(text.contains("a node of the repo's tree would hold 1025 records, and 1024 is the most"))
        try await it.restart()
        #expect(try await it.records(of: it.alice).count == 1024)
    }

    // MARK: Swaps

    @Test("swapCommit names the commit that the repo stands at, and nothing is written where it stands elsewhere")
    func swapCommit() async throws {
        let (it, first) = try await begin()
        let enrolled = try await it.state(of: it.alice).commits[0].commit(of: it.alice).cid
        let create = [RecordWrite.create(it.deployment.post("two"), at: .tid(2))]
        let moved = Refusal.invalidSwap("Commit was at \(first.commit)")
        for wrong in [enrolled, first.results[0].cid!] {
            #expect(try await refusal { try await it.deployment.write(it.alice, create, swapCommit: wrong) } == moved)
            // Also where nothing would be done.
            #expect(try await refusal { try await it.deployment.write(it.alice, [.delete(at: .tid(9))], swapCommit: wrong) } == moved)
        }
        let second = try await it.deployment.write(it.alice, create, swapCommit: first.commit)
        #expect(
            try await refusal { try await it.deployment.write(it.alice, [.delete(at: .tid(2))], swapCommit: first.commit) }
                == .invalidSwap("Commit was at \(second.commit)"))
        #expect(try await !it.deployment.write(it.alice, [.delete(at: .tid(9))], swapCommit: second.commit).isNew)
        #expect(try await it.deployment.write(it.alice, [.delete(at: .tid(2))], swapCommit: second.commit).isNew)
    }

    @Test("swapRecord names what stands at the key: any, nothing, or one version")
    func swapRecord() async throws {
        let (it, first) = try await begin()
        let one = try #require(first.results[0].cid)
        let other = CID(hashing: [1])
        let record = { it.deployment.post($0) }
        let was = Refusal.invalidSwap("Record was at \(one)")
        let none = Refusal.invalidSwap("Record was at null")
        let cases: [(RecordWrite, Refusal?)] = [
            (.put(record("x"), at: .tid(1), swap: .nothing), was),
            (.put(record("one"), at: .tid(1), swap: .nothing), was),
            (.put(record("x"), at: .tid(1), swap: .record(other)), was),
            (.update(record("x"), at: .tid(1), swap: .record(other)), was),
            (.delete(at: .tid(1), swap: .record(other)), was),
            (.delete(at: .tid(1), swap: .nothing), was),
            (.put(record("x"), at: .tid(2), swap: .record(one)), none),
            (.update(record("x"), at: .tid(2), swap: .record(one)), none),
            (.delete(at: .tid(2), swap: .record(one)), none),
            (.delete(at: .tid(2), swap: .nothing), nil),
            (.put(record("x"), at: .tid(2), swap: .nothing), nil),
            (.put(record("one"), at: .tid(1), swap: .record(one)), nil),
            (.put(record("x"), at: .tid(1), swap: .record(one)), nil),
            (.delete(at: .tid(1), swap: .record(CID(hashing: DAGCBOR.encode(record("x"))))), nil),
            (.delete(at: .tid(2), swap: .any), nil),
        ]
        for (number, (write, expected)) in cases.enumerated() {
            #expect(try await refusal { try await it.deployment.write(it.alice, [write]) } == expected, "case \(number)")
        }
        #expect(try await it.records(of: it.alice).isEmpty)
        try await it.expectSound()
    }
}
