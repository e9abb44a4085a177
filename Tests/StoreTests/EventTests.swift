import ATProto
import Crypto
import EventLog
import Keys
import Simulation
import Testing

@Suite("Events and what they are made of")
struct EventTests {
    private func signed(_ seed: UInt64 = TestFiles.seed) throws -> (event: SignedEvent, service: SimulatedService) {
        var service = try SimulatedService(seed: seed)
        return (try service.start().events[0], service)
    }

    @Test("a time has one text, and comes back from it")
    func times() throws {
        #expect(Timestamp(milliseconds: 0).description == "1970-01-01T00:00:00.000Z")
        #expect(Timestamp(milliseconds: Timestamp.millisecondsMax).description == "9999-12-31T23:59:59.999Z")
        #expect(try Timestamp("2026-11-22T10:40:36.123Z").milliseconds == 1_795_344_036_123)
        #expect(try Timestamp("2000-02-29T00:00:00.000Z").milliseconds == 951_782_400_000)
        for text in [
            "2100-02-29T00:00:00.000Z", "2026-02-30T00:00:00.000Z", "2026-00-01T00:00:00.000Z", "2026-13-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z", "2026-01-01T24:00:00.000Z", "2026-01-01T00:60:00.000Z", "2026-01-01T00:00:60.000Z",
            "1969-12-31T23:59:59.999Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000+", "2026-01-01t00:00:00.000Z",
            "2026-01-01T00:00:00.00Z", "", "2026-01-01T00:00:00.000z", "2026-01-01 00:00:00.000Z", "+026-01-01T00:00:00.000Z",
        ] {
            #expect(throws: EventLogError.self, "\(text)") { try Timestamp(text) }
        }
    }

    @Test("dates agree with a calendar that counts day by day")
    func calendar() throws {
        var (year, month, day) = (1970, 1, 1)
        for number in 0..<80_000 {
            let text = Timestamp(milliseconds: Int64(number) * 86_400_000 + 1).description
            let expected = "\(year)-\(month < 10 ? "0" : "")\(month)-\(day < 10 ? "0" : "")\(day)T00:00:00.001Z"
            guard text == expected, try Timestamp(expected).milliseconds == Int64(number) * 86_400_000 + 1 else {
                Issue.record("day \(number) is \(text), not \(expected)")
                return
            }
            let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
            let days = month == 2 ? (isLeap ? 29 : 28) : [4, 6, 9, 11].contains(month) ? 30 : 31
            day += 1
            if day > days { (month, day) = (month + 1, 1) }
            if month > 12 { (year, month) = (year + 1, 1) }
        }
    }

    @Test("the next time is the clock's, or one millisecond after the last event where the clock went back")
    func nextTime() {
        let head = Head(sequence: 1, event: CID(hashing: []), time: Timestamp(milliseconds: 1000))
        #expect(head.nextTime(now: Timestamp(milliseconds: 999)).milliseconds == 1001)
        #expect(head.nextTime(now: Timestamp(milliseconds: 1000)).milliseconds == 1000)
        #expect(head.nextTime(now: Timestamp(milliseconds: 1500)).milliseconds == 1500)
        #expect(Head.empty.nextTime(now: Timestamp(milliseconds: 5)).milliseconds == 5)
    }

    @Test("an event says what the general codec reads in it")
    func generalCodec() throws {
        let (signed, service) = try signed()
        let value = try DAGCBOR.decode(signed.bytes)
        #expect(value["v"] == 1 && value["seq"] == 1 && value["prev"] == .null && value["keyEpoch"] == 1)
        #expect(value["did"]?.stringValue == service.did.description && value["kind"] == "service.start")
        #expect(value["body"]?.linkValue == CID(hashing: signed.bodyBytes))
        #expect(value["time"]?.stringValue == signed.event.time.description)
        #expect(value["sig"]?.bytesValue == signed.event.signature)
        #expect(value.mapValue?.count == 9)
        var unsigned = try #require(value.mapValue)
        unsigned.remove("sig")
        #expect(DAGCBOR.encode(.map(unsigned)) == signed.event.unsignedBytes)
        #expect(try Event(bytes: signed.bytes) == signed.event)
        #expect(signed.cid == CID(hashing: signed.bytes))
    }

    @Test("the signature holds for the key that made it, for no other key and for no other bytes (I4)")
    func signatures() throws {
        let (signed, service) = try signed()
        #expect(signed.event.verifies(with: service.key.publicKey))
        #expect(!signed.event.verifies(with: try SimulatedService(seed: 3).key.publicKey))
        var value = try #require(try DAGCBOR.decode(signed.bytes).mapValue)
        value["seq"] = 2
        value["prev"] = .link(signed.cid)
        #expect(!(try Event(bytes: DAGCBOR.encode(.map(value)))).verifies(with: service.key.publicKey))
    }

