import ATProto
import Commands
import Engine
import EventLog
import Simulation
import Synchronization
import Testing

@Suite("Lanes")
struct LaneTests {
    private final class Counter: Sendable {
        let value = Atomic<Int>(0)
    }

    private final class Record: Sendable {
        private let entries = Mutex<[String]>([])
        func note(_ entry: String) { entries.withLock { $0.append(entry) } }
        var all: [String] { entries.withLock { $0 } }
    }

    private let alice = SimulatedDeployment.actor(1)
    private let bob = SimulatedDeployment.actor(2)

    /// Waits until so many wait in an actor's lane.
    private func until(_ count: Int, in lanes: ActorLanes, _ actor: DID) async throws {
        while lanes.waitingCount(actor) != count { try await Task.sleep(for: .milliseconds(1)) }
    }

    @Test("commands of one actor run one after the other in the order of arrival, those of others beside them")
    func order() async throws {
        let (lanes, latch, record, alice, bob) = (ActorLanes(), AsyncGate(), Record(), alice, bob)
        try await withThrowingTaskGroup { group in
            for number in 0..<20 {
                group.addTask {
                    try await lanes.run(alice) {
                        if number == 0 { await latch.wait() }
                        record.note("begin \(number)")
                        await Task.yield()
                        record.note("end \(number)")
                    }
                }
                if number == 0 {
                    while !lanes.isTaken(alice) { await Task.yield() }
                } else {
                    try await until(number, in: lanes, alice)
                }
            }
            try await lanes.run(bob) { record.note("bob") }
            latch.open()
            try await group.waitForAll()
        }
        #expect(record.all == ["bob"] + (0..<20).flatMap { ["begin \($0)", "end \($0)"] })
        #expect(!lanes.isTaken(alice), "a lane that nobody uses takes no memory")
    }

    @Test("so many may wait, and one more is refused; maintenance waits behind however many")
    func bound() async throws {
        let (lanes, latch, record, alice) = (ActorLanes(waitingMax: 3), AsyncGate(), Record(), alice)
        try await withThrowingTaskGroup { group in
            group.addTask { try await lanes.run(alice) { await latch.wait() } }
            while !lanes.isTaken(alice) { await Task.yield() }
            for _ in 0..<3 { group.addTask { try await lanes.run(alice) { record.note("ran") } } }
            try await until(3, in: lanes, alice)
            #expect(try await refusal { try await lanes.run(alice) { record.note("too many") } } == .overloaded)
            group.addTask { try await lanes.run(alice, isBounded: false) { record.note("maintenance") } }
            try await until(4, in: lanes, alice)
            latch.open()
            try await group.waitForAll()
        }
        #expect(record.all == ["ran", "ran", "ran", "maintenance"])
        try await lanes.run(alice) { record.note("free again") }
    }

    @Test("whoever is cancelled while waiting leaves at once, with nothing done, and wedges nobody")
    func cancelled() async throws {
        let (lanes, latch, record, alice) = (ActorLanes(waitingMax: 2), AsyncGate(), Record(), alice)
        let holder = Task { try await lanes.run(alice) { await latch.wait() } }
        while !lanes.isTaken(alice) { await Task.yield() }
        let abandoned = Task { try await lanes.run(alice) { record.note("abandoned") } }
        try await until(1, in: lanes, alice)
        let patient = Task { try await lanes.run(alice) { record.note("patient") } }
        try await until(2, in: lanes, alice)
        abandoned.cancel()
        await #expect(throws: CancellationError.self) { try await abandoned.value }
        #expect(lanes.waitingCount(alice) == 1, "and its place is free")
        let late = Task { try await lanes.run(alice) { record.note("late") } }
        try await until(2, in: lanes, alice)
        latch.open()
        try await holder.value
        try await patient.value
        try await late.value
        #expect(record.all == ["patient", "late"])
        #expect(!lanes.isTaken(alice))
    }

    @Test("whoever was cancelled before does not begin; whoever has begun goes on to the end")
    func cancelledBeforeAndAfter() async throws {
        let (lanes, latch, record, alice) = (ActorLanes(), AsyncGate(), Record(), alice)
        let before = Task {
            await latch.wait()
            try await lanes.run(alice) { record.note("never") }
        }
        before.cancel()
        latch.open()
        await #expect(throws: CancellationError.self) { try await before.value }
        let begun = AsyncGate()
        let inside = Task {
            try await lanes.run(alice) {
                begun.open()
                while !Task.isCancelled { await Task.yield() }
                record.note("to the end")
            }
        }
        await begun.wait()
        inside.cancel()
        try await inside.value
        #expect(record.all == ["to the end"])
        #expect(!lanes.isTaken(alice))
    }

