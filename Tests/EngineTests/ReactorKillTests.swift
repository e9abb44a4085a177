import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Projections
import SQLiteStore
import Simulation
import Testing

@Suite("Reactors: killed, and by chance")
struct ReactorKillTests {
    @Test("killed at any step, before or after it was kept, the reactors repeat at most what they were doing, and reach the same end")
    func everyStep() async throws {
        var steps = 0
        // Some of them; each run others.
        for at in stride(from: 1 + Int(TestFiles.seed % 11), to: 400, by: 11) {
            var isDone = true
            for fault in [FaultyReactorStore.Fault.before, .after] {
                if try await kill(at: at, fault) { isDone = false }
            }
            steps = at
            if isDone { break }
        }
        #expect(steps > 60 && steps < 390, "\(steps)")
    }

    /// - Returns: whether it came to the kill.
    private func kill(at step: Int, _ fault: FaultyReactorStore.Fault) async throws -> Bool {
        let trial = try await ReactorTrial()
        let (it, alice) = (trial.it, trial.it.alice)
        let counter = Counter()
        trial.store = { FaultyReactorStore($0) { _ in counter.next() == step ? fault : nil } }
        try await trial.enroll(alice)
        try await it.deployment.write(
            alice, [.create(it.deployment.post("a"), at: .tid(1)), .create(it.deployment.post("b"), at: .tid(2))])
        try await it.deployment.write(alice, [.delete(at: .tid(2))])
        var wasKilled = try await survive(trial)
        try await it.deployment.write(alice, [.update(it.deployment.post("c"), at: .tid(1))])
        wasKilled = try await survive(trial) || wasKilled
        try await trial.expectPublic(alice)
        try await trial.leave(alice)
        wasKilled = try await survive(trial) || wasKilled
        #expect(trial.pds.records(of: alice).isEmpty && trial.pds.revoked.contains(alice), "step \(step), \(fault)")
        #expect(try await trial.row(alice) == nil, "step \(step), \(fault)")
        // 3 effects, one more, two of leaving; one of them again, and once more for what a server may do late.
        let effects = trial.pds.journal.count
        #expect((6...8).contains(effects), "step \(step), \(fault): \(effects)")
        return wasKilled
    }

    /// Starts the process with its fault and again without, as often as it is killed.
    private func survive(_ trial: ReactorTrial) async throws -> Bool {
        do {
            try await trial.restart()
            try await trial.settle()
            return false
        } catch is FaultyReactorStore.Killed {
            let store = trial.store
            trial.store = { $0 }
            try await trial.restart()
            try await trial.settle()
            trial.store = store
            return true
        }
    }

    @Test("whatever members, servers and kills do by chance, in the end the public records are those of the log", arguments: 0..<12)
    func byChance(run: Int) async throws {
        let seed = TestFiles.seed &+ UInt64(run) &* 7919
        let chance = SeededBytes(seed: seed)
        let isCalm = Switch(false)
        let hook = Hook()
        let trial = try await ReactorTrial(seed: seed) { number, call in
            await hook.run(number, call)
            guard !isCalm.isOn else { return nil }
            return switch chance.below(20) {
            case 0: .unavailable(after: .seconds(chance.below(100)))
            case 1: .unavailable()
            case 2: .lost
            case 3: .late
            case 4: .ended
            case 5: .refused(500, "Odd")
            default: nil
            }
        }
        let actors = (1...3).map(SimulatedDeployment.actor)
        let (deployment, engine) = (trial.it.deployment, trial.it.engine)
        let events = Events(deployment, engine, trial.pds, chance)
        hook.set { [reactors = trial.reactors] _, _ in
            guard !isCalm.isOn, chance.below(4) == 0 else { return }
            await events.one(of: actors, reactors)
        }
        var lateSince: Int64?
        for _ in 0..<40 {
            for _ in 0..<chance.below(6) { await events.one(of: actors, trial.reactors) }
            // A kill somewhere in what follows, or none.
            let at = chance.below(60)
            trial.store = { FaultyReactorStore($0) { $0 == at ? (at % 2 == 0 ? .before : .after) : nil } }
            do {
                if chance.below(3) == 0 { try await trial.restart() }
                if let next = try await trial.reactors.settle(), chance.below(2) == 0 {
                    let time = max(trial.it.clock.microseconds, next.milliseconds * 1000)
                    // Whatever a server does late, it does while it is reckoned with.
                    if trial.pds.lateCount == 0 { lateSince = nil } else if lateSince == nil { lateSince = trial.it.clock.microseconds }
                    if let since = lateSince, time > since + 50_000_000 { trial.pds.carryOutLate() }
                    trial.it.clock.set(time)
                }
            } catch is FaultyReactorStore.Killed {
                trial.store = { $0 }
                let loses = chance.below(8) == 0
                // What is lost with the file is also that an attempt was made.
                if loses { trial.pds.carryOutLate() }
                try await trial.restart(loses: loses)
            }
            let reactors = trial.reactors
            hook.set { _, _ in
                guard !isCalm.isOn, chance.below(4) == 0 else { return }
                await events.one(of: actors, reactors)
            }
            if chance.below(3) == 0 { trial.pds.carryOutLate() }
        }
        trial.pds.carryOutLate()
        isCalm.set(true)
        trial.store = { $0 }
        try await trial.restart()
        for did in actors {
            trial.pds.giveSession(did)
            trial.reactors.reconcile(did)
        }
        try await trial.settle()
        for did in actors {
            let (expected, found) = (try await trial.expected(of: did), trial.pds.records(of: did))
            let missing = expected.filter { found[$0.key] != $0.value }.keys, surplus = found.filter { expected[$0.key] == nil }.keys
            #expect(missing.isEmpty && surplus.isEmpty, "seed \(seed): \(did) misses \(missing), has \(surplus)")
            let isIdle = try await trial.row(did).map { $0.state == .idle } ?? true
            #expect(isIdle, "seed \(seed)")
        }
        #expect(trial.pds.journal.count > 1, "seed \(seed)")
    }

    /// What members do.
    private struct Events: Sendable {
        let deployment: SimulatedDeployment
        let engine: Engine
        let pds: SimulatedPDS
        let chance: SeededBytes

        init(_ deployment: SimulatedDeployment, _ engine: Engine, _ pds: SimulatedPDS, _ chance: SeededBytes) {
            (self.deployment, self.engine, self.pds, self.chance) = (deployment, engine, pds, chance)
        }

        func one(of actors: [DID], _ reactors: Reactors) async {
            let did = actors[chance.below(actors.count)]
            let key = RecordKey.tid(chance.below(6))
            do {
                switch chance.below(12) {
                case 0:
                    pds.giveSession(did)
                    try await deployment.enroll(did)
                    reactors.reconcile(did)
                case 1:
                    let content: AccountLeave.Content = chance.below(2) == 0 ? .kept : .erase
                    try await engine.leave(did, content: content, reason: "", by: deployment.agent(did))
                case 2:
                    let name = ["general", "design"][chance.below(2)]
                    _ = try await engine.changeBoundaries(
                        of: did, chance.below(2) == 0 ? .add([name]) : .remove([name]), by: deployment.agent(did))
                case 3:
                    pds.giveSession(did)
                    reactors.reconcile(did)
                case 4, 5: try await deployment.write(did, [.delete(at: key)])
                default: try await deployment.write(did, [.put(deployment.post("\(chance.below(1_000_000))"), at: key)])
                }
            } catch is Refusal {
                // Not a member, or one already, or no such record: by chance, too.
            } catch {
                Issue.record("\(error)")
            }
        }
    }
}