    @Test(
        "a field out of bounds is refused",
        arguments: [
            ("v", Value.integer(2)), ("v", .string("1")), ("did", "did:plc"),
            ("did", .string("did:web:" + String(repeating: "a", count: 193))),
            ("seq", 0), ("seq", -1), ("seq", 1_152_921_504_606_846_976), ("prev", "x"), ("time", "2026-11-22T10:40:36Z"), ("kind", "Start"),
            ("kind", ""), ("kind", "a..b"), ("kind", ".a"), ("kind", "a."), ("keyEpoch", 0), ("sig", .bytes([])),
            ("sig", .bytes([UInt8](repeating: 1, count: 63))), ("body", .null), ("body", .link(CID(hashing: [], codec: .raw))),
            ("extra", 1),
        ])
    func bounds(_ field: String, _ value: Value) throws {
        var map = try #require(try DAGCBOR.decode(try signed().event.bytes).mapValue)
        #expect((try? Event(bytes: DAGCBOR.encode(.map(map)))) != nil)
        map[field] = value
        #expect(throws: EventLogError.self) { try Event(bytes: DAGCBOR.encode(.map(map))) }
        if field != "extra" {
            map.remove(field)
            #expect(throws: EventLogError.self) { try Event(bytes: DAGCBOR.encode(.map(map))) }
        }
    }

    @Test("prev is null at event 1 and a link after it (I3)")
    func prev() throws {
        var map = try #require(try DAGCBOR.decode(try signed().event.bytes).mapValue)
        map["seq"] = 2
        #expect(throws: EventLogError.self) { try Event(bytes: DAGCBOR.encode(.map(map))) }
        map["prev"] = .link(CID(hashing: [1]))
        #expect(try Event(bytes: DAGCBOR.encode(.map(map))).sequence == 2)
        map["seq"] = 1
        #expect(throws: EventLogError.self) { try Event(bytes: DAGCBOR.encode(.map(map))) }
    }

    @Test("integers of every width are read in their shortest form alone", arguments: [23, 24, 255, 256, 65_535, 65_536, 4_294_967_296])
    func integers(_ number: Int64) throws {
        var map = try #require(try DAGCBOR.decode(try signed().event.bytes).mapValue)
        map["seq"] = .integer(number)
        map["prev"] = .link(CID(hashing: [1]))
        let bytes = DAGCBOR.encode(.map(map))
        let event = try Event(bytes: bytes)
        #expect(event.sequence == UInt64(number) && event.bytes == bytes)
        let start = try #require((0..<bytes.count - 4).first { Array(bytes[$0..<($0 + 4)]) == [0x63, 0x73, 0x65, 0x71] }) + 4
        let width = bytes[start] < 24 ? 0 : 1 << Int(bytes[start] - 24)
        let longer = Array(bytes[..<start]) + [0x1B] + withUnsafeBytes(of: UInt64(number).bigEndian) { Array($0) }
        guard width < 8 else { return }
        #expect(throws: EventLogError.self) { try Event(bytes: longer + bytes[(start + 1 + width)...]) }
    }

    @Test("a kind of a later version keeps its text in the event, and has no body here")
    func unknownKinds() throws {
        var map = try #require(try DAGCBOR.decode(try signed().event.bytes).mapValue)
        map["kind"] = "poll.open"
        let event = try Event(bytes: DAGCBOR.encode(.map(map)))
        #expect(event.kind.text == "poll.open" && event.bytes == DAGCBOR.encode(.map(map)))
        #expect(throws: EventLogError.unknownKind("poll.open")) { try EventBody(kind: event.kind, bytes: DAGCBOR.encode([:])) }
        #expect(try EventKind("repo.write") == .repoWrite)
        #expect(throws: EventLogError.self) { try EventKind("a." + String(repeating: "b", count: 63)) }
        #expect(try EventKind("a." + String(repeating: "b", count: 62)).text.utf8.count == EventKind.bytesMax)
    }

    @Test("a DID of 200 bytes signs, one of 201 does not")
    func longDIDs() throws {
        for (count, fits) in [(192, true), (193, false)] {
            let name = String((1...count).map { $0 % 60 == 0 ? "." : "a" })
            var service = try SimulatedService(seed: 1, did: "did:web:\(name)")
            if fits {
                #expect(try Event(bytes: try service.start().events[0].bytes).did == service.did)
            } else {
                #expect(throws: EventLogError.tooLarge(bytes: 201, max: 200)) { try service.start() }
            }
        }
    }

