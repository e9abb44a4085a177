import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Foundation
import Keys
import Projections
import SQLiteStore
import Simulation
import Testing

@Suite("Reactors")
struct ReactorTests {
    @Test("an enrollment is published as its lexicon says, with an attestation that anybody can check, and anew when boundaries change")
    func enrollment() async throws {
        let trial = try await ReactorTrial()
        let alice = trial.it.alice
        try await trial.enroll(alice, ["general"])
        try await trial.settle()
        let summary = try #require(try await trial.it.engine.enrollment(of: alice))
        let record = try #require(trial.pds.records(of: alice)[ReactorTrial.enrollmentPath])
        try Lexicons.embedded.validate(
            record: record, collection: ReactorTrial.enrollmentPath.collection, rkey: ReactorTrial.enrollmentPath.recordKey)
        #expect(record["service"] == "https://stratos.example")
        #expect(record["boundaries"] == [["value": .string(trial.it.deployment.boundary("general"))]])
        let signature = try #require(record["attestation"]?["sig"]?.bytesValue)
        let key = try PublicKey(didKey: try #require(record["attestation"]?["signingKey"]?.stringValue))
        let attestation = Attestation(signature: signature, signingKey: key)
        #expect(attestation.verifies(did: alice, boundaries: summary.membership.boundaries, actorKey: summary.signingKey))
        #expect(record["createdAt"]?.stringValue == summary.membership.enrolledAt.description)
        try await trial.expectPublic(alice)

        let by = Agent(did: try trial.it.deployment.service, credential: .operator)
        _ = try await trial.it.engine.changeBoundaries(of: alice, .add(["design"]), by: by)
        _ = try await trial.it.engine.changeBoundaries(of: alice, .remove(["general"]), by: by)
        try await trial.settle()
        try await trial.expectPublic(alice)
        // Two events, one state: what was never seen in public costs nothing.
        #expect(trial.pds.journal.count == 2)
        #expect(try await trial.row(alice)?.state == .idle)
    }

    @Test("a record has a stub with its place, its CID and its time, and nothing else of it: no text, no boundary")
    func stub() async throws {
        let trial = try await ReactorTrial()
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        let canary = "a text that nobody else may see"
        try await it.deployment.write(alice, [.create(it.deployment.post(canary), at: .tid(1))])
        try await trial.settle()
        try await trial.expectPublic(alice)
        let stub = try #require(trial.pds.records(of: alice)[path(.tid(1))])
        let bytes = String(decoding: DataModelJSON.encode(stub), as: UTF8.self)
        #expect(!bytes.contains("text") && !bytes.contains("boundar") && !bytes.contains("engineering"))
        // Nor is anything of it kept here.
        let file = try it.directory.read("service.sqlite") + it.directory.read("service.sqlite-wal")
        #expect(!contains(file, canary) && contains(file, RecordKey.tid(1).description))
    }

    private func contains(_ bytes: [UInt8], _ text: String) -> Bool { Data(bytes).range(of: Data(text.utf8)) != nil }

    @Test("a record that does not say when it was made, or says something else there, has a stub of the time it was written")
    func createdAt() async throws {
        let trial = try await ReactorTrial()
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        for (number, createdAt) in [nil, "a secret in the place of a time", .integer(7)].enumerated() as EnumeratedSequence<[Value?]> {
            let record = it.deployment.post("p").with("createdAt", createdAt)
            _ = try await it.engine.write(
                WriteRequest(
                    repo: alice, writes: [.create(record, at: .tid(number))], checksLexicons: false, agent: it.deployment.agent(alice)))
        }
        try await trial.settle()
        let events = try await it.state(of: alice).events
        for number in 0..<3 {
            let stub = try #require(trial.pds.records(of: alice)[path(.tid(number))])
            #expect(stub["createdAt"]?.stringValue == events[number + 1].time.description)
        }
    }

    @Test("a stub follows its record; of what came and went before anybody looked only a delete is sent")
    func follows() async throws {
        let trial = try await ReactorTrial()
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        try await it.deployment.write(
            alice, [.create(it.deployment.post("a"), at: .tid(1)), .create(it.deployment.post("b"), at: .tid(2))])
        try await it.deployment.write(alice, [.create(it.deployment.post("c"), at: .tid(3))])
        try await it.deployment.write(alice, [.delete(at: .tid(3))])
        try await trial.settle()
        try await trial.expectPublic(alice)
        #expect(trial.pds.journal.map(\.path) == [ReactorTrial.enrollmentPath, path(.tid(1)), path(.tid(2)), path(.tid(3))])
        #expect(trial.pds.journal.last?.value == nil)
        try await it.deployment.write(alice, [.update(it.deployment.post("a2"), at: .tid(1)), .delete(at: .tid(2))])
        try await trial.settle()
        try await trial.expectPublic(alice)
        #expect(trial.pds.journal.count == 6)
    }

    @Test("collections that a session's scope does not cover have no stubs")
    func otherCollections() async throws {
        let trial = try await ReactorTrial()
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        _ = try await it.engine.write(
            WriteRequest(
                repo: alice, writes: [.create(["$type": "zone.stratos.test.note"], in: .note, at: .named("x"))],
                agent: it.deployment.agent(alice)))
        try await trial.settle()
        #expect(trial.pds.journal.map(\.path) == [ReactorTrial.enrollmentPath])
    }

    @Test("a record that the server refuses is written down as refused, and the others go on; a new session tries it again")
    func refused() async throws {
        let refuses = Switch(true)
        let trial = try await ReactorTrial { _, call in
            if case .put(_, let at, _) = call, at == path(.tid(1)), refuses.isOn { return .refused(403, "InsufficientScope") }
            return nil
        }
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        for number in 1...3 { try await it.deployment.write(alice, [.create(it.deployment.post("p"), at: .tid(number))]) }
        try await trial.settle()
        #expect(
            trial.pds.records(of: alice).keys.sorted { "\($0)" < "\($1)" } == [ReactorTrial.enrollmentPath, path(.tid(2)), path(.tid(3))])
        let calls = trial.pds.callCount
        #expect(try await trial.items(alice).filter { $0.refusal != nil }.map(\.refusal) == ["403 InsufficientScope"])
        #expect(try await trial.row(alice)?.state == .idle)
        try await trial.restart()
        try await trial.settle()
        #expect(trial.pds.callCount == calls)
        refuses.set(false)
        trial.reactors.reconcile(alice)
        try await trial.settle()
        try await trial.expectPublic(alice)
        #expect(try await trial.items(alice).allSatisfy { $0.refusal == nil })
    }

