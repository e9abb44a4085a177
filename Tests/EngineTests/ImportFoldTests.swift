import ATProto
import Commands
import EventLog
import Projections
import SQLiteStore
import Simulation
import Testing

/// An import is folded at once where it may be, and must come to what one record after the other comes to.
@Suite("Folding an import")
struct ImportFoldTests {
    private struct History {
        var actor: SimulatedActor
        var events: [StoredEvent] = []
        var chunks: [CID: [UInt8]] = [:]

        init() throws {
            var service = try SimulatedService(seed: TestFiles.seed)
            _ = try service.start()
            actor = try SimulatedActor(number: 0, seed: TestFiles.seed, service: service)
            actor.root = { _, records in
                var tree = MST()
                for (path, cid) in records {
                    do { try tree.insert(MSTKey(collection: path.collection, recordKey: path.recordKey), cid) } catch {
                        Issue.record("\(error)")
                    }
                }
                return tree.root()
            }
        }

        mutating func add(_ append: Append) {
            for signed in append.events {
                events.append(
                    StoredEvent(position: nil, bytes: signed.bytes, cid: signed.cid, body: signed.bodyBytes, leaf: signed.leaf))
            }
            for block in append.blocks { chunks[block.cid] = block.bytes }
        }

        /// Folds the events into rows, so many at a time.
        func fold(into rows: any ActorRows, page: Int) throws {
            var left = events[...]
            while !left.isEmpty {
                let state = try rows.state() ?? ActorState(did: actor.did)
                let nodes = try rows.nodes()
                let tree = state.repo.map { repo in MST(root: repo.data) { (cid) throws(MSTError) in nodes[cid] } } ?? MST()
                var fold = ActorFold(upon: state, tree: tree, row: { try rows.record($0) }, usage: try rows.collections())
                for event in left.prefix(page) { try fold.apply(event) { try chunks[$0].map(RepoImport.Chunk.init(bytes:)) } }
                try rows.apply(fold.finish().changes)
                left = left.dropFirst(page)
            }
        }
    }

    /// The fixture numbers its keys: up to ten stand in the order of the tree, and more do not.
    @Test("comes to the same rows in the order of keys or not, alone or with what comes before and after it (I8)", arguments: [1, 10, 40])
    func sameRows(records: Int) async throws {
        var history = try History()
        history.add(try history.actor.enroll())
        history.add(try history.actor.importing(records: records))
        for _ in 0..<12 { history.add(try history.actor.write(operations: 3)) }
        let expected = history.actor.records

        let digests = try [1, 2, 5, 100].map { page in
            let rows = MemoryActorRows()
            try history.fold(into: rows, page: page)
            #expect(rows.collections().values.reduce(0) { $0 + $1.records } == expected.count, "seed \(TestFiles.seed)")
            for (path, previous) in expected { #expect(rows.record(path)?.previous == previous, "seed \(TestFiles.seed)") }
            return try ActorDigest.of(rows)
        }
        #expect(Set(digests).count == 1, "seed \(TestFiles.seed)")

        for page in [1, 2, 100] {
            let directory = try TemporaryDirectory()
            let databases = ActorDatabases(directory: ActorDirectory(dataDirectory: directory.path), threads: 1)
            defer { databases.close() }
            let stored = try await databases.withActor(history.actor.did) { [history] rows in
                try history.fold(into: rows, page: page)
                return try ActorDigest.of(rows)
            }
            #expect(stored == digests[0], "page \(page), seed \(TestFiles.seed)")
        }
    }

    @Test("takes a repo that was left and erased for an empty one, also in the page of its leaving (I8)")
    func afterLeaving() throws {
        var history = try History()
        history.add(try history.actor.enroll())
        for _ in 0..<5 { history.add(try history.actor.write(operations: 3)) }
        history.add(try history.actor.leave(.erase))
        history.add(try history.actor.enroll())
        history.add(try history.actor.importing(records: 10))
        history.add(try history.actor.write(operations: 2))
        let digests = try [1, 3, 100].map { page in
            let rows = MemoryActorRows()
            try history.fold(into: rows, page: page)
            #expect(rows.collections().values.reduce(0) { $0 + $1.records } == history.actor.records.count, "seed \(TestFiles.seed)")
            return try ActorDigest.of(rows)
        }
        #expect(Set(digests).count == 1, "seed \(TestFiles.seed)")
    }
}
