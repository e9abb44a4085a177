import ATProto
import Commands
import Engine
import EventLog
import Foundation
import Simulation
import Synchronization
import Testing

@Suite("Maintenance")
struct MaintenanceTests {
    @Test("while projections are dropped or rebuilt no request is answered, and afterwards all are, however it ended")
    func gate() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        let engine = it.engine
        #expect(engine.gate.isOpen)
        let seen = Mutex<[Bool]>([])
        _ = try await engine.rebuild(nil, progress: { _, _ in seen.withLock { $0.append(engine.gate.isOpen) } })
        #expect(seen.withLock { $0 } == [false] && engine.gate.isOpen)
        struct Stop: Error {}
        await #expect(throws: Stop.self) { try await engine.rebuild(nil, progress: { _, _ in throw Stop() }) }
        #expect(engine.gate.isOpen)
        #expect(try await engine.dropProjections() == 1 && engine.gate.isOpen)
        #expect(try await engine.dropProjections() == 0, "there was nothing left to drop")
        try await it.expectSound()
    }

    @Test("rows that are closed and opened again for others' sake leave no files that grow, and are the fold of the log (I8)")
    func closedAndOpened() async throws {
        let it = try await Trial { $0.openMax = 1 }
        let actors = [it.alice, it.bob, it.carol]
        for actor in actors { try await it.deployment.enroll(actor) }
        for number in 0..<120 {
            for actor in actors { try await it.deployment.write(actor, [.create(it.deployment.post("\(number)"), at: .tid(number))]) }
        }
        let sizes = try FileManager.default.subpathsOfDirectory(atPath: it.directory.path).filter { $0.hasSuffix("stratos.sqlite-wal") }.map
        {
            try FileManager.default.attributesOfItem(atPath: it.directory.path + "/" + $0)[.size] as? Int ?? 0
        }
        #expect(sizes.count == 3 && sizes.allSatisfy { $0 < 1 << 20 }, "\(sizes)")
        try await it.expectSound()
    }

    @Test("a rebuild says how far it is, for one actor and for all")
    func progress() async throws {
        let it = try await Trial()
        for actor in [it.alice, it.bob, it.carol] { try await it.deployment.enroll(actor) }
        let seen = Mutex<[String]>([])
        let note: @Sendable (Int, Int?) -> Void = { done, all in seen.withLock { $0.append("\(done) of \(all ?? -1)") } }
        let all = try await it.engine.rebuild(nil, progress: note)
        #expect(seen.withLock { $0 } == ["1 of 3", "2 of 3", "3 of 3"])
        #expect(all.actors == 3 && all.events == 3)
        seen.withLock { $0 = [] }
        #expect(try await it.engine.rebuild(it.bob, progress: note).actors == 1)
        #expect(seen.withLock { $0 } == ["1 of 1"])
    }

    @Test("a rebuild amid writes and reads fails none of them, and ends with the fold of the log (I8)", arguments: Backend.allCases)
    func amidWrites(backend: Backend) async throws {
        let it = try await Trial(backend)
        let actors = [it.alice, it.bob]
        for actor in actors { try await it.deployment.enroll(actor) }
        let (deployment, engine) = (it.deployment, it.engine)
        try await withThrowingTaskGroup { group in
            for actor in actors {
                group.addTask {
                    for number in 0..<40 {
                        try await deployment.write(actor, [.create(deployment.post("\(number)"), at: .tid(number))])
                        #expect(try await engine.record(at: path(.tid(number)), of: actor, to: .user(actor)) != nil)
                    }
                }
            }
            group.addTask {
                for round in 0..<12 {
                    if round % 3 == 0 {
                        _ = try await engine.dropProjections()
                    } else {
                        _ = try await engine.rebuild(nil, progress: { _, _ in })
                    }
                }
            }
            try await group.waitForAll()
        }
        for actor in actors { #expect(try await it.records(of: actor).count == 40) }
        try await it.expectSound()
    }

    @Test("a process without keys reads, digests and rebuilds, and changes nothing")
    func withoutKeys() async throws {
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(it.alice)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"), at: .tid(1))])
        let digest = try await it.engine.digest(of: nil)
        let file = try await it.export(it.alice)
        let folder = URL(filePath: try it.rowsPath(of: it.alice)).deletingLastPathComponent()
        try FileManager.default.removeItem(at: folder.appending(path: "signing_key"))
        try await it.restart { $0.hasAuthority = false }
        #expect(try await it.engine.rebuild(nil, progress: { _, _ in }) == digest)
        #expect(try await it.export(it.alice) == file)
        #expect(try await it.engine.record(at: path(.tid(1)), of: it.alice, to: .user(it.alice)) != nil)
        let write = await #expect(throws: OperatorFailure.self) { try await it.deployment.write(it.alice, [.delete(at: .tid(1))]) }
        let enrollment = await #expect(throws: OperatorFailure.self) { try await it.deployment.enroll(it.bob) }
        #expect(write?.name == "NoAuthority" && enrollment?.name == "NoAuthority")
    }

    @Test("more actors than files may be open work all the same")
    func manyActors() async throws {
        let it = try await Trial { $0.openMax = 4 }
        let actors = (0..<12).map(SimulatedDeployment.actor)
        for actor in actors { try await it.deployment.enroll(actor) }
        let deployment = it.deployment
        try await withThrowingTaskGroup { group in
            for actor in actors {
                group.addTask {
                    for number in 0..<8 {
                        try await deployment.write(actor, [.create(deployment.post("\(number)"), at: .tid(number))])
                        await Task.yield()
                    }
                }
            }
            try await group.waitForAll()
        }
        for actor in actors { #expect(try await it.records(of: actor).count == 8) }
        try await it.expectSound()
    }

    @Test("a command's line is read back as the command that it was")
    func commands() throws {
        var options = ImportOptions()
        options.allowsForeignCollections = true
        options.verifyingKey = "did:key:x"
        let did = SimulatedDeployment.actor(1)
        let commands: [OperatorCommand] = [
            .unenroll(did: did, keepsContent: true), .unenroll(did: did, keepsContent: false), .rekey(did: did),
            .enroll(did: did, boundaries: ["a", "b"], pds: nil), .enroll(did: did, boundaries: [], pds: "https://pds.example"),
            .importRepo(did: did, path: "/x", options: options), .importRepo(did: did, path: "/x", options: ImportOptions()),
            .export(did: did), .get(uri: try ATURI("at://\(did)/zone.stratos.feed.post/x")), .usage(did: nil), .usage(did: did),
            .digest(actor: nil, until: nil), .digest(actor: did, until: 7), .rebuild(actor: nil), .rebuild(actor: did), .dropProjections,
            .verify(actor: nil, signatures: false), .verify(actor: did, signatures: true), .logShow(did: did, after: 3, limit: 9),
            .logTail(count: 5, follow: true), .logTail(count: 0, follow: false), .logStatistics,
        ]
        for command in commands { #expect(OperatorCommand(command.encoded) == command) }
        // A position past every one is past every one on the other side too.
        #expect(OperatorCommand(OperatorCommand.digest(actor: nil, until: .max).encoded) == .digest(actor: nil, until: UInt64(Int64.max)))
        for bad: Value in [
            .null, [:], ["command": "nothing"], ["command": "export"], ["command": "unenroll", "did": .string(did.description)],
            ["command": "logTail", "count": -1],
        ] {
            #expect(OperatorCommand(bad) == nil)
        }
    }

    @Test("log tail reaches back over the beginnings of generations, and -n is exact on both sides of each (I13)")
    func tail() async throws {
        let store = MemoryEventStore()
        var service = try SimulatedService(seed: TestFiles.seed)
        for _ in 0..<4 { _ = try await store.append(try service.start()) }
        _ = try await store.append(try service.start(opening: 1, before: 4))
        _ = try await store.append(try service.start(opening: 2, before: StreamCursor(generation: 1, position: 1)!.rawValue))
        for _ in 0..<3 { _ = try await store.append(try service.start(opening: 2)) }
        let positions = try await store.events(afterPosition: 0, limit: 100).map { Int64($0.position!) }
        #expect(positions.count == 9 && positions[4] == 1 << 40 | 1 && positions[8] == 2 << 40 | 4)
        let it = try await Trial(over: store) { $0.hasAuthority = false }
        for count in 0...11 {
            var shown: [Int64?] = []
            try await it.perform(.logTail(count: count, follow: false)) { output in
                if case .object(let line) = output { shown.append(line["position"]?.integerValue) }
            }
            #expect(shown == positions.suffix(count), "the last \(count)")
        }
        // A log whose generation does not say what came before it is shown from there.
        store.tamper(service.did, sequence: 6) { $0.with(body: nil) }
        var shown = 0
        try await it.perform(.logTail(count: 100, follow: false)) { _ in shown += 1 }
        #expect(shown == 4)
    }
}
