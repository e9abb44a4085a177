import ATProto
import Commands
import Engine
import EventLog
import Simulation
import Testing

@Suite("Time")
struct ClockTests {
    /// Revs rise and no event's time is before its predecessor's or its own commit's rev, to the millisecond.
    private func expectOrder(_ it: Trial, of did: DID) async throws {
        let state = try await it.state(of: did)
        let revs = state.commits.map(\.rev)
        #expect(zip(revs, revs.dropFirst()).allSatisfy { $0 < $1 }, "I10, seed \(TestFiles.seed)")
        let times = state.events.map(\.time)
        #expect(zip(times, times.dropFirst()).allSatisfy { $0 <= $1 }, "seed \(TestFiles.seed)")
        for (event, body) in zip(state.events, state.bodies) {
            guard let commit = body.commit else { continue }
            #expect(event.time.milliseconds >= Int64(commit.rev.microseconds) / 1000, "seed \(TestFiles.seed)")
        }
    }

    @Test("revs rise whatever the clock does, over restarts too (I10)", arguments: Backend.allCases)
    func anyClock(backend: Backend) async throws {
        let it = try await Trial(backend)
        try await it.deployment.enroll(it.alice)
        var generator = SeededGenerator(seed: TestFiles.seed)
        let start = it.clock.microseconds
        for round in 0..<40 {
            switch Int.random(in: 0..<5, using: &generator) {
            case 0: it.clock.set(start - Int64.random(in: 0...86_400_000_000, using: &generator))
            case 1: it.clock.advance(seconds: Int64.random(in: 0...3600, using: &generator))
            case 2: it.clock.setTick(Int64.random(in: 0...2000, using: &generator))
            case 3: it.clock.setTick(-Int64.random(in: 0...2000, using: &generator))
            default: break
            }
            if round % 10 == 9 { try await it.restart() }
            try await it.deployment.write(
                it.alice, (0..<Int.random(in: 1...4, using: &generator)).map { _ in .create(it.deployment.post("\(round)")) })
        }
        try await expectOrder(it, of: it.alice)
        #expect(try await it.state(of: it.alice).commits.count == 41)
        try await it.expectSound()
    }

    @Test("a clock that stands still gives each event a time, and one that went back a millisecond more each")
    func standingStill() async throws {
        let it = try await Trial()
        it.clock.setTick(0)
        let now = it.clock.microseconds / 1000
        try await it.deployment.enroll(it.alice)
        for number in 0..<3 { try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"))]) }
        #expect(try await it.state(of: it.alice).events.map(\.time.milliseconds) == [now, now, now, now])
        it.clock.advance(seconds: -60)
        for number in 0..<3 { try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"))]) }
        #expect(try await it.state(of: it.alice).events.map(\.time.milliseconds) == [now, now, now, now, now + 1, now + 2, now + 3])
        try await expectOrder(it, of: it.alice)
    }

    @Test("a clock that has run out of TIDs refuses, and writes nothing", arguments: [TID.microsecondsMax, TID.microsecondsMax - 1])
    func exhausted(last: Int64) async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        it.clock.setTick(0)
        it.clock.set(last)
        // One TID for the key and one for the rev.
        var taken = 0
        for _ in 0..<3 {
            do {
                try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))])
                taken += 1
            } catch is TIDClockError {}
        }
        #expect(taken == (last == TID.microsecondsMax ? 0 : 1))
        #expect(try await it.log.head(of: it.alice).sequence == UInt64(1 + taken))
        it.clock.set(SimulatedService.startTime.milliseconds * 1000)
        if taken == 0 { try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))]) }
        try await expectOrder(it, of: it.alice)
    }
}