    @Test("a body over 1 MiB is refused before it is signed")
    func largeBodies() throws {
        var actor = try SimulatedActor(number: 0, seed: 1, service: try SimulatedService(seed: 1))
        let names = try BoundarySet((0..<30).map { "\($0 + 10)" + String(repeating: "x", count: 250) })
        let operations = try (0..<200).map { number in
            RecordOperation(
                path: RecordPath(collection: try NSID("a.b.c"), recordKey: try RecordKey("r\(number)")),
                change: .create(.init(cid: CID(hashing: []), size: 1, boundaries: names)))
        }
        let commit = ActorCommit(rev: TID(microseconds: 1, clockID: 1), data: CID(hashing: []), signature: [UInt8](repeating: 1, count: 64))
        let body = EventBody.repoWrite(RepoWrite(provenance: actor.provenance(), operations: operations, commit: commit))
        #expect(throws: EventLogError.tooLarge(bytes: body.encoded().count, max: 1 << 20)) { try actor.sign(body) }
    }

    @Test("a leaf is 0x01, the HMAC of the number under the tag key, and the hash of the event")
    func leaves() throws {
        let (signed, service) = try signed()
        let tag = HMAC<SHA256>.authenticationCode(for: [0, 0, 0, 0, 0, 0, 0, 1] as [UInt8], using: SymmetricKey(data: service.tagKey))
        #expect(signed.leaf == [1] + Array(tag) + Array(SHA256.hash(data: signed.bytes)))
        #expect(signed.leaf.count == Leaf.byteCount)
    }

    @Test("a cursor is generation × 2^40 + position, below 2^53")
    func cursors() throws {
        #expect(StreamCursor(generation: 0, position: 7)?.rawValue == 7)
        let cursor = try #require(StreamCursor(generation: 3, position: 9))
        #expect(cursor.rawValue == 3 * 1_099_511_627_776 + 9 && cursor.generation == 3 && cursor.position == 9)
        #expect(StreamCursor(rawValue: cursor.rawValue) == cursor && cursor.next.position == 10)
        #expect(StreamCursor(rawValue: 1 << 53) == nil && StreamCursor(rawValue: (1 << 53) - 1) != nil)
        #expect(StreamCursor(generation: 8192, position: 0) == nil && StreamCursor(generation: 8191, position: 1 << 40) == nil)
    }

    @Test("a row says how it is sealed, and its slot agrees with that")
    func rows() throws {
        let row = SealedRow(plain: [1, 2, 3])
        #expect(row.stored == [0, 1, 2, 3] && row.slot == nil)
        #expect(try SealedRow(stored: row.stored, slot: nil).opened() == [1, 2, 3])
        #expect(try row.stored.withUnsafeBytes { try SealedRow.open(stored: $0, slot: nil) } == [1, 2, 3])
        for (stored, slot) in [([], nil), ([0, 1], 4), ([1, 1], nil), ([2], nil), ([255, 0], 1)] as [([UInt8], Int64?)] {
            #expect(throws: EventLogError.self) { try SealedRow(stored: stored, slot: slot) }
        }
        #expect(throws: EventLogError.self) { try SealedRow(stored: [1, 9, 9], slot: 4).opened() }
    }

    @Test("boundaries are sorted by their bytes, each once, and read in no other order")
    func boundaries() throws {
        let set = try BoundarySet(["b", "a", "b", "B"])
        #expect(Array(set) == ["B", "a", "b"])
        for name in ["", "a b", "ä", "a\n", String(repeating: "x", count: 254)] {
            #expect(throws: EventLogError.self) { try BoundarySet([name]) }
        }
        #expect(try BoundarySet([String(repeating: "x", count: 253)]).count == 1)
        #expect(throws: EventLogError.self) { try BoundarySet((0...256).map(String.init)) }
    }

    @Test("an idempotency key is 1–255 bytes of visible ASCII, and its row's scope can be made again from the body")
    func requests() throws {
        let actor = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
        let method = try NSID("com.atproto.repo.createRecord")
        for key in ["", "a b", "é", String(repeating: "k", count: 256)] {
            #expect(throws: EventLogError.self) { try ClientRequest(idempotencyKey: key, input: [:], method: method) }
        }
        let request = try ClientRequest(idempotencyKey: String(repeating: "k", count: 255), input: ["a": 1], method: method)
        #expect(request.input == Array(SHA256.hash(data: DAGCBOR.encode(["a": 1]))))
        let owner = Agent(did: actor, credential: .dpop)
        let scope = RequestRow.scope(actor: actor, by: owner, request: request)
        #expect(scope == RequestRow.scope(actor: actor, by: Agent(did: actor, credential: .serviceAuth), request: request))
        #expect(scope != RequestRow.scope(actor: actor, by: try Agent(administrator: actor.description), request: request))
        let row = RequestRow(scope: scope, input: request.input, sequence: 1, time: Timestamp(milliseconds: 0))
        #expect(row.counts(at: Timestamp(milliseconds: 604_799_999)) && !row.counts(at: Timestamp(milliseconds: 604_800_000)))
    }

