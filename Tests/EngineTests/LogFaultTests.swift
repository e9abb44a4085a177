import ATProto
import Commands
import Engine
import EventLog
import Simulation
import Testing

/// A log that refuses, or that stores and does not say so: the next write decides from what is there.
@Suite("Failing appends")
struct LogFaultTests {
    private static let failed = EventLogError.storage(operation: "append", code: 5)

    /// The first two appends, the service's start and an enrollment, go through.
    private func begin(_ plan: @escaping @Sendable (Int) -> FaultyEventStore.Fault?) async throws -> Trial {
        let it = try await Trial(over: FaultyEventStore(MemoryEventStore()) { $0 < 3 ? nil : plan($0 - 2) })
        try await it.deployment.enroll(it.alice)
        return it
    }

    @Test("what was refused is not there, and the next write goes on", arguments: [failed, .overloaded, .noSpace])
    func refused(error: EventLogError) async throws {
        let it = try await begin { $0 == 1 ? .refused(error) : nil }
        let create = [RecordWrite.create(it.deployment.post("x"), at: .tid(1))]
        await #expect(throws: error) { try await it.deployment.write(it.alice, create) }
        #expect(try await it.records(of: it.alice).isEmpty)
        try await it.deployment.write(it.alice, create)
        #expect(try await it.records(of: it.alice).count == 1)
        #expect(try await it.log.head(of: it.alice).sequence == 2)
        try await it.expectSound()
    }

