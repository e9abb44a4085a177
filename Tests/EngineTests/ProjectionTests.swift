import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Foundation
import Keys
import Projections
import Simulation
import SQLiteStore
import Testing

/// Rows are the fold of the log, however they came about (I8, I9).
@Suite("Projections")
struct ProjectionTests {
    /// What a repo must hold, followed beside the engine: a slow model of the simplest kind.
    private struct Model {
        var records: [RecordPath: (cid: CID, size: Int, boundaries: [String])] = [:]

        mutating func put(_ value: Value, at path: RecordPath, in boundaries: [String]) {
            let bytes = DAGCBOR.encode(value.with("$type", .string(path.collection.description)))
            records[path] = (CID(hashing: bytes), bytes.count, boundaries)
        }

        var root: CID {
            get throws {
                var tree = MST()
                for (path, record) in records {
                    try tree.insert(MSTKey(collection: path.collection, recordKey: path.recordKey), record.cid)
                }
                return tree.root()
            }
        }
    }

    /// Random writes of an actor, put into the model too.
    private func writes(_ it: Trial, _ model: inout Model, _ generator: inout SeededGenerator) -> [RecordWrite] {
        var writes: [RecordWrite] = []
        var used: Set<RecordPath> = []
        for _ in 0..<Int.random(in: 1...5, using: &generator) {
            let collection = Bool.random(using: &generator) ? NSID.post : .note
            let place = path(.tid(Int.random(in: 0..<40, using: &generator)), in: collection)
            guard used.insert(place).inserted else { continue }
            let boundaries = ["engineering", "general", "design"].filter { _ in Bool.random(using: &generator) }
            if model.records[place] != nil, Int.random(in: 0..<3, using: &generator) == 0 {
                writes.append(.delete(in: collection, at: place.recordKey))
                model.records[place] = nil
                continue
            }
            let text = String(Int.random(in: 0..<6, using: &generator))
            var record = it.deployment.post(text, in: boundaries.isEmpty ? ["general"] : boundaries)
            if collection == .note { record = record.with("$type", nil).with("createdAt", nil) }
            if collection == .note, boundaries.isEmpty { record = record.with("boundary", nil) }
            writes.append(.put(record, in: collection, at: place.recordKey))
            model.put(record, at: place, in: collection == .note ? boundaries : boundaries.isEmpty ? ["general"] : boundaries)
        }
        return writes
    }

