import ATProto
import Commands
import Engine
import EventLog
import Keys
import Simulation
import Testing

@Suite("Enrolling")
struct EnrollmentTests {
    @Test(
        "an enrollment is one event: boundaries, key, attestation, tag key, and a commit over the empty tree", arguments: Backend.allCases)
    func enrolls(backend: Backend) async throws {
        let it = try await Trial(backend)
        let summary = try await it.deployment.enroll(it.alice, ["general", it.deployment.boundary("engineering")])
        let state = try await it.state(of: it.alice)
        guard case .accountEnroll(let enroll) = state.bodies.first, state.bodies.count == 1 else {
            Issue.record("\(state.events)")
            return
        }
        #expect(Array(enroll.boundaries) == [it.deployment.boundary("engineering"), it.deployment.boundary("general")])
        #expect(enroll.key == (try it.deployment.files.signingKey(of: it.alice))?.publicKey)
        #expect(enroll.tagKey.count == 32 && enroll.recordKey?.description == "did:web:stratos.example")
        #expect(enroll.commit.data == MST().root() && enroll.commit.verifies(did: it.alice, with: enroll.key))
        #expect(summary.signingKey == enroll.key && summary.membership.boundaries == enroll.boundaries)
        #expect(summary.repo.commit == enroll.commit.commit(of: it.alice).cid)
        #expect(summary.membership.enrolledAt == state.head.time)
        #expect(try await it.engine.enrollment(of: it.alice) == summary)
        #expect(try await it.records(of: it.alice).isEmpty)
        try await it.expectSound()
    }

    @Test("anybody can check the attestation with the bytes that the wire describes (section 3.5)")
    func attestation() async throws {
        let it = try await Trial()
        let summary = try await it.deployment.enroll(it.alice, ["general", "engineering"])
        let texts = [it.deployment.boundary("engineering"), it.deployment.boundary("general")]
        // By hand: A3, then the three fields in the order of their lengths and bytes.
        var payload: [UInt8] = [0xA3]
        func text(_ text: String) {
            DAGCBOR.append(string: text, to: &payload)
        }
        text("did")
        text(it.alice.description)
        text("boundaries")
        payload.append(0x82)
        for boundary in texts { text(boundary) }
        text("signingKey")
        text(summary.signingKey.didKey)
        let attestation = summary.membership.attestation
        #expect(attestation.signingKey == it.deployment.serviceKey.publicKey)
        #expect(attestation.signingKey.verifies(attestation.signature, of: payload))
        #expect(attestation.verifies(did: it.alice, boundaries: summary.membership.boundaries, actorKey: summary.signingKey))
        #expect(!attestation.verifies(did: it.bob, boundaries: summary.membership.boundaries, actorKey: summary.signingKey))
        #expect(!attestation.verifies(did: it.alice, boundaries: try BoundarySet(texts.prefix(1)), actorKey: summary.signingKey))
    }

    @Test("without names a member gets the auto-enroll boundaries, or all that are allowed")
    func defaults() async throws {
        let all = try await Trial()
        let names = try await all.deployment.enroll(all.alice).membership.boundaries.map(BoundaryName.bare)
        #expect(names == ["design", "engineering", "general"])
        let some = try await Trial { $0.autoEnrollDomains = ["general"] }
        #expect(try await some.deployment.enroll(some.alice).membership.boundaries.map(BoundaryName.bare) == ["general"])
        // What everybody gets need not be among what is given by name.
        let other = try await Trial { $0.autoEnrollDomains = ["lobby"] }
        #expect(try await other.deployment.enroll(other.alice).membership.boundaries.map(BoundaryName.bare) == ["lobby"])
        #expect(try await refusal { try await other.deployment.enroll(other.bob, ["lobby"]) }?.name == "InvalidRequest")
    }

