import ATProto
import EventLog
import Keys
import Simulation

/// Two short logs that hold every kind once, all fields present, from fixed keys, salts and times: the service's and one
/// actor's. They chain, and they verify.
struct GoldenLog {
    private(set) var events: [SignedEvent] = []
    private(set) var blocks: [Block] = []
    let service: DID
    let actor: DID

    private let serviceKey: PrivateKey
    private let serviceTagKey = [UInt8](repeating: 0xA1, count: 32)
    private let actorTagKey = [UInt8](repeating: 0xA2, count: 32)
    private var heads: [DID: Head] = [:]

    private static func key(_ curve: Curve, _ first: UInt8) throws -> PrivateKey {
        try PrivateKey(curve: curve, rawBytes: (0..<32).map { first + $0 })
    }

    init() throws {
        service = try DID("did:web:stratos.example")
        actor = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
        serviceKey = try GoldenLog.key(.k256, 0x01)
        try addService()
        try addActor()
    }

    private mutating func add(_ did: DID, _ body: EventBody) throws {
        let time = Timestamp(milliseconds: 1_795_344_036_123 + Int64(events.count) * 1000)
        let signing = SignedEvent.Signing(keyEpoch: 1, key: serviceKey, tagKey: did == service ? serviceTagKey : actorTagKey)
        let signed = try SignedEvent.sign(body, after: heads[did] ?? .empty, of: did, time: time, with: signing)
        heads[did] = signed.head
        events.append(signed)
    }

    private func provenance(_ agent: Agent, request: ClientRequest? = nil) -> Provenance {
        Provenance(salt: [UInt8](repeating: UInt8(events.count + 1), count: 32), by: agent, request: request)
    }

    private mutating func addService() throws {
        let system = Agent(did: service, credential: .system)
        try add(
            service,
            .serviceStart(
                ServiceStart(
                    provenance: provenance(system), version: "0.1.0", build: [UInt8](repeating: 0xB1, count: 32), service: service,
                    key: serviceKey.publicKey, boundaries: try BoundarySet(["engineering", "general"]), tagKey: serviceTagKey)))
        try add(
            service,
            .serviceConfig(
                ServiceConfig(
                    provenance: provenance(system),
                    settings: [
                        "STRATOS_RETENTION_DAYS": .integer(30), "STRATOS_DEV_MODE": .flag(false),
                        "STRATOS_PUBLIC_URL": .text("https://stratos.example"),
                        "STRATOS_ALLOWED_DOMAINS": ServiceConfig.digest(ofList: ["general", "engineering"]),
                    ])))
    }

    private mutating func addActor() throws {
        let boundaries = try BoundarySet(["engineering", "general"].map { "\(service)/\($0)" })
        let key = try GoldenLog.key(.p256, 0x21)
        let path = try (1...3).map { RecordPath(collection: try NSID("zone.stratos.feed.post"), recordKey: try RecordKey("3kgolden\($0)")) }
        for number in 1...4 {
            blocks.append(Block(hashing: DAGCBOR.encode(["$type": "zone.stratos.feed.post", "text": .string("\(number)")])))
        }
        try addEnrollment(boundaries, key)
        try addImport(path[0], boundaries, key)
        try addWrite(path, boundaries, key)
        try addContent(path[0])
        try addMembership(boundaries, key)
        try addErasure(path, boundaries, key)
        try add(
            service,
            .serviceKey(
                try ServiceKey.accepted(
                    provenance: provenance(Agent(did: service, credential: .operator)), service: service, epoch: 2,
                    by: try GoldenLog.key(.k256, 0x61))))
    }

    private func commit(_ number: Int64, data: CID, _ key: PrivateKey) throws -> ActorCommit {
        try ActorCommit.sign(did: actor, rev: TID(microseconds: 1_795_344_100_000_000 + number, clockID: 7), data: data, with: key)
    }

    private func root(_ number: UInt8) -> CID { CID(hashing: [number]) }

    private func attestation(_ boundaries: BoundarySet, _ key: PrivateKey) throws -> Attestation {
        try Attestation.sign(did: actor, boundaries: boundaries, actorKey: key.publicKey, with: serviceKey)
    }

    private mutating func addEnrollment(_ boundaries: BoundarySet, _ key: PrivateKey) throws {
        let body = AccountEnroll(
            provenance: provenance(Agent(did: actor, credential: .oauth)), boundaries: boundaries, key: key.publicKey,
            attestation: try attestation(boundaries, key), pds: "https://pds.example", recordKey: try RecordKey("did:web:stratos.example"),
            tagKey: actorTagKey, commit: try commit(1, data: root(1), key))
        try add(actor, .accountEnroll(body))
    }

    private mutating func addImport(_ path: RecordPath, _ boundaries: BoundarySet, _ key: PrivateKey) throws {
        let operation = RecordOperation(
            path: path, change: .create(.init(cid: blocks[0].cid, size: blocks[0].bytes.count, boundaries: boundaries)))
        let chunk = try RepoImport.Chunk(salt: [UInt8](repeating: 0xC1, count: 32), first: 0, operations: [operation]).block()
        blocks.append(chunk)
        let body = RepoImport(
            provenance: provenance(Agent(did: actor, credential: .dpop)), chunks: [chunk.cid], operationCount: 1,
            commit: try commit(2, data: root(2), key), source: DAGCBOR.encode(["did": .string(actor.description), "version": 3]))
        try add(actor, .repoImport(body))
    }

