import ATProto
import EventLog
import Keys
import Simulation
import Synchronization
import Testing

@Suite("The chain verifier")
struct ChainVerifierTests {
    private let seed = TestFiles.seed

    /// A log of a service and a few actors, and the actors as they are at its end.
    private func history(_ appends: Int = 120, actors: Int = 5) async throws -> (store: MemoryEventStore, history: HistoryGenerator) {
        let store = MemoryEventStore()
        var history = try HistoryGenerator(seed: seed, actors: actors)
        _ = try await store.append(try history.start())
        for _ in 0..<appends { _ = try await store.append(try history.next()) }
        _ = try await store.events(afterPosition: 0, limit: 1)
        return (store, history)
    }

    /// A service and one actor who has enrolled and written one record.
    private func small() async throws -> (store: MemoryEventStore, actor: SimulatedActor, write: Append) {
        let store = MemoryEventStore()
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        var actor = try SimulatedActor(number: 0, seed: seed, service: service)
        _ = try await store.append(try actor.enroll())
        let write = try actor.write()
        _ = try await store.append(write)
        _ = try await store.events(afterPosition: 0, limit: 1)
        return (store, actor, write)
    }

    private func findings(_ store: any EventStore, _ change: (inout ChainVerifier.Options) -> Void = { _ in }) async -> [Finding] {
        var options = ChainVerifier.Options()
        change(&options)
        return await ChainVerifier(store, options: options).verify().findings
    }