    @Test("a new service key accepts this epoch of this service, and nothing else")
    func acceptance() throws {
        let old = try SimulatedService(seed: 1)
        let key = try SimulatedService(seed: 2).key
        let provenance = Provenance(salt: [UInt8](repeating: 1, count: 32), by: Agent(did: old.did, credential: .operator))
        let handover = try ServiceKey.accepted(provenance: provenance, service: old.did, epoch: 2, by: key)
        #expect(handover.isAccepted)
        let moved = ServiceKey(provenance: provenance, service: old.did, epoch: 3, key: handover.key, handover: handover.handover)
        #expect(!moved.isAccepted)
        let forged = ServiceKey(provenance: provenance, service: old.did, epoch: 2, key: old.key.publicKey, handover: handover.handover)
        #expect(!forged.isAccepted)
    }

    @Test("an import's operations stand in chunks of at most 1,000 and 1 MiB, numbered over all of them")
    func chunks() throws {
        func operations(_ count: Int, _ boundaries: BoundarySet) throws -> [RecordOperation] {
            try (0..<count).map { number in
                RecordOperation(
                    path: RecordPath(collection: try NSID("a.b.c"), recordKey: try RecordKey("r\(number)")),
                    change: .create(.init(cid: CID(hashing: []), size: 1, boundaries: boundaries)))
            }
        }
        let wide = try BoundarySet((0..<20).map { "\($0 + 10)" + String(repeating: "x", count: 250) })
        for (count, boundaries, expected) in [
            (0, BoundarySet.empty, 0), (1, .empty, 1), (1000, .empty, 1), (1001, .empty, 2), (2500, .empty, 3), (500, wide, 3),
        ] {
            let all = try operations(count, boundaries)
            let blocks = try RepoImport.chunks(of: all) { [UInt8](repeating: 5, count: 32) }
            #expect(blocks.count == expected)
            var read: [RecordOperation?] = []
            for block in blocks {
                #expect(block.bytes.count <= 1 << 20 && block.cid == CID(hashing: block.bytes))
                let chunk = try RepoImport.Chunk(bytes: block.bytes)
                #expect(chunk.first == UInt64(read.count) && chunk.operations.count <= 1000)
                read += chunk.operations
            }
            #expect(read == all.map(Optional.some))
        }
    }

    @Test("an erasure without trace has a residue for each event it names, in order")
    func erasures() throws {
        let provenance = Provenance(
            salt: [UInt8](repeating: 1, count: 32), by: Agent(did: try DID("did:web:a.example"), credential: .system))
        func target(_ sequence: UInt64, _ operation: UInt64) -> Erasure.Target { .init(sequence: sequence, operation: operation) }
        let commit = ActorCommit(rev: TID(microseconds: 1, clockID: 1), data: CID(hashing: []), signature: [UInt8](repeating: 1, count: 64))
        func residue(_ sequence: UInt64) -> Erasure.Residue { .init(sequence: sequence, commit: commit, operations: .written([nil])) }
        let scopes: [(Erasure.Scope, Bool)] = [
            (.content([target(1, 0), target(1, 1)]), true), (.content([]), false), (.content([target(1, 1), target(1, 0)]), false),
            (.content([target(1, 0), target(1, 0)]), false), (.trace([target(1, 0), target(3, 0)], [residue(1), residue(3)]), true),
            (.trace([target(1, 0), target(3, 0)], [residue(1)]), false), (.trace([target(1, 0)], [residue(2)]), false), (.actor, true),
        ]
        for (scope, isAllowed) in scopes {
            let erasure = try? Erasure(provenance: provenance, scope: scope, reason: "")
            #expect((erasure != nil) == isAllowed, "\(scope)")
            guard let erasure else { continue }
            let body = EventBody.erasure(erasure)
            #expect(try EventBody(kind: .erasure, bytes: body.encoded()) == body)
        }
    }

    @Test("every body of a seeded history is read as it was written")
    func histories() throws {
        var history = try HistoryGenerator(seed: TestFiles.seed, actors: 4)
        var kinds: Set<EventKind> = []
        for _ in 0..<200 {
            for signed in try history.next().events {
                let body = try EventBody(kind: signed.event.kind, bytes: signed.bodyBytes)
                kinds.insert(body.kind)
                #expect(body.encoded() == signed.bodyBytes, "seed \(TestFiles.seed)")
                #expect(try Event(bytes: signed.bytes) == signed.event)
            }
        }
        #expect(kinds.count >= 4)
    }
}
