import ATProto
package import EventLog

/// What every `EventStore` does, as behaviours that any backend is run through with one line:
/// `try await EventStoreContract(seed: TestFiles.seed) { try makeStore() }.check(behaviour)` over `Behaviour.allCases`.
package struct EventStoreContract: Sendable {
    package enum Behaviour: String, CaseIterable, Sendable, CustomStringConvertible {
        case emptyLog = "an empty log has empty heads, no events, no actors"
        case whatIsAppendedIsRead = "what is appended is read back, byte for byte, and the head moves"
        case loserLearnsTheHead = "a writer that lost the race learns the head it lost to, and stores nothing (I5)"
        case headIsComparedWhole = "a head of the right number and another event is refused (I5)"
        case allOrNone = "an append of many events with blocks is there wholly or not at all"
        case limits = "the largest append, body, block and DID go through"
        case requests = "the row of a request is found again, and a later one takes its place"
        case uses = "a credential that may be used once proves one append, of whatever actor, and a refused one leaves nothing"
        case staging = "blocks that were staged are those of the append that names them, and are gone where none came"
        case erasing = "an actor's blocks go when its log says so and ends there, and never those of others or of an append to come"
        case blocksPerActor = "a block belongs to one actor, is kept once, and is absent for everybody else"
        case concurrentActors = "many actors at once: every log whole, positions without gaps (I2, I13)"
        case orderOfDurability = "an event acknowledged before another's append began has the lower position (I13)"
        case racingWriters = "writers of one actor race, and the history is linearizable (I5)"
        case readersMissNothing = "a reader behind the writers sees every event once, in order, with nothing inserted behind it"
        case paging = "pages of any size give the same events in the same order"
        case listingActors = "actors are listed in order of their DIDs' bytes, each once, and known among others"
        case counting = "statistics count events and actors, and name the last position"
        case wholeByTheVerifier = "a seeded history of every kind of change verifies, and so it does when opened again"

        package var description: String { rawValue }
    }

    package struct Violation: Error, CustomStringConvertible {
        package let description: String
    }

    private let seed: UInt64
    private let make: @Sendable () async throws -> any EventStore
    private let reopen: @Sendable (any EventStore) async throws -> any EventStore

    /// - Parameters:
    ///   - make: an empty store.
    ///   - reopen: closes a store and opens the same data again; the same store for those that live in memory.
    package init(
        seed: UInt64, reopen: @escaping @Sendable (any EventStore) async throws -> any EventStore = { $0 },
        make: @escaping @Sendable () async throws -> any EventStore
    ) {
        self.seed = seed
        self.make = make
        self.reopen = reopen
    }

    /// - Throws: `Violation` with the seed, or what the store threw.
    package func check(_ behaviour: Behaviour) async throws {
        let store = try await make()
        switch behaviour {
        case .emptyLog: try await emptyLog(store)
        case .whatIsAppendedIsRead: try await whatIsAppendedIsRead(store)
        case .loserLearnsTheHead: try await loserLearnsTheHead(store)
        case .headIsComparedWhole: try await headIsComparedWhole(store)
        case .allOrNone: try await allOrNone(store)
        case .limits: try await limits(store)
        case .requests: try await requests(store)
        case .uses: try await uses(store)
        case .staging: try await staging(store)
        case .erasing: try await erasing(store)
        case .blocksPerActor: try await blocksPerActor(store)
        case .concurrentActors: try await concurrentActors(store)
        case .orderOfDurability: try await orderOfDurability(store)
        case .racingWriters: try await racingWriters(store)
        case .readersMissNothing: try await readersMissNothing(store)
        case .paging: try await paging(store)
        case .listingActors: try await listingActors(store)
        case .counting: try await counting(store)
        case .wholeByTheVerifier: try await wholeByTheVerifier(store)
        }
    }

    package func checkAll() async throws {
        for behaviour in Behaviour.allCases { try await check(behaviour) }
    }

    private func expect(_ holds: Bool, _ message: @autoclosure () -> String) throws {
        if !holds { throw Violation(description: "\(message()) (seed \(seed))") }
    }

    /// A store whose log begins as every log does, and somebody to write about.
    private func begin(_ store: any EventStore, actors: Int) async throws -> [SimulatedActor] {
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        return try (0..<actors).map { try SimulatedActor(number: $0, seed: seed, service: service) }
    }

    private func wholeLog(of actor: DID, in store: any EventStore, page: Int = 64) async throws -> [StoredEvent] {
        var events: [StoredEvent] = []
        while true {
            let next = try await store.events(of: actor, after: UInt64(events.count), limit: page)
            try expect(next.count <= page, "a page of \(next.count) where \(page) were asked for")
            guard !next.isEmpty else { return events }
            events += next
        }
    }

    /// Reads in order of position until as many have one: positions may come a moment after the acknowledgement.
    private func order(of store: any EventStore, count: Int, page: Int = 64) async throws -> [StoredEvent] {
        var events: [StoredEvent] = []
        var patience = 5000
        while events.count < count {
            let next = try await store.events(afterPosition: events.last?.position ?? 0, limit: page)
            try expect(next.count <= page, "a page of \(next.count) where \(page) were asked for")
            events += next
            guard next.isEmpty else { continue }
            patience -= 1
            try expect(patience > 0, "\(events.count) of \(count) events have positions")
            try await Task.sleep(for: .milliseconds(1))
        }
        for (index, stored) in events.enumerated() {
            try expect(stored.position == UInt64(index + 1), "I13: \(stored.position ?? 0) is position \(index + 1)")
        }
        return events
    }

    private func verify(_ store: any EventStore, signatures: Bool = false) async throws {
        var options = ChainVerifier.Options()
        options.signatures = signatures
        let report = await ChainVerifier(store, options: options).verify()
        try expect(report.isWhole, "verify finds \(report.findings.prefix(5))")
    }

    private func attempt(_ store: any EventStore, _ append: Append) async -> Result<[Appended], EventLogError> {
        do throws(EventLogError) {
            return .success(try await store.append(append))
        } catch {
            return .failure(error)
        }
    }

    private func refused(_ store: any EventStore, _ append: Append) async throws -> Head {
        switch await attempt(store, append) {
        case .failure(.headMoved(let head)): return head
        case .failure(let error): throw error
        case .success: break
        }
        throw Violation(description: "an append at a head that has moved goes through (seed \(seed))")
    }
}

