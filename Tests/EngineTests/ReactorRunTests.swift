import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Projections
import Simulation
import Testing

@Suite("Reactors: at work")
struct ReactorRunTests {
    @Test("a server that does not answer takes its share of the workers, and holds up neither other servers' members nor anybody's write")
    func slowServer() async throws {
        var pace = ReactorPace.nearby
        pace.workersMax = 4
        pace.workersPerHostMax = 3
        let slow = Set((10..<30).map(SimulatedDeployment.actor))
        let (gate, waiting) = (AsyncGate(), Counter())
        let trial = try await ReactorTrial(pace: pace) { _, call in
            guard slow.contains(call.account) else { return nil }
            waiting.next()
            await gate.wait()
            return nil
        }
        let (it, bob, reactors) = (trial.it, trial.it.bob, trial.reactors)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await reactors.run() }
            for did in slow { try await trial.enroll(did) }
            try await eventually { waiting.value == 3 }
            _ = try await it.engine.enroll(
                bob, boundaries: [], pds: "https://other.example", by: Agent(did: try it.deployment.service, credential: .operator))
            trial.pds.giveSession(bob)
            reactors.reconcile(bob)
            for number in 0..<5 { try await it.deployment.write(bob, [.create(it.deployment.post("b"), at: .tid(number))]) }
            try await eventually { trial.pds.records(of: bob).count == 6 }
            #expect(waiting.value == 3)
            for did in slow { try await it.deployment.write(did, [.create(it.deployment.post("s"), at: .tid(1))]) }
            #expect(waiting.value == 3)
            gate.open()
            try await eventually { slow.allSatisfy { trial.pds.records(of: $0).count == 2 } }
            group.cancelAll()
        }
        for did in slow { try await trial.expectPublic(did) }
        try await trial.expectPublic(bob)
    }

    @Test("what is appended is published without anybody asking, and what is under way when the service stops is done by the next one")
    func stops() async throws {
        let (gate, waiting) = (AsyncGate(), Counter())
        let trial = try await ReactorTrial(pace: .nearby) { number, _ in
            waiting.next()
            if number == 1 { await gate.wait() }
            return number == 1 ? .lost : nil
        }
        let (it, alice, reactors) = (trial.it, trial.it.alice, trial.reactors)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await reactors.run() }
            try await trial.enroll(alice)
            try await eventually { waiting.value == 1 }
            group.cancelAll()
            gate.open()
        }
        try await it.deployment.write(alice, [.create(it.deployment.post("a"), at: .tid(1))])
        try await trial.restart()
        let next = trial.reactors
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await next.run() }
            try await eventually { trial.pds.records(of: alice).count == 2 }
            group.cancelAll()
        }
        try await trial.expectPublic(alice)
    }

    /// Within five seconds.
    private func eventually(_ condition: () -> Bool) async throws {
        for _ in 0..<500 {
            if condition() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("it did not come to that, seed \(TestFiles.seed)")
    }
}
