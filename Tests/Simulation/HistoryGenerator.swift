package import ATProto
package import EventLog
package import Keys

/// The service of a made-up history: its keys, its own log, and how it signs what happens to actors.
package struct SimulatedService: Sendable {
    package let did: DID
    package private(set) var key: PrivateKey
    package private(set) var epoch: UInt64 = 1
    package let tagKey: [UInt8]
    package var head: Head = .empty
    private var generator: SeededGenerator
    private var clock: Timestamp

    /// 2026-11-22T10:40:36.123Z.
    package static let startTime = Timestamp(milliseconds: 1_795_344_036_123)

    package init(seed: UInt64, did: String = "did:web:stratos.example") throws {
        self.did = try DID(did)
        generator = SeededGenerator(seed: seed)
        key = try PrivateKey(curve: .k256, rawBytes: generator.keyBytes())
        tagKey = generator.bytes(32)
        clock = SimulatedService.startTime
    }

    private mutating func provenance() -> Provenance {
        Provenance(salt: generator.bytes(32), by: Agent(did: did, credential: .system))
    }

    private mutating func append(_ body: EventBody, keyEpoch: UInt64, with signingKey: PrivateKey) throws -> Append {
        clock = Timestamp(milliseconds: clock.milliseconds + Int64.random(in: 0...5, using: &generator))
        let signing = SignedEvent.Signing(keyEpoch: keyEpoch, key: signingKey, tagKey: tagKey)
        let signed = try SignedEvent.sign(body, after: head, of: did, time: head.nextTime(now: clock), with: signing)
        let append = Append(actor: did, after: head, events: [signed])
        head = signed.head
        return append
    }

    /// Event 1 with its tag key, and every later start.
    /// - Parameters: for a start that opens a generation, its number and the raw cursor before it.
    package mutating func start(opening generation: UInt64 = 0, before: UInt64? = nil) throws -> Append {
        let start = ServiceStart(
            provenance: provenance(), version: "0.1.0", build: generator.bytes(32), service: did, key: key.publicKey,
            boundaries: try BoundarySet(["engineering", "general"]), generation: generation, before: before,
            tagKey: head.sequence == 0 ? tagKey : nil)
        return try append(.serviceStart(start), keyEpoch: epoch, with: key)
    }

    /// The next key epoch. Actors that are signed for from now on use the service as it is afterwards.
    package mutating func changeKey(lost: Bool = false) throws -> Append {
        let new = try PrivateKey(curve: .k256, rawBytes: generator.keyBytes())
        let (old, oldEpoch) = (key, epoch)
        (key, epoch) = (new, epoch + 1)
        if lost {
            let handover = ServiceKey(provenance: provenance(), service: did, epoch: epoch, key: new.publicKey, handover: .lost)
            return try append(.serviceKey(handover), keyEpoch: epoch, with: new)
        }
        let handover = try ServiceKey.accepted(provenance: provenance(), service: did, epoch: epoch, by: new)
        return try append(.serviceKey(handover), keyEpoch: oldEpoch, with: old)
    }

    package func signing(tagKey: [UInt8]) -> SignedEvent.Signing { SignedEvent.Signing(keyEpoch: epoch, key: key, tagKey: tagKey) }

    /// `NAME` as a boundary of this service.
    package func boundary(_ name: String) -> String { "\(did)/\(name)" }
}

