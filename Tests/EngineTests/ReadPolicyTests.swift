import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Projections
import Simulation
import Testing

/// Who sees what of whom, on every way out (I12).
@Suite("The read policy")
struct ReadPolicyTests {
    enum Who: CaseIterable {
        /// The owner; a member of engineering, as the owner is; a member of design alone; somebody who is not enrolled; nobody; an
        /// allow-listed AppView; an administrator.
        case owner, colleague, designer, stranger, anonymous, appView, administrator

        func caller(_ it: Trial) throws -> Caller {
            switch self {
            case .owner: .user(it.alice)
            case .colleague: .user(it.bob)
            case .designer: .user(it.carol)
            case .stranger: .user(SimulatedDeployment.actor(9))
            case .anonymous: .anonymous
            case .appView: .appView(try DID("did:web:view.example"))
            case .administrator: .administrator(name: "root")
            }
        }
    }

    /// Alice, in engineering and general; Bob, in engineering; Carol, in design.
    private func begin() async throws -> Trial {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice, ["engineering", "general"])
        try await it.deployment.enroll(it.bob, ["engineering"])
        try await it.deployment.enroll(it.carol, ["design"])
        return it
    }

    private let shared = path(.tid(1)), elsewhere = path(.tid(2)), private1 = path(.named("a"), in: .note)

    /// One record for engineering, one for general, one for the owner alone.
    private func records(_ it: Trial) -> [RecordWrite] {
        [
            .create(it.deployment.post("shared", in: ["engineering"]), at: .tid(1)),
            .create(it.deployment.post("elsewhere", in: ["general"]), at: .tid(2)), .create(["n": 1], in: .note, at: .named("a")),
        ]
    }

    @Test("a record leaves for its owner, for who shares a boundary with it, and for an AppView where it has one", arguments: Who.allCases)
    func record(who: Who) async throws {
        let it = try await begin()
        try await it.deployment.write(it.alice, records(it))
        let caller = try who.caller(it)
        let expected: [RecordPath: Bool] =
            switch who {
            case .owner: [shared: true, elsewhere: true, private1: true]
            case .colleague: [shared: true, elsewhere: false, private1: false]
            case .appView: [shared: true, elsewhere: true, private1: false]
            case .designer, .stranger, .anonymous, .administrator: [shared: false, elsewhere: false, private1: false]
            }
        for (place, isVisible) in expected {
            let found = try await it.engine.record(at: place, of: it.alice, to: caller)
            #expect((found != nil) == isVisible, "\(place)")
            let uri = place.uri(of: it.alice)
            #expect(found?.content.uri ?? uri == uri)
            // Another version of the same record is absent for everybody.
            #expect(try await it.engine.record(at: place, of: it.alice, cid: CID(hashing: [1]), to: caller) == nil)
        }
        let visible = expected.filter(\.value).keys
        for collection in [NSID.post, .note] {
            let page = try await it.engine.records(in: collection, of: it.alice, after: nil, reversed: true, limit: 10, to: caller)
            let keys = page?.content.records.compactMap(\.uri.recordKey?.description) ?? []
            #expect(keys == visible.filter { $0.collection == collection }.map(\.recordKey.description).sorted())
            #expect(page?.content.cursor == nil)
        }
        for nobody in [it.carol, SimulatedDeployment.actor(9)] where who != .designer {
            #expect(try await it.engine.record(at: shared, of: nobody, to: caller) == nil)
        }
    }

    @Test("boundaries count as they are at that moment")
    func now() async throws {
        let it = try await begin()
        try await it.deployment.write(it.alice, records(it))
        let bob = Caller.user(it.bob)
        #expect(try await it.engine.record(at: shared, of: it.alice, to: bob) != nil)
        try await it.deployment.append(
            { provenance, state in
                let after = try BoundarySet([it.deployment.boundary("general")])
                return .accountBoundaries(
                    AccountBoundaries(
                        provenance: provenance, before: state.boundaries, after: after,
                        attestation: try .sign(
                            did: it.bob, boundaries: after, actorKey: try #require(state.key), with: it.deployment.serviceKey)))
            }, to: it.bob)
        try await it.restart()
        #expect(try await it.engine.record(at: shared, of: it.alice, to: bob) == nil)
        #expect(try await it.engine.record(at: elsewhere, of: it.alice, to: bob) != nil)
        // A record that moves to another boundary leaves the sight of those who were in the one before.
        try await it.deployment.write(it.alice, [.update(it.deployment.post("moved", in: ["engineering"]), at: .tid(2))])
        #expect(try await it.engine.record(at: elsewhere, of: it.alice, to: bob) == nil)
        let page = try await it.engine.records(in: .post, of: it.alice, after: nil, reversed: false, limit: 10, to: bob)
        #expect(page?.content.records.isEmpty == true)
    }

    @Test("a whole repo is its owner's, and an AppView's where every record has a boundary", arguments: Who.allCases)
    func repo(who: Who) async throws {
        let it = try await begin()
        try await it.deployment.write(it.alice, records(it))
        let caller = try who.caller(it)
        let present = { () async throws -> [Bool] in
            [
                try await it.engine.exportRepo(of: it.alice, to: caller) != nil,
                try await it.engine.latestCommit(of: it.alice, to: caller) != nil,
            ]
        }
        #expect(try await present() == [who == .owner, who == .owner])
        #expect(try await (it.engine.collections(of: it.alice, to: caller) != nil) == (who == .owner))
        try await it.deployment.write(it.alice, [.delete(in: .note, at: .named("a"))])
        let isEveryRecordBounded = who == .owner || who == .appView
        #expect(try await present() == [isEveryRecordBounded, isEveryRecordBounded])
        #expect(try await (it.engine.collections(of: it.alice, to: caller) != nil) == (who == .owner))
        #expect(try await it.engine.exportRepo(of: SimulatedDeployment.actor(9), to: caller) == nil)
    }

    @Test("an account's boundaries are its own and the AppViews'", arguments: Who.allCases)
    func membership(who: Who) async throws {
        let it = try await begin()
        let summary = try #require(try await it.engine.enrollment(of: it.alice))
        let found = it.engine.membership(of: summary, to: try who.caller(it))
        #expect((found != nil) == (who == .owner || who == .appView))
        #expect(found == nil || found?.content == summary.membership)
    }

    @Test(
        "a proof is its owner's; a member's or an AppView's where every key in its nodes is one that they may read", arguments: Who.allCases
    )
    func proofs(who: Who) async throws {
        let it = try await begin()
        let caller = try who.caller(it)
        // A repo of few records is one node, or a node and its neighbours: every key stands in the proof of every other.
        let bounded = (1...6).map { RecordWrite.create(it.deployment.post("\($0)", in: ["engineering"]), at: .tid($0)) }
        try await it.deployment.write(it.alice, bounded)
        let mayHave = [.owner, .colleague, .appView].contains(who)
        for number in 1...6 {
            let proof = try await it.engine.proof(of: path(.tid(number)), of: it.alice, to: caller)
            #expect((proof != nil) == mayHave, "\(number)")
            if let proof { try await expectProves(proof.content, path(.tid(number)), it) }
        }
        // Absence is proven to the owner alone: to others it would show the neighbours of a key that they chose.
        #expect(try await (it.engine.proof(of: path(.tid(99)), of: it.alice, to: caller) != nil) == (who == .owner))
        // One hidden key beside it, and nobody but the owner has proofs whose nodes name it.
        try await it.deployment.write(it.alice, [.create(["n": 1], in: .note, at: .named("hidden"))])
        let hidden = path(.named("hidden"), in: .note)
        #expect(try await (it.engine.proof(of: hidden, of: it.alice, to: caller) != nil) == (who == .owner))
        for number in 1...6 {
            guard let proof = try await it.engine.proof(of: path(.tid(number)), of: it.alice, to: caller)?.content else { continue }
            let text = String(decoding: proof, as: UTF8.self)
            #expect(who == .owner || !text.contains("hidden"), "a proof names a hidden key")
        }
    }

    private func expectProves(_ car: [UInt8], _ place: RecordPath, _ it: Trial) async throws {
        let (roots, blocks) = try CARReader.read(car)
        let table = Dictionary(blocks.map { ($0.cid, $0.bytes) }) { first, _ in first }
        let root = try #require(roots.first)
        let commit = try Commit(block: try #require(table[root]))
        let key = try #require(try await it.state(of: it.alice).key)
        #expect(commit.verifies(with: key))
        let tree = MST(root: commit.data) { (cid) throws(MSTError) in table[cid] }
        let cid = try #require(try tree.get(MSTKey(collection: place.collection, recordKey: place.recordKey)))
        #expect(table[cid] != nil)
    }

    @Test("the rule over one record and the selection over many are the same rule (I12)")
    func selection() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        let owner = SimulatedDeployment.actor(1)
        let names = ["s/a", "s/b", "s/c", "s/d"]
        let callers: [Caller] = [
            .user(owner), .user(SimulatedDeployment.actor(2)), .anonymous, .administrator(name: "root"),
            .appView(try DID("did:web:v.example")),
        ]
        for _ in 0..<300 {
            func some() throws -> BoundarySet { try BoundarySet(names.filter { _ in Int.random(in: 0..<3, using: &generator) == 0 }) }
            let viewer = Viewer(caller: callers.randomElement(using: &generator)!, boundaries: try some())
            let rows = MemoryActorRows()
            let changes = try (0..<8).map { number in
                RecordRow(
                    path: path(.tid(number)), cid: CID(hashing: [UInt8(number)]), boundaries: try some(), sequence: 1, created: 1,
                    rev: TID(microseconds: 1, clockID: 1), size: 1)
            }
            try rows.apply(changing(changes, owner))
            let selected = rows.records(
                .post, ReadPolicy.selection(of: owner, for: viewer), in: KeyRange(after: nil, reversed: false, limit: 10))
            let readable = changes.filter { ReadPolicy.mayRead(RecordScope(owner: owner, boundaries: $0.boundaries), as: viewer) }
            #expect(selected == readable, "seed \(TestFiles.seed)")
        }
    }

    private func changing(_ rows: [RecordRow], _ owner: DID) -> ActorChanges {
        var changes = ActorChanges(from: ActorState(did: owner))
        for row in rows { changes.records[row.path] = .some(row) }
        changes.state.head = Head(sequence: 1, event: CID(hashing: [1]), time: SimulatedService.startTime)
        return changes
    }

    @Test("records that are too much for one answer are refused, by what the caller may see alone (I12)")
    func hydrationTooLarge() async throws {
        let it = try await begin()
        // With the fields beside it a record is a little more than an eighth of what an answer has.
        let filling = String(repeating: "x", count: Engine.hydrationBytesMax / 9)
        var uris: [ATURI] = []
        for number in 0..<9 {
            let record = it.deployment.post("x", in: [number < 8 ? "general" : "engineering"])
                .with("$type", nil).with("filling", .string("\(number)\(filling)"))
            try await it.deployment.write(it.alice, [.create(record, in: .note, at: .tid(number))])
            uris.append(path(.tid(number), in: .note).uri(of: it.alice))
        }
        let tooMuch = { (asked: [ATURI], caller: DID) async throws -> Bool in
            guard case .invalidRequest? = try await refusal({ try await it.engine.hydrate(asked, to: .user(caller), tellsBlocked: false) })
            else { return false }
            return true
        }
        #expect(try await tooMuch(uris, it.alice))
        #expect(try await it.engine.hydrate(Array(uris[0..<8]), to: .user(it.alice), tellsBlocked: false).records.count == 8)
        // Eight of them are hidden from Bob, and say nothing of their size.
        let bob = try await it.engine.hydrate(uris, to: .user(it.bob), tellsBlocked: false)
        #expect(bob.records.map(\.content.uri) == [uris[8]] && bob.notFound == Array(uris[0..<8]))
        #expect(try await tooMuch([ATURI](repeating: uris[8], count: 9), it.bob))
        #expect(try await !tooMuch([ATURI](repeating: uris[8], count: 8), it.bob))
    }

    @Test("an export since a rev holds what came after it, also where the same content stood before")
    func exportSince() async throws {
        let it = try await begin()
        let same: Value = ["n": 7]
        let first = try await it.deployment.write(
            it.alice, [.create(same, in: .note, at: .named("a")), .create(["n": 1], in: .note, at: .named("c"))])
        // The same bytes under a later key: one block, and it is new to whoever has seen nothing of it.
        let second = try await it.deployment.write(
            it.alice, [.create(same, in: .note, at: .named("b")), .create(["n": 2], in: .note, at: .named("d"))])
        let blocks = { (since: TID?) async throws -> Set<CID> in
            let export = try #require(try await it.engine.exportRepo(of: it.alice, since: since, to: .user(it.alice)))
            var file: [UInt8] = []
            try await export.content.stream(from: it.engine) { file += $0 }
            let (roots, blocks) = try CARReader.read(file)
            #expect(roots == [second.commit])
            return Set(blocks.map(\.cid))
        }
        let records = (first.results + second.results).map { $0.cid! }
        let all = try await blocks(nil)
        #expect(all.isSuperset(of: records))
        let since = try await blocks(first.rev)
        #expect(since.isSuperset(of: [records[2], records[3]]) && !since.contains(records[1]))
        #expect(try await blocks(second.rev).isDisjoint(with: records))
    }
}