    @Test("finds nothing in a whole log, with or without signatures and contents, with any number of shards and any page")
    func whole() async throws {
        let (store, history) = try await history()
        for (signatures, contents, shards, page) in [
            (true, true, 2, 2048), (false, true, 3, 7), (true, false, 1, 1), (false, false, 8, 64),
        ] {
            var options = ChainVerifier.Options()
            (options.signatures, options.contents, options.shards, options.pageEvents) = (signatures, contents, shards, page)
            let report = await ChainVerifier(store, options: options).verify()
            #expect(report.findings == [], "seed \(seed)")
            let statistics = try await store.statistics()
            #expect(report.events == statistics.events && report.actors == statistics.actors)
        }
        for actor in history.actors { #expect(await findings(store) { $0.actor = actor.did } == [], "seed \(seed)") }
    }

    @Test("names actor, event, position, file and invariant of each single damage")
    func damages() async throws {
        let (_, _, write) = try await small()
        let block = write.blocks[0].cid
        let did = write.actor
        let damages: [(name: String, invariants: Set<String>, damage: (MemoryEventStore) -> Void)] = [
            (
                "a byte of the event", ["I1", "I4", "I3", "format"],
                { $0.tamper(did, sequence: 2) { $0.with(bytes: flipped($0.bytes, 40)) } }
            ),
            (
                "the last byte of the event", ["I1", "I4", "format"],
                {
                    $0.tamper(did, sequence: 2) { $0.with(bytes: flipped($0.bytes, $0.bytes.count - 1)) }
                }
            ),
            ("a byte of the body", ["I1"], { $0.tamper(did, sequence: 2) { $0.with(body: flipped($0.body!, 60)) } }),
            ("a body that is absent", ["I11"], { $0.tamper(did, sequence: 2) { $0.with(body: nil) } }),
            ("the tag in the leaf", ["I13"], { $0.tamper(did, sequence: 2) { $0.with(leaf: flipped($0.leaf, 5)) } }),
            ("the hash in the leaf", ["I13"], { $0.tamper(did, sequence: 2) { $0.with(leaf: flipped($0.leaf, 64)) } }),
            ("a leaf cut off", ["I13"], { $0.tamper(did, sequence: 2) { $0.with(leaf: Array($0.leaf.dropLast())) } }),
            ("a block that is absent", ["I11"], { $0.tamper(did, block: block, nil) }),
            ("a byte of a block", ["I11"], { $0.tamper(did, block: block, [1, 2, 3]) }),
            ("the positions of two events", ["I2"], { $0.swapPositions(1, 2) }),
        ]
        for (name, invariants, damage) in damages {
            let (store, _, _) = try await small()
            damage(store)
            let found = await findings(store)
            #expect(!found.isEmpty && !invariants.isDisjoint(with: found.map(\.invariant)), "\(name): \(found)")
            #expect(found.allSatisfy { $0.file == "memory" && ($0.position != nil || $0.sequence != nil) }, "\(name): \(found)")
            #expect(found.contains { $0.actor == did || $0.actor == nil }, "\(name)")
        }
    }

    @Test("each byte of each event, changed, is found")
    func everyByte() async throws {
        let (store, _, write) = try await small()
        let bytes = write.events[0].bytes
        for index in bytes.indices {
            store.tamper(write.actor, sequence: 2) { $0.with(bytes: flipped(bytes, index)) }
            #expect(!(await findings(store) { $0.signatures = false }).isEmpty, "byte \(index), seed \(seed)")
        }
        store.tamper(write.actor, sequence: 2) { $0.with(bytes: bytes) }
        #expect(await findings(store) == [])
    }

    @Test("an event signed by another key is found, and only with signatures (I4)")
    func signatures() async throws {
        let (store, actor, _) = try await small()
        var forged = actor
        forged.service = try SimulatedService(seed: seed + 1)
        _ = try await store.append(try forged.putBlob())
        #expect(await findings(store).map(\.invariant) == ["I4"])
        #expect(await findings(store) { $0.signatures = false } == [])
    }

    @Test("a commit that the actor's key did not sign is found (I4)")
    func commits() async throws {
        let (store, actor, _) = try await small()
        var other = actor
        _ = try other.changeKey()
        other.head = actor.head
        _ = try await store.append(try other.write())
        #expect(await findings(store).map(\.invariant) == ["I4"])
    }

    @Test("a rev that does not rise is found (I10)")
    func revs() async throws {
        let (store, actor, _) = try await small()
        var (first, second) = (actor, actor)
        _ = try await store.append(try first.write())
        second.head = first.head
        second.now = actor.now
        _ = try await store.append(try second.write())
        #expect(await findings(store) { $0.signatures = false }.contains { $0.invariant == "I10" })
    }

    @Test("a time before the last event's is found")
    func times() async throws {
        let (store, actor, _) = try await small()
        var late = actor
        let earlier = Timestamp(milliseconds: actor.head.time!.milliseconds - 1)
        late.head = Head(sequence: actor.head.sequence, event: actor.head.event!, time: earlier)
        late.now = earlier
        let signed = try late.sign(
            .blobPut(BlobPut(provenance: late.provenance(), cid: CID(hashing: [], codec: .raw), mimeType: "a/b", size: 0)))
        _ = try await store.append(Append(actor: actor.did, after: late.head, events: [signed]))
        #expect(await findings(store).map(\.invariant) == ["time"])
    }

    @Test("a key epoch is in force from the service.key that begins it on, and no other is (I4)")
    func epochs() async throws {
        for lost in [false, true] {
            let store = MemoryEventStore()
            var service = try SimulatedService(seed: seed)
            _ = try await store.append(try service.start())
            var actor = try SimulatedActor(number: 0, seed: seed, service: service)
            _ = try await store.append(try actor.enroll())
            var stale = actor
            _ = try await store.append(try service.changeKey(lost: lost))
            _ = try await store.append(try actor.attestAnew(by: service))
            _ = try await store.append(try actor.write())
            _ = try await store.append(try service.start())
            #expect(await findings(store) == [], "lost: \(lost)")
            let history = try await ServiceHistory.read(from: store)
            #expect(history.epochs.count == 2 && history.current?.key == service.key.publicKey && history.service == service.did)
            #expect(history.tagKey == service.tagKey && history.head == service.head)
            stale.head = actor.head
            stale.now = actor.now
            _ = try await store.append(try stale.putBlob())
            #expect(await findings(store).allSatisfy { $0.invariant == "I4" && $0.sequence == 4 }, "lost: \(lost)")
            #expect(await findings(store).count == 2)
        }
    }

    @Test("a service key that did not accept, another service's start and a second tag key are found")
    func serviceRules() async throws {
        let store = MemoryEventStore()
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        var other = try SimulatedService(seed: seed + 1, did: service.did.description)
        let foreign = try other.start().events[0]
        let body = try EventBody(kind: .serviceStart, bytes: foreign.bodyBytes)
        let signed = try SignedEvent.sign(
            body, after: service.head, of: service.did, time: service.head.time!, with: service.signing(tagKey: service.tagKey))
        _ = try await store.append(Append(actor: service.did, after: service.head, events: [signed]))
        #expect(await findings(store).contains { $0.sequence == 2 && $0.actor == service.did })
        await #expect(throws: EventLogError.brokenChain(actor: service.did, at: 2)) { try await ServiceHistory.read(from: store) }
    }

    @Test("what a recorded erasure explains is no finding, and everything else that is absent is (I11)")
    func erasures() async throws {
        let store = MemoryEventStore()
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        var actor = try SimulatedActor(number: 0, seed: seed, service: service)
        _ = try await store.append(try actor.enroll())
        let imported = try actor.importing(records: 1200)
        _ = try await store.append(imported)
        let write = try actor.write()
        _ = try await store.append(write)
        let record = try #require(imported.blocks.last)
        store.tamper(actor.did, block: record.cid, nil)
        store.tamper(actor.did, block: write.blocks[0].cid, nil)
        #expect(await findings(store).map(\.invariant) == ["I11", "I11"])
        _ = try await store.append(try actor.erase(.content([Erasure.Target(sequence: 2, operation: 1199)])))
        #expect(await findings(store).map(\.sequence) == [3])
        let body = try EventBody(kind: .repoWrite, bytes: write.events[0].bodyBytes)
        let residue = Erasure.Residue(sequence: 3, commit: body.commit!, operations: .written([nil]))
        _ = try await store.append(try actor.erase(.trace([Erasure.Target(sequence: 3, operation: 0)], [residue])))
        store.tamper(actor.did, sequence: 3) { $0.with(body: nil) }
        #expect(await findings(store) == [])
        #expect(await findings(store) { ($0.contents, $0.pageEvents) = (false, 1) } == [])
        for sequence in UInt64(1)...5 { store.tamper(actor.did, sequence: sequence) { $0.with(body: nil) } }
        for block in imported.blocks { store.tamper(actor.did, block: block.cid, nil) }
        #expect(await findings(store).count == 5)
        _ = try await store.append(try actor.erase(.actor))
        #expect(await findings(store) == [])
        _ = try await store.append(try actor.leave(.erase))
        #expect(await findings(store) { $0.contents = false } == [])
    }

    @Test("leaving with erasure explains the absence of earlier blocks, and of no body")
    func leaving() async throws {
        let (store, start, write) = try await small()
        var actor = start
        store.tamper(actor.did, block: write.blocks[0].cid, nil)
        _ = try await store.append(try actor.leave(.erase))
        #expect(await findings(store) == [])
        _ = try await store.append(try actor.enroll())
        _ = try await store.append(try actor.write())
        #expect(await findings(store) == [])
        store.tamper(actor.did, sequence: 2) { $0.with(body: nil) }
        #expect(await findings(store).map(\.sequence) == [2])
    }

    @Test("behind an erasure without trace, what its residue names must be there, and its body and chunks need not (I11)")
    func residues() async throws {
        let store = MemoryEventStore()
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        var actor = try SimulatedActor(number: 0, seed: seed, service: service)
        let did = actor.did
        _ = try await store.append(try actor.enroll())
        func expectMissing(_ sequences: [UInt64?], _ what: String) async {
            for page in [1, 8192] {
                let found = await findings(store) { $0.pageEvents = page }
                #expect(found.map(\.sequence) == sequences, "\(what), seed \(seed): \(found)")
                #expect(found.allSatisfy { $0.invariant == "I11" }, "\(what), seed \(seed): \(found)")
            }
        }

        let write = try actor.write(operations: 2)
        _ = try await store.append(write)
        guard case .repoWrite(let written) = try EventBody(kind: .repoWrite, bytes: write.events[0].bodyBytes) else {
            Issue.record("no write")
            return
        }
        let rest = Erasure.Residue(sequence: 2, commit: written.commit, operations: .written([nil, written.operations[1]]))
        _ = try await store.append(try actor.erase(.trace([Erasure.Target(sequence: 2, operation: 0)], [rest])))
        store.tamper(did, sequence: 2) { $0.with(body: nil) }
        store.tamper(did, block: write.blocks[0].cid, nil)
        await expectMissing([], "what the erasure took")
        store.tamper(did, block: write.blocks[1].cid, nil)
        await expectMissing([2], "a record of the residue")
        _ = try await store.append(try actor.erase(.content([Erasure.Target(sequence: 2, operation: 1)])))
        await expectMissing([], "a record of the residue that went later")

        let imported = try actor.importing(records: 3)
        _ = try await store.append(imported)
        let commit = try #require(try EventBody(kind: .repoImport, bytes: imported.events[0].bodyBytes).commit)
        _ = try await store.append(try actor.erase(.content([Erasure.Target(sequence: 5, operation: 2)])))
        var operations = try RepoImport.Chunk(bytes: imported.blocks[0].bytes).operations
        func trace(_ operation: Int) throws -> (append: Append, chunk: Block) {
            operations[operation] = nil
            let salt = [UInt8](repeating: UInt8(operation), count: 32)
            let chunk = try RepoImport.Chunk(salt: salt, first: 0, operations: operations).block()
            let rest = Erasure.Residue(sequence: 5, commit: commit, operations: .imported([chunk.cid]))
            let erasure = try actor.erase(.trace([Erasure.Target(sequence: 5, operation: UInt64(operation))], [rest]))
            return (Append(actor: did, after: erasure.after, events: erasure.events, blocks: [chunk]), chunk)
        }
        let first = try trace(0)
        _ = try await store.append(first.append)
        for block in [imported.blocks[0], imported.blocks[1], imported.blocks[3]] { store.tamper(did, block: block.cid, nil) }
        await expectMissing([], "the chunk and both records, while the body is still there")
        store.tamper(did, sequence: 5) { $0.with(body: nil) }
        await expectMissing([], "the body too")
        store.tamper(did, block: imported.blocks[2].cid, nil)
        await expectMissing([5], "a record of the new chunk")
        store.tamper(did, block: first.chunk.cid, nil)
        await expectMissing([5], "the new chunk")
        let second = try trace(1)
        _ = try await store.append(second.append)
        await expectMissing([], "the chunk of a residue that another has replaced")
        store.tamper(did, block: second.chunk.cid, nil)
        await expectMissing([5], "the chunk of the last residue")
    }

    @Test("an actor who goes on writing while the log is verified is no finding", arguments: [false, true])
    func busy(alone: Bool) async throws {
        let (store, start, _) = try await small()
        var actor = start
        let busy = BusyStore(store, of: actor.did, before: [try actor.write()], behind: [try actor.write()])
        let only = alone ? start.did : nil
        #expect(await findings(busy) { $0.actor = only } == [], "seed \(seed)")
        #expect(try await store.head(of: actor.did) == actor.head, "both were written while it ran")
        #expect(await findings(store) == [], "seed \(seed)")
    }

    @Test("a leave with erasure that comes while the log is verified explains what it takes, and any other event nothing (I11)")
    func busyLeaving() async throws {
        let (store, start, write) = try await small()
        var actor = start
        let leaving = BusyStore(store, of: actor.did, before: [try actor.importing(records: 3)], behind: [try actor.leave(.erase)])
        #expect(await findings(leaving) == [], "seed \(seed)")
        #expect(try await store.block(write.blocks[0].cid, of: actor.did) == nil)

        let (other, begin, lost) = try await small()
        var writer = begin
        other.tamper(writer.did, block: lost.blocks[0].cid, nil)
        let writing = BusyStore(other, of: writer.did, before: [try writer.write()], behind: [try writer.write()])
        let found = await findings(writing)
        #expect(found.map(\.invariant) == ["I11"] && found.map(\.sequence) == [2], "seed \(seed): \(found)")
    }

    @Test("an event that a store shows a moment before it names it as the head is no finding")
    func earlyEvent() async throws {
        let (store, actor, write) = try await small()
        #expect(await findings(BusyStore(store, of: actor.did, head: write.after)) == [])
    }

    @Test("a damaged block is named at its own event, and hides no other that is absent")
    func damagedBlock() async throws {
        let (store, start, _) = try await small()
        var actor = start
        let imports = [try actor.importing(records: 2), try actor.importing(records: 2)]
        for append in imports { _ = try await store.append(append) }
        let chunk = imports[0].blocks[0].cid
        let record = try #require(imports[1].blocks.last)
        store.tamper(actor.did, block: record.cid, nil)
        let found = await findings(BusyStore(store, of: actor.did, damagedBlock: chunk))
        #expect(found.map(\.invariant) == ["storage", "I11"] && found.map(\.sequence) == [3, 4], "seed \(seed): \(found)")
        #expect(found.first?.message.contains(chunk.description) == true, "\(found)")
    }

    @Test("a damaged event of one actor hides none before it")
    func damagedEvent() async throws {
        let (store, start, _) = try await small()
        var actor = start
        for _ in 0..<3 { _ = try await store.append(try actor.write()) }
        store.tamper(actor.did, sequence: 2) { $0.with(leaf: flipped($0.leaf, 5)) }
        let found = await findings(BusyStore(store, of: actor.did, damagedEvent: 4)) { $0.actor = start.did }
        #expect(Set(found.map(\.invariant)) == ["I13", "storage"] && Set(found.map(\.sequence)) == [2, 3], "seed \(seed): \(found)")
    }

    @Test("events without a position are verified too")
    func withoutPositions() async throws {
        let store = MemoryEventStore(sequencing: .manual)
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        store.sequence()
        var actor = try SimulatedActor(number: 0, seed: seed, service: service)
        _ = try await store.append(try actor.enroll())
        store.sequence()
        let write = try actor.write()
        _ = try await store.append(write)
        let report = await ChainVerifier(store).verify()
        #expect(report.findings == [] && report.events == 3)
        store.tamper(actor.did, sequence: 2) { $0.with(body: flipped($0.body!, 60)) }
        #expect(await findings(store).map(\.invariant) == ["I1"])
    }

    @Test("a kind of a later version is named, and the chain goes on")
    func unknownKinds() async throws {
        let (store, actor, _) = try await small()
        // A blob.put whose kind has other words of the same length is an unknown kind with a good signature.
        var later = actor
        let signed = try later.sign(
            .blobPut(BlobPut(provenance: later.provenance(), cid: CID(hashing: [], codec: .raw), mimeType: "a/b", size: 0)))
        let event = try renamed(signed, to: "blob.say", key: actor.service.key)
        _ = try await store.append(Append(actor: actor.did, after: actor.head, events: [signed]))
        store.tamper(actor.did, sequence: 3) {
            let cid = CID(hashing: event)
            let leaf = Leaf.make(tagKey: actor.tagKey, sequence: 3, eventDigest: cid.digest)
            return StoredEvent(position: $0.position, bytes: event, cid: cid, body: $0.body, leaf: leaf)
        }
        #expect(await findings(store).filter { $0.invariant != "I2" }.map(\.invariant) == ["format"])
    }

    private func renamed(_ signed: SignedEvent, to kind: String, key: PrivateKey) throws -> [UInt8] {
        var map = try #require(try DAGCBOR.decode(signed.bytes).mapValue)
        map["kind"] = .string(kind)
        map.remove("sig")
        map["sig"] = .bytes(try key.sign(DAGCBOR.encode(.map(map))))
        return DAGCBOR.encode(.map(map))
    }

    @Test("counts findings beyond those that it keeps")
    func bound() async throws {
        let (store, history) = try await history()
        for actor in history.actors where actor.head.sequence > 0 {
            for sequence in 1...actor.head.sequence { store.tamper(actor.did, sequence: sequence) { $0.with(leaf: []) } }
        }
        var options = ChainVerifier.Options()
        options.findingsMax = 10
        let report = await ChainVerifier(store, options: options).verify()
        #expect(report.findings.count == 10 && report.findingCount >= 100 && !report.isWhole)
    }
}

/// A log in memory of which one actor goes on writing while it is read, and of which a row may be damaged.
private final class BusyStore: WrappingEventStore {
    let base: any EventStore
    private let actor: DID
    /// What is appended each time that the actor's head is asked for: before it is read, and behind it.
    private let appends: Mutex<(before: [Append], behind: [Append])>
    /// What is said to be the actor's head, where that is not so.
    private let claimed: Head?
    private let damagedBlock: CID?
    private let damagedEvent: UInt64?

