import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Projections
import Simulation
import Testing

/// An export since a rev: with the repo of then it is the repo of now, and of what stood in the tree then it sends nothing.
@Suite("Exports since a rev")
struct ExportSinceTests {
    private struct File {
        let roots: [CID]
        let blocks: [(cid: CID, bytes: [UInt8])]

        init(_ bytes: [UInt8]) throws {
            let (roots, blocks) = try CARReader.read(bytes)
            self.roots = roots
            self.blocks = blocks.map { ($0.cid, $0.bytes) }
        }

        var cids: Set<CID> { Set(blocks.map(\.cid)) }
        /// Those that are nodes of a tree, and not its records or the commit.
        var nodes: Set<CID> { Set(blocks.filter { (try? DAGCBOR.decode($0.bytes))?["e"] != nil }.map(\.cid)) }
    }

    private func file(_ it: Trial, since: TID?, to caller: Caller? = nil) async throws -> File {
        let export = try #require(try await it.engine.exportRepo(of: it.alice, since: since, to: caller ?? .user(it.alice)))
        var bytes: [UInt8] = []
        try await export.content.stream(from: it.engine) { bytes += $0 }
        return try File(bytes)
    }

    /// The later repo, put together of the earlier one and what came since, in an order that a reader takes.
    private func expectWhole(_ it: Trial, _ earlier: File, _ since: File, _ comment: Comment) async throws {
        var blocks: [CID: [UInt8]] = [:]
        for block in earlier.blocks + since.blocks { blocks[block.cid] = block.bytes }
        let root = try #require(since.roots.first)
        let commit = blocks.removeValue(forKey: root)
        let others = blocks.values.map { RepoSample.Block($0) }
        let car = RepoSample.car(root: root, [RepoSample.Block(try #require(commit))] + others)
        let key = try await it.state(of: it.alice).key
        let expected = try await it.records(of: it.alice)
        #expect(try RepoFile.read(car, key: key).records == expected, comment)
    }

    @Test("with the repo of then it makes the repo of now, and holds no node that stood in it, over seeded histories (I7)")
    func seeded() async throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        try await it.deployment.write(it.alice, (0..<120).map { .create(["n": .integer(Int64($0))], in: .note, at: .tid($0)) })
        var earlier: [(rev: TID, file: File)] = []
        for step in 0..<60 {
            if step % 10 == 0 {
                earlier.append((try #require(try await it.engine.enrollment(of: it.alice)).repo.rev, try await file(it, since: nil)))
            }
            // Few values, so that records and nodes come back that were there before; batches, and events without a commit between.
            let keys = Set((0..<Int.random(in: 1...4, using: &generator)).map { _ in Int.random(in: 60..<180, using: &generator) })
            let writes = keys.map { key -> RecordWrite in
                Int.random(in: 0..<3, using: &generator) == 0
                    ? .delete(in: .note, at: .tid(key))
                    : .put(["n": .integer(Int64.random(in: 0..<4, using: &generator))], in: .note, at: .tid(key))
            }
            try await it.deployment.write(it.alice, writes)
            if step % 7 == 0 {
                let agent = try Agent(administrator: "root")
                _ = try await it.engine.readAsAdministrator(path(.tid(1), in: .note), of: it.alice, reason: "r", by: agent)
            }
        }
        let now = try await file(it, since: nil)
        for (index, (rev, file)) in earlier.enumerated() {
            let since = try await self.file(it, since: rev)
            let comment: Comment = "since \(index), seed \(seed)"
            #expect(since.roots == now.roots && since.blocks.first?.cid == now.roots.first, comment)
            #expect(since.nodes == now.nodes.subtracting(file.nodes), comment)
            #expect(since.blocks.count == since.cids.count && since.cids.isSubset(of: now.cids), comment)
            // In the order of the whole.
            #expect(now.blocks.map(\.cid).filter(since.nodes.contains) == since.blocks.map(\.cid).filter(since.nodes.contains), comment)
            try await expectWhole(it, file, since, comment)
        }
        // A rev between two commits is the earlier one; one that is not in the past leaves the commit.
        let (rev, first) = earlier[1]
        let between = TID(microseconds: Int64(rev.microseconds) + 1, clockID: 0)
        #expect(try await file(it, since: between).nodes == now.nodes.subtracting(first.nodes))
        let last = try #require(try await it.engine.enrollment(of: it.alice)).repo.rev
        for rev in [last, TID(microseconds: Int64(last.microseconds) + 1_000_000, clockID: 0)] {
            #expect(try await file(it, since: rev).cids == Set(now.roots))
        }
        // One from before everything leaves nothing out.
        #expect(try await file(it, since: TID(microseconds: 1_000_000, clockID: 0)).cids == now.cids)
    }

    @Test("what the log cannot undo is sent whole: an import, another enrollment, an erased body")
    func whole() async throws {
        let log = MemoryEventStore()
        let it = try await Trial(over: log)
        try await it.deployment.enroll(it.alice)
        let enrolled = try #require(try await it.engine.enrollment(of: it.alice)).repo.rev
        let empty = try await file(it, since: nil)
        _ = try await it.importing((0..<50).map { (path: path(.tid($0)), record: it.deployment.post("\($0)")) }, into: it.alice)
        let imported = try #require(try await it.engine.enrollment(of: it.alice)).repo.rev
        let full = try await file(it, since: nil)
        #expect(try await file(it, since: enrolled).cids == full.cids)
        try await expectWhole(it, empty, try await file(it, since: enrolled), "since before the import")
        try await it.deployment.write(it.alice, [.delete(at: .tid(7)), .put(it.deployment.post("new"), at: .tid(8))])
        let since = try await file(it, since: imported)
        try await expectWhole(it, full, since, "since the import")
        #expect(since.blocks.count < 12)
        let written = try #require(try await it.engine.enrollment(of: it.alice)).repo.rev
        log.tamper(it.alice, sequence: 3) { $0.with(body: nil) }
        let now = try await file(it, since: nil)
        #expect(try await file(it, since: imported).nodes == now.nodes, "an erased body")
        #expect(try await file(it, since: written).cids == Set(now.roots), "after it")
    }

    @Test("who left and came back has a repo of their own, and a rev of before knows nothing of it")
    func cameBack() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        let before = try await it.deployment.write(it.alice, (0..<20).map { .create(["n": .integer(Int64($0))], in: .note, at: .tid($0)) })
        try await it.deployment.append(
            { provenance, _ in .accountLeave(AccountLeave(provenance: provenance, content: .erase, reason: "moved")) }, to: it.alice)
        try await it.restart()
        try await it.deployment.enroll(it.alice)
        try await it.deployment.write(it.alice, [.create(["n": 3], in: .note, at: .tid(3))])
        // The record stood at its key before, and in no tree that is left.
        #expect(try await file(it, since: before.rev).cids == file(it, since: nil).cids)
    }

    @Test("over many events between the two commits it is found too, and so is the very last")
    func farBack() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        let first = try await it.deployment.write(it.alice, (0..<40).map { .create(["n": .integer(Int64($0))], in: .note, at: .tid($0)) })
        let file = try await file(it, since: nil)
        for count in [63, 1, 1, 1, 200] {
            for number in 0..<count {
                try await it.deployment.write(it.alice, [.put(["m": .integer(Int64(number))], in: .note, at: .tid(3))])
            }
            let since = try await self.file(it, since: first.rev)
            #expect(since.blocks.count < 10)
            try await expectWhole(it, file, since, "\(count) more")
        }
    }

    @Test("who may not have the repo gets none since any rev, and an AppView its gain alone (I12)")
    func callers() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice, ["engineering"])
        try await it.deployment.enroll(it.bob, ["engineering"])
        let view = Caller.appView(try DID("did:web:view.example"))
        let first = try await it.deployment.write(it.alice, (0..<40).map { .create(it.deployment.post("\($0)"), at: .tid($0)) })
        try await it.deployment.write(it.alice, [.put(it.deployment.post("x"), at: .tid(3))])
        for caller in [Caller.user(it.bob), .anonymous, .administrator(name: "root")] {
            #expect(try await it.engine.exportRepo(of: it.alice, since: first.rev, to: caller) == nil)
        }
        let (seen, owned) = (try await file(it, since: first.rev, to: view), try await file(it, since: first.rev))
        #expect(seen.cids == owned.cids && seen.blocks.count < 12)
        // With a record that is its owner's alone, the AppView has no repo at all.
        try await it.deployment.write(it.alice, [.create(["n": 1], in: .note, at: .named("own"))])
        #expect(try await it.engine.exportRepo(of: it.alice, since: first.rev, to: view) == nil)
    }
}
