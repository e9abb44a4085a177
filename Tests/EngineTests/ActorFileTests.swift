import ATProto
import Commands
import EventLog
import Foundation
import Projections
import Simulation
import Testing

@testable import Engine
@testable import SQLiteStore

/// One actor's file, whatever becomes of its process and its disk: what is in it is the fold of the log up to one event.
@Suite("An actor's file on a disk that fails")
struct ActorFileTests {
    /// An actor's events, and the digest of the rows after each; the first one is that of no rows.
    private struct History {
        let actor: DID
        let events: [StoredEvent]
        let digests: [[UInt8]]

        init(events count: Int, _ generator: inout SeededGenerator) async throws {
            let it = try await Trial()
            try await it.deployment.enroll(it.alice)
            var standing: Set<Int> = []
            for number in 1..<count {
                let keys = Set((0..<3).map { _ in Int.random(in: 0..<40, using: &generator) })
                let writes = keys.map { key -> RecordWrite in
                    if standing.contains(key), Bool.random(using: &generator) {
                        standing.remove(key)
                        return .delete(in: .note, at: .tid(key))
                    }
                    standing.insert(key)
                    return .put(["n": .integer(Int64(number))], in: .note, at: .tid(key))
                }
                try await it.deployment.write(it.alice, writes)
            }
            actor = it.alice
            events = try await it.log.events(of: actor, after: 0, limit: count)
            let rows = MemoryActorRows()
            var digests = [try ActorDigest.of(rows)]
            for event in events {
                try ActorContext.of(actor, in: rows).apply(.events([event], chunks: [:]), to: rows)
                digests.append(try ActorDigest.of(rows))
            }
            self.digests = digests
        }

        /// Folds the event after those that the rows stand at.
        func applyNext(to database: ActorDatabase) throws {
            let context = try ActorContext.of(actor, in: database)
            try context.apply(.events([events[Int(context.state.head.sequence)]], chunks: [:]), to: database)
        }

        func standing(_ database: ActorDatabase) throws -> Int { Int(try database.state()?.head.sequence ?? 0) }

        /// The rows are the fold up to where they say that they stand (I9), and the log leads them on to its end (I8).
        func expectSound(_ database: ActorDatabase, _ comment: Comment) throws {
            let standing = try standing(database)
            #expect(try ActorDigest.of(database) == digests[standing], comment)
            while try self.standing(database) < events.count { try applyNext(to: database) }
            #expect(try ActorDigest.of(database) == digests[events.count], comment)
        }
    }

    private static func open(_ files: FaultyFiles, _ actor: DID) throws -> ActorDatabase {
        var options = SQLiteOptions.disposable
        options.vfs = files.name
        return try ActorDatabase(path: "/rows.sqlite", actor: actor, options: options)
    }

    /// Where rows stood at a moment of their disk.
    private struct Moment {
        let operations: UInt64
        let applied: Int
        let committed: Int
    }

    /// Applies a history: the first half without a rest, so that commits come when they are due; then the file is closed, as where
    /// others need its place, and opened again; and after it rests now and then.
    private func run(_ history: History, on files: FaultyFiles, _ generator: inout SeededGenerator) throws -> [Moment] {
        var moments = [Moment(operations: 0, applied: 0, committed: 0)]
        var database = try Self.open(files, history.actor)
        var committed = 0
        for applied in 1...history.events.count {
            try history.applyNext(to: database)
            if applied > history.events.count / 2, Int.random(in: 0..<15, using: &generator) == 0 { try database.settle() }
            if applied == history.events.count / 2 {
                database.close()
                database = try Self.open(files, history.actor)
                #expect(try history.standing(database) == applied, "a file that is closed has what was applied to it")
            }
            if !database.isUnwritten { committed = applied }
            moments.append(Moment(operations: files.operationCount, applied: applied, committed: committed))
        }
        database.close()
        return moments
    }