    @Test("a server that does not take the credentials has refused no record: it is asked again, and the order is kept")
    func credentials() async throws {
        let trial = try await ReactorTrial { number, _ in number < 4 ? .refused(401, "use_dpop_nonce") : nil }
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        for number in 1...2 { try await it.deployment.write(alice, [.create(it.deployment.post("p"), at: .tid(number))]) }
        try await trial.settle()
        try await trial.expectPublic(alice)
        var seen: Set<RecordPath> = []
        let firsts = trial.pds.journal.map(\.path).filter { seen.insert($0).inserted }
        #expect(firsts == [ReactorTrial.enrollmentPath, path(.tid(1)), path(.tid(2))])
    }

    @Test("without a session work waits, is not tried again by itself, survives a restart, and is done when a session comes")
    func parked() async throws {
        let trial = try await ReactorTrial()
        let (it, alice, bob) = (trial.it, trial.it.alice, trial.it.bob)
        try await it.deployment.enroll(alice)
        try await trial.enroll(bob)
        try await it.deployment.write(alice, [.create(it.deployment.post("a"), at: .tid(1))])
        try await it.deployment.write(bob, [.create(it.deployment.post("b"), at: .tid(1))])
        #expect(try await trial.reactors.settle() == nil)
        try await trial.expectPublic(bob)
        #expect(try await trial.row(alice)?.state == .parked)
        #expect(try await trial.row(alice)?.lastError?.hasSuffix("no session") == true)
        try await it.deployment.write(alice, [.create(it.deployment.post("a"), at: .tid(2))])
        try await trial.restart()
        #expect(try await trial.reactors.settle() == nil)
        trial.pds.giveSession(alice)
        trial.reactors.reconcile(alice)
        try await trial.settle()
        try await trial.expectPublic(alice, bob)
        // Its end is the same as none.
        trial.pds.endSession(alice)
        try await it.deployment.write(alice, [.delete(at: .tid(2))])
        #expect(try await trial.reactors.settle() == nil)
        trial.pds.giveSession(alice)
        try await trial.restart()
        try await trial.settle()
        try await trial.expectPublic(alice)
    }

