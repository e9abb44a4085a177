import ATProto
import Commands
import EventLog
import Projections
import Simulation
import Testing

@testable import Engine

/// What an actor's tree takes in memory does not grow with the repo.
@Suite("Tree nodes in memory")
struct TreeBoundTests {
    private func loaded(_ it: Trial) async throws -> Int {
        let alice = it.alice
        return try await it.deployment.databases.withActor(alice) { rows in try ActorContext.of(alice, in: rows).tree.loadedNodeCount }
    }

    /// Nodes on the way to a key, and those that one edit may move beside them.
    private let nodesByEditMax = 12

    @Test("a repo that is written all over keeps a bounded number of nodes, and its tree is the same (I7)")
    func bounded() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        var generator = SeededGenerator(seed: TestFiles.seed)
        var model = MST()
        let record: (Int) -> Value = { ["n": .integer(Int64($0))] }
        let cid: (Int) -> CID = { CID(hashing: DAGCBOR.encode(record($0).with("$type", .string(NSID.note.description)))) }
        let key: (Int) -> MSTKey = { MSTKey(collection: .note, recordKey: .tid($0)) }
        var counts: [Int] = []
        for batch in 0..<11 {
            let numbers = batch * 200..<(batch + 1) * 200
            try await it.deployment.write(it.alice, numbers.map { .create(record($0), in: .note, at: .tid($0)) })
            for number in numbers { try model.insert(key(number), cid(number)) }
            counts.append(try await loaded(it))
        }
        #expect(model.loadedNodeCount > ActorContext.nodesMax, "the repo has no more nodes than may be kept")
        #expect(counts.allSatisfy { $0 <= ActorContext.nodesMax }, "\(counts)")
        #expect(counts.max()! > ActorContext.nodesMax / 2 && counts.contains(0), "nothing was kept, or nothing dropped: \(counts)")
        for step in 0..<20 {
            let number = Int.random(in: 0..<2200, using: &generator)
            try await it.deployment.write(it.alice, [.update(record(10_000 + step), in: .note, at: .tid(number))])
            try model.update(key(number), cid(10_000 + step))
        }
        let kept = try await loaded(it)
        #expect(kept > 20 && kept <= ActorContext.nodesMax + ActorContext.editsMax * nodesByEditMax, "\(kept), seed \(TestFiles.seed)")
        #expect(try await it.engine.enrollment(of: it.alice)?.repo.data == model.root(), "seed \(TestFiles.seed)")
        try await it.expectSound()
    }

    @Test("a small repo stays in memory however often it is written")
    func small() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        try await it.deployment.write(it.alice, (0..<60).map { .create(["n": .integer(Int64($0))], in: .note, at: .tid($0)) })
        let whole = try await loaded(it)
        for step in 0..<ActorContext.editsMax * 2 {
            try await it.deployment.write(it.alice, [.update(["m": .integer(Int64(step))], in: .note, at: .tid(step % 60))])
            #expect(try await loaded(it) == whole)
        }
    }
}