extension EventStoreContract {
    private func emptyLog(_ store: any EventStore) async throws {
        let actor = try SimulatedActor(number: 0, seed: seed, service: try SimulatedService(seed: seed)).did
        let cid = CID(hashing: [])
        try expect(try await store.head(of: actor) == .empty, "the head of nobody is not empty")
        try expect(try await store.events(of: actor, after: 0, limit: 10).isEmpty, "nobody has events")
        try expect(try await store.events(afterPosition: 0, limit: 10).isEmpty, "an empty log has events")
        try expect(try await store.actors(after: nil, limit: 10).isEmpty, "an empty log has actors")
        try expect(try await store.block(cid, of: actor) == nil, "an empty log has a block")
        try expect(try await store.blocks([cid], of: actor).isEmpty, "an empty log has blocks")
        try expect(try await store.request([UInt8](repeating: 1, count: 32)) == nil, "an empty log has a request")
        let statistics = try await store.statistics()
        try expect(statistics.events == 0 && statistics.actors == 0 && statistics.position == 0, "an empty log counts \(statistics)")
        try expect(await store.inspect().isEmpty, "an empty log is damaged")
    }

    private func whatIsAppendedIsRead(_ store: any EventStore) async throws {
        var actor = try await begin(store, actors: 1)[0]
        var signed: [SignedEvent] = []
        for append in [try actor.enroll(), try actor.write(), try actor.write(operations: 5), try actor.importing(records: 3)] {
            let before = try await store.head(of: actor.did)
            try expect(before == append.after, "the head is \(before), not \(append.after)")
            try expect(try await store.append(append) == append.appended, "an append gives back other numbers or CIDs")
            try expect(try await store.head(of: actor.did) == append.head, "the head is not the appended event")
            for block in append.blocks {
                try expect(try await store.block(block.cid, of: actor.did) == block.bytes, "a block has other bytes")
            }
            signed += append.events
        }
        let log = try await wholeLog(of: actor.did, in: store)
        try expect(log.count == signed.count, "\(log.count) of \(signed.count) events")
        for (stored, event) in zip(log, signed) {
            try expect(
                stored.bytes == event.bytes && stored.cid == event.cid && stored.body == event.bodyBytes && stored.leaf == event.leaf,
                "event \(event.event.sequence) is read back differently")
        }
    }