    private func expect(_ it: Trial, _ did: DID, is model: Model, step: Int) async throws {
        let comment: Comment = "step \(step), seed \(TestFiles.seed)"
        let summary = try #require(try await it.engine.enrollment(of: did))
        #expect(try summary.repo.data == model.root, comment)
        for collection in [NSID.post, .note] {
            let page = try await it.engine.records(in: collection, of: did, after: nil, reversed: true, limit: 100, to: .user(did))
            let expected = model.records.filter { $0.key.collection == collection }
            #expect(
                page?.content.records.map(\.cid)
                    == expected.sorted { $0.key.recordKey.description < $1.key.recordKey.description }.map(\.value.cid), comment)
        }
        var usage: Value?
        try await it.perform(.usage(did: did)) { output in
            if case .object(let value) = output { usage = value["actors"]?.arrayValue?.first }
        }
        let collections = Dictionary(grouping: model.records, by: \.key.collection)
        #expect(usage?["records"]?.integerValue == Int64(model.records.count), comment)
        #expect(usage?["bytes"]?.integerValue == Int64(model.records.values.reduce(0) { $0 + $1.size }), comment)
        #expect(usage?["collections"]?.mapValue?.count == collections.count, comment)
        for (collection, records) in collections {
            let counted = usage?["collections"]?[collection.description]
            #expect(counted?["records"]?.integerValue == Int64(records.count), comment)
            #expect(counted?["bytes"]?.integerValue == Int64(records.reduce(0) { $0 + $1.value.size }), comment)
        }
    }

    @Test(
        "after each of a seeded history's steps rows, tree and usage are the model's, and the digest the log's (I8)",
        arguments: Backend.allCases)
    func history(backend: Backend) async throws {
        let it = try await Trial(backend)
        var generator = SeededGenerator(seed: TestFiles.seed)
        let actors = [it.alice, it.bob]
        var models = [Model(), Model()]
        for actor in actors { try await it.deployment.enroll(actor) }
        for step in 0..<40 {
            let index = Int.random(in: 0..<2, using: &generator)
            let writes = writes(it, &models[index], &generator)
            _ = try await it.deployment.write(actors[index], writes)
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: _ = try await it.deployment.databases.drop(actors[Int.random(in: 0..<2, using: &generator)])
            case 1: try await it.restart()
            case 2: #expect(try await it.engine.dropProjections() <= 2)
            case 3: _ = try await it.engine.rebuild(nil, progress: { _, _ in })
            default: break
            }
            try await expect(it, actors[index], is: models[index], step: step)
            if step % 5 == 0 { try await it.expectSound("step \(step), seed \(TestFiles.seed)") }
        }
        for (actor, model) in zip(actors, models) { try await expect(it, actor, is: model, step: 40) }
        try await it.expectSound()
    }

    @Test("a log with every kind of change folds to the same digest on both logs, at once or a step at a time (I8)")
    func everyKind() async throws {
        let seed = TestFiles.seed
        let (memory, sqlite) = (try await Trial(.memory) { $0.hasAuthority = false }, try await Trial(.sqlite) { $0.hasAuthority = false })
        var service = try SimulatedService(seed: seed)
        let start = try service.start()
        var actors = try (0..<3).map { number in
            var actor = try SimulatedActor(number: number, seed: seed, service: service)
            actor.root = { _, records in
                var tree = MST()
                for (path, cid) in records { try? tree.insert(MSTKey(collection: path.collection, recordKey: path.recordKey), cid) }
                return tree.root()
            }
            return actor
        }
        var generator = SeededGenerator(seed: seed)
        var appends = [start]
        for _ in 0..<150 {
            let index = Int.random(in: 0..<actors.count, using: &generator)
            appends.append(try next(&actors[index], &generator))
        }
        var digests: [String] = []
        for (number, append) in appends.enumerated() {
            for it in [memory, sqlite] { _ = try await it.log.append(append) }
            guard number % 10 == 0 else { continue }
            // The engine that looks in between has caught up often, the other one folds everything at once.
            try await memory.restart()
            digests.append(try await memory.engine.digest(of: nil).digest)
        }
        let last = try await memory.engine.digest(of: nil)
        #expect(try await sqlite.engine.digest(of: nil) == last, "seed \(seed)")
        for it in [memory, sqlite] { try await it.expectSound() }
        // The digest at an earlier position is what it was there.
        for (index, number) in stride(from: 0, to: appends.count, by: 10).enumerated() {
            let earlier = try await sqlite.engine.digestFromLog(of: nil, until: UInt64(number + 1))
            #expect(earlier.digest == digests[index] && earlier.source == "log", "seed \(seed), position \(number + 1)")
        }
    }

    private func next(_ actor: inout SimulatedActor, _ generator: inout SeededGenerator) throws -> Append {
        guard actor.isMember else { return try actor.enroll() }
        switch Int.random(in: 0..<14, using: &generator) {
        case 0: return try actor.leave(Bool.random(using: &generator) ? .kept : .erase)
        case 1: return try actor.changeKey()
        case 2: return try actor.changeBoundaries(["general"])
        case 3: return try actor.putBlob()
        case 4...6: return try actor.write(operations: Int.random(in: 2...12, using: &generator))
        case 7 where actor.records.isEmpty: return try actor.importing(records: Int.random(in: 0...30, using: &generator))
        case 8: return try actor.attestAnew(by: actor.service)
        default: return try actor.write()
        }
    }

    @Test("a digest names what it was taken over, and is empty for whoever has no log")
    func digests() async throws {
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(it.alice)
        try await it.deployment.enroll(it.bob)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"))])
        let all = try await it.engine.digest(of: nil)
        #expect(all.actors == 2 && all.events == 3 && all.source == "rows", "the service's own log is left out")
        let one = try await it.engine.digest(of: it.alice)
        #expect(one.actors == 1 && one.events == 2 && one.digest != all.digest)
        let head = try await it.log.statistics().position
        let folded = try await it.engine.digestFromLog(of: it.alice, until: head)
        #expect(folded.digest == one.digest && folded.events == 2 && folded.source == "log")
        for nobody in [it.carol, try it.deployment.service] {
            #expect(try await it.engine.digest(of: nobody).actors == 0)
            #expect(try await it.engine.digestFromLog(of: nobody, until: head).actors == 0)
        }
        try await it.deployment.write(it.bob, [.create(it.deployment.post("y"))])
        #expect(try await it.engine.digest(of: it.alice) == one)
        #expect(try await it.engine.digestFromLog(of: nil, until: head).digest == all.digest, "the digest of a position is for ever")
    }

    // MARK: Rows that are not the log's

    @Test("rows of another history are dropped and folded again")
    func otherHistory() async throws {
        // Two logs of the same service and actor, of the same length and then not.
        for (ours, theirs) in [(2, 2), (3, 1), (1, 3), (4, 0)] {
            let it = try await Trial()
            let other = try await Trial()
            try await it.deployment.enroll(it.alice)
            for number in 0..<ours {
                try await it.deployment.write(it.alice, [.create(it.deployment.post("ours \(number)"), at: .tid(number))])
            }
            if theirs > 0 { try await other.deployment.enroll(it.alice) }
            for number in 0..<theirs {
                try await other.deployment.write(it.alice, [.create(it.deployment.post("theirs \(number)"), at: .tid(number))])
            }
            try await it.restart(over: other.log)
            #expect(try await it.engine.digest(of: nil) == other.engine.digest(of: nil), "\(ours) against \(theirs)")
            if theirs == 0 { #expect(try await it.engine.enrollment(of: it.alice) == nil) }
            try await it.expectSound()
        }
    }

    @Test(
        "rows of another version, or of other tables, are made anew",
        arguments: ["UPDATE state SET version = 77", "PRAGMA user_version = 1", "PRAGMA user_version = 99; CREATE TABLE later (x)"])
    func otherVersion(change: String) async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"), at: .tid(1))])
        let digest = try await it.engine.digest(of: nil)
        it.deployment.close()
        do {
            let connection = try SQLiteConnection(path: try it.rowsPath(of: it.alice), options: .disposable)
            // A record that no log knows would stay if the rows were kept.
            try connection.execute("UPDATE record SET rkey = '3zzzzzzzzzzzz'; \(change)")
            connection.close()
        }
        try await it.restart()
        #expect(try await it.engine.digest(of: nil) == digest)
        try await it.expectSound()
    }

    /// What may happen to a file of rows, and is noticed.
    enum Damage: String, CaseIterable, CustomTestStringConvertible {
        case noDatabase, emptyFile, halfAPage, zeroedPages, unreadableState, unreadableRecord, missingNode, wrongNode, missingRecord
        /// A flipped bit makes a number negative.
        case negativeRecord, negativeRepo

        var testDescription: String { rawValue }

        func apply(to path: String) throws {
            let url = URL(filePath: path)
            switch self {
            case .noDatabase: try Data(repeating: 0x41, count: 8192).write(to: url)
            case .emptyFile: try Data().write(to: url)
            case .halfAPage: try Data(contentsOf: url).prefix(2048).write(to: url)
            case .zeroedPages:
                var bytes = try Data(contentsOf: url)
                bytes.replaceSubrange(4096..<bytes.count, with: Data(repeating: 0, count: bytes.count - 4096))
                try bytes.write(to: url)
            case .unreadableState: try execute("UPDATE state SET row = x'a0'", path)
            case .unreadableRecord: try execute("UPDATE record SET rev = 'x'", path)
            case .missingNode: try execute("DELETE FROM node", path)
            case .wrongNode: try execute("UPDATE node SET bytes = x'a0'", path)
            case .missingRecord: try execute("DELETE FROM record", path)
            case .negativeRecord: try execute("UPDATE record SET sequence = -sequence", path)
            case .negativeRepo:
                let connection = try SQLiteConnection(path: path, options: .disposable)
                let row = try DAGCBOR.decode(try #require(try connection.single("SELECT row FROM state") { $0.blob(0) }))
                let repo = try #require(row["repo"]).with("sequence", -7)
                let hex = DAGCBOR.encode(row.with("repo", repo)).map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }.joined()
                try connection.execute("UPDATE state SET row = x'\(hex)'")
                connection.close()
            }
        }

        private func execute(_ sql: String, _ path: String) throws {
            let connection = try SQLiteConnection(path: path, options: .disposable)
            try connection.execute(sql)
            connection.close()
        }
    }

    @Test("damaged rows cost a rebuild and no answer", arguments: Damage.allCases)
    func damage(damage: Damage) async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        for number in 0..<30 { try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"), at: .tid(number))]) }
        let digest = try await it.engine.digest(of: nil)
        it.deployment.close()
        try damage.apply(to: try it.rowsPath(of: it.alice))
        try await it.restart()
        // A write needs state, tree and the record that it replaces.
        let receipt = try await it.deployment.write(it.alice, [.put(it.deployment.post("new"), at: .tid(7))])
        #expect(try await it.engine.record(at: path(.tid(7)), of: it.alice, to: .user(it.alice))?.content.cid == receipt.results[0].cid)
        #expect(try await it.records(of: it.alice).count == 30)
        try await it.expectSound()
        #expect(try await it.engine.rebuild(nil, progress: { _, _ in }).events == digest.events + 1)
        try await it.expectSound()
    }

    // MARK: Faults

    @Test(
        "where rows do not move with the log, the write is answered and the next touch catches up (I9)",
        arguments: [FaultyReadModel.Fault.refused, .moved, .unreachable(calls: 1), .unreachable(calls: 2)])
    func failedChanges(fault: FaultyReadModel.Fault) async throws {
        let it = try await Trial { options in
            options.readModel = { FaultyReadModel($0) { number in [2, 3, 5, 8].contains(number) ? fault : nil } }
        }
        try await it.deployment.enroll(it.alice)
        var expected: [RecordPath: CID] = [:]
        for number in 0..<6 {
            // A fault in catching up is that of whoever asked, and is gone with the next attempt.
            var receipt: WriteReceipt?
            for _ in 0..<12 where receipt == nil {
                do {
                    receipt = try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"), at: .tid(number))])
                } catch is FaultyReadModel.Failure {}
            }
            let result = try #require(receipt?.results.first)
            expected[result.path] = result.cid
            var read: CID?
            for _ in 0..<12 where read == nil {
                do {
                    read = try await it.engine.record(at: path(.tid(number)), of: it.alice, to: .user(it.alice))?.content.cid
                } catch is FaultyReadModel.Failure {}
            }
            #expect(read == result.cid, "an answered write is seen by whoever reads after it")
        }
        #expect(try await it.records(of: it.alice) == expected)
        #expect(try await it.log.head(of: it.alice).sequence == 7)
        try await it.expectSound()
    }

    @Test("rows that move and do not say so while they catch up are read where they stand (I9)", arguments: Backend.allCases)
    func movedWhileCatchingUp(backend: Backend) async throws {
        let it = try await Trial(backend) { options in
            // The first change is the enrollment, the second its catching up.
            options.readModel = { FaultyReadModel($0) { number in [1: .refused, 2: .moved][number] } }
        }
        await #expect(throws: FaultyReadModel.Failure.self) { try await it.deployment.enroll(it.alice) }
        #expect(try await it.log.head(of: it.alice).sequence == 1)
        let receipt = try await it.deployment.write(it.alice, [.create(it.deployment.post("a"), at: .tid(1))])
        let read = try await it.engine.record(at: path(.tid(1)), of: it.alice, to: .user(it.alice))?.content.cid
        #expect(read == receipt.results.first?.cid)
        try await it.expectSound()
    }

    @Test("rows fail at random moments, and what comes out is the fold of the log (I8)", arguments: Backend.allCases)
    func randomFaults(backend: Backend) async throws {
        let seed = TestFiles.seed
        let it = try await Trial(backend) { options in
            options.readModel = { databases in
                FaultyReadModel(databases) { number in
                    var generator = SeededGenerator(seed: seed &+ UInt64(number))
                    return Int.random(in: 0..<4, using: &generator) == 0 ? (Bool.random(using: &generator) ? .refused : .moved) : nil
                }
            }
        }
        var enrolled = false
        while !enrolled {
            do {
                try await it.deployment.enroll(it.alice)
                enrolled = true
            } catch is FaultyReadModel.Failure {
                enrolled = try await it.log.head(of: it.alice).sequence > 0
            }
        }
        var generator = SeededGenerator(seed: seed)
        var model = Model()
        for _ in 0..<30 {
            let before = model
            let writes = writes(it, &model, &generator)
            do {
                _ = try await it.deployment.write(it.alice, writes)
            } catch is FaultyReadModel.Failure {
                model = before  // Catching up failed before anything was decided.
            }
        }
        try await it.restart { $0.readModel = { $0 } }
        try await expect(it, it.alice, is: model, step: 30)
        try await it.expectSound()
    }

    // MARK: Kinds of a later version

    @Test("an unknown kind stops its actor's projection, and nothing and nobody else")
    func unknownKind() async throws {
        let log = MemoryEventStore()
        let it = try await Trial(over: log)
        for actor in [it.alice, it.bob] {
            try await it.deployment.enroll(actor)
            try await it.deployment.write(actor, [.create(it.deployment.post("x"), at: .tid(1))])
        }
        try await it.deployment.append(
            { provenance, _ in
                .blobPut(BlobPut(provenance: provenance, cid: CID(hashing: [1], codec: .raw), mimeType: "image/png", size: 1))
            }, to: it.alice)
        log.tamper(it.alice, sequence: 3) { stored in
            // Other words of the same length are a kind of a later version.
            let kind = Array("blob.put".utf8)
            let start = stored.bytes.indices.first { stored.bytes[$0...].starts(with: kind) }!
            var bytes = stored.bytes
            bytes.replaceSubrange(start..<start + kind.count, with: Array("poll.put".utf8))
            return stored.with(bytes: bytes)
        }
        try await it.restart()
        let stopped = FoldError.unknownKind(actor: it.alice, at: 3, kind: "poll.put")
        await #expect(throws: stopped) { try await it.engine.record(at: path(.tid(1)), of: it.alice, to: .user(it.alice)) }
        await #expect(throws: stopped) { try await it.deployment.write(it.alice, [.delete(at: .tid(1))]) }
        await #expect(throws: stopped) { try await it.engine.digest(of: it.alice) }
        // Everybody else goes on, and a rebuild of all of them ends with the one that stopped.
        #expect(try await it.engine.record(at: path(.tid(1)), of: it.bob, to: .user(it.bob)) != nil)
        try await it.deployment.write(it.bob, [.create(it.deployment.post("y"), at: .tid(2))])
        let failure = await #expect(throws: OperatorFailure.self) { try await it.engine.rebuild(nil, progress: { _, _ in }) }
        #expect(failure?.name == "ProjectionsStopped" && failure?.message.contains("1 of 2 logs") == true)
        #expect(it.engine.gate.isOpen)
        #expect(try await it.engine.rebuild(it.bob, progress: { _, _ in }).actors == 1)
        #expect(try await it.engine.record(at: path(.tid(2)), of: it.bob, to: .user(it.bob)) != nil)
        #expect(try await it.log.head(of: it.alice).sequence == 3)
    }

    @Test("a fold stops at what the log cannot be: a root or a record that differs", arguments: 0..<3)
    func brokenLogs(number: Int) async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"), at: .tid(1))])
        let key = try #require(try it.deployment.files.signingKey(of: it.alice))
        let written = RecordOperation.Written(cid: CID(hashing: [1]), size: 1, boundaries: .empty)
        let cases: [(RecordOperation, FoldError)] = [
            (.init(path: path(.tid(2)), change: .create(written)), .rootDiffers(actor: it.alice, at: 3)),
            (.init(path: path(.tid(1)), change: .create(written)), .recordDiffers(actor: it.alice, at: 3, path: path(.tid(1)).description)),
            (
                .init(path: path(.tid(2)), change: .delete(prev: .init(cid: CID(hashing: [1]), boundaries: .empty))),
                .recordDiffers(actor: it.alice, at: 3, path: path(.tid(2)).description)
            ),
        ]
        let (operation, error) = cases[number]
        try await it.deployment.append(
            { provenance, state in
                let root = try #require(state.commits.last).data
                let commit = try ActorCommit.sign(
                    did: it.alice, rev: TID(microseconds: it.clock.now() + 1_000_000, clockID: 1), data: root, with: key)
                return .repoWrite(RepoWrite(provenance: provenance, operations: [operation], commit: commit))
            }, to: it.alice)
        try await it.restart()
        await #expect(throws: error) { try await it.engine.digest(of: it.alice) }
        // Not the rows were wrong: made anew they say the same.
        await #expect(throws: error) { try await it.engine.digest(of: it.alice) }
    }
}

extension Trial {
    func rowsPath(of did: DID) throws -> String {
        let folders = try #require(FileManager.default.enumerator(atPath: directory.path + "/actors"))
        let found = folders.compactMap { $0 as? String }.first { $0.hasSuffix("\(did)/stratos.sqlite") }
        return directory.path + "/actors/" + (try #require(found))
    }
}