    @Test("boundaries that are not allowed, of another service or of a wrong form are refused, all of them named")
    func refusedNames() async throws {
        let it = try await Trial()
        let found = try await refusal {
            try await it.deployment.enroll(it.alice, ["general", "secret", "did:web:other.example/general", "a b", ""])
        }
        #expect(
            found
                == .invalidRequest(
                    "boundaries not in allowed domains: \(it.deployment.boundary("secret")), did:web:other.example/general, a b, "
                        + "; allowed: engineering, general, design"))
        #expect(try await it.log.head(of: it.alice) == .empty)
        #expect(try await it.deployment.databases.actors().isEmpty, "a refused enrollment leaves no files")
    }

    @Test("who is enrolled is not enrolled again, and the service itself never")
    func refusedActors() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        let head = try await it.log.head(of: it.alice)
        let key = try it.deployment.files.signingKey(of: it.alice)?.publicKey
        #expect(try await refusal { try await it.deployment.enroll(it.alice) } == .alreadyEnrolled)
        #expect(try await it.log.head(of: it.alice) == head)
        #expect(try it.deployment.files.signingKey(of: it.alice)?.publicKey == key, "the key in use is not touched")
        let service = try it.deployment.service
        #expect(try await refusal { try await it.deployment.enroll(service) } == .invalidRequest("the service itself is no member"))
        #expect(try await it.engine.enrollment(of: it.bob) == nil)
        #expect(try await it.engine.enrollment(of: service) == nil)
    }

    @Test("a DID that is enrolled has at most 200 bytes")
    func longDIDs() async throws {
        let it = try await Trial(.sqlite)
        let did = { (bytes: Int) in try DID("did:web:" + String(repeating: "a", count: bytes - 12) + ".com") }
        let longest = try did(200)
        try await it.deployment.enroll(longest)
        try await it.deployment.write(longest, [.create(it.deployment.post("x"))])
        #expect(try await it.records(of: longest).count == 1)
        let found = try await refusal { try await it.deployment.enroll(try did(201)) }
        #expect(found == .invalidRequest("a DID that is enrolled has at most 200 bytes"))
        #expect(try await it.engine.enrollment(of: try did(201)) == nil)
        try await it.expectSound()
    }

    @Test("a PDS is named by a URL that an event can hold")
    func pds() async throws {
        let it = try await Trial()
        let enroll = { (did: DID, pds: String?) in
            try await it.engine.enroll(did, boundaries: [], pds: pds, by: Agent(did: try it.deployment.service, credential: .operator))
        }
        let longest = "https://" + String(repeating: "a", count: 2040)
        for bad in [
            "", "pds.example", "ftp://pds.example", "https://", "https:///x", "https://pds example", "https://pdß.example", longest + "a",
        ] {
            #expect(
                try await refusal { try await enroll(it.alice, bad) }
                    == .invalidRequest("the PDS is named by an http or https URL of at most 2048 bytes"), "\(bad.prefix(40))")
        }
        #expect(try await enroll(it.alice, longest).membership.pds == longest)
        #expect(try await enroll(it.bob, "http://localhost:2583").membership.pds == "http://localhost:2583")
        #expect(try await enroll(it.carol, nil).membership.pds == nil)
        try await it.expectSound()
    }

    // MARK: Leaving and coming back

    private func leave(_ content: AccountLeave.Content, _ it: Trial) async throws {
        try await it.deployment.leave(it.alice, content)
        #expect(try await it.engine.enrollment(of: it.alice) == nil)
        try await it.restart()
        // Once more, from what the log says alone.
        #expect(try await it.engine.enrollment(of: it.alice) == nil)
        try await it.restart()
    }

    @Test("who left is served no more, also to themselves, and writes nothing", arguments: [AccountLeave.Content.kept, .erase])
    func left(content: AccountLeave.Content) async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        try await it.deployment.enroll(it.bob)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"), at: .tid(1))])
        try await it.deployment.write(it.bob, [.create(it.deployment.post("y"), at: .tid(1))])
        try await leave(content, it)
        #expect(try await it.engine.enrollment(of: it.alice) == nil)
        #expect(try await refusal { try await it.deployment.write(it.alice, [.delete(at: .tid(1))]) } == .notEnrolled)
        for caller in [it.alice, it.bob] {
            #expect(try await it.engine.record(at: path(.tid(1)), of: it.alice, to: .user(caller)) == nil)
            #expect(try await it.engine.exportRepo(of: it.alice, to: .user(caller)) == nil)
            #expect(try await it.engine.proof(of: path(.tid(1)), of: it.alice, to: .user(caller)) == nil)
            let page = try await it.engine.records(in: .post, of: it.alice, after: nil, reversed: false, limit: 10, to: .user(caller))
            #expect(page?.content.records.isEmpty ?? true)
        }
        #expect(try await it.engine.record(at: path(.tid(1)), of: it.bob, to: .user(it.alice)) == nil, "and shares no boundary any more")
        let kept: [RecordPath: CID]? = content == .kept ? try await it.records(of: it.alice) : nil
        #expect(kept?.count ?? 1 == 1, "whoever runs the program still has what was kept")
        try await it.expectSound()
    }

    @Test("who comes back goes on in the same log, with a new key, a new tag key and a later rev (I10)", arguments: Backend.allCases)
    func comesBack(backend: Backend) async throws {
        for content in [AccountLeave.Content.kept, .erase] {
            let it = try await Trial(backend)
            let first = try await it.deployment.enroll(it.alice, ["engineering"])
            let receipt = try await it.deployment.write(it.alice, [.create(it.deployment.post("x"), at: .tid(1))])
            let before = try await it.state(of: it.alice)
            try await leave(content, it)
            // The machine's clock has gone back meanwhile: the rev rises all the same.
            it.clock.set(SimulatedService.startTime.milliseconds * 1000 - 86_400_000_000)
            let second = try await it.deployment.enroll(it.alice, ["general"])
            let state = try await it.state(of: it.alice)
            #expect(state.events.map(\.kind) == [.accountEnroll, .repoWrite, .accountLeave, .accountEnroll])
            #expect(second.signingKey != first.signingKey && state.tagKey != before.tagKey)
            #expect(second.repo.rev > receipt.rev)
            #expect(Array(second.membership.boundaries) == [it.deployment.boundary("general")])
            #expect(second.repo.data == (content == .kept ? before.commits[1].data : MST().root()))
            #expect(try it.deployment.files.signingKey(of: it.alice)?.publicKey == second.signingKey)
            #expect(try await it.records(of: it.alice).count == (content == .kept ? 1 : 0))
            // The new key signs, and the old one no more.
            let third = try await it.deployment.write(it.alice, [.create(it.deployment.post("y", in: ["general"]), at: .tid(2))])
            let commit = try #require(try await it.state(of: it.alice).commits.last)
            #expect(commit.verifies(did: it.alice, with: second.signingKey) && !commit.verifies(did: it.alice, with: first.signingKey))
            #expect(third.rev > second.repo.rev)
            try await it.expectSound()
        }
    }

    @Test("a key that was given once is given to nobody again, however often somebody comes back")
    func newKeys() async throws {
        let it = try await Trial()
        var keys: Set<String> = []
        for round in 0..<4 {
            keys.insert(try await it.deployment.enroll(it.alice).signingKey.didKey)
            #expect(keys.count == round + 1)
            try await leave(round % 2 == 0 ? .kept : .erase, it)
        }
    }

    @Test("a key whose event was not stored is replaced by the next attempt", arguments: [false, true])
    func interruptedEnrollment(isStored: Bool) async throws {
        let error = EventLogError.storage(operation: "append", code: 5)
        // The first append is the service's start.
        let faulty = FaultyEventStore(MemoryEventStore()) { $0 == 2 ? isStored ? .persisted(error) : .refused(error) : nil }
        let it = try await Trial(over: faulty)
        await #expect(throws: error) { try await it.deployment.enroll(it.alice) }
        let left = try it.deployment.files.signingKey(of: it.alice)?.publicKey
        if isStored {
            #expect(try await refusal { try await it.deployment.enroll(it.alice) } == .alreadyEnrolled)
            #expect(try await it.engine.enrollment(of: it.alice)?.signingKey == left, "the key that the log names is the one that is kept")
        } else {
            #expect(try await it.deployment.enroll(it.alice).signingKey != left)
        }
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))])
        try await it.expectSound()
    }
}