    @Test("cancellations at any moment leave the lane free")
    func cancellationsAnyTime() async throws {
        let (lanes, alice) = (ActorLanes(waitingMax: 1000), alice)
        let counter = Counter()
        var tasks: [Task<Void, any Error>] = []
        for _ in 0..<500 {
            tasks.append(
                Task {
                    try await lanes.run(alice) {
                        #expect(counter.value.add(1, ordering: .relaxed).newValue == 1, "one at a time")
                        await Task.yield()
                        counter.value.subtract(1, ordering: .relaxed)
                    }
                })
        }
        var generator = SeededGenerator(seed: TestFiles.seed)
        for task in tasks where Int.random(in: 0..<2, using: &generator) == 0 {
            task.cancel()
            if Int.random(in: 0..<8, using: &generator) == 0 { await Task.yield() }
        }
        for task in tasks { _ = await task.result }
        #expect(!lanes.isTaken(alice), "seed \(TestFiles.seed)")
        try await lanes.run(alice) {}
    }

    @Test("a client that hangs up while its write waits has written nothing; one whose write has begun has written it")
    func abandonedWrites() async throws {
        let entered = AsyncGate()
        let latch = AsyncGate()
        let it = try await Trial(over: SlowStore(MemoryEventStore(), entered: { entered.open() }, gate: { await latch.wait() }))
        try await it.deployment.enroll(it.alice)
        (it.log as? SlowStore)?.isSlow.store(true, ordering: .relaxed)
        let (deployment, alice) = (it.deployment, it.alice)
        let begun = Task { try await deployment.write(alice, [.create(deployment.post("begun"), at: .tid(1))]) }
        await entered.wait()
        let waiting = Task { try await deployment.write(alice, [.create(deployment.post("waiting"), at: .tid(2))]) }
        try await until(1, in: deployment.engine.lanes, alice)
        begun.cancel()
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        latch.open()
        #expect(try await begun.value.isNew)
        #expect(try await it.records(of: it.alice).keys.map(\.recordKey) == [.tid(1)])
        try await it.expectSound()
    }

    @Test("more writes than may wait are refused with nothing written")
    func overloaded() async throws {
        let entered = AsyncGate()
        let latch = AsyncGate()
        let it = try await Trial(over: SlowStore(MemoryEventStore(), entered: { entered.open() }, gate: { await latch.wait() })) {
            $0.waitingMax = 2
        }
        try await it.deployment.enroll(it.alice)
        (it.log as? SlowStore)?.isSlow.store(true, ordering: .relaxed)
        let (deployment, alice) = (it.deployment, it.alice)
        var tasks = [Task { try await deployment.write(alice, [.create(deployment.post("0"), at: .tid(0))]) }]
        await entered.wait()
        for number in 1...2 {
            tasks.append(Task { try await deployment.write(alice, [.create(deployment.post("\(number)"), at: .tid(number))]) })
            try await until(number, in: deployment.engine.lanes, alice)
        }
        #expect(try await refusal { try await deployment.write(alice, [.create(deployment.post("3"), at: .tid(3))]) } == .overloaded)
        // Reading does not wait for writers.
        #expect(try await it.engine.record(at: path(.tid(0)), of: it.alice, to: .user(it.alice)) == nil)
        latch.open()
        for task in tasks { #expect(try await task.value.isNew) }
        #expect(try await it.records(of: it.alice).count == 3)
    }
}

/// A log whose appends wait until the test lets them.
private final class SlowStore: WrappingEventStore {
    let base: any EventStore
    private let entered: @Sendable () -> Void
    private let gate: @Sendable () async -> Void
    let isSlow = Atomic<Bool>(false)

    init(_ base: any EventStore, entered: @escaping @Sendable () -> Void, gate: @escaping @Sendable () async -> Void) {
        self.base = base
        self.entered = entered
        self.gate = gate
    }

    func append(_ append: Append) async throws(EventLogError) -> [Appended] {
        if isSlow.load(ordering: .relaxed) {
            entered()
            await gate()
        }
        return try await base.append(append)
    }
}
