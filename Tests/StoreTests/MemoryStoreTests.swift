import EventLog
import Simulation
import Testing

@Suite("The log in memory")
struct MemoryStoreTests {
    @Test("keeps the contract of a store", arguments: EventStoreContract.Behaviour.allCases)
    func contract(_ behaviour: EventStoreContract.Behaviour) async throws {
        try await EventStoreContract(seed: TestFiles.seed) { MemoryEventStore() }.check(behaviour)
    }

    @Test("acknowledges before it decides positions, and decides them in the order of the acknowledgements (I13)")
    func sequencer() async throws {
        let store = MemoryEventStore(sequencing: .manual)
        var history = try HistoryGenerator(seed: TestFiles.seed, actors: 3)
        var expected = [try await store.append(try history.start())[0].event]
        for _ in 0..<20 { expected += try await store.append(try history.next()).map(\.event) }
        #expect(try await store.events(afterPosition: 0, limit: 100).isEmpty)
        #expect(try await store.statistics().position == 0)
        store.sequence(limit: 5)
        #expect(try await store.events(afterPosition: 0, limit: 100).map(\.cid) == Array(expected.prefix(5)))
        store.sequence()
        #expect(try await store.events(afterPosition: 5, limit: 100).map(\.cid) == Array(expected.dropFirst(5)), "seed \(TestFiles.seed)")
        #expect(try await store.statistics().position == UInt64(expected.count))
    }

    @Test("a service.start that opens a generation is position 1 of it")
    func generations() async throws {
        let store = MemoryEventStore()
        var service = try SimulatedService(seed: 1)
        _ = try await store.append(try service.start())
        _ = try await store.append(try service.start())
        _ = try await store.append(try service.start(opening: 1, before: 2))
        _ = try await store.append(try service.start(opening: 1, before: nil))
        let generation = StreamCursor(generation: 1, position: 1)!.rawValue
        #expect(try await store.events(afterPosition: 0, limit: 9).map(\.position) == [1, 2, generation, generation + 1])
        #expect(await ChainVerifier(store).verify().findings == [])
    }

    @Test("a faulty store stores nothing, or everything, as its plan says")
    func faults() async throws {
        let base = MemoryEventStore()
        let store = FaultyEventStore(base) {
            $0 == 2 ? .refused(.noSpace) : $0 == 3 ? .persisted(.storage(operation: "append", code: 5)) : nil
        }
        var service = try SimulatedService(seed: 1)
        let first = try service.start()
        _ = try await store.append(first)
        let second = try service.start()
        await #expect(throws: EventLogError.noSpace) { try await store.append(second) }
        #expect(try await store.head(of: service.did) == first.head)
        await #expect(throws: EventLogError.storage(operation: "append", code: 5)) { try await store.append(second) }
        #expect(try await store.head(of: service.did) == second.head)
    }
}
