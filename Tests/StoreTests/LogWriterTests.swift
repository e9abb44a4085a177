import ATProto
import EventLog
import Simulation
import Synchronization
import Testing

@testable import SQLiteStore

@Suite("The writer of the log")
struct LogWriterTests {
    private let files = FaultyFiles()
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func open(_ change: (inout LogStoreOptions) -> Void = { _ in }) throws -> LogStore {
        var options = LogStoreOptions()
        options.vfs = files.name
        options.readers = 1
        // A checkpoint of its own accord would be held in place of an append.
        options.idleMilliseconds = 1 << 30
        change(&options)
        return try LogStore(directory: directory.path, options: options) { Issue.record("the log gives up: \($0)") }
    }

    @Test("what queues up while a sync runs is the next group, and is synced once")
    func groups() async throws {
        let store = try open()
        let actors = try await Group.enrolled(60, in: store)
        let before = store.activity()
        for result in try await Group.appendBehind(actors, to: store, files) { _ = try result.get() }
        let after = store.activity()
        #expect(after.groups - before.groups == 2, "the first alone, the others together")
        #expect(after.appends - before.appends == 60 && after.events - before.events == 60)
        store.close()
    }

    @Test("a group holds at most so many events and bytes", arguments: [(events: 7, bytes: 1 << 20), (events: 512, bytes: 6000)])
    func bounds(of group: (events: Int, bytes: Int)) async throws {
        let store = try open {
            $0.groupEventsMax = group.events
            $0.groupBytesMax = group.bytes
        }
        let actors = try await Group.enrolled(29, in: store)
        let bytes = try Group.append(of: actors[0]).events.reduce(0) { $0 + $1.bytes.count + $1.bodyBytes.count }
        let most = min(group.events, group.bytes / bytes)
        let before = store.activity().groups
        for result in try await Group.appendBehind(actors, to: store, files) { _ = try result.get() }
        let groups = Int(store.activity().groups - before)
        #expect(groups == 1 + (28 + most - 1) / most, "\(most) of \(bytes) bytes fit")
        store.close()
    }

    @Test("beside the checkpointer the WAL of a busy log is begun anew again and again, and the file is whole (I2, I13)")
    func checkpointer() async throws {
        let store = try open {
            $0.checkpointPages = 40
            $0.checkpointRestPages = 8
        }
        var actors = try await Group.enrolled(8, in: store)
        for _ in 0..<16 {
            var appends: [Append] = []
            for index in actors.indices { appends.append(try actors[index].putBlob()) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for append in appends { group.addTask { _ = try await store.append(append) } }
                try await group.waitForAll()
            }
        }
        let activity = store.activity()
        #expect(activity.checkpoints > 2, "checkpoints: \(activity.checkpoints)")
        // A WAL that is begun anew keeps its length.
        let longest = (files.contents.first { $0.key.hasSuffix("-wal") }?.value.count ?? 0) / LogImage.frameByteCount
        // Four times as many pages as it should have, and what the writer adds while somebody else copies.
        #expect(longest < 4 * 40 + 200, "pages in the WAL: \(longest)")
        #expect(await ChainVerifier(store).verify().findings == [])
        store.close()
    }