    @Test("what was stored without an answer is there, and nothing is doubled")
    func persisted() async throws {
        let it = try await begin { $0 == 1 ? .persisted(Self.failed) : nil }
        let create = [RecordWrite.create(it.deployment.post("x"), at: .tid(1))]
        await #expect(throws: Self.failed) { try await it.deployment.write(it.alice, create) }
        #expect(try await it.records(of: it.alice).count == 1, "the next touch reads what is there")
        #expect(
            try await refusal { try await it.deployment.write(it.alice, create) }
                == .invalidRequest("a record stands at \(path(.tid(1))) already"))
        let receipt = try await it.deployment.write(it.alice, [.create(it.deployment.post("y"), at: .tid(2))])
        #expect(receipt.isNew)
        #expect(try await it.log.head(of: it.alice).sequence == 3)
        try await it.expectSound()
    }

    @Test("with an idempotency key the client learns what became of it")
    func persistedWithKey() async throws {
        let it = try await begin { $0 == 1 ? .persisted(Self.failed) : nil }
        let client = try ClientRequest(idempotencyKey: "key", input: "x", method: .named("com.atproto.repo.createRecord"))
        let create = [RecordWrite.create(it.deployment.post("x"))]
        await #expect(throws: Self.failed) { try await it.deployment.write(it.alice, create, client: client) }
        let receipt = try await it.deployment.write(it.alice, create, client: client)
        #expect(receipt.isRepeated && !receipt.isNew)
        let stored = try await it.records(of: it.alice)
        #expect(stored == [receipt.results[0].path: receipt.results[0].cid!])
        try await it.expectSound()
    }

    @Test("an import whose answer was lost is one that was imported")
    func persistedImport() async throws {
        let it = try await begin { $0 == 1 ? .persisted(Self.failed) : nil }
        let records = [(path: path(.tid(1)), record: it.deployment.post("x"))]
        await #expect(throws: Self.failed) { try await it.importing(records, into: it.alice) }
        #expect(try await refusal { try await it.importing(records, into: it.alice) } == .repoAlreadyExists)
        #expect(try await it.records(of: it.alice).count == 1)
        try await it.expectSound()
    }

    @Test("a seeded run over a failing log ends with what was stored, each once", arguments: [1, 2, 3])
    func seeded(round: UInt64) async throws {
        let seed = TestFiles.seed &+ round
        let it = try await Trial(over: FaultyEventStore(MemoryEventStore(), seed: seed, every: 3, after: 1))
        for actor in [it.alice, it.bob] {
            while try await it.engine.enrollment(of: actor) == nil {
                do { try await it.deployment.enroll(actor) } catch is EventLogError {}
            }
        }
        var generator = SeededGenerator(seed: seed)
        for number in 0..<60 {
            let actor = Bool.random(using: &generator) ? it.alice : it.bob
            let key = RecordKey.tid(number)
            let client = try ClientRequest(
                idempotencyKey: "k\(number)", input: .integer(Int64(number)), method: .named("com.atproto.repo.createRecord"))
            var receipts: [WriteReceipt] = []
            // As clients do: again and again with the same key, until there is an answer.
            while receipts.isEmpty {
                do {
                    receipts.append(
                        try await it.deployment.write(actor, [.create(it.deployment.post("\(number)"), at: key)], client: client))
                } catch is EventLogError {}
            }
            #expect(try await it.engine.record(at: path(key), of: actor, to: .user(actor))?.content.cid == receipts[0].results[0].cid)
        }
        let counts = try await [it.records(of: it.alice).count, it.records(of: it.bob).count]
        #expect(counts.reduce(0, +) == 60, "seed \(seed)")
        let events = try await [it.log.head(of: it.alice).sequence, it.log.head(of: it.bob).sequence]
        #expect(events.reduce(0, +) == 62, "seed \(seed)")
        try await it.expectSound("seed \(seed)")
    }

    @Test("a writer that lost to another service on the same log reads what was added and decides again (I5)")
    func anotherWriter() async throws {
        let log = MemoryEventStore()
        let it = try await Trial(over: log)
        try await it.deployment.enroll(it.alice)
        let directory = try TemporaryDirectory()
        let other = try await SimulatedDeployment.open(log, in: directory.path, options: it.deployment.options)
        defer { other.close() }
        try other.files.keep(try #require(try it.deployment.files.signingKey(of: it.alice)), of: it.alice)
        let first = try await it.deployment.write(it.alice, [.create(it.deployment.post("1"), at: .tid(1))])
        try await other.write(it.alice, [.update(it.deployment.post("2"), at: .tid(1))])
        // The first engine has not seen that: it decides upon a record that has changed, loses, and decides upon what is there.
        try await it.deployment.write(it.alice, [.create(it.deployment.post("3"), at: .tid(3))])
        try await other.write(it.alice, [.delete(at: .tid(1))])
        #expect(
            try await refusal { try await it.deployment.write(it.alice, [.update(it.deployment.post("4"), at: .tid(1))]) }
                == .recordNotFound)
        try await other.write(it.alice, [.create(it.deployment.post("5"), at: .tid(5))])
        #expect(
            try await refusal {
                try await it.deployment.write(it.alice, [.create(it.deployment.post("6"), at: .tid(6))], swapCommit: first.commit)
            }?.name == "InvalidSwap")
        #expect(try await it.log.head(of: it.alice).sequence == 6)
        try await it.expectSound()
    }

    @Test("two services that race on one log lose nothing and double nothing (I5)")
    func racingServices() async throws {
        let log = MemoryEventStore()
        let it = try await Trial(over: log)
        try await it.deployment.enroll(it.alice)
        let directory = try TemporaryDirectory()
        let other = try await SimulatedDeployment.open(log, in: directory.path, options: it.deployment.options)
        defer { other.close() }
        try other.files.keep(try #require(try it.deployment.files.signingKey(of: it.alice)), of: it.alice)
        let (deployments, alice) = ([it.deployment, other], it.alice)
        let written = try await withThrowingTaskGroup { group in
            for number in 0..<60 {
                group.addTask {
                    let deployment = deployments[number % 2]
                    while true {
                        do {
                            let write = RecordWrite.create(deployment.post("\(number)"), at: .tid(number))
                            return try await deployment.write(alice, [write]).results[0]
                        } catch Refusal.overloaded {
                            await Task.yield()  // The other one was faster every time.
                        }
                    }
                }
            }
            return try await group.reduce(into: [RecordPath: CID]()) { $0[$1.path] = $1.cid }
        }
        try await it.restart()
        #expect(try await it.records(of: it.alice) == written && written.count == 60)
        #expect(try await it.log.head(of: it.alice).sequence == 61)
        try await it.expectSound()
    }
}