    @Test("a session that comes while an attempt finds none is not overlooked")
    func sessionMeanwhile() async throws {
        let hook = Hook()
        let trial = try await ReactorTrial { number, call in
            await hook.run(number, call)
            return number == 1 ? .ended : nil
        }
        let alice = trial.it.alice
        try await trial.enroll(alice)
        let reactors = trial.reactors
        hook.set { number, _ in
            guard number == 1 else { return }
            // It is noted before the attempt's end is.
            reactors.reconcile(alice)
            try? await reactors.noteReconciles()
        }
        try await trial.settle(hours: 0)
        // The first one took the session away; the row is not parked, and is tried, and only then finds none.
        #expect(try await trial.row(alice)?.state == .parked && trial.pds.callCount == 1)
        trial.pds.giveSession(alice)
        reactors.reconcile(alice)
        try await trial.settle()
        try await trial.expectPublic(alice)
    }

    @Test("a server that fails is asked again after longer and longer waits, up to a bound, and not before it says")
    func backoff() async throws {
        let pace = ReactorPace()
        for attempts in 1...40 {
            let bound = min(Duration.seconds(600), .seconds(1) * (1 << min(attempts - 1, 20)))
            #expect(pace.backoff(attempts: attempts, asked: nil, fraction: 0) == .zero)
            let longest = pace.backoff(attempts: attempts, asked: nil, fraction: 0.999_999)
            #expect(longest < bound && longest > bound * 0.99)
            #expect(pace.backoff(attempts: attempts, asked: .seconds(900), fraction: 0.5) == .seconds(900))
            #expect(pace.backoff(attempts: attempts, asked: .seconds(-5), fraction: 0) == .zero)
        }
        #expect(pace.backoff(attempts: 1, asked: .seconds(1_000_000_000), fraction: 0) == .seconds(86_400))
        let trial = try await ReactorTrial { number, _ in number == 1 ? .unavailable(after: .seconds(3600)) : nil }
        try await trial.enroll(trial.it.alice)
        let began = trial.it.clock.microseconds
        let next = try #require(try await trial.reactors.settle())
        #expect(next.milliseconds >= began / 1000 + 3_600_000)
        #expect(try await trial.row(trial.it.alice)?.attempts == 1)
        trial.it.clock.set(next.milliseconds * 1000 - 10_000)
        _ = try await trial.reactors.settle()
        #expect(trial.pds.callCount == 1)
        try await trial.settle()
        try await trial.expectPublic(trial.it.alice)
    }

    @Test("enrollment records under keys of earlier programs are moved to ours; those of other services stay")
    func oldKeys() async throws {
        let trial = try await ReactorTrial()
        let alice = trial.it.alice
        let collection = ReactorTrial.enrollmentPath.collection
        func at(_ key: String) -> RecordPath { RecordPath(collection: collection, recordKey: .named(key)) }
        let others: [RecordPath: Value] = [
            at("did:web:other.example"): ["service": "https://other.example"],
            at("3jui7kd2zoik2"): ["service": "https://stratos.example.org"],
        ]
        for (path, value) in others { trial.pds.set(value, at: path, of: alice) }
        trial.pds.set(["service": "https://stratos.example/"], at: at("self"), of: alice)
        trial.pds.set(["service": "https://stratos.example"], at: at("3jui7kd2zoik3"), of: alice)
        trial.pds.set(["service": "https://stratos.example"], at: at("did:web:stratos.example:443"), of: alice)
        try await trial.enroll(alice)
        try await trial.settle()
        let found = trial.pds.records(of: alice)
        #expect(found == (try await trial.expected(of: alice)).merging(others) { first, _ in first })
        // Ours stands before an old one goes.
        #expect(trial.pds.journal.first?.path == ReactorTrial.enrollmentPath && trial.pds.journal.count == 4)
        trial.pds.set(["service": "https://stratos.example"], at: at("self"), of: alice)
        try await trial.leave(alice)
        try await trial.settle()
        #expect(trial.pds.records(of: alice) == others)
    }

    @Test("an import is followed by stubs, a first few at once and the others at a pace that leaves the user something")
    func imports() async throws {
        var pace = ReactorPace()
        pace.backlogBurst = 5
        pace.backlogEvery = .seconds(10)
        let trial = try await ReactorTrial(pace: pace)
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        try await trial.settle()
        let records = (0..<20).map { (path: path(.tid($0)), record: it.deployment.post("p \($0)")) }
        _ = try await it.importing(records, into: alice)
        let began = it.clock.microseconds
        _ = try await trial.reactors.settle()
        #expect((5...7).contains(trial.pds.records(of: alice).count), "\(trial.pds.records(of: alice).count)")
        // What is written now does not wait behind it.
        try await it.deployment.write(alice, [.create(it.deployment.post("now"), at: .tid(100))])
        _ = try await trial.reactors.settle()
        #expect(trial.pds.records(of: alice)[path(.tid(100))] != nil && trial.pds.records(of: alice).count < 10)
        try await trial.settle()
        try await trial.expectPublic(alice)
        #expect((130...150).contains((it.clock.microseconds - began) / 1_000_000))
        #expect(trial.pds.journal.count == 22)
    }

