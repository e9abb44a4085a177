import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Projections
import SQLiteStore
import Simulation
import Testing

@Suite("Reactors: leaving, and coming back")
struct LeavingReactorTests {
    @Test("who leaves has nothing left in public, and the session goes back only then", arguments: [AccountLeave.Content.erase, .kept])
    func leaving(content: AccountLeave.Content) async throws {
        let trial = try await ReactorTrial()
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        for number in 1...3 { try await it.deployment.write(alice, [.create(it.deployment.post("p"), at: .tid(number))]) }
        try await trial.settle()
        // One more that is not in public yet.
        try await it.deployment.write(alice, [.create(it.deployment.post("p"), at: .tid(4))])
        try await trial.leave(alice, content)
        try await trial.settle()
        #expect(trial.pds.records(of: alice).isEmpty && trial.pds.revoked == [alice])
        #expect(trial.pds.journal.suffix(5).allSatisfy { $0.value == nil })
        // Nobody is in the queue who has nothing in it.
        #expect(try await trial.row(alice) == nil)
    }

    @Test("while the server is down somebody who left is tried for a day after the last success, and is then given up, on the record")
    func givesUp() async throws {
        let isDown = Switch(false)
        let trial = try await ReactorTrial { _, _ in isDown.isOn ? .unavailable() : nil }
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        try await trial.settle()
        isDown.set(true)
        try await trial.leave(alice)
        let began = it.clock.microseconds
        func hours() -> Double { Double(it.clock.microseconds - began) / 3.6e9 }
        while let next = try await trial.reactors.settle(), next.milliseconds * 1000 < began + 23 * 3_600_000_000 {
            it.clock.set(next.milliseconds * 1000)
        }
        #expect(try await trial.row(alice)?.state == .pending && hours() > 22)
        try await trial.settle()
        #expect(try await trial.row(alice)?.state == .givenUp && hours() > 24 && hours() < 24.5, "\(hours())")
        #expect(try await trial.row(alice)?.lastError?.contains("unavailable") == true)
        let calls = trial.pds.callCount
        try await trial.restart()
        try await trial.settle()
        #expect(trial.pds.callCount == calls)
        // Somebody who comes back is tried again.
        isDown.set(false)
        try await it.deployment.enroll(alice)
        try await trial.settle()
        try await trial.expectPublic(alice)
    }

    @Test("who leaves without a session is given up after a day, and cleaned up behind when one comes before")
    func leavesWithoutSession() async throws {
        let trial = try await ReactorTrial()
        let (it, alice, bob) = (trial.it, trial.it.alice, trial.it.bob)
        for did in [alice, bob] {
            try await trial.enroll(did)
            try await trial.settle(hours: 1)
            trial.pds.endSession(did)
            try await trial.leave(did, .kept)
        }
        let next = try #require(try await trial.reactors.settle())
        #expect(try await trial.row(alice)?.state == .parked)
        trial.pds.giveSession(bob)
        trial.reactors.reconcile(bob)
        it.clock.set(next.milliseconds * 1000 - 60_000_000)
        _ = try await trial.reactors.settle()
        #expect(try await trial.row(alice)?.state == .parked && trial.pds.records(of: bob).isEmpty && !trial.pds.holdsSession(bob))
        try await trial.settle()
        #expect(try await trial.row(alice)?.state == .givenUp && trial.pds.records(of: alice).count == 1)
    }

    @Test("who leaves and comes back before anybody looked keeps the session, what was kept, and nothing of what was erased")
    func comesBack() async throws {
        let trial = try await ReactorTrial()
        let (it, alice, bob) = (trial.it, trial.it.alice, trial.it.bob)
        for (did, content) in [(alice, AccountLeave.Content.erase), (bob, .kept)] {
            try await trial.enroll(did)
            try await it.deployment.write(did, [.create(it.deployment.post("old"), at: .tid(1))])
            try await trial.settle()
            try await trial.leave(did, content)
            try await it.deployment.enroll(did)
            try await it.deployment.write(did, [.create(it.deployment.post("new"), at: .tid(2))])
        }
        try await trial.settle()
        try await trial.expectPublic(alice, bob)
        #expect(trial.pds.records(of: alice)[path(.tid(1))] == nil && trial.pds.records(of: bob)[path(.tid(1))] != nil)
        #expect(trial.pds.revoked.isEmpty)
    }

    @Test("who comes back while the old membership is being cleaned up loses nothing of the new one, at whatever call it is")
    func comesBackMeanwhile() async throws {
        for at in 1...8 {
            let hook = Hook()
            let trial = try await ReactorTrial { number, call in
                await hook.run(number, call)
                return nil
            }
            let (it, alice) = (trial.it, trial.it.alice)
            try await trial.enroll(alice)
            for number in 1...3 { try await it.deployment.write(alice, [.create(it.deployment.post("old"), at: .tid(number))]) }
            try await trial.settle()
            let before = trial.pds.callCount
            let (deployment, pds, clock) = (it.deployment, trial.pds, it.clock)
            let post = deployment.post("new")
            hook.set { number, _ in
                guard number == before + at else { return }
                do {
                    try await deployment.enroll(alice)
                    pds.giveSession(alice, at: clock.now() / 1000 + 1)
                    try await deployment.write(alice, [.create(post, at: .tid(2))])
                } catch { Issue.record("\(error)") }
            }
            try await trial.leave(alice)
            try await trial.settle()
            if try await it.engine.enrollment(of: alice) == nil {
                // There were fewer calls than that.
                #expect(trial.pds.records(of: alice).isEmpty)
                continue
            }
            // What was given back with the old membership is not what came with the new one.
            #expect(trial.pds.holdsSession(alice), "at call \(at)")
            #expect(try await trial.expected(of: alice) == trial.pds.records(of: alice), "at call \(at)")
        }
    }
}