    private func loserLearnsTheHead(_ store: any EventStore) async throws {
        var winner = try await begin(store, actors: 1)[0]
        _ = try await store.append(try winner.enroll())
        var loser = winner
        loser.diverge(1)
        let won = try winner.write()
        let row = RequestRow(scope: [UInt8](repeating: 7, count: 32), input: won.events[0].cid.digest, sequence: 2, time: winner.now)
        let written = try loser.write()
        let lost = Append(actor: written.actor, after: written.after, events: written.events, blocks: written.blocks, request: row)
        _ = try await store.append(won)
        try expect(try await refused(store, lost) == won.head, "the loser learns another head")
        try expect(try await store.head(of: winner.did) == won.head, "the loser moved the head")
        for block in lost.blocks {
            try expect(try await store.block(block.cid, of: winner.did) == nil, "the loser's block is stored")
        }
        try expect(try await store.request(row.scope) == nil, "the loser's request is stored")
        try expect(try await wholeLog(of: winner.did, in: store).count == 2, "the loser's event is stored")
        // The winner's own append, sent again, has lost too.
        try expect(try await refused(store, won) == won.head, "the same append goes through twice")
        _ = try await store.append(try winner.write())
        try await verify(store)
    }

    private func headIsComparedWhole(_ store: any EventStore) async throws {
        var actor = try await begin(store, actors: 1)[0]
        var other = actor
        other.diverge(1)
        let first = try actor.enroll()
        _ = try await store.append(first)
        _ = try other.enroll()
        try expect(try await refused(store, try other.write()) == first.head, "an append after an event that never was goes through")
        let future = try SimulatedActor(number: 1, seed: seed, service: actor.service)
        var ahead = future
        _ = try ahead.enroll()
        try expect(try await refused(store, try ahead.write()) == .empty, "an append ahead of an empty log goes through")
        try expect(try await store.head(of: future.did) == .empty, "a refused append made a log")
    }

    private func allOrNone(_ store: any EventStore) async throws {
        var actor = try await begin(store, actors: 1)[0]
        _ = try await store.append(try actor.enroll())
        var events: [SignedEvent] = []
        let after = actor.head
        for _ in 0..<Append.eventsMax { events += try actor.putBlob().events }
        var blocks: [Block] = []
        for _ in 0..<300 { blocks.append(actor.record(bytes: 500)) }
        let append = Append(actor: actor.did, after: after, events: events, blocks: blocks)
        let stale = Append(actor: actor.did, after: .empty, events: [try firstEvent(of: actor)], blocks: blocks)
        _ = try await refused(store, stale)
        try expect(try await store.blocks(blocks.map(\.cid), of: actor.did).isEmpty, "a refused append left blocks")
        try expect(try await store.append(append).count == Append.eventsMax, "not every event is given back")
        try expect(try await wholeLog(of: actor.did, in: store).count == Append.eventsMax + 1, "events are missing")
        let found = try await store.blocks(blocks.map(\.cid), of: actor.did)
        try expect(blocks.allSatisfy { found[$0.cid] == $0.bytes }, "blocks are missing")
    }

    /// A first event that comes too late.
    private func firstEvent(of actor: SimulatedActor) throws -> SignedEvent {
        var again = actor
        again.head = .empty
        return try again.putBlob().events[0]
    }

    private func limits(_ store: any EventStore) async throws {
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        let long = try SimulatedService(seed: seed + 1, did: "did:web:" + longName(192))
        var actor = try SimulatedActor(number: 0, seed: seed, service: service)
        _ = try await store.append(try actor.enroll())
        let block = Block(hashing: [UInt8](repeating: 0x40, count: 1_000_000))
        let body = try bodyOfMostBytes(&actor)
        let signed = try actor.sign(body)
        try expect(signed.bodyBytes.count > 900_000, "the body of \(signed.bodyBytes.count) bytes is a small one")
        _ = try await store.append(Append(actor: actor.did, after: actor.head, events: [signed], blocks: [block]))
        try expect(try await store.block(block.cid, of: actor.did) == block.bytes, "a block of 1,000,000 bytes is another")
        try expect(try await wholeLog(of: actor.did, in: store).last?.body == signed.bodyBytes, "a large body is another")
        // A DID of 200 bytes is the longest that an event can carry.
        var guest = long
        try expect(guest.did.description.utf8.count == Event.didBytesMax, "the long DID has \(guest.did.description.utf8.count) bytes")
        let append = try guest.start()
        _ = try await store.append(append)
        try expect(try await store.head(of: guest.did) == append.head, "a DID of 200 bytes has no head")
    }

