import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Simulation
import Synchronization
import Testing

/// Whoever began before somebody left: readers with rows in their hands, exports that are read slowly, imports, writes that wait.
@Suite("Leaving: those under way")
struct LeaveRaceTests {
    /// Reads of blocks wait from when it is armed until it is opened; the first of them says that it is there.
    private final class Held: Sendable {
        let isArmed = Atomic<Bool>(false)
        let arrived = AsyncGate()
        let gate = AsyncGate()

        func wait(_ what: String) async {
            guard what == "blocks", isArmed.load(ordering: .sequentiallyConsistent) else { return }
            arrived.open()
            await gate.wait()
        }
    }

    private func trial(_ held: Held) async throws -> Trial {
        let it = try await Trial(over: FaultyEventStore(MemoryEventStore(), hold: { await held.wait($0) }))
        try await it.deployment.enroll(it.alice, ["engineering"])
        try await it.deployment.enroll(it.bob, ["engineering"])
        for number in 0..<3 { try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"), at: .tid(number))]) }
        return it
    }

    enum Reader: String, CaseIterable, Sendable {
        case record, page, hydration, proof, administrator

        /// Whether anything of Alice's came out.
        func read(_ engine: Engine, _ alice: DID, as caller: DID) async throws -> Bool {
            switch self {
            case .record: return try await engine.record(at: path(.tid(1)), of: alice, to: .user(caller)) != nil
            case .page:
                let page = try await engine.records(in: .post, of: alice, after: nil, reversed: false, limit: 10, to: .user(caller))
                return !(page?.content.records.isEmpty ?? true)
            case .hydration:
                return try await !engine.hydrate([ATURI(uri(.tid(1), of: alice))], to: .user(caller), tellsBlocked: true).records.isEmpty
            case .proof: return try await engine.proof(of: path(.tid(1)), of: alice, to: .user(caller), showsNeighbours: true) != nil
            case .administrator:
                let agent = try Agent(administrator: "ines")
                return try await engine.readAsAdministrator(path(.tid(1)), of: alice, reason: "asked", by: agent) != nil
            }
        }
    }

    @Test(
        "a reader who found the rows before the leave and reads the bytes after it gets what a stranger gets, and no error (I12)",
        arguments: Reader.allCases, [AccountLeave.Content.kept, .erase])
    func readers(reader: Reader, content: AccountLeave.Content) async throws {
        for isOwner in [true, false] {
            let held = Held()
            let it = try await trial(held)
            let (engine, alice, caller) = (it.engine, it.alice, isOwner ? it.alice : it.bob)
            #expect(try await reader.read(engine, alice, as: caller), "it is there before")
            held.isArmed.store(true, ordering: .sequentiallyConsistent)
            let task = Task { try await reader.read(engine, alice, as: caller) }
            await held.arrived.wait()
            try await it.deployment.leave(alice, content)
            held.gate.open()
            #expect(try await !task.value, "\(reader), \(content)")
            held.isArmed.store(false, ordering: .sequentiallyConsistent)
            // Nor where the owner is back by then: what was erased stays erased, what was kept is served again.
            try await it.deployment.enroll(alice)
            // An owner gets a proof of absence too.
            let isProven = content == .kept || (reader == .proof && isOwner)
            #expect(try await reader.read(engine, alice, as: caller) == isProven)
            try await it.expectSound()
        }
    }

    @Test("a reader who is held until the owner has left and come back gets nothing of what was erased", arguments: [true, false])
    func comesBackMeanwhile(isOwner: Bool) async throws {
        let held = Held()
        let it = try await trial(held)
        let (engine, alice, caller) = (it.engine, it.alice, isOwner ? it.alice : it.bob)
        held.isArmed.store(true, ordering: .sequentiallyConsistent)
        let task = Task { try await Reader.page.read(engine, alice, as: caller) }
        await held.arrived.wait()
        try await it.deployment.leave(alice, .erase)
        try await it.deployment.enroll(alice, ["engineering"])
        held.gate.open()
        #expect(try await !task.value)
    }

    @Test("an export that is read slowly ends with the leave: no piece goes out behind it", arguments: [AccountLeave.Content.kept, .erase])
    func exports(content: AccountLeave.Content) async throws {
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(it.alice)
        let text = String(repeating: "a", count: 2900)
        let notes = (0..<400).map { number -> (path: RecordPath, record: Value) in
            (path(.tid(number), in: .note), ["$type": "zone.stratos.test.note", "text": .string("\(number)\(text)")])
        }
        _ = try await it.importing(notes, into: it.alice)
        let export = try #require(try await it.engine.exportRepo(of: it.alice, to: .user(it.alice)))
        let whole = Mutex(0)
        try await export.content.stream(from: it.engine) { piece in whole.withLock { $0 += piece.count } }
        var pieces = 0
        var sent = 0
        await #expect(throws: Refusal.notEnrolled) {
            try await export.content.stream(from: it.engine) { piece in
                pieces += 1
                sent += piece.count
                // The reader rests over the second piece, and the owner leaves.
                if pieces == 2 { try await it.deployment.leave(it.alice, content) }
            }
        }
        #expect(pieces == 2 && sent < whole.withLock { $0 } / 2, "\(pieces) pieces, \(sent) bytes")
        await #expect(throws: Refusal.notEnrolled) { try await export.content.stream(from: it.engine) { _ in Issue.record("a piece") } }
        // The operator has what was kept.
        if content == .kept { #expect(try await it.records(of: it.alice).count == 400) }
        try await it.expectSound()
    }

    @Test("an import under way ends with the leave, and is nothing that a return takes over", arguments: [true, false])
    func imports(comesBack: Bool) async throws {
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(it.alice)
        let posts = (0..<50).map { (path: path(.tid($0)), record: it.deployment.post("imported \($0)")) }
        let file = try RepoFile.make(of: it.alice, posts, signedWith: Trial.foreignKey)
        let source = ImportSource(size: file.count) { offset, count in Array(file[offset..<offset + count]) }
        let (deployment, alice) = (it.deployment, it.alice)
        let hasLeft = Atomic(false)
        let found = try await refusal {
            try await deployment.engine.importRepo(
                source, into: alice, options: ImportOptions(), by: deployment.agent(alice),
                progress: { _, _ in
                    // The blocks are staged by now.
                    guard !hasLeft.exchange(true, ordering: .relaxed) else { return }
                    try await deployment.leave(alice, .erase)
                    if comesBack { try await deployment.enroll(alice) }
                })
        }
        #expect(found == .notEnrolled)
        #expect(try await it.engine.isEnrolled(it.alice) == comesBack)
        if comesBack { #expect(try await it.records(of: it.alice).isEmpty) }
        try await it.restart()
        for (_, record) in posts { #expect(try await it.log.block(CID(hashing: DAGCBOR.encode(record)), of: it.alice) == nil) }
        try await it.expectSound()
    }

    @Test("an import that was judged with boundaries which were taken away meanwhile is refused")
    func importsUnderOtherBoundaries() async throws {
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(it.alice, ["engineering", "general"])
        let file = try RepoFile.make(
            of: it.alice, [(path(.tid(1)), it.deployment.post("x", in: ["engineering"]))], signedWith: Trial.foreignKey)
        let source = ImportSource(size: file.count) { offset, count in Array(file[offset..<offset + count]) }
        let (deployment, alice) = (it.deployment, it.alice)
        let found = try await refusal {
            try await deployment.engine.importRepo(
                source, into: alice, options: ImportOptions(), by: deployment.agent(alice),
                progress: { _, _ in
                    _ = try await deployment.engine.changeBoundaries(
                        of: alice, .remove(["engineering"]), by: Agent(did: try deployment.service, credential: .operator))
                })
        }
        #expect(found == .invalidRequest("boundaries were taken away while the file was read; import it again"))
        #expect(try await it.records(of: it.alice).isEmpty)
    }

    @Test(
        "writes that wait in the lane behind a leave are refused, each of them, and leave no files",
        arguments: [AccountLeave.Content.kept, .erase])
    func writes(content: AccountLeave.Content) async throws {
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(it.alice)
        let (deployment, alice, latch) = (it.deployment, it.alice, AsyncGate())
        // Whether a task is a write that was refused as a stranger's.
        let refused = try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                try await deployment.engine.lanes.run(alice) { await latch.wait() }
                return false
            }
            while !deployment.engine.lanes.isTaken(alice) { await Task.yield() }
            group.addTask {
                try await deployment.leave(alice, content)
                return false
            }
            while deployment.engine.lanes.waitingCount(alice) < 1 { await Task.yield() }
            for number in 0..<10 {
                group.addTask {
                    let write = [RecordWrite.create(deployment.post("\(number)"), at: .tid(number))]
                    return try await refusal { try await deployment.write(alice, write) } == .notEnrolled
                }
            }
            while deployment.engine.lanes.waitingCount(alice) < 11 { try await Task.sleep(for: .milliseconds(1)) }
            latch.open()
            return try await group.reduce(into: 0) { count, isRefused in count += isRefused ? 1 : 0 }
        }
        #expect(refused == 10)
        #expect(try await it.state(of: alice).events.map(\.kind) == [.accountEnroll, .accountLeave])
        try await it.expectSound()
    }
}