    init(
        _ base: any EventStore, of actor: DID, before: [Append] = [], behind: [Append] = [], head: Head? = nil, damagedBlock: CID? = nil,
        damagedEvent: UInt64? = nil
    ) {
        self.base = base
        self.actor = actor
        appends = Mutex((before, behind))
        claimed = head
        self.damagedBlock = damagedBlock
        self.damagedEvent = damagedEvent
    }

    /// With a leave go the blocks.
    private func write(_ append: Append?) async throws(EventLogError) {
        guard let append else { return }
        _ = try await base.append(append)
        guard append.events.contains(where: { $0.event.kind == .accountLeave }) else { return }
        while try await base.eraseBlocks(of: actor, at: append.head) > 0 {}
    }

    func head(of actor: DID) async throws(EventLogError) -> Head {
        guard actor == self.actor else { return try await base.head(of: actor) }
        if let claimed { return claimed }
        try await write(appends.withLock { $0.before.isEmpty ? nil : $0.before.removeFirst() })
        let head = try await base.head(of: actor)
        try await write(appends.withLock { $0.behind.isEmpty ? nil : $0.behind.removeFirst() })
        return head
    }

    func events(of actor: DID, after sequence: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent] {
        let page = try await base.events(of: actor, after: sequence, limit: limit)
        if actor == self.actor, let damagedEvent, sequence < damagedEvent, damagedEvent <= sequence + UInt64(page.count) {
            throw .damaged(file: file, position: nil, message: "a row")
        }
        return page
    }

    func blocks(_ cids: [CID], of actor: DID) async throws(EventLogError) -> [CID: [UInt8]] {
        if let damagedBlock, cids.contains(damagedBlock) { throw .damaged(file: file, position: nil, message: "a row") }
        return try await base.blocks(cids, of: actor)
    }

    func block(_ cid: CID, of actor: DID) async throws(EventLogError) -> [UInt8]? { try await blocks([cid], of: actor)[cid] }
}

private func flipped(_ bytes: [UInt8], _ index: Int) -> [UInt8] {
    var changed = bytes
    changed[index] ^= 1
    return changed
}
