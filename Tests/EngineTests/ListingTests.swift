import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Projections
import Simulation
import SQLiteStore
import Testing

/// Listings: whole pages, cursors that betray nothing, and no cost for what is hidden (I12).
@Suite("Listing records")
struct ListingTests {
    private func list(
        _ it: Trial, to caller: Caller, limit: Int, reversed: Bool, collection: NSID = .post
    ) async throws -> (keys: [String], pages: [Int]) {
        var keys: [String] = []
        var pages: [Int] = []
        var after: RecordKey?
        repeat {
            let page = try await it.engine.records(in: collection, of: it.alice, after: after, reversed: reversed, limit: limit, to: caller)
            let records = page?.content.records ?? []
            keys += records.compactMap(\.uri.recordKey?.description)
            pages.append(records.count)
            after = page?.content.cursor
            #expect(after == nil || after == records.last?.uri.recordKey, "a cursor is the key of what the viewer saw last")
        } while after != nil
        return (keys, pages)
    }

    @Test("pages of any size hold what the viewer may see, in order, each once, and only the last is short")
    func pages() async throws {
        let seed = TestFiles.seed
        let it = try await Trial()
        try await it.deployment.enroll(it.alice)
        try await it.deployment.enroll(it.bob, ["engineering", "design"])
        try await it.deployment.enroll(it.carol, ["general"])
        var generator = SeededGenerator(seed: seed)
        var boundaries: [String: [String]] = [:]
        for _ in 0..<6 {
            // Records come, move between boundaries and go.
            let keys = Set((0..<25).map { _ in Int.random(in: 0..<80, using: &generator) })
            let writes = keys.map { number in
                let some = ["engineering", "general", "design"].filter { _ in Int.random(in: 0..<3, using: &generator) == 0 }
                let key = RecordKey.tid(number)
                if Int.random(in: 0..<5, using: &generator) == 0 {
                    boundaries[key.description] = nil
                    return RecordWrite.delete(in: .note, at: key)
                }
                boundaries[key.description] = some
                let boundary: Value? = some.isEmpty ? nil : it.deployment.post("x", in: some)["boundary"]
                return RecordWrite.put((["n": .integer(Int64(number))] as Value).with("boundary", boundary), in: .note, at: key)
            }
            try await it.deployment.write(it.alice, writes)
        }
        let visible: [(Caller, ([String]) -> Bool)] = [
            (.user(it.alice), { _ in true }), (.user(it.bob), { $0.contains("engineering") || $0.contains("design") }),
            (.user(it.carol), { $0.contains("general") }), (.appView(try DID("did:web:view.example")), { !$0.isEmpty }),
            (.anonymous, { _ in false }),
        ]
        for (caller, sees) in visible {
            let expected = boundaries.filter { sees($0.value) }.keys.sorted()
            for number in 0..<80 {
                let place = path(.tid(number), in: .note)
                let found = try await it.engine.record(at: place, of: it.alice, to: caller)
                #expect((found != nil) == expected.contains(place.recordKey.description), "\(caller), one by one, seed \(seed)")
            }
            for limit in [1, 2, 7, 100] {
                for reversed in [true, false] {
                    let (keys, pages) = try await list(it, to: caller, limit: limit, reversed: reversed, collection: .note)
                    #expect(keys == (reversed ? expected : expected.reversed()), "\(caller), limit \(limit), seed \(seed)")
                    #expect(pages.dropLast().allSatisfy { $0 == limit }, "no short page, seed \(seed)")
                    #expect(pages.count == max(1, (expected.count + limit - 1) / limit), "no empty last page, seed \(seed)")
                }
            }
        }
        try await it.expectSound()
        try await it.expectListed(it.alice, boundaries: boundaries.values.map { $0.map(it.deployment.boundary) })
    }

    @Test("a listing reads what it shows: hidden rows cost nothing, however many they are")
    func cost() async throws {
        let directory = try TemporaryDirectory()
        let databases = ActorDatabases(directory: ActorDirectory(dataDirectory: directory.path))
        defer { databases.close() }
        let (full, empty) = (SimulatedDeployment.actor(1), SimulatedDeployment.actor(2))
        // One actor with 20,000 hidden records and three visible ones, and one with the three alone.
        try await databases.fill(full, hidden: 20_000, visible: 3)
        try await databases.fill(empty, hidden: 0, visible: 3)
        let range = KeyRange(after: nil, reversed: true, limit: 51)
        let selections: [(RecordSelection, Int)] = [
            (.sharing(try BoundarySet(["s/shared", "s/other"])), 3), (.sharing(try BoundarySet(["s/none"])), 0), (.sharing(.empty), 0),
        ]
        for (selection, count) in selections {
            let times = try await [full, empty].asyncMap { actor in
                try await databases.withActor(actor) { rows in
                    let clock = ContinuousClock()
                    // The best of several: whatever else the machine does makes none of them faster.
                    return try (0..<15).map { _ in
                        var found = 0
                        let time = try clock.measure { found = try rows.records(.note, selection, in: range).count }
                        #expect(found == count)
                        return time
                    }.min()!
                }
            }
            // Reading 20,000 rows takes a hundred times as long as reading three.
            #expect(times[0] < times[1] * 5 + .microseconds(200), "\(selection): \(times[0]) against \(times[1])")
        }
    }
}

extension Array where Element: Sendable {
    fileprivate func asyncMap<Result>(_ body: (Element) async throws -> Result) async rethrows -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await body(element)) }
        return results
    }
}

extension ActorDatabases {
    fileprivate func fill(_ actor: DID, hidden: Int, visible: Int) async throws {
        try await withActor(actor) { rows in
            var changes = ActorChanges(from: ActorState(did: actor))
            for number in 0..<hidden + visible {
                let place = path(.tid(number), in: .note)
                let names =
                    number % max(1, (hidden + visible) / visible) == 0 && number / max(1, (hidden + visible) / visible) < visible
                    ? ["s/shared"] : ["s/hidden"]
                changes.records[place] = RecordRow(
                    path: place, cid: CID(hashing: [1]), boundaries: try BoundarySet(names), sequence: 1, created: 1,
                    rev: TID(microseconds: 1, clockID: 1), size: 1)
            }
            changes.state.head = Head(sequence: 1, event: CID(hashing: [1]), time: SimulatedService.startTime)
            try rows.apply(changes)
        }
    }
}

extension Trial {
    /// The index of a listing says exactly what the records say.
    fileprivate func expectListed(_ did: DID, boundaries: [[String]]) async throws {
        deployment.close()
        let connection = try SQLiteConnection(path: try rowsPath(of: did), options: .disposable)
        defer { connection.close() }
        let listed = try connection.all(
            "SELECT b.name, a.collection, a.rkey FROM audience a JOIN boundary b ON b.id = a.boundary ORDER BY 1, 2, 3"
        ) { "\($0.text(0)) \($0.text(1)) \($0.text(2))" }
        let records = try connection.all("SELECT boundaries, collection, rkey FROM record") { row in
            row.text(0).split(separator: " ").map { "\($0) \(row.text(1)) \(row.text(2))" }
        }
        #expect(listed == records.flatMap { $0 }.sorted())
        #expect(listed.count == boundaries.reduce(0) { $0 + $1.count }, "seed \(TestFiles.seed)")
    }
}