    /// A host name of so many bytes, in labels of at most 60.
    private func longName(_ count: Int) -> String {
        String((1...count).map { $0 % 60 == 0 ? "." : "a" })
    }

    private func bodyOfMostBytes(_ actor: inout SimulatedActor) throws -> EventBody {
        var operations: [RecordOperation] = []
        let names = (0..<18).map { number in "\(number + 10)" + String(repeating: "x", count: 250) }
        let boundaries = try BoundarySet(names)
        for number in 0..<RepoWrite.operationsMax {
            let path = RecordPath(collection: try NSID("zone.stratos.feed.post"), recordKey: try RecordKey("big\(number)"))
            let written = RecordOperation.Written(cid: actor.record(bytes: 100).cid, size: 100, boundaries: boundaries)
            operations.append(RecordOperation(path: path, change: .create(written)))
        }
        let commit = ActorCommit(rev: TID(microseconds: 1, clockID: 1), data: CID(hashing: []), signature: [UInt8](repeating: 1, count: 64))
        return .repoWrite(RepoWrite(provenance: actor.provenance(), operations: operations, commit: commit))
    }

    private func requests(_ store: any EventStore) async throws {
        var actor = try await begin(store, actors: 1)[0]
        _ = try await store.append(try actor.enroll())
        let scope = CID(hashing: Array("scope".utf8)).digest
        for number in UInt64(2)...3 {
            let input = CID(hashing: [UInt8(number)]).digest
            let row = RequestRow(scope: scope, input: input, sequence: number, time: actor.now)
            _ = try await store.append(try actor.putBlob(request: row))
            try expect(try await store.request(scope) == row, "the row of request \(number) is not found")
        }
        try expect(try await store.request(CID(hashing: []).digest) == nil, "a request that never was is found")
    }

    private func uses(_ store: any EventStore) async throws {
        var actors = try await begin(store, actors: 2)
        for index in actors.indices { _ = try await store.append(try actors[index].enroll()) }
        let use = SingleUse(issuer: "key", identifier: "one", expires: 2_000_000_000)
        func using(_ use: SingleUse, _ append: Append) -> Append {
            Append(actor: append.actor, after: append.after, events: append.events, blocks: append.blocks, use: use)
        }
        // A use whose append loses its race is not spent.
        var loser = actors[0]
        loser.diverge(1)
        _ = try await store.append(try actors[0].putBlob())
        _ = try await refused(store, using(use, try loser.putBlob()))
        _ = try await store.append(using(use, try actors[0].putBlob()))
        for index in actors.indices {
            let head = try await store.head(of: actors[index].did)
            var again = actors[index]
            let append = using(use, try again.write())
            guard case .failure(.alreadyUsed) = await attempt(store, append) else {
                throw Violation(description: "a credential proves two appends (seed \(seed))")
            }
            try expect(try await store.head(of: actors[index].did) == head, "a refused append moved the head")
            for block in append.blocks {
                try expect(try await store.block(block.cid, of: actors[index].did) == nil, "a refused append left a block")
            }
        }
        let other = SingleUse(issuer: "another key", identifier: "one", expires: 2_000_000_000)
        _ = try await store.append(using(other, try actors[1].putBlob()))
        try await verify(store)
    }