    @Test("where the reactors' file is lost, or the service's address has changed, everything is done once more")
    func anew() async throws {
        let trial = try await ReactorTrial()
        let (it, alice, bob) = (trial.it, trial.it.alice, trial.it.bob)
        try await trial.enroll(alice)
        try await trial.enroll(bob)
        for number in 1...3 { try await it.deployment.write(alice, [.create(it.deployment.post("p"), at: .tid(number))]) }
        try await it.deployment.write(alice, [.delete(at: .tid(2))])
        try await trial.settle()
        // Of what is lost with the file, the log knows all but what others did there.
        trial.pds.set(nil, at: path(.tid(1)), of: alice)
        trial.pds.set(["a": "stub that was not removed"], at: path(.tid(2)), of: alice)
        try await trial.leave(bob)
        try await trial.restart(loses: true)
        try await trial.settle()
        try await trial.expectPublic(alice, bob)
        #expect(!trial.pds.holdsSession(bob) && trial.pds.holdsSession(alice))
        let calls = trial.pds.journal.count
        try await trial.restart()
        try await trial.settle()
        #expect(trial.pds.journal.count == calls)
        trial.fragment = "other"
        trial.url = "https://elsewhere.example"
        try await trial.restart()
        try await trial.settle()
        try await trial.expectPublic(alice, bob)
    }

    @Test("a request that a slow server carries out late, over what was done meanwhile, is undone by doing it once more")
    func late() async throws {
        let faults = Counter()
        let trial = try await ReactorTrial { _, call in
            if case .put(_, let at, _) = call, at == path(.tid(1)), faults.next() == 1 { return .late }
            return nil
        }
        let (it, alice) = (trial.it, trial.it.alice)
        try await trial.enroll(alice)
        try await it.deployment.write(alice, [.create(it.deployment.post("old"), at: .tid(1))])
        let next = try #require(try await trial.reactors.settle())
        try await it.deployment.write(alice, [.update(it.deployment.post("new"), at: .tid(1))])
        it.clock.set(next.milliseconds * 1000)
        let echo = try #require(try await trial.reactors.settle())
        try await trial.expectPublic(alice)
        trial.pds.carryOutLate()
        #expect(try await trial.expected(of: alice) != trial.pds.records(of: alice))
        #expect(echo.milliseconds * 1000 > it.clock.microseconds + 50_000_000)
        try await trial.settle()
        try await trial.expectPublic(alice)
        #expect(trial.pds.journal.filter { $0.path == path(.tid(1)) }.count == 3)
    }

    @Test("an operator sees who waits, for how long and why, and how far the log was read")
    func queue() async throws {
        let trial = try await ReactorTrial()
        let (it, alice, bob) = (trial.it, trial.it.alice, trial.it.bob)
        try await it.deployment.enroll(alice)
        try await trial.enroll(bob)
        try await it.deployment.write(alice, [.create(it.deployment.post("a"), at: .tid(1))])
        try await trial.settle()
        let engine = Engine(
            log: it.log, readModel: it.deployment.databases, keys: ActorKeys(read: { _ in nil }, keep: { _, _ in }, remove: { _ in }),
            authority: nil,
            lexicons: .embedded, surroundings: Surroundings(now: { 0 }, random: { [UInt8](repeating: 0, count: $0) }),
            logger: it.engine.logger, reactorStore: trial.database)
        let lines = Lines()
        try await engine.perform(.reactors, open: { _ in throw Refusal.recordNotFound }) { lines.take($0) }
        let head = try await it.log.statistics().position
        let summary = lines.all.last
        #expect(summary?["cursor"] == .integer(Int64(head)) && summary?["head"] == .integer(Int64(head)) && summary?["lag"] == 0)
        #expect(summary?["idle"] == 1 && summary?["parked"] == 1 && lines.all.count == 3)
        let line = lines.all.first { $0["actor"]?.stringValue == alice.description }
        #expect(line?["state"] == "parked" && line?["since"]?.stringValue != nil && line?["attempts"] == 0)
        #expect(line?["pending"] == .integer(3) && line?["lastError"]?.stringValue?.contains("no session") == true)
        try await it.deployment.write(alice, [.delete(at: .tid(1))])
        try await engine.perform(.reactors, open: { _ in throw Refusal.recordNotFound }) { lines.take($0) }
        #expect(lines.all.last?["lag"] == 1)
    }
}
