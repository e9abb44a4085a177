import ATProto
import Authorization
import Commands
import EventLog
import Foundation
import Projections
import Simulation
import Testing

@testable import Engine
@testable import SQLiteStore

/// More actors than may be open or remembered at once, and processes that die: nobody can tell by the answers.
@Suite("Open actors")
struct OpenActorTests {
    /// The names of the actors whose files are open.
    private static func open(below directory: String) throws -> Set<String> {
        let descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
        // Those that end meanwhile have no name any more.
        let paths = descriptors.compactMap { try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)") }
        let folders = paths.filter { $0.hasPrefix(directory + "/") && $0.hasSuffix("/stratos.sqlite") }.map { $0.split(separator: "/") }
        return Set(folders.map { String($0[$0.count - 2]) })
    }

    private let actors = (0..<12).map { SimulatedDeployment.actor(100 + $0) }

    private func databases(_ directory: TemporaryDirectory, threads: Int, openMax: Int) -> ActorDatabases {
        ActorDatabases(directory: ActorDirectory(dataDirectory: directory.path), threads: threads, openMax: openMax)
    }

    @Test(
        "so many files are open as may be, and one more for each thread that found no place",
        arguments: [(1, 1), (1, 4), (3, 2), (3, 6)])
    func bounded(threads: Int, openMax: Int) async throws {
        let directory = try TemporaryDirectory()
        let databases = databases(directory, threads: threads, openMax: openMax)
        defer { databases.close() }
        var generator = SeededGenerator(seed: TestFiles.seed)
        func touch(_ count: Int) async throws -> Int {
            var most = 0
            for _ in 0..<count {
                let actor = actors.randomElement(using: &generator)!
                #expect(try await databases.withActor(actor) { rows in (rows as? ActorDatabase)?.actor } == actor)
                most = max(most, try Self.open(below: directory.path).count)
            }
            return most
        }
        let seed = TestFiles.seed
        let first = try await touch(60)
        #expect(first >= openMax && first <= openMax + threads - 1, "\(first) open, seed \(seed)")
        // A place is given back with the file that had it, no more often and no less.
        for actor in actors { _ = try await databases.drop(actor) }
        #expect(try Self.open(below: directory.path).isEmpty)
        let second = try await touch(60)
        #expect(second >= openMax && second <= openMax + threads - 1, "\(second) open, seed \(seed)")
        databases.close()
        #expect(try Self.open(below: directory.path).isEmpty)
    }

    @Test("the file that rested longest is closed for the next one")
    func leastRecentlyUsed() async throws {
        let directory = try TemporaryDirectory()
        let databases = databases(directory, threads: 1, openMax: 3)
        defer { databases.close() }
        for index in [0, 1, 2, 0, 3] { try await databases.withActor(actors[index]) { _ in } }
        #expect(try Self.open(below: directory.path) == Set([0, 2, 3].map { actors[$0].description }))
    }