/// One actor of a made-up history: signs valid events about itself, one after the other. A value, so that two writers who race
/// are two copies; `salt` keeps their events apart.
package struct SimulatedActor: Sendable {
    package let did: DID
    package var service: SimulatedService
    package var head: Head = .empty
    package private(set) var key: PrivateKey
    package private(set) var tagKey: [UInt8]
    package private(set) var records: [RecordPath: RecordOperation.Previous] = [:]
    package private(set) var boundaries: BoundarySet = .empty
    package private(set) var isMember = false
    package var now: Timestamp
    /// The root after a change of these records. By default no tree at all but a digest of what came before, which is all that
    /// a log without a fold needs.
    package var root: @Sendable (_ before: CID, _ records: [RecordPath: CID]) -> CID = { before, records in
        CID(hashing: before.bytes + withUnsafeBytes(of: UInt64(records.count).bigEndian) { Array($0) })
    }

    private var generator: SeededGenerator
    private var revs: TIDClock
    private var data: CID
    private var recordCount = 0

    package init(number: Int, seed: UInt64, service: SimulatedService) throws {
        var generator = SeededGenerator(seed: seed &* 0x1_0000_0001 &+ UInt64(number))
        let letters = Array("abcdefghijklmnopqrstuvwxyz234567")
        let name = String((0..<24).map { _ in letters.randomElement(using: &generator)! })
        did = try DID("did:plc:\(name)")
        self.service = service
        key = try PrivateKey(curve: .p256, rawBytes: generator.keyBytes())
        tagKey = generator.bytes(32)
        revs = TIDClock(clockID: UInt16.random(in: 0...TID.clockIDMax, using: &generator))
        self.generator = generator
        // An MST without entries: {"e": [], "l": null}.
        data = CID(hashing: [0xA2, 0x61, 0x65, 0x80, 0x61, 0x6C, 0xF6])
        now = service.head.time ?? SimulatedService.startTime
    }

    /// Makes this copy's random choices differ from those of the others.
    package mutating func diverge(_ number: UInt64) { generator = SeededGenerator(seed: generator.next() &+ number) }

    package mutating func provenance(_ request: ClientRequest? = nil) -> Provenance {
        Provenance(salt: generator.bytes(32), by: Agent(did: did, credential: .dpop), request: request)
    }

    package mutating func sign(_ body: EventBody) throws -> SignedEvent {
        try SignedEvent.sign(body, after: head, of: did, time: time(), with: service.signing(tagKey: tagKey))
    }

    /// The time of the next event; a commit's rev is not before it.
    private func time() -> Timestamp { head.nextTime(now: now) }

    private mutating func commit() throws -> ActorCommit {
        let rev = try revs.next(microseconds: time().milliseconds * 1000)
        return try ActorCommit.sign(did: did, rev: rev, data: data, with: key)
    }

    private mutating func append(_ bodies: [EventBody], blocks: [Block] = [], request: RequestRow? = nil) throws -> Append {
        let after = head
        var events: [SignedEvent] = []
        for body in bodies {
            let signed = try sign(body)
            events.append(signed)
            head = signed.head
        }
        return Append(actor: did, after: after, events: events, blocks: blocks, request: request)
    }

    private mutating func tick() { now = Timestamp(milliseconds: now.milliseconds + Int64.random(in: 0...20, using: &generator)) }

    private func attestation() throws -> Attestation {
        try Attestation.sign(did: did, boundaries: boundaries, actorKey: key.publicKey, with: service.key)
    }

    /// Joins, or comes back with new keys.
    package mutating func enroll() throws -> Append {
        tick()
        if head.sequence > 0 {
            key = try PrivateKey(curve: .p256, rawBytes: generator.keyBytes())
            tagKey = generator.bytes(32)
        }
        isMember = true
        boundaries = try BoundarySet([service.boundary("engineering"), service.boundary("general")])
        let enroll = AccountEnroll(
            provenance: provenance(), boundaries: boundaries, key: key.publicKey, attestation: try attestation(),
            pds: "https://pds.example", recordKey: try RecordKey("did:web:stratos.example"), tagKey: tagKey, commit: try commit())
        return try append([.accountEnroll(enroll)])
    }

    /// One event with so many operations: creates, and where there are records updates and deletes of some.
    /// - Parameter key: the client's idempotency key; with one, the row of the request goes with the event.
    package mutating func write(operations count: Int = 1, recordBytes: Int = 300, idempotencyKey key: String? = nil) throws -> Append {
        tick()
        var (operations, blocks, used): ([RecordOperation], [Block], Set<RecordPath>) = ([], [], [])
        while operations.count < count {
            let (operation, block) = try operation(recordBytes: recordBytes, excluding: used)
            used.insert(operation.path)
            operations.append(operation)
            if let block { blocks.append(block) }
        }
        data = root(data, records.mapValues(\.cid))
        let (provenance, row) = try request(key)
        let write = RepoWrite(provenance: provenance, operations: operations, commit: try commit())
        return try append([.repoWrite(write)], blocks: blocks, request: row)
    }

    /// What the next event's body says of a request, and the row that goes with it.
    private mutating func request(_ key: String?) throws -> (Provenance, RequestRow?) {
        guard let key else { return (provenance(), nil) }
        let client = try ClientRequest(
            idempotencyKey: key, input: ["key": .string(key)], method: try NSID("com.atproto.repo.applyWrites"))
        let provenance = provenance(client)
        let row = RequestRow(
            scope: RequestRow.scope(actor: did, by: provenance.by, request: client), input: client.input, sequence: head.sequence + 1,
            time: time())
        return (provenance, row)
    }

    private mutating func operation(recordBytes: Int, excluding used: Set<RecordPath>) throws -> (RecordOperation, Block?) {
        let choice = Int.random(in: 0..<10, using: &generator)
        let written = RecordOperation.Written.self
        if choice >= 7, let path = someRecord(excluding: used), let previous = records[path] {
            guard choice == 7 else {
                records[path] = nil
                return (RecordOperation(path: path, change: .delete(prev: previous)), nil)
            }
            let block = record(bytes: recordBytes)
            records[path] = RecordOperation.Previous(cid: block.cid, boundaries: previous.boundaries)
            return (
                RecordOperation(
                    path: path,
                    change: .update(written.init(cid: block.cid, size: block.bytes.count, boundaries: previous.boundaries), prev: previous)),
                block
            )
        }
        recordCount += 1
        let key = try RecordKey("r\(recordCount)")
        let path = RecordPath(collection: try NSID("zone.stratos.feed.post"), recordKey: key)
        let block = record(bytes: recordBytes)
        let one = try BoundarySet(boundaries.prefix(Int.random(in: 0...boundaries.count, using: &generator)))
        records[path] = RecordOperation.Previous(cid: block.cid, boundaries: one)
        return (RecordOperation(path: path, change: .create(written.init(cid: block.cid, size: block.bytes.count, boundaries: one))), block)
    }

    private mutating func someRecord(excluding used: Set<RecordPath>) -> RecordPath? {
        guard recordCount > 0 else { return nil }
        let number = Int.random(in: 1...recordCount, using: &generator)
        guard let key = try? RecordKey("r\(number)"), let collection = try? NSID("zone.stratos.feed.post") else { return nil }
        let path = RecordPath(collection: collection, recordKey: key)
        return records[path] == nil || used.contains(path) ? nil : path
    }

    /// A record of about so many bytes.
    package mutating func record(bytes count: Int) -> Block {
        let text = String(decoding: (0..<max(1, count - 80)).map { _ in UInt8.random(in: 0x61...0x7A, using: &generator) }, as: UTF8.self)
        return Block(
            hashing: DAGCBOR.encode([
                "$type": "zone.stratos.feed.post", "text": .string(text), "createdAt": .string(now.description),
            ]))
    }

    /// Everything at once, in chunks. Only for an empty repo.
    package mutating func importing(records count: Int) throws -> Append {
        tick()
        var (operations, blocks): ([RecordOperation], [Block]) = ([], [])
        for number in 0..<count {
            let block = record(bytes: 200)
            let path = RecordPath(collection: try NSID("zone.stratos.feed.post"), recordKey: try RecordKey("i\(number)"))
            records[path] = RecordOperation.Previous(cid: block.cid, boundaries: .empty)
            operations.append(
                RecordOperation(path: path, change: .create(.init(cid: block.cid, size: block.bytes.count, boundaries: .empty))))
            blocks.append(block)
        }
        data = root(data, records.mapValues(\.cid))
        var salts = generator
        let chunks = try RepoImport.chunks(of: operations) { salts.bytes(32) }
        generator = salts
        let imported = RepoImport(
            provenance: provenance(), chunks: chunks.map(\.cid), operationCount: UInt64(count), commit: try commit(),
            source: generator.bytes(200))
        return try append([.repoImport(imported)], blocks: chunks + blocks)
    }

    /// An event that no earlier one decides, for writers that race.
    /// - Parameter request: a row that says something else than the body: to be stored, not to be verified.
    package mutating func putBlob(idempotencyKey key: String? = nil, request: RequestRow? = nil) throws -> Append {
        tick()
        let (provenance, row) = try self.request(key)
        let blob = BlobPut(
            provenance: provenance, cid: CID(hashing: generator.bytes(16), codec: .raw), mimeType: "image/png", size: 16)
        return try append([.blobPut(blob)], request: request ?? row)
    }

    package mutating func changeBoundaries(_ names: [String]) throws -> Append {
        tick()
        let before = boundaries
        boundaries = try BoundarySet(names.map(service.boundary))
        let change = AccountBoundaries(provenance: provenance(), before: before, after: boundaries, attestation: try attestation())
        return try append([.accountBoundaries(change)])
    }

    package mutating func changeKey() throws -> Append {
        tick()
        let old = key.publicKey
        key = try PrivateKey(curve: .p256, rawBytes: generator.keyBytes())
        let change = AccountKey(
            provenance: provenance(), key: key.publicKey, old: old, attestation: try attestation(), commit: try commit())
        return try append([.accountKey(change)])
    }

    /// After a change of the service's key.
    package mutating func attestAnew(by service: SimulatedService) throws -> Append {
        self.service = service
        now = max(now, service.head.time ?? now)
        let attest = AccountAttest(provenance: provenance(), reason: "the service has a new key", attestation: try attestation())
        return try append([.accountAttest(attest)])
    }

    package mutating func leave(_ content: AccountLeave.Content) throws -> Append {
        tick()
        isMember = false
        if content == .erase {
            records = [:]
            data = CID(hashing: [0xA2, 0x61, 0x65, 0x80, 0x61, 0x6C, 0xF6])
        }
        return try append([.accountLeave(AccountLeave(provenance: provenance(), content: content, reason: "asked"))])
    }

    package mutating func erase(_ scope: Erasure.Scope) throws -> Append {
        tick()
        return try append([.erasure(try Erasure(provenance: provenance(), scope: scope, reason: "asked"))])
    }

    package mutating func append(_ bodies: EventBody...) throws -> Append {
        tick()
        return try append(bodies)
    }
}