    @Test("when the process dies at any moment the file holds the last commit, and the log leads on from there (I8, I9)")
    func killed() async throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        let history = try await History(events: 90, &generator)
        let files = FaultyFiles()
        let moments = try run(history, on: files, &generator)
        var standings: Set<Int> = []
        for _ in 0..<25 {
            let operations = UInt64.random(in: 0...files.operationCount, using: &generator)
            let image = FaultyFiles()
            files.copy(after: operations, to: image)
            let database = try Self.open(image, history.actor)
            let standing = try history.standing(database)
            standings.insert(standing)
            let last = moments.last { $0.operations <= operations }!
            #expect(standing >= last.committed, "operation \(operations), seed \(seed)")
            #expect(standing <= moments.first { $0.operations > operations }?.applied ?? history.events.count, "seed \(seed)")
            try history.expectSound(database, "operation \(operations), seed \(seed)")
            database.close()
        }
        #expect(standings.count > 2, "the process died between the same commits each time, seed \(seed)")
    }

    @Test("after a loss of power at any moment the file holds some commit whole, or is found damaged and made anew (I8, I9)")
    func powerLost() async throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        let history = try await History(events: 90, &generator)
        let files = FaultyFiles()
        _ = try run(history, on: files, &generator)
        var standings: Set<Int> = []
        for _ in 0..<25 {
            let operations = UInt64.random(in: 0...files.operationCount, using: &generator)
            let left = FaultyFiles()
            files.cut(after: operations, seed: UInt64.random(in: .min ... .max, using: &generator), to: left)
            do {
                let database = try Self.open(left, history.actor)
                defer { database.close() }
                standings.insert(try history.standing(database))
                try history.expectSound(database, "operation \(operations), seed \(seed)")
            } catch let error as SQLiteError {
                // What finds it drops the file: `OpenActors.run`.
                #expect(error.isCorruption, "operation \(operations), seed \(seed): \(error)")
            }
        }
        #expect(standings.count > 2, "seed \(seed)")
    }

    @Test("where the disk refuses, rows stand again where they were committed, and go on from there (I9)")
    func refused() async throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        let history = try await History(events: 70, &generator)
        var (failures, kept) = (0, 0)
        for _ in 0..<20 {
            let files = FaultyFiles()
            var database = try Self.open(files, history.actor)
            try history.applyNext(to: database)
            try database.settle()
            var fault = FaultyFiles.Fault(first: files.callCount + UInt64.random(in: 1...40, using: &generator))
            fault.calls = [.write, .sync, .truncate]
            fault.effect = FaultyFiles.Effect.allCases.randomElement(using: &generator)!
            files.fail(fault)
            let comment: Comment = "\(fault), seed \(seed)"
            var applied = try history.standing(database)
            while applied < history.events.count {
                do {
                    try history.applyNext(to: database)
                    applied += 1
                    #expect(try history.standing(database) == applied, comment)
                    if Int.random(in: 0..<12, using: &generator) == 0 { try database.settle() }
                } catch is SQLiteError {
                    failures += 1
                    applied = try history.standing(database)
                    #expect(!database.isUnwritten && database.memory == nil, comment)
                    #expect(try ActorDigest.of(database) == history.digests[applied], comment)
                }
            }
            // A file that cannot be written while it is closed keeps its last commit.
            files.fail(FaultyFiles.Fault(first: files.callCount + 1, isForever: true))
            database.close()
            files.fail(nil)
            database = try Self.open(files, history.actor)
            if try history.standing(database) < history.events.count { kept += 1 }
            try history.expectSound(database, comment)
            database.close()
        }
        #expect(failures > 0 && kept > 0, "\(failures) failures and \(kept) closes that failed, seed \(seed)")
    }
}

/// What was applied and is not in the file.
@Suite("Unwritten rows")
struct UnwrittenRowsTests {
    private let state = ActorState(did: SimulatedDeployment.actor(1))
    private let one = CID(hashing: [1])
    private let two = CID(hashing: [2])

    private func changes(added: [CID: [UInt8]] = [:], removed: Set<CID> = []) -> ActorChanges {
        var changes = ActorChanges(from: state)
        changes.nodesAdded = added
        changes.nodesRemoved = removed
        return changes
    }

    @Test("a node that comes and goes between two commits never reaches the file, and one that goes and comes stays in it")
    func nodes() {
        var rows = UnwrittenRows(state: state)
        rows.take(changes(added: [one: [1]], removed: [two]))
        guard case .added([1]) = rows.node(one), case .removed = rows.node(two), case .asStored = rows.node(CID(hashing: [3])) else {
            Issue.record("nodes are not seen as they were left")
            return
        }
        rows.take(changes(added: [two: [2]], removed: [one]))
        #expect(rows.addedInOrder.isEmpty && rows.removed.isEmpty, "the file never had the first: there is nothing to delete")
    }

    @Test("they are due after 32 applications or 256 KiB of nodes, and not before")
    func due() {
        var rows = UnwrittenRows(state: state)
        for _ in 0..<31 { rows.take(changes()) }
        #expect(!rows.isDue)
        rows.take(changes())
        #expect(rows.isDue)
        rows = UnwrittenRows(state: state)
        rows.take(changes(added: [one: [UInt8](repeating: 0, count: (256 << 10) - 1)]))
        #expect(!rows.isDue)
        rows.take(changes(added: [two: [0]]))
        #expect(rows.isDue)
        rows.take(changes(removed: [two]))
        #expect(!rows.isDue, "what went again does not count")
    }
}