    @Test("a file that is closed for the sake of another has what was applied to it and not committed (I9)")
    func closedWithRows() async throws {
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        for number in 0..<5 { try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"), at: .tid(number))]) }
        let events = try await it.log.events(of: it.alice, after: 0, limit: 10)
        let directory = try TemporaryDirectory()
        let databases = databases(directory, threads: 1, openMax: 1)
        defer { databases.close() }
        let alice = it.alice
        let applied = try await databases.withActor(alice) { rows in
            try ActorContext.of(alice, in: rows).apply(.events(events, chunks: [:]), to: rows)
            return (isUnwritten: (rows as? ActorDatabase)?.isUnwritten, record: try rows.record(path(.tid(4)))?.cid)
        }
        #expect(applied.isUnwritten == true && applied.record != nil)
        try await databases.withActor(it.bob) { _ in }
        #expect(try Self.open(below: directory.path) == [it.bob.description])
        let found = try await databases.withActor(alice) { rows in
            (isUnwritten: (rows as? ActorDatabase)?.isUnwritten, head: try rows.state()?.head, digest: try ActorDigest.of(rows))
        }
        let expected = try await it.deployment.databases.withActor(alice) { rows in try ActorDigest.of(rows) }
        #expect(found.isUnwritten == false && found.digest == expected)
        #expect(try await found.head == it.log.head(of: alice))
    }

    // MARK: Processes that die

    @Test("rows that were not committed when the process died come back from the log, the same (I8, I9, I10)", arguments: Backend.allCases)
    func died(backend: Backend) async throws {
        let it = try await Trial(backend) { $0.rowThreads = 1 }
        try await it.deployment.enroll(it.alice)
        var rev: TID?
        // A thread that rests commits, so try until it had none.
        var isBehind = false
        for number in 0..<60 where number < 40 || !isBehind {
            rev = try await it.deployment.write(it.alice, [.create(it.deployment.post("\(number)"), at: .tid(number))]).rev
            isBehind = try await it.keepImage(it.alice)
        }
        #expect(isBehind)
        let (digest, records) = (try await it.engine.digest(of: nil), try await it.records(of: it.alice))
        try it.dieAtImage()
        let rows = try ActorDatabase(path: try it.rowsPath(of: it.alice), actor: it.alice)
        #expect(try await rows.state()?.head.sequence ?? 0 < it.log.head(of: it.alice).sequence, "the file is behind the log")
        rows.close()
        try await it.restart()
        #expect(try await it.engine.digest(of: nil) == digest)
        #expect(try await it.records(of: it.alice) == records)
        #expect(try await it.deployment.write(it.alice, [.delete(at: .tid(0))]).rev > #require(rev))
        try await it.expectSound()
    }

    @Test("a seeded history over more actors than may be open, in which the process dies again and again, loses nothing (I8, I9)")
    func history() async throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        let it = try await Trial {
            $0.rowThreads = 1
            $0.openMax = 2
            $0.enrollmentsMax = 2
        }
        let actors = Array(actors.prefix(5))
        var models: [DID: [RecordPath: CID]] = [:]
        for actor in actors { try await it.deployment.enroll(actor) }
        for step in 0..<80 {
            let actor = actors.randomElement(using: &generator)!
            let key = RecordKey.tid(Int.random(in: 0..<12, using: &generator))
            if models[actor]?[path(key)] != nil, Bool.random(using: &generator) {
                try await it.deployment.write(actor, [.delete(at: key)])
                models[actor]![path(key)] = nil
            } else {
                let receipt = try await it.deployment.write(actor, [.put(it.deployment.post("\(step)"), at: key)])
                models[actor, default: [:]][path(key)] = receipt.results[0].cid
            }
            guard Int.random(in: 0..<5, using: &generator) == 0 else { continue }
            _ = try await it.keepImage(actors.randomElement(using: &generator)!)
            // It may live on a little: what it commits then is lost with the rest.
            if Bool.random(using: &generator) {
                let receipt = try await it.deployment.write(actor, [.put(it.deployment.post("later \(step)"), at: key)])
                models[actor, default: [:]][path(key)] = receipt.results[0].cid
            }
            try it.dieAtImage()
            try await it.restart()
        }
        for actor in actors { #expect(try await it.records(of: actor) == models[actor] ?? [:], "seed \(seed)") }
        try await it.expectSound()
    }

    // MARK: Enrollments in memory

    @Test("of the enrollments in memory the ones in use stay, and there are never more than may be")
    func enrollments() async throws {
        let it = try await Trial()
        var summaries: [EnrollmentSummary] = []
        for actor in actors { summaries.append(try await it.deployment.enroll(actor)) }
        let enrollments = Enrollments(countMax: 4)
        func known() -> Int {
            actors.count { if case .known = enrollments.find($0) { true } else { false } }
        }
        for (index, actor) in actors.enumerated() {
            enrollments.set(index.isMultiple(of: 3) ? nil : summaries[index], of: actor)
            guard case .known(let found) = enrollments.find(actor) else {
                Issue.record("what was just set is unknown")
                return
            }
            #expect(found == (index.isMultiple(of: 3) ? nil : summaries[index]), "nobody's enrollment is known too")
            // Whoever is asked for all the time is not forgotten.
            guard case .known = enrollments.find(actors[0]) else {
                Issue.record("\(index): the one in use is forgotten")
                return
            }
        }
        #expect(known() <= 4)
        // A later answer takes the place of an earlier one, in whichever half that is, and forgetting forgets both.
        for forgets in [false, true] {
            for moves in 0..<3 {
                enrollments.set(summaries[0], of: actors[0])
                for index in 1..<(1 + moves) { enrollments.set(summaries[index], of: actors[index]) }
                if forgets { enrollments.forget(actors[0]) } else { enrollments.set(nil, of: actors[0]) }
                for index in 4..<6 {
                    if case .known(.some) = enrollments.find(actors[0]) { Issue.record("an earlier answer came back") }
                    enrollments.set(summaries[index], of: actors[index])
                }
            }
        }
    }

    @Test("who holds what is judged by the log, also of those who were forgotten meanwhile (I12)", arguments: [1, 2, 64])
    func judged(enrollmentsMax: Int) async throws {
        let it = try await Trial {
            $0.openMax = 1
            $0.rowThreads = 1
            $0.enrollmentsMax = enrollmentsMax
        }
        try await it.deployment.enroll(it.alice, ["engineering"])
        for actor in [it.bob, it.carol] + actors { try await it.deployment.enroll(actor, ["design"]) }
        try await it.deployment.write(it.alice, [.create(it.deployment.post("x"), at: .tid(1))])
        var generator = SeededGenerator(seed: TestFiles.seed)
        let operatorAgent = Agent(did: try it.deployment.service, credential: .operator)
        var holds: [DID: Bool] = [:]
        for step in 0..<60 {
            let who = [it.bob, it.carol].randomElement(using: &generator)!
            if Bool.random(using: &generator) {
                let change: BoundaryChange = holds[who] ?? false ? .remove(["engineering"]) : .add(["engineering"])
                _ = try await it.engine.changeBoundaries(of: who, change, by: operatorAgent)
                holds[who] = !(holds[who] ?? false)
            }
            for _ in 0..<Int.random(in: 0..<3, using: &generator) {
                _ = try await it.engine.enrollment(of: actors.randomElement(using: &generator)!)
            }
            let read = try await it.engine.record(at: path(.tid(1)), of: it.alice, to: .user(who))
            #expect((read != nil) == (holds[who] ?? false), "step \(step), seed \(TestFiles.seed)")
        }
    }
}

extension Trial {
    private var image: String { directory.path + "/image" }

    /// Copies the actors' files as they would be found if the process died now. Rows are open on one thread only.
    /// - Returns: whether this actor has rows that are not in its file.
    fileprivate func keepImage(_ actor: DID) async throws -> Bool {
        let (image, actors) = (image, directory.path + "/actors")
        return try await deployment.databases.withActor(actor) { rows in
            if FileManager.default.fileExists(atPath: image) { try FileManager.default.removeItem(atPath: image) }
            try FileManager.default.copyItem(atPath: actors, toPath: image)
            return (rows as? ActorDatabase)?.isUnwritten ?? false
        }
    }

    /// Ends the service and puts the actors' files back as they were; `restart` begins over them.
    fileprivate func dieAtImage() throws {
        deployment.close()
        try FileManager.default.removeItem(atPath: directory.path + "/actors")
        try FileManager.default.moveItem(atPath: image, toPath: directory.path + "/actors")
    }
}
