import ATProto
import Commands
import Engine
import EventLog
import Foundation
import Keys
import Simulation
import Testing

@Suite("Importing a repo")
struct ImportTests {
    private func begin(_ backend: Backend = .memory, _ boundaries: [String] = ["engineering", "general"]) async throws -> Trial {
        let it = try await Trial(backend)
        try await it.deployment.enroll(it.alice, boundaries)
        return it
    }

    private func posts(_ it: Trial, _ count: Int, in boundaries: [String] = ["engineering"]) -> [(path: RecordPath, record: Value)] {
        (0..<count).map { (path(.tid($0)), it.deployment.post("post \($0)", in: boundaries)) }
    }

    @Test("an import keeps root and CIDs, and signs a commit of its own with a new rev", arguments: Backend.allCases)
    func keepsRoot(backend: Backend) async throws {
        let it = try await begin(backend)
        let enrolled = try #require(try await it.state(of: it.alice).commits.last)
        let file = try RepoFile.make(of: it.alice, posts(it, 20), signedWith: Trial.foreignKey)
        let source = try RepoFile.read(file, key: Trial.foreignKey.publicKey)
        let receipt = try await it.importing(file, into: it.alice)
        #expect(receipt.imported == 20 && receipt.data == source.report.data)
        #expect(receipt.rev > enrolled.rev, "I10: not the rev that the file came with")
        #expect(try await it.records(of: it.alice) == source.records)
        let state = try await it.state(of: it.alice)
        guard case .repoImport(let bulk) = state.bodies.last else {
            Issue.record("\(state.events)")
            return
        }
        #expect(CID(hashing: bulk.source) == source.report.commit, "the commit that the records came with is kept")
        #expect(bulk.operationCount == 20 && bulk.chunks.count == 1)
        #expect(bulk.commit.verifies(did: it.alice, with: try #require(state.key)))
        let summary = try #require(try await it.engine.enrollment(of: it.alice))
        #expect(summary.repo.commit == receipt.commit && summary.repo.rev == receipt.rev)
        // And it goes on from there.
        try await it.deployment.write(it.alice, [.delete(at: .tid(3)), .create(it.deployment.post("more"))])
        try await it.restart()
        #expect(try await it.records(of: it.alice).count == 20)
        try await it.expectSound()
    }

    @Test("a repo without records is imported as one")
    func empty() async throws {
        let it = try await begin()
        let receipt = try await it.importing(posts(it, 0), into: it.alice)
        #expect(receipt.imported == 0 && receipt.data == MST().root())
        // The repo is still empty.
        #expect(try await it.importing(posts(it, 1), into: it.alice).imported == 1)
        try await it.expectSound()
    }