    private func staging(_ store: any EventStore) async throws {
        var actor = try await begin(store, actors: 1)[0]
        _ = try await store.append(try actor.enroll())
        func naming(_ staged: [StagedBlocks], _ append: Append) -> Append {
            Append(
                actor: append.actor, after: append.after, events: append.events, blocks: append.blocks + staged.flatMap(\.held),
                staged: staged.compactMap(\.rows))
        }
        let blocks = (0..<20).map { _ in actor.record(bytes: 400) }
        // Some blocks twice, in one staging and in two.
        let staged = [
            try await store.stage(Array(blocks[..<12]) + [blocks[0]], of: actor.did),
            try await store.stage(Array(blocks[8...]), of: actor.did),
        ]
        var loser = actor
        loser.diverge(1)
        // A write that has one of them too keeps it, whatever becomes of the staging.
        let kept = actor.record(bytes: 300)
        let (abandoned, forgotten) = (actor.record(bytes: 301), actor.record(bytes: 302))
        let other = try await store.stage([kept, abandoned], of: actor.did)
        let write = try actor.putBlob()
        _ = try await store.append(Append(actor: write.actor, after: write.after, events: write.events, blocks: [kept]))
        // What a refused append named can be named again.
        _ = try await refused(store, naming(staged, try loser.putBlob()))
        _ = try await store.append(naming(staged, try actor.putBlob()))
        await store.abandon([other])
        _ = try await store.stage([forgotten], of: actor.did)
        let again = try await reopen(store)
        let found = try await again.blocks(blocks.map(\.cid) + [kept.cid], of: actor.did)
        try expect((blocks + [kept]).allSatisfy { found[$0.cid] == $0.bytes }, "\(found.count) of 21 blocks are there")
        for block in [abandoned, forgotten] {
            try expect(try await again.block(block.cid, of: actor.did) == nil, "a block is there that no append came for")
        }
        try expect(await again.inspect().isEmpty, "the store is damaged")
        try await verify(again)
    }

    private func erasing(_ store: any EventStore) async throws {
        var actors = try await begin(store, actors: 2)
        var blocks: [[Block]] = [[], []]
        for index in actors.indices {
            _ = try await store.append(try actors[index].enroll())
            for _ in 0..<4 {
                let append = try actors[index].write(operations: 3)
                blocks[index] += append.blocks
                _ = try await store.append(append)
            }
        }
        let did = actors[0].did
        try expect(try await store.erasuresDue().isEmpty, "an erasure is due that nobody asked for")
        // Where the log has gone on, nothing is removed: what it says since may need it.
        let before = try await store.head(of: did)
        let leave = try actors[0].leave(.erase)
        _ = try await store.append(
            Append(actor: leave.actor, after: leave.after, events: leave.events, erasesBlocks: true))
        do throws(EventLogError) {
            _ = try await store.eraseBlocks(of: did, at: before)
            throw EventLogError.malformed("blocks go while the log has gone on (seed \(seed))")
        } catch {
            guard case .headMoved(leave.head) = error else { throw error }
        }
        let staged = try await store.stage([actors[0].record(bytes: 303)], of: did)
        var again = try await reopen(store)
        try expect(try await again.erasuresDue() == [did], "an erasure that is due is forgotten")
        var erased = 0
        while case let count = try await again.eraseBlocks(of: did, at: leave.head), count > 0 { erased += count }
        let all = Set(blocks[0].map(\.cid))
        try expect(erased == all.count, "\(erased) of \(all.count) blocks went")
        for block in blocks[0] {
            try expect(try await again.block(block.cid, of: did) == nil, "an erased block is given back")
            try expect(try await again.blocks(inOrder: [block.cid], of: did, bytesMax: 1 << 20) == [nil], "an erased block is given back")
        }
        let others = try await again.blocks(blocks[1].map(\.cid), of: actors[1].did)
        try expect(blocks[1].allSatisfy { others[$0.cid] == $0.bytes }, "another actor's blocks went")
        try expect(try await again.erasuresDue() == [did], "it is due until somebody says that it is done")
        try await again.endErasure(of: did)
        try await again.endErasure(of: did)
        try expect(try await again.erasuresDue().isEmpty, "an erasure is due that is done")
        // The same content, written anew, is there anew.
        _ = try await again.append(try actors[0].enroll())
        let write = try actors[0].putBlob()
        _ = try await again.append(Append(actor: write.actor, after: write.after, events: write.events, blocks: [blocks[0][0]]))
        await again.abandon([staged])
        again = try await reopen(again)
        try expect(try await again.block(blocks[0][0].cid, of: did) == blocks[0][0].bytes, "a block that came back is gone")
        try expect(try await again.erasuresDue().isEmpty, "an erasure is due that is done")
        try await verify(again)
    }

