import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Foundation
import Keys
import Projections
import Simulation
import Testing

@Suite("Leaving")
struct LeaveTests {
    private let contents = [AccountLeave.Content.kept, .erase]

    private func folder(of did: DID, _ it: Trial) throws -> String {
        let root = URL(filePath: it.directory.path + "/actors")
        let found = try FileManager.default.contentsOfDirectory(at: root, includingPropertiesForKeys: nil).map { $0.path + "/\(did)" }
        return try #require(found.first { FileManager.default.fileExists(atPath: $0) })
    }

    private func files(of did: DID, _ it: Trial) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: try folder(of: did, it)).sorted()
    }

    /// A member with a few records, of which some were replaced and removed, and one large import behind them where asked for.
    private func member(_ did: DID, _ it: Trial, imports: Int = 0) async throws -> Set<CID> {
        try await it.deployment.enroll(did)
        if imports > 0 {
            let posts = (0..<imports).map { (path: path(.tid($0)), record: it.deployment.post("imported \($0)")) }
            _ = try await it.importing(posts, into: did)
        }
        try await it.deployment.write(did, [.create(it.deployment.post("one"), at: .tid(5000)), .create(["n": 1], in: .note)])
        try await it.deployment.write(did, [.update(it.deployment.post("two"), at: .tid(5000))])
        try await it.deployment.write(did, [.create(it.deployment.post("three"), at: .tid(5001))])
        try await it.deployment.write(did, [.delete(at: .tid(5001))])
        return try await blocks(of: did, it)
    }

    /// Every block that the log names, chunks too.
    private func blocks(of did: DID, _ it: Trial) async throws -> Set<CID> {
        var cids: Set<CID> = []
        for body in try await it.state(of: did).bodies {
            switch body {
            case .repoWrite(let write): cids.formUnion(write.operations.compactMap { $0.written?.cid })
            case .repoImport(let bulk):
                cids.formUnion(bulk.chunks)
                for chunk in try await it.log.blocks(bulk.chunks, of: did).values {
                    cids.formUnion(try RepoImport.Chunk(bytes: chunk).operations.compactMap { $0?.written?.cid })
                }
            default: break
            }
        }
        return cids
    }

    private func expectGone(_ blocks: Set<CID>, of did: DID, _ it: Trial, _ comment: Comment? = nil) async throws {
        #expect(try await it.log.blocks(Array(blocks), of: did).isEmpty, comment)
        for cid in blocks.prefix(20) { #expect(try await it.log.block(cid, of: did) == nil, comment) }
        let inOrder = try await it.log.blocks(inOrder: Array(blocks.prefix(10)), of: did, bytesMax: 1 << 20)
        #expect(inOrder.allSatisfy { $0 == nil }, comment)
        #expect(try it.deployment.files.signingKey(of: did) == nil, comment)
        #expect(try await it.log.erasuresDue().isEmpty, comment)
    }

    @Test("a leave is one event, of the kind that was asked for, by whom and why", arguments: Backend.allCases)
    func oneEvent(backend: Backend) async throws {
        for content in contents {
            let it = try await Trial(backend)
            _ = try await member(it.alice, it)
            let before = try await it.log.head(of: it.alice)
            let agent = Agent(did: it.alice, credential: .dpop)
            try await it.engine.leave(it.alice, content: content, reason: "because", by: agent)
            let state = try await it.state(of: it.alice)
            guard case .accountLeave(let leave) = state.bodies.last, state.head.sequence == before.sequence + 1 else {
                Issue.record("\(state.events)")
                return
            }
            #expect(leave.content == content && leave.reason == "because" && leave.provenance.by == agent)
            #expect(try await it.engine.enrollment(of: it.alice) == nil)
            try await it.expectSound()
        }
    }

    @Test("strangers, and those who have left, cannot leave; a reason has at most 2,000 bytes")
    func refused() async throws {
        let it = try await Trial()
        let leave = { (content: AccountLeave.Content, reason: String) in
            try await it.engine.leave(it.alice, content: content, reason: reason, by: Agent(did: it.alice, credential: .dpop))
        }
        for content in contents { #expect(try await refusal { try await leave(content, "") } == .notEnrolled) }
        #expect(try await it.deployment.databases.actors().isEmpty, "a stranger gets no files")
        try await it.deployment.enroll(it.alice)
        #expect(
            try await refusal { try await leave(.kept, String(repeating: "a", count: 2001)) }
                == .invalidRequest("a reason has at most 2000 bytes"))
        try await leave(.kept, String(repeating: "a", count: 2000))
        #expect(try await refusal { try await leave(.kept, "") } == .notEnrolled)
        // What was kept can be taken away, once.
        try await leave(.erase, "")
        for content in contents { #expect(try await refusal { try await leave(content, "") } == .notEnrolled) }
        #expect(try await it.state(of: it.alice).events.map(\.kind) == [.accountEnroll, .accountLeave, .accountLeave])
        try await it.expectSound()
    }

    @Test("a credential that may be used once proves one leave", arguments: Backend.allCases)
    func singleUse(backend: Backend) async throws {
        let it = try await Trial(backend)
        let use = SingleUse(issuer: "key", identifier: "one", expires: 2_000_000_000)
        let agent = Agent(did: it.alice, credential: .dpop)
        try await it.deployment.enroll(it.alice)
        try await it.engine.leave(it.alice, content: .erase, reason: "", by: agent, use: use)
        try await it.deployment.enroll(it.alice)
        await #expect(throws: EventLogError.alreadyUsed) {
            try await it.engine.leave(it.alice, content: .erase, reason: "", by: agent, use: use)
        }
        #expect(try await it.engine.isEnrolled(it.alice))
    }

    @Test("what is kept stays: blocks, rows, key, and the operator's export", arguments: Backend.allCases)
    func kept(backend: Backend) async throws {
        let it = try await Trial(backend)
        let blocks = try await member(it.alice, it)
        let key = try it.deployment.files.signingKey(of: it.alice)?.publicKey
        let records = try await it.records(of: it.alice)
        try await it.deployment.leave(it.alice, .kept)
        try await it.restart()
        #expect(try await it.log.blocks(Array(blocks), of: it.alice).count == blocks.count)
        #expect(try it.deployment.files.signingKey(of: it.alice)?.publicKey == key && key != nil)
        #expect(try await it.records(of: it.alice) == records && records.count == 2)
        #expect(try await it.log.erasuresDue().isEmpty)
        try await it.expectSound()
    }

    @Test("what is erased goes: blocks, chunks, rows, key; events and bodies stay, and the log verifies (I11)", arguments: Backend.allCases)
    func erased(backend: Backend) async throws {
        let it = try await Trial(backend)
        let blocks = try await member(it.alice, it, imports: 1100)
        let others = try await member(it.bob, it)
        #expect(blocks.count > 1100)
        let events = try await it.state(of: it.alice).events.count
        try await it.deployment.leave(it.alice, .erase)
        try await expectGone(blocks, of: it.alice, it)
        #expect(try files(of: it.alice, it) == [])
        #expect(try await it.state(of: it.alice).bodies.count == events + 1)
        #expect(try await it.log.blocks(Array(others), of: it.bob).count == others.count, "nobody else loses anything")
        try await it.expectSound()
        try await it.restart()
        try await it.expectSound("and so it is when the rows are folded anew, with the import's chunks gone")
        #expect(try await it.engine.rebuild(nil, progress: { _, _ in }).actors == 2)
        #expect(try await it.records(of: it.bob).count == 2)
    }

    @Test("reading those who have left, and being refused, makes no files of theirs again", arguments: [false, true])
    func noFilesAgain(restarts: Bool) async throws {
        let it = try await Trial(.sqlite)
        _ = try await member(it.alice, it)
        try await it.deployment.leave(it.alice, .erase)
        if restarts { try await it.restart() }
        for caller in [it.alice, it.bob] {
            #expect(try await it.engine.record(at: path(.tid(5000)), of: it.alice, to: .user(caller)) == nil)
            #expect(try await it.engine.exportRepo(of: it.alice, to: .user(caller)) == nil)
            #expect(try await it.engine.collections(of: it.alice, to: .user(caller)) == nil)
            #expect(try await it.engine.latestCommit(of: it.alice, to: .user(caller)) == nil)
        }
        let absent = try ATURI(uri(.tid(5000), of: it.alice))
        #expect(try await it.engine.hydrate([absent], to: .user(it.alice), tellsBlocked: true).notFound == [absent])
        #expect(try await refusal { try await it.deployment.write(it.alice, [.create(["n": 1], in: .note)]) } == .notEnrolled)
        #expect(try await refusal { try await it.importing([0], into: it.alice) } == .notEnrolled)
        #expect(try await refusal { try await it.engine.changeKey(of: it.alice, by: it.deployment.agent(it.alice)) } == .notEnrolled)
        let granting = try await refusal {
            try await it.engine.changeBoundaries(of: it.alice, .add(["general"]), by: it.deployment.agent(it.alice))
        }
        #expect(granting == .notEnrolled)
        let admin = try Agent(administrator: "ines")
        #expect(try await it.engine.readAsAdministrator(path(.tid(5000)), of: it.alice, reason: "x", by: admin) == nil)
        #expect(try await it.state(of: it.alice).events.last?.kind == .accountLeave, "and leaves no receipt")
        #expect(try files(of: it.alice, it) == [])
    }

    // MARK: Interrupted

    @Test("an erasure that is interrupted is carried out later by the same code, and before anybody comes back", arguments: 0..<3)
    func interrupted(way: Int) async throws {
        let faulty = FaultyEventStore(MemoryEventStore())
        let it = try await Trial(over: faulty)
        let blocks = try await member(it.alice, it, imports: 20)
        faulty.erasureFault.withLock { $0 = .noSpace }
        try await it.deployment.leave(it.alice, .erase)
        #expect(try await it.engine.enrollment(of: it.alice) == nil, "the leave is a fact all the same")
        #expect(try await it.log.blocks(Array(blocks), of: it.alice).count == blocks.count)
        #expect(try it.deployment.files.signingKey(of: it.alice) != nil)
        #expect(try await it.log.erasuresDue() == [it.alice])
        try await it.expectSound("the blocks are still there, or not: rows and log agree")
        await it.engine.carryOutErasures()
        #expect(try await it.log.erasuresDue() == [it.alice], "it stays due while it cannot be done")
        await #expect(throws: EventLogError.noSpace) { try await it.deployment.enroll(it.alice) }
        faulty.erasureFault.withLock { $0 = nil }
        if way == 0 { try await it.restart() }
        if way < 2 {
            await it.engine.carryOutErasures()
            try await expectGone(blocks, of: it.alice, it)
            await it.engine.carryOutErasures()
        }
        let back = try await it.deployment.enroll(it.alice)
        #expect(try await it.log.blocks(Array(blocks), of: it.alice).isEmpty)
        #expect(try await it.log.erasuresDue().isEmpty)
        #expect(try it.deployment.files.signingKey(of: it.alice)?.publicKey == back.signingKey)
        await it.engine.carryOutErasures()
        #expect(try it.deployment.files.signingKey(of: it.alice)?.publicKey == back.signingKey, "the new key is nobody's to remove")
        try await it.expectSound()
    }

    @Test("a log whose store forgot what is due is erased before its account comes back")
    func forgotten() async throws {
        let faulty = FaultyEventStore(MemoryEventStore())
        let it = try await Trial(over: faulty)
        let blocks = try await member(it.alice, it)
        faulty.erasureFault.withLock { $0 = .noSpace }
        try await it.deployment.leave(it.alice, .erase)
        faulty.erasureFault.withLock { $0 = nil }
        try await it.log.endErasure(of: it.alice)
        try await it.restart()
        try await it.deployment.enroll(it.alice)
        #expect(try await it.log.blocks(Array(blocks), of: it.alice).isEmpty)
        try await it.expectSound()
    }

    @Test("what is said to be due is looked up in the log: members, and those whose content was kept, lose nothing")
    func wrongHint() async throws {
        let store = MemoryEventStore()
        let it = try await Trial(over: store)
        for (did, leaves) in [(it.alice, false), (it.bob, true)] {
            let blocks = try await member(did, it)
            if leaves { try await it.deployment.leave(did, .kept) }
            store.markErasing(did)
            await it.engine.carryOutErasures()
            #expect(try await it.log.blocks(Array(blocks), of: did).count == blocks.count)
            #expect(try it.deployment.files.signingKey(of: did) != nil)
        }
    }

    @Test("a key that a crash left without its event is removed with the rest, and a temporary one too")
    func strayKeys() async throws {
        let it = try await Trial()
        _ = try await member(it.alice, it)
        try await it.deployment.leave(it.alice, .erase)
        try it.deployment.files.keep(PrivateKey.generate(.p256), of: it.alice)
        let temporary = try folder(of: it.alice, it) + "/.signing_key.abc.new"
        try Data([UInt8](repeating: 1, count: 32)).write(to: URL(filePath: temporary))
        try it.deployment.files.removeKey(of: it.alice)
        #expect(try files(of: it.alice, it).isEmpty)
        try it.deployment.files.removeKey(of: it.alice)
        try it.deployment.files.removeKey(of: it.bob)
    }

    // MARK: Coming back

    @Test("after an erasure the same content can be written anew, and is missed where it is then absent (I11)", arguments: contentsOfRounds)
    func sameContent(rounds: Int) async throws {
        let store = MemoryEventStore()
        let it = try await Trial(over: store)
        for _ in 0..<rounds {
            _ = try await member(it.alice, it, imports: 30)
            try await it.deployment.leave(it.alice, .erase)
        }
        _ = try await member(it.alice, it, imports: 30)
        try await it.expectSound()
        let again = try await it.records(of: it.alice)
        #expect(again.count == 32)
        // Both sides: what stands since the return must be there, what went with the leave need not.
        let record = try #require(again[path(.tid(3))])
        store.tamper(it.alice, block: record, nil)
        let report = await ChainVerifier(it.log).verify()
        #expect(report.findings.map(\.invariant) == ["I11"])
        let head = try await it.state(of: it.alice)
        let last = try #require(head.events.last { $0.kind == .repoImport })
        #expect(report.findings.first?.sequence == last.sequence, "and the place of the finding is after the return")
    }

    static let contentsOfRounds = [1, 3]

    @Test("a chunk of operations that is missing since the return stops the fold and is found")
    func missingChunk() async throws {
        let store = MemoryEventStore()
        let it = try await Trial(over: store)
        _ = try await member(it.alice, it, imports: 30)
        try await it.deployment.leave(it.alice, .erase)
        _ = try await member(it.alice, it, imports: 30)
        guard case .repoImport(let bulk) = try await it.state(of: it.alice).bodies.last(where: { $0.kind == .repoImport }) else {
            Issue.record("no import")
            return
        }
        store.tamper(it.alice, block: bulk.chunks[0], nil)
        #expect(await ChainVerifier(it.log).verify().findings.map(\.invariant) == ["I11"])
        let position = try await it.log.statistics().position
        await #expect(throws: FoldError.self) { try await it.engine.digestFromLog(of: it.alice, until: position) }
    }

    @Test(
        "between an import and the leave that erased it nothing can be folded, and that is said; at the leave and before the import it can")
    func untilDigests() async throws {
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(it.alice)
        var digests: [UInt64: String] = [:]
        func note() async throws {
            let position = try await it.log.statistics().position
            digests[position] = try await it.engine.digestFromLog(of: it.alice, until: position).digest
        }
        try await note()
        _ = try await it.importing([(path(.tid(1)), it.deployment.post("x"))], into: it.alice)
        try await note()
        try await it.deployment.write(it.alice, [.update(it.deployment.post("y"), at: .tid(1))])
        try await note()
        try await it.deployment.leave(it.alice, .erase)
        try await note()
        try await it.deployment.enroll(it.alice)
        try await note()
        for (position, digest) in digests.sorted(by: { $0.key < $1.key }) {
            let isBetween = (3...4).contains(position)
            do {
                #expect(try await it.engine.digestFromLog(of: it.alice, until: position).digest == digest, "\(position)")
                #expect(!isBetween, "\(position)")
            } catch let failure as OperatorFailure {
                #expect(isBetween && failure.name == "ContentErased", "\(position): \(failure)")
            }
        }
    }

    @Test("an idempotency key counts on after a return to kept content, and not for what was erased, nor for somebody who has left")
    func idempotency() async throws {
        for content in contents {
            let it = try await Trial()
            try await it.deployment.enroll(it.alice)
            let client = try ClientRequest(idempotencyKey: "once", input: ["a": 1], method: NSID.named("com.atproto.repo.createRecord"))
            let write = { try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))], client: client) }
            let first = try await write()
            try await it.deployment.leave(it.alice, content)
            #expect(try await refusal { try await write() } == .notEnrolled)
            try await it.deployment.enroll(it.alice)
            let again = try await write()
            #expect(again.isRepeated == (content == .kept) && (again.results == first.results) == (content == .kept))
            #expect(try await it.records(of: it.alice).count == 1)
            let repeated = try await write()
            #expect(repeated.isRepeated && repeated.results == again.results)
            try await it.expectSound()
        }
    }
}