    @Test("a repo that has records takes no import; one that has none any more does")
    func alreadyExists() async throws {
        let it = try await begin()
        try await it.deployment.write(it.alice, [.create(["n": 1], in: .note, at: .named("a"))])
        #expect(try await refusal { try await it.importing(posts(it, 2), into: it.alice) } == .repoAlreadyExists)
        #expect(
            try await refusal { try await it.importing([0x00], into: it.alice) } == .repoAlreadyExists, "said before the file is looked at")
        try await it.deployment.write(it.alice, [.delete(in: .note, at: .named("a"))])
        #expect(try await it.importing(posts(it, 2), into: it.alice).imported == 2)
        #expect(try await refusal { try await it.importing(posts(it, 2), into: it.alice) } == .repoAlreadyExists)
        try await it.expectSound()
    }

    @Test("only one of two imports at once is taken")
    func atOnce() async throws {
        let it = try await begin(.sqlite)
        let file = try RepoFile.make(of: it.alice, posts(it, 30), signedWith: Trial.foreignKey)
        let (engine, did, agent) = (it.engine, it.alice, it.deployment.agent(it.alice))
        let outcomes = await withTaskGroup { group in
            for _ in 0..<4 {
                group.addTask {
                    let source = ImportSource(size: file.count) { offset, count in Array(file[offset..<offset + count]) }
                    do {
                        _ = try await engine.importRepo(source, into: did, options: ImportOptions(), by: agent, progress: { _, _ in })
                        return "imported"
                    } catch {
                        return "\(error)"
                    }
                }
            }
            return await group.reduce(into: [String]()) { $0.append($1) }
        }
        #expect(
            outcomes.count(where: { $0 == "imported" }) == 1 && outcomes.count(where: { $0 == "repoAlreadyExists" }) == 3, "\(outcomes)")
        try await it.expectSound()
    }

    @Test("strangers, and files of somebody else, are refused")
    func otherPeople() async throws {
        let it = try await begin()
        #expect(try await refusal { try await it.importing(posts(it, 1), into: it.bob) } == .notEnrolled)
        let file = try RepoFile.make(of: it.bob, posts(it, 1), signedWith: Trial.foreignKey)
        #expect(
            try await refusal { try await it.importing(file, into: it.alice) }
                == .invalidCAR("Commit DID does not match authenticated user"))
    }

    @Test("the file's signature is checked where a key is given")
    func signature() async throws {
        let it = try await begin()
        let options = { (key: String) in
            var options = ImportOptions()
            options.verifyingKey = key
            return options
        }
        #expect(
            try await refusal { try await it.importing(posts(it, 1), into: it.alice, options("did:key:nonsense")) }
                == .invalidRequest("the key to verify with is no did:key of P-256 or secp256k1"))
        let other = PrivateKey.generate(.k256).publicKey.didKey
        #expect(try await refusal { try await it.importing(posts(it, 1), into: it.alice, options(other)) }?.name == "InvalidCar")
        #expect(try await it.importing(posts(it, 1), into: it.alice, options(Trial.foreignKey.publicKey.didKey)).imported == 1)
    }

    @Test("records that break a rule are all named, and none of the others is imported")
    func refusedRecords() async throws {
        let it = try await begin()
        var records = posts(it, 6)
        records[1].record = records[1].record.with("boundary", nil)
        records[3].record = it.deployment.post("x", in: ["design"])
        records[4].record = records[4].record.with("text", .string(String(repeating: "x", count: 3001)))
        records.append((path(.named("a"), in: .named("app.bsky.feed.post")), ["$type": "app.bsky.feed.post"]))
        records.append((path(.tid(20)), it.deployment.post("no type").with("$type", nil)))
        records.append((path(.named("not-a-tid")), it.deployment.post("x")))
        guard case .recordsRefused(let refused) = try await refusal({ try await it.importing(records, into: it.alice) }) else {
            Issue.record("records that break rules were imported")
            return
        }
        #expect(
            Set(refused.map(\.path))
                == Set([1, 3, 4].map { path(.tid($0)).description } + records[6...].map { $0.path.description }))
        #expect(refused.map(\.path) == refused.map(\.path).sorted())
        let reasons = Dictionary(uniqueKeysWithValues: refused.map { ($0.path, $0.reason) })
        #expect(reasons[path(.tid(1)).description] == "must have a boundary")
        #expect(reasons[records[6].path.description] == "Only zone.stratos.* collections are supported")
        #expect(try await it.log.head(of: it.alice).sequence == 1)
        let text = Refusal.recordsRefused(refused).reason
        #expect(text.hasPrefix("6 records are refused, so none was imported: "))
    }

    @Test("replies are judged by the file and by what others have written")
    func replies() async throws {
        let it = try await begin(.memory, ["engineering", "general"])
        try await it.deployment.enroll(it.bob, ["engineering", "general"])
        try await it.deployment.write(it.bob, [.create(it.deployment.post("bob's", in: ["general"]), at: .tid(50))])
        let answer = { (key: Int, boundaries: [String], parent: String) in
            (path: path(.tid(key)), record: it.deployment.post("answer", in: boundaries).with("reply", reply(to: parent)))
        }
        let parent = posts(it, 1)
        let wide = [
            answer(10, ["general"], uri(.tid(0), of: it.alice)), answer(11, ["engineering"], uri(.tid(50), of: it.bob)),
            answer(12, ["engineering"], uri(.tid(0), of: it.alice)),
        ]
        guard case .recordsRefused(let refused) = try await refusal({ try await it.importing(parent + wide, into: it.alice) }) else {
            Issue.record("wider replies were imported")
            return
        }
        #expect(refused.map(\.path) == [path(.tid(10)).description, path(.tid(11)).description])
        #expect(
            refused[0].reason
                == "Reply boundaries must be a subset of the parent's boundaries. Domains not in parent: \(it.deployment.boundary("general"))"
        )
        let narrow = [
            answer(10, ["engineering"], uri(.tid(0), of: it.alice)), answer(11, ["general"], uri(.tid(50), of: it.bob)),
            answer(12, ["general"], uri(.tid(99), of: it.alice)),
        ]
        _ = try await it.importing(parent + narrow, into: it.alice)
        let operations = try await it.imported(it.alice)
        let mine = try await it.records(of: it.alice)[path(.tid(0))]
        let his = try await it.records(of: it.bob)[path(.tid(50))]
        #expect(operations.map { $0.written?.against?.cid } == [nil, mine, his, nil])
        #expect(operations.map { $0.written?.against?.sequence } == [nil, 2, 2, nil])
        try await it.expectSound()
    }

    @Test("another service's boundaries are refused, or taken off, which leaves the record to its owner")
    func foreignBoundaries() async throws {
        let it = try await begin()
        try await it.deployment.enroll(it.bob, ["engineering"])
        var records = posts(it, 4)
        let foreign: Value = ["value": "did:web:other.example/engineering"]
        records[1].record = records[1].record.with("boundary", ["$type": "zone.stratos.boundary.defs#Domains", "values": [foreign]])
        records[2].record = records[2].record.with(
            "boundary",
            [
                "$type": "zone.stratos.boundary.defs#Domains",
                "values": [foreign, ["value": .string(it.deployment.boundary("engineering"))]],
            ])
        guard case .recordsRefused(let refused) = try await refusal({ try await it.importing(records, into: it.alice) }) else {
            Issue.record("another service's boundaries were imported")
            return
        }
        #expect(refused.map(\.path) == [1, 2].map { path(.tid($0)).description })
        var options = ImportOptions()
        options.dropsForeignBoundaries = true
        // What else is wrong with such a record still is.
        var untyped = records
        untyped[1].record = untyped[1].record.with("$type", "zone.stratos.feed.like")
        #expect(try await refusal { try await it.importing(untyped, into: it.alice, options) }?.name == "InvalidRecord")
        #expect(try await it.importing(records, into: it.alice, options).imported == 4)
        let visible = try await it.engine.records(in: .post, of: it.alice, after: nil, reversed: true, limit: 10, to: .user(it.bob))
        #expect(visible?.content.records.map(\.uri.recordKey) == [.tid(0), .tid(3)])
        let own = try await it.engine.records(in: .post, of: it.alice, after: nil, reversed: true, limit: 10, to: .user(it.alice))
        #expect(own?.content.records.count == 4)
        try await it.expectSound()
    }

    @Test("foreign collections are hosted where that is allowed, for their owner alone, and can be deleted")
    func foreignCollections() async throws {
        let it = try await begin()
        try await it.deployment.enroll(it.bob, ["engineering", "general"])
        let place = path(.named("a"), in: .named("app.bsky.feed.post"))
        let record: Value = [
            "$type": "app.bsky.feed.post", "boundary": ["values": [["value": .string(it.deployment.boundary("engineering"))]]],
        ]
        var options = ImportOptions()
        options.allowsForeignCollections = true
        _ = try await it.importing([(place, record)] + posts(it, 1), into: it.alice, options)
        #expect(try await it.engine.record(at: place, of: it.alice, to: .user(it.bob)) == nil)
        #expect(try await it.engine.record(at: place, of: it.alice, to: .user(it.alice))?.content.value == record)
        #expect(try await it.engine.exportRepo(of: it.alice, to: .appView(try DID("did:web:view.example"))) == nil)
        let update = RecordWrite.put(record, in: place.collection, at: place.recordKey)
        #expect(try await refusal { try await it.deployment.write(it.alice, [update]) } == .invalidCollection)
        #expect(try await it.deployment.write(it.alice, [.delete(in: place.collection, at: place.recordKey)]).isNew)
        #expect(try await it.records(of: it.alice).count == 1)
    }

    @Test("an import of more than 1,000 records stands in chunks", arguments: [1000, 1001])
    func chunks(count: Int) async throws {
        let it = try await begin(.sqlite)
        let notes = (0..<count).map {
            (path: path(.tid($0), in: .note), record: ["$type": "zone.stratos.test.note", "n": .integer(Int64($0 % 7))] as Value)
        }
        let receipt = try await it.importing(notes, into: it.alice)
        #expect(receipt.imported == count)
        guard case .repoImport(let bulk) = try await it.state(of: it.alice).bodies.last else { return }
        #expect(bulk.chunks.count == (count + 999) / 1000 && bulk.operationCount == UInt64(count))
        #expect(try await it.records(of: it.alice).count == count)
        #expect(Set(try await it.records(of: it.alice).values).count == 7, "records with the same content share a block")
        try await it.restart()
        try await it.expectSound()
    }

    @Test("every hostile file is refused with nothing written, every sound one imported", arguments: [false, true])
    func hostile(checksSignature: Bool) async throws {
        let repos = try HostileRepo.all(seed: TestFiles.seed).filter { ($0.key != nil) == checksSignature }
        let it = try await Trial()
        let did = try DID("did:web:hostile.example.com")
        try await it.deployment.enroll(did)
        var options = ImportOptions()
        options.allowsForeignCollections = true
        for repo in repos {
            options.verifyingKey = repo.key?.didKey
            let head = try await it.log.head(of: did)
            let found = try await refusal { try await it.importing(repo.car, into: did, options) }
            guard repo.refusal.isEmpty else {
                #expect(found?.name == "InvalidCar", "\(repo.name), seed \(TestFiles.seed)")
                #expect(try await it.log.head(of: did) == head, "\(repo.name)")
                continue
            }
            #expect(found == nil, "\(repo.name), seed \(TestFiles.seed)")
            let records = try await it.records(of: did)
            #expect(records == (try RepoFile.read(repo.car, key: nil)).records)
            for place in records.keys { try await it.deployment.write(did, [.delete(in: place.collection, at: place.recordKey)]) }
        }
        try await it.expectSound()
    }

    @Test("a file that changes while it is read is refused")
    func changingFile() async throws {
        let it = try await begin()
        let file = try RepoFile.make(of: it.alice, posts(it, 5), signedWith: Trial.foreignKey)
        let reads = Reads()
        let source = ImportSource(size: file.count) { offset, count in
            var piece = Array(file[offset..<offset + count])
            if reads.next() > 1 { piece[piece.count - 1] ^= 1 }
            return piece
        }
        let found = try await refusal {
            try await it.engine.importRepo(
                source, into: it.alice, options: ImportOptions(), by: it.deployment.agent(it.alice), progress: { _, _ in })
        }
        #expect(found?.name == "InvalidCar")
        #expect(try await it.log.head(of: it.alice).sequence == 1)
    }

    /// Counts reads of a file. `@unchecked Sendable`: an import reads from one task.
    private final class Reads: @unchecked Sendable {
        private var count = 0
        func next() -> Int {
            count += 1
            return count
        }
    }

    @Test("published repos come out as they went in: the same root, the same records", arguments: ["greenground", "paul_staging"])
    func published(name: String) async throws {
        guard let file = try TestFiles.published("cars/\(name).repo.car") else { return }
        let source = try RepoFile.read(file, key: nil)
        let it = try await Trial(.sqlite)
        try await it.deployment.enroll(source.report.did)
        var options = ImportOptions()
        options.allowsForeignCollections = true
        let receipt = try await it.importing(file, into: source.report.did, options)
        #expect(receipt.data == source.report.data && receipt.imported == source.report.records)
        let export = try await it.export(source.report.did)
        let result = try RepoFile.read(export, key: try await it.state(of: source.report.did).key)
        #expect(result.records == source.records && result.report.data == source.report.data)
        #expect(result.report.extra == 0 && result.report.duplicates == 0)
        try await it.expectSound()
        TestFiles.report(vectors: "cars/\(name) imported and exported", passed: result.records == source.records ? 1 : 0, of: 1)
    }
}

extension Trial {
    /// The operations of an actor's last import.
    fileprivate func imported(_ did: DID) async throws -> [RecordOperation] {
        guard case .repoImport(let bulk) = try await state(of: did).bodies.last else { return [] }
        let chunks = try await log.blocks(bulk.chunks, of: did)
        return try bulk.chunks.flatMap { try RepoImport.Chunk(bytes: try #require(chunks[$0])).operations.compactMap { $0 } }
    }
}