extension SeededGenerator {
    /// 32 bytes that are a private key on both curves: the first bit is 0, which puts them below both orders.
    package mutating func keyBytes() -> [UInt8] {
        var bytes = bytes(32)
        bytes[0] = bytes[0] & 0x7F | 1
        return bytes
    }
}

/// A history of many actors by seed: the same seed gives the same events on every machine.
package struct HistoryGenerator: Sendable {
    package private(set) var service: SimulatedService
    package private(set) var actors: [SimulatedActor]
    private var generator: SeededGenerator

    package init(seed: UInt64, actors count: Int) throws {
        generator = SeededGenerator(seed: seed)
        service = try SimulatedService(seed: seed)
        actors = []
        for number in 0..<count { actors.append(try SimulatedActor(number: number, seed: seed, service: service)) }
    }

    /// The first append of every history.
    package mutating func start() throws -> Append { try service.start() }

    /// The next append: somebody enrolls, writes, changes a key or boundaries, leaves or comes back, now and then imports.
    package mutating func next() throws -> Append {
        let index = Int.random(in: 0..<actors.count, using: &generator)
        guard actors[index].isMember else { return try actors[index].enroll() }
        switch Int.random(in: 0..<100, using: &generator) {
        case 0: return try actors[index].leave(Bool.random(using: &generator) ? .kept : .erase)
        case 1: return try actors[index].changeKey()
        case 2...4: return try actors[index].changeBoundaries(["general"] + (Bool.random(using: &generator) ? ["engineering"] : []))
        case 5...9: return try actors[index].putBlob()
        case 10...14: return try actors[index].write(operations: Int.random(in: 2...20, using: &generator))
        case 15 where actors[index].records.isEmpty: return try actors[index].importing(records: Int.random(in: 0...40, using: &generator))
        default: return try actors[index].write()
        }
    }
}