    @Test("whichever sync fails, beside the checkpointer too, what was acknowledged is there after a loss of power (I6)", arguments: 0..<6)
    func checkpointerFails(round: Int) async throws {
        var options = LogTrial.options
        options.checkpointPages = 8
        options.checkpointRestPages = 0
        options.hasCheckpointer = true
        let trial = try LogTrial(files, directory: directory.path, options: options)
        var actors = try await Group.enrolled(6, in: trial.store)
        files.fail(FaultyFiles.Fault(first: UInt64(2 + round * 9), isForever: round % 2 == 1, calls: [.sync]))
        for _ in 0..<25 where trial.fatality == nil {
            var appends: [Append] = []
            for index in actors.indices { appends.append(try actors[index].putBlob()) }
            _ = await trial.send(appends)
        }
        let hit = try #require(files.hit, "no sync failed")
        #expect(trial.fatality != nil, "the log goes on after \(hit)")
        guard case .failure = await trial.append(try actors[0].putBlob()) else { return #expect(Bool(false), "acknowledged after \(hit)") }
        trial.store.close()
        files.fail(nil)
        let cut = FaultyFiles()
        files.cut(after: files.operationCount, seed: TestFiles.seed &+ UInt64(round), to: cut)
        var reopening = LogReopening(directory: directory.path)
        let problems = await reopening.check(cut, trial.ledger).problems.filter { !$0.contains("nobody appended") }
        #expect(problems == [], "\(hit), round \(round), seed \(TestFiles.seed)")
    }

    @Test("beyond so many that wait an append is refused at once, and so is a read; what was taken in goes through")
    func overloaded() async throws {
        let store = try open { $0.waitingMax = 4 }
        let actors = try await Group.enrolled(12, in: store)
        files.hold([.sync])
        async let first = Group.append([actors[0]], to: store)
        try await Group.until { files.heldCount == 1 }
        let refused = Counter()
        async let others = withTaskGroup(of: Bool.self) { group in
            for actor in actors.dropFirst() {
                group.addTask {
                    do throws(EventLogError) {
                        guard let append = try? Group.append(of: actor) else { return false }
                        _ = try await store.append(append)
                        return true
                    } catch {
                        #expect(error == .overloaded)
                        refused.increment()
                        return false
                    }
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        try await Group.until { refused.value == 7 }
        files.release()
        #expect(await others == 4)
        for result in await first { _ = try result.get() }
        #expect(try await store.statistics().events == 1 + 12 + 5)
        #expect(await ChainVerifier(store).verify().findings == [])
        store.close()
    }

    @Test("large appends are staged between the groups of others, and an append that comes meanwhile does not wait for all of it")
    func staging() async throws {
        let store = try open { $0.groupBytesMax = 10_000 }
        var actors = try await Group.enrolled(2, in: store)
        let large = try actors[0].importing(records: 400)
        let other = try actors[1].putBlob()
        files.hold([.sync])
        async let imported = store.append(large)
        try await Group.until { files.heldCount == 1 }
        async let small = store.append(other)
        try await Group.until { store.waitingCount == 1 }
        files.release()
        _ = try await small
        _ = try await imported
        #expect(store.activity().stagings > 5)
        let order = try await store.events(afterPosition: 3, limit: 10).map(\.cid)
        #expect(order == [other.events[0].cid, large.events[0].cid], "the one that was sent first takes longer")
        let blocks = try await store.blocks(large.blocks.map(\.cid), of: large.actor)
        #expect(large.blocks.allSatisfy { blocks[$0.cid] == $0.bytes })
        #expect(try await store.read { reader throws(EventLogError) in try reader.countStaged() } == 0)
        store.close()
    }

    @Test("an append whose staged block went with another that was refused is refused too, and is whole when staged anew (I11)")
    func takenOver() async throws {
        let store = try open { $0.groupBytesMax = 10_000 }
        var actor = try await Group.enrolled(1, in: store)[0]
        let use = SingleUse(issuer: "issuer", identifier: "once", expires: 4_000_000_000)
        let first = try actor.putBlob()
        _ = try await store.append(Append(actor: first.actor, after: first.after, events: first.events, use: use))
        let large = try actor.importing(records: 200)
        func naming(_ staged: StagedBlocks) throws -> Append {
            Append(actor: large.actor, after: large.after, events: large.events, staged: [try #require(staged.rows)])
        }
        let held = try await store.stage(large.blocks, of: actor.did)
        await #expect(throws: EventLogError.alreadyUsed) {
            try await store.append(
                Append(actor: large.actor, after: large.after, events: large.events, blocks: large.blocks, use: use))
        }
        await #expect(throws: EventLogError.overloaded) { try await store.append(try naming(held)) }
        let again = try await store.stage(large.blocks, of: actor.did)
        _ = try await store.append(try naming(again))
        #expect(await ChainVerifier(store).verify().findings == [])
        store.close()
    }

    @Test("what was staged for an append that never came is removed at the next start")
    func sweeping() async throws {
        let store = try open { $0.groupBytesMax = 10_000 }
        var actor = try await Group.enrolled(1, in: store)[0]
        let large = try actor.importing(records: 200)
        let begun = files.operationCount
        _ = try await store.append(large)
        let end = files.operationCount
        store.close()
        let killed = FaultyFiles()
        var options = LogStoreOptions()
        options.vfs = killed.name
        var swept = 0
        for moment in stride(from: begun, through: end, by: 7) {
            files.copy(after: moment, to: killed)
            let left = try SQLiteConnection(path: directory.path + "/log.sqlite", options: options.connection(.readOnly, cacheKiB: 100))
            let staged = try left.single("SELECT count(*) FROM staged") { $0.integer(0) } ?? 0
            left.checkpointsWhenClosed = false
            left.close()
            let opened = try LogStore(directory: directory.path, options: options) { Issue.record("\($0)") }
            let rows = try await opened.read { reader throws(EventLogError) in
                try reader.sql { connection throws(SQLiteError) in
                    try connection.single("SELECT count(*), (SELECT count(*) FROM staged) FROM blocks") { ($0.integer(0), $0.integer(1)) }
                }
            }
            let isThere = try await opened.head(of: actor.did) == actor.head
            #expect(rows?.0 == (isThere ? Int64(large.blocks.count) : 0) && rows?.1 == 0, "after operation \(moment)")
            if staged > 0, !isThere { swept += 1 }
            opened.close()
        }
        #expect(swept > 3, "few moments with staged blocks were met")
    }

    @Test("rows of old requests go in slices of 500, the oldest first; those that are young or were made again stay")
    func expiry() async throws {
        files.record(false)
        let store = try open()
        var actor = try await Group.enrolled(1, in: store)[0]
        func row(_ number: Int, at milliseconds: Int64) -> RequestRow {
            RequestRow(
                scope: CID(hashing: Array("\(number)".utf8)).digest, input: CID(hashing: []).digest, sequence: actor.head.sequence + 1,
                time: Timestamp(milliseconds: milliseconds))
        }
        let start = actor.now.milliseconds
        for number in 0..<503 { _ = try await store.append(try actor.putBlob(request: row(number, at: start + Int64(number)))) }
        let again = row(7, at: start + 600)
        _ = try await store.append(try actor.putBlob(request: again))
        let bound = Timestamp(milliseconds: start + 502)
        let now = Timestamp(milliseconds: bound.milliseconds + RequestRow.millisecondsMax - 1)
        #expect(try await store.expire(now: now) == 500)
        #expect(try await store.expire(now: now) == 1)
        #expect(try await store.expire(now: now) == 0)
        #expect(try await store.request(row(501, at: 0).scope) == nil)
        #expect(try await store.request(row(502, at: 0).scope)?.time == bound, "not before the bound")
        #expect(try await store.request(again.scope) == again)
        store.close()
    }

    @Test("a forgotten head is read again, and the memory of heads is bounded")
    func heads() async throws {
        var cache = HeadCache(countMax: 6)
        let dids = try (0..<20).map { try DID("did:web:actor\($0).example") }
        let entries = dids.indices.map {
            HeadCache.Entry(actor: Int64($0), head: Head(sequence: 1, event: CID(hashing: [UInt8($0)]), time: SimulatedService.startTime))
        }
        for index in dids.indices {
            cache.set(dids[index], entries[index])
            #expect(cache.find(dids[0]) == entries[0], "what is asked for stays")
        }
        #expect(cache.find(dids[19]) == entries[19])
        let kept = dids.indices.count { cache.find(dids[$0]) != nil }
        #expect((2...6).contains(kept), "\(kept) heads of 6 are kept")
        let stale = HeadCache.Entry(actor: 0, head: .empty)
        cache.set(dids[0], stale)
        #expect(cache.find(dids[0]) == stale)

        let store = try open { $0.headsMax = 2 }
        let actors = try await Group.enrolled(9, in: store)
        for actor in actors { #expect(try await store.head(of: actor.did) == actor.head) }
        for result in await Group.append(actors, to: store) { _ = try result.get() }
        store.close()
    }

    @Test("the queue gives out what was pushed, in order, up to its bound and after it was closed")
    func queue() throws {
        let queue = BlockingQueue<Int>(waitingMax: 200)
        for number in 0..<200 { #expect(queue.push(number) == .queued) }
        #expect(queue.push(200) == .full)
        #expect(queue.take(wait: .forever) { $0 < 3 } == [0, 1, 2])
        #expect(queue.take(wait: .none) { _ in false } == [3], "the first fits whatever it is")
        var taken: [Int] = []
        while taken.count < 190 { taken += queue.take(wait: .none) { _ in true } ?? [] }
        #expect(taken == Array(4..<200))
        #expect(queue.take(wait: .none) { _ in true } == [])
        #expect(queue.take(wait: .milliseconds(5)) { _ in true } == [])
        #expect(queue.push(7) == .queued)
        queue.close()
        #expect(queue.push(8) == .closed)
        #expect(queue.take(wait: .forever) { _ in true } == [7])
        #expect(queue.take(wait: .forever) { _ in true } == nil)
    }
}