    private mutating func addWrite(_ path: [RecordPath], _ boundaries: BoundarySet, _ key: PrivateKey) throws {
        let parent = RecordOperation.Parent(
            uri: try ATURI("at://did:plc:z72i7hdynmk6r22z27h6tvur/zone.stratos.feed.post/3kparent"), cid: root(9), sequence: 12)
        let blob = CID(hashing: Array("blob".utf8), codec: .raw)
        let created = RecordOperation.Written(
            cid: blocks[1].cid, size: blocks[1].bytes.count, boundaries: boundaries, against: parent, blobs: [blob])
        let updated = RecordOperation.Written(cid: blocks[2].cid, size: blocks[2].bytes.count, boundaries: .empty)
        let was = RecordOperation.Previous(cid: blocks[0].cid, boundaries: boundaries)
        let request = try ClientRequest(
            idempotencyKey: "golden-1", input: ["repo": .string(actor.description)], method: try NSID("com.atproto.repo.applyWrites"))
        let write = RepoWrite(
            provenance: provenance(Agent(did: actor, credential: .serviceAuth), request: request),
            operations: [
                RecordOperation(path: path[1], change: .create(created)),
                RecordOperation(path: path[0], change: .update(updated, prev: was)),
                RecordOperation(path: path[2], change: .delete(prev: was)),
            ], commit: try commit(3, data: root(3), key))
        try add(actor, .repoWrite(write))
    }

    private mutating func addContent(_ path: RecordPath) throws {
        let blob = CID(hashing: Array("blob".utf8), codec: .raw)
        let system = Agent(did: service, credential: .system)
        let moderator = try Agent(administrator: "alex")
        try add(
            actor,
            .blobPut(BlobPut(provenance: provenance(Agent(did: actor, credential: .dpop)), cid: blob, mimeType: "image/png", size: 4)))
        try add(
            actor,
            .blobState(BlobState(provenance: provenance(system), cid: blob, from: .temporary, to: .gone, reason: "never referred to")))
        let subject = Moderation.Subject.record(path, cid: blocks[2].cid)
        try add(
            actor,
            .moderationTakedown(Moderation(provenance: provenance(moderator), subject: subject, reference: "case 7", reason: "reported")))
        try add(
            actor,
            .moderationRestore(Moderation(provenance: provenance(moderator), subject: subject, reference: "case 7", reason: "a mistake")))
        let uri = try ATURI("at://\(actor)/\(path)")
        try add(actor, .adminRead(AdminRead(provenance: provenance(moderator), uri: uri, cid: blocks[2].cid, reason: "case 7")))
    }

    private mutating func addMembership(_ boundaries: BoundarySet, _ key: PrivateKey) throws {
        let fewer = try BoundarySet(["\(service)/general"])
        let administrator = try Agent(administrator: "alex")
        let change = AccountBoundaries(
            provenance: provenance(administrator), before: boundaries, after: fewer, attestation: try attestation(fewer, key))
        try add(actor, .accountBoundaries(change))
        let attest = AccountAttest(
            provenance: provenance(Agent(did: service, credential: .system)), reason: "the record was lost",
            attestation: try attestation(fewer, key))
        try add(actor, .accountAttest(attest))
        let new = try GoldenLog.key(.p256, 0x41)
        let body = AccountKey(
            provenance: provenance(Agent(did: service, credential: .operator)), key: new.publicKey, old: key.publicKey,
            attestation: try attestation(fewer, new), commit: try commit(4, data: root(3), new))
        try add(actor, .accountKey(body))
    }

    private mutating func addErasure(_ path: [RecordPath], _ boundaries: BoundarySet, _ key: PrivateKey) throws {
        let user = Agent(did: actor, credential: .dpop)
        try add(actor, .accountLeave(AccountLeave(provenance: provenance(user), content: .erase, reason: "moving away")))
        let updated = RecordOperation.Written(cid: blocks[2].cid, size: blocks[2].bytes.count, boundaries: .empty)
        let was = RecordOperation.Previous(cid: blocks[0].cid, boundaries: boundaries)
        let residue = Erasure.Residue(
            sequence: 3, commit: try commit(3, data: root(3), key),
            operations: .written([nil, RecordOperation(path: path[0], change: .update(updated, prev: was)), nil]))
        let targets = [Erasure.Target(sequence: 3, operation: 0), Erasure.Target(sequence: 3, operation: 2)]
        let erasure = try Erasure(provenance: provenance(user), scope: .trace(targets, [residue]), reason: "a court order")
        try add(actor, .erasure(erasure))
        let done = ErasureDone(
            provenance: provenance(Agent(did: service, credential: .system)), erasure: heads[actor]!.sequence, bodies: 1, blocks: 2,
            blobs: 1)
        try add(actor, .erasureDone(done))
    }
}
