import ATProto
import Commands
import Engine
import EventLog
import Foundation
import Keys
import Simulation
import Testing

@Suite("Replacing an actor's key")
struct KeyChangeTests {
    private func expectChanged(_ it: Trial, from old: PublicKey, _ state: SimulatedState, at index: Int) throws {
        guard case .accountKey(let change) = state.bodies[index], let before = state.bodies[..<index].last(where: { $0.commit != nil })
        else {
            Issue.record("\(state.events.map(\.kind))")
            return
        }
        #expect(change.old == old && change.key != old)
        #expect(
            change.commit.data == before.commit?.data && change.commit.rev > before.commit!.rev, "the same tree under a later rev (I10)")
        #expect(change.commit.verifies(did: it.alice, with: change.key))
        #expect(change.attestation.verifies(did: it.alice, boundaries: state.boundaries, actorKey: change.key))
    }

    @Test("a new key signs from its event on: the same data, a later rev, a fresh attestation", arguments: Backend.allCases)
    func changes(backend: Backend) async throws {
        let it = try await Trial(backend)
        let first = try await it.deployment.enroll(it.alice)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"), at: .tid(1))])
        let agent = Agent(did: try it.deployment.service, credential: .operator)
        let second = try await it.engine.changeKey(of: it.alice, by: agent)
        #expect(second.signingKey != first.signingKey && second.membership.enrolledAt == first.membership.enrolledAt)
        let state = try await it.state(of: it.alice)
        try expectChanged(it, from: first.signingKey, state, at: 2)
        #expect(try it.deployment.files.signingKey(of: it.alice)?.publicKey == second.signingKey)
        try await it.restart()
        #expect(try await it.engine.enrollment(of: it.alice) == second)
        let receipt = try await it.deployment.write(it.alice, [.create(it.deployment.post("y"), at: .tid(2))])
        #expect(receipt.rev > second.repo.rev)
        #expect(try await it.state(of: it.alice).commits.last?.verifies(did: it.alice, with: second.signingKey) == true)
        #expect(try await it.records(of: it.alice).count == 2)
        #expect(try await refusal { try await it.engine.changeKey(of: it.bob, by: agent) } == .notEnrolled)
        try await it.expectSound()
    }

    @Test(
        "a member whose key is lost, or is another than the log's, writes on: the key is replaced first, on the record",
        arguments: [true, false])
    func lost(isAbsent: Bool) async throws {
        let it = try await Trial()
        let first = try await it.deployment.enroll(it.alice)
        if isAbsent {
            try it.deployment.files.removeKey(of: it.alice)
        } else {
            try it.deployment.files.keep(PrivateKey.generate(.p256), of: it.alice)
        }
        try await it.restart()
        #expect(try await it.records(of: it.alice).isEmpty, "reading needs no key")
        #expect(try await it.log.head(of: it.alice).sequence == 1, "nor does it make one")
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"), at: .tid(1))])
        let state = try await it.state(of: it.alice)
        #expect(state.events.map(\.kind) == [.accountEnroll, .accountKey, .repoWrite])
        try expectChanged(it, from: first.signingKey, state, at: 1)
        #expect(state.bodies[1].provenance.by == Agent(did: try it.deployment.service, credential: .system))
        #expect(state.commits[2].verifies(did: it.alice, with: try #require(state.key)))
        #expect(try it.deployment.files.signingKey(of: it.alice)?.publicKey == state.key)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("y"), at: .tid(2))])
        #expect(try await it.state(of: it.alice).events.count == 4, "once")
        try await it.expectSound()
    }

    @Test("an import finds a lost key replaced too")
    func lostForAnImport() async throws {
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(it.alice)
        try it.deployment.files.removeKey(of: it.alice)
        _ = try await it.importing([(path(.tid(1)), it.deployment.post("x"))], into: it.alice)
        #expect(try await it.state(of: it.alice).events.map(\.kind) == [.accountEnroll, .accountKey, .repoImport])
        try await it.expectSound()
    }

    @Test("a key whose event was not stored is replaced by the next write", arguments: [true, false])
    func interrupted(isStored: Bool) async throws {
        let error = EventLogError.storage(operation: "append", code: 5)
        // The first two are the service's start and the enrollment.
        let it = try await Trial(
            over: FaultyEventStore(MemoryEventStore()) { $0 == 3 ? isStored ? .persisted(error) : .refused(error) : nil })
        try await it.deployment.enroll(it.alice)
        let agent = Agent(did: try it.deployment.service, credential: .operator)
        await #expect(throws: error) { try await it.engine.changeKey(of: it.alice, by: agent) }
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))])
        let kinds = try await it.state(of: it.alice).events.map(\.kind)
        #expect(kinds == [.accountEnroll, .accountKey, .repoWrite])
        try await it.expectSound()
    }

    @Test("a key that is there and cannot be read is not lost: nothing is written, and nothing replaced unasked")
    func unreadable() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        let root = it.directory.path + "/actors"
        let folders = try FileManager.default.contentsOfDirectory(atPath: root).map { "\(root)/\($0)/\(it.alice)" }
        let file = try #require(folders.first { FileManager.default.fileExists(atPath: $0) }) + "/signing_key"
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: file)
        try await it.restart()
        await #expect(throws: KeysError.self) { try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))]) }
        #expect(try await it.log.head(of: it.alice).sequence == 1)
        // Asked for, it is.
        _ = try await it.engine.changeKey(of: it.alice, by: Agent(did: try it.deployment.service, credential: .operator))
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))])
        try await it.expectSound()
    }
}