    private func blocksPerActor(_ store: any EventStore) async throws {
        var actors = try await begin(store, actors: 2)
        let shared = actors[0].record(bytes: 400)
        for index in actors.indices {
            let enroll = try actors[index].enroll()
            _ = try await store.append(enroll)
            try expect(try await store.block(shared.cid, of: actors[index].did) == nil, "a block of somebody else is found")
            for _ in 0..<2 {
                let append = try actors[index].putBlob()
                let blocks = [shared, shared]
                _ = try await store.append(Append(actor: append.actor, after: append.after, events: append.events, blocks: blocks))
            }
            try expect(try await store.block(shared.cid, of: actors[index].did) == shared.bytes, "a block is not found")
        }
        let absent = CID(hashing: [1])
        let found = try await store.blocks([absent, shared.cid, shared.cid], of: actors[0].did)
        try expect(found == [shared.cid: shared.bytes], "of two blocks, one present, \(found.count) are found")
        if let direct = try store.blocksOnThisThread([absent, shared.cid, shared.cid], of: actors[0].did) {
            try expect(direct == found, "blocks read on the caller's thread are others")
        }
        try expect(try await store.blocks([], of: actors[0].did).isEmpty, "no CIDs give blocks")
    }
}

extension EventStoreContract {
    /// Each actor in a task of its own, so many writes each.
    private func writeAll(_ store: any EventStore, _ actors: [SimulatedActor], writes: Int) async throws -> [SimulatedActor] {
        try await withThrowingTaskGroup(of: SimulatedActor.self) { group in
            for actor in actors {
                group.addTask {
                    var actor = actor
                    _ = try await store.append(try actor.enroll())
                    for number in 0..<writes { _ = try await store.append(try number % 5 == 4 ? actor.putBlob() : actor.write()) }
                    return actor
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
    }

    private func concurrentActors(_ store: any EventStore) async throws {
        let actors = try await writeAll(store, try await begin(store, actors: 24), writes: 6)
        let order = try await order(of: store, count: 1 + actors.count * 7)
        var sequences: [DID: UInt64] = [:]
        for stored in order {
            let event = try Event(bytes: stored.bytes)
            try expect(event.sequence == sequences[event.did, default: 0] + 1, "I2: \(event.sequence) of \(event.did) is out of order")
            sequences[event.did] = event.sequence
        }
        for actor in actors {
            try expect(try await store.head(of: actor.did) == actor.head, "the head of \(actor.did) is another")
            try expect(try await wholeLog(of: actor.did, in: store).count == 7, "the log of \(actor.did) is not whole")
        }
        try await verify(store)
    }

    private func orderOfDurability(_ store: any EventStore) async throws {
        var actors = try await begin(store, actors: 3)
        var expected: [CID] = []
        for index in actors.indices { expected.append(try await append(try actors[index].enroll(), to: store)) }
        for number in 0..<12 { expected.append(try await append(try actors[number * 7 % 3].putBlob(), to: store)) }
        let order = try await order(of: store, count: 1 + expected.count)
        try expect(order.dropFirst().map(\.cid) == expected, "positions do not follow the order of acknowledgements")
    }

    private func append(_ append: Append, to store: any EventStore) async throws -> CID { try await store.append(append)[0].event }

    /// What one writer did, on a clock that counts the starts and ends of all appends.
    private struct Attempt: Sendable {
        let began: UInt64
        let ended: UInt64
        let sequence: UInt64
        let event: CID
    }

    private actor LogicalClock {
        private var now: UInt64 = 0
        func tick() -> UInt64 {
            now += 1
            return now
        }
    }

    private func racingWriters(_ store: any EventStore) async throws {
        var first = try await begin(store, actors: 1)[0]
        _ = try await store.append(try first.enroll())
        let (start, clock, writers, wins) = (first, LogicalClock(), 8, 5)
        let attempts = try await withThrowingTaskGroup(of: [Attempt].self) { group in
            for number in 0..<writers {
                group.addTask { try await race(store, start, number, wins: wins, clock) }
            }
            return try await group.reduce(into: [Attempt]()) { $0 += $1 }
        }
        let log = try await wholeLog(of: first.did, in: store)
        try expect(log.count == 1 + writers * wins, "\(log.count - 1) events of \(writers * wins) acknowledged ones")
        for attempt in attempts {
            try expect(log[Int(attempt.sequence) - 1].cid == attempt.event, "event \(attempt.sequence) is not what its writer was told")
        }
        try expect(Set(attempts.map(\.sequence)).count == attempts.count, "two writers were told the same number")
        for one in attempts {
            for other in attempts where one.ended < other.began {
                try expect(one.sequence < other.sequence, "\(one.sequence) ended before \(other.sequence) began")
            }
        }
        try await verify(store)
    }

    private func race(
        _ store: any EventStore, _ start: SimulatedActor, _ number: Int, wins: Int, _ clock: LogicalClock
    ) async throws -> [Attempt] {
        var actor = start
        actor.diverge(UInt64(number))
        var attempts: [Attempt] = []
        while attempts.count < wins {
            let append = try actor.putBlob()
            let began = await clock.tick()
            switch await attempt(store, append) {
            case .success(let appended):
                attempts.append(Attempt(began: began, ended: await clock.tick(), sequence: appended[0].sequence, event: appended[0].event))
            case .failure(.headMoved(let head)):
                try expect(head.sequence >= append.after.sequence && head != append.after, "moved back to \(head.sequence)")
                actor.head = head
            case .failure(let error): throw error
            }
        }
        return attempts
    }

    private func readersMissNothing(_ store: any EventStore) async throws {
        let actors = try await begin(store, actors: 8)
        let total = 1 + actors.count * 9
        async let written = writeAll(store, actors, writes: 8)
        // `order` reads behind the writers, and fails where a position is skipped or comes twice.
        let seen = try await order(of: store, count: total, page: 7)
        _ = try await written
        let again = try await order(of: store, count: total, page: total)
        try expect(seen.map(\.cid) == again.map(\.cid), "a reader behind the writers saw another order than a later one")
        try expect(Set(seen.map(\.cid)).count == total, "an event was seen twice")
    }

    private func paging(_ store: any EventStore) async throws {
        let actors = try await writeAll(store, try await begin(store, actors: 3), writes: 9)
        let total = 1 + actors.count * 10
        let whole = try await order(of: store, count: total, page: 1000)
        for page in [1, 2, 7, total - 1, total, total + 1] {
            try expect(try await order(of: store, count: total, page: page) == whole, "pages of \(page) give other events")
        }
        try expect(try await store.events(afterPosition: UInt64(total), limit: 5).isEmpty, "events after the last position")
        for actor in actors {
            let log = try await wholeLog(of: actor.did, in: store, page: 1000)
            for page in [1, 3, 10, 11] {
                try expect(try await wholeLog(of: actor.did, in: store, page: page) == log, "pages of \(page) give another log")
            }
            try expect(try await store.events(of: actor.did, after: 10, limit: 5).isEmpty, "events after the head")
            try expect(log.map(\.cid) == whole.filter { log.map(\.cid).contains($0.cid) }.map(\.cid), "an actor's order is another")
        }
    }

    private func listingActors(_ store: any EventStore) async throws {
        var actors = try await begin(store, actors: 13)
        for index in actors.indices { _ = try await store.append(try actors[index].enroll()) }
        let expected = (actors.map(\.did) + [actors[0].service.did]).sorted {
            $0.description.utf8.lexicographicallyPrecedes($1.description.utf8)
        }
        let stranger = try DID("did:plc:nobodyatall")
        try expect(try await store.withLog(among: [stranger] + expected) == Set(expected), "others are known than those who have a log")
        for page in [1, 5, 14, 100] {
            var listed: [DID] = []
            while true {
                let next = try await store.actors(after: listed.last, limit: page)
                guard !next.isEmpty else { break }
                listed += next
            }
            try expect(listed == expected, "pages of \(page) list \(listed.count) actors, or in another order")
        }
    }

    private func counting(_ store: any EventStore) async throws {
        let actors = try await writeAll(store, try await begin(store, actors: 4), writes: 3)
        let total = 1 + actors.count * 4
        _ = try await order(of: store, count: total)
        let statistics = try await store.statistics()
        try expect(statistics.events == UInt64(total) && statistics.position == UInt64(total), "\(statistics) after \(total) events")
        try expect(statistics.actors == UInt64(actors.count + 1), "\(statistics.actors) actors where \(actors.count + 1) are")
        try expect(statistics.bytes > 0, "the log takes no bytes")
    }

    private func wholeByTheVerifier(_ store: any EventStore) async throws {
        var history = try HistoryGenerator(seed: seed, actors: 6)
        _ = try await store.append(try history.start())
        var count = 1
        for _ in 0..<150 {
            let append = try history.next()
            _ = try await store.append(append)
            count += append.events.count
        }
        let before = try await order(of: store, count: count)
        try await verify(store, signatures: true)
        let opened = try await reopen(store)
        try expect(try await order(of: opened, count: count) == before, "opened again, the log is another")
        try await verify(opened)
        for actor in history.actors { try expect(try await opened.head(of: actor.did) == actor.head, "opened again, a head is another") }
    }
}
