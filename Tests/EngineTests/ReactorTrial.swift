import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Keys
import Logging
import Projections
import SQLiteStore
import Simulation
import Testing

/// A service with reactors and the public servers of its members, with no network and no waiting.
final class ReactorTrial {
    let it: Trial
    let pds: SimulatedPDS
    private(set) var database: ReactorDatabase
    private(set) var reactors: Reactors
    var pace = ReactorPace()
    /// What the reactors call the service.
    var url = "https://stratos.example"
    var fragment = "atproto_pns"
    /// What stands between them and their rows.
    var store: (ReactorDatabase) -> any ReactorStore = { $0 }

    init(
        seed: UInt64 = TestFiles.seed, pace: ReactorPace = ReactorPace(),
        plan: @escaping @Sendable (Int, SimulatedPDS.Call) async -> SimulatedPDS.Fault? = { _, _ in nil }
    ) async throws {
        it = try await Trial(seed: seed)
        pds = SimulatedPDS(plan: plan)
        self.pace = pace
        database = try ReactorDatabase(directory: it.directory.path)
        reactors = try Self.make(it, database, pds, url, fragment, pace)
        try await reactors.begin()
    }

    deinit { database.close() }

    private static func make(
        _ it: Trial, _ store: any ReactorStore, _ pds: SimulatedPDS, _ url: String, _ fragment: String, _ pace: ReactorPace
    ) throws -> Reactors {
        let (clock, chance) = (it.clock, SeededBytes(seed: it.deployment.options.seed))
        let reactors = Reactors(
            engine: it.engine, store: store, pds: pds.records, revoke: pds.revoke,
            publicRecords: PublicRecords(url: url, service: try it.deployment.service, fragment: fragment), pace: pace,
            surroundings: Surroundings(now: { clock.now() }, random: { chance.bytes($0) }),
            logger: Logger(label: "stratos", factory: { _ in SwiftLogNoOpLogHandler() }))
        it.engine.onAppend { [weak reactors] append in reactors?.wake(append.actor) }
        return reactors
    }

    /// The reactors after the process was killed and started again.
    func restart(loses: Bool = false) async throws {
        database.close()
        if loses {
            for suffix in ["", "-wal", "-shm"] { try? it.directory.remove("service.sqlite\(suffix)") }
        }
        database = try ReactorDatabase(directory: it.directory.path)
        reactors = try Self.make(it, store(database), pds, url, fragment, pace)
        try await reactors.begin()
    }

    /// Goes on, in the time of the clock, until nothing is due any more.
    func settle(hours: Int64 = 48) async throws {
        let end = it.clock.microseconds + hours * 3_600_000_000
        while let next = try await reactors.settle() {
            guard next.milliseconds * 1000 < end else { return }
            it.clock.set(max(it.clock.microseconds, next.milliseconds * 1000))
        }
    }

    func enroll(_ did: DID, _ boundaries: [String] = []) async throws {
        try await it.deployment.enroll(did, boundaries)
        pds.giveSession(did)
    }

    func leave(_ did: DID, _ content: AccountLeave.Content = .erase) async throws {
        try await it.engine.leave(did, content: content, reason: "", by: it.deployment.agent(did))
    }

    func row(_ did: DID) async throws -> ReactorActor? { try await database.transaction { try $0.actor(did) } }

    func items(_ did: DID) async throws -> [ReactorItem] {
        try await database.transaction { try $0.items(of: did, after: nil, limit: 1000) }
    }

    static let enrollmentPath = RecordPath(
        collection: .named("zone.stratos.actor.enrollment"), recordKey: .named("did:web:stratos.example"))

    /// What is to stand in public by the log alone: a slow fold of its own.
    func expected(of did: DID) async throws -> [RecordPath: Value] {
        let state = try await it.state(of: did)
        var enroll: (body: AccountEnroll, at: Timestamp)?
        var (boundaries, attestation, key): (BoundarySet, Attestation?, PublicKey?) = (.empty, nil, nil)
        var cids: [RecordPath: CID] = [:]
        for (event, body) in zip(state.events, state.bodies) {
            switch body {
            case .accountEnroll(let body):
                enroll = (body, event.time)
                (boundaries, attestation, key) = (body.boundaries, body.attestation, body.key)
            case .accountBoundaries(let body): (boundaries, attestation) = (body.after, body.attestation)
            case .accountLeave(let body):
                enroll = nil
                if body.content == .erase { cids = [:] }
            case .repoWrite(let body): for operation in body.operations { cids[operation.path] = operation.written?.cid }
            case .repoImport(let body):
                let chunks = try await it.log.blocks(body.chunks, of: did)
                for chunk in chunks.values {
                    for case let operation? in try RepoImport.Chunk(bytes: chunk).operations {
                        cids[operation.path] = operation.written?.cid
                    }
                }
            default: break
            }
        }
        guard let enroll, let attestation, let key else { return [:] }
        var expected: [RecordPath: Value] = [
            Self.enrollmentPath: [
                "$type": "zone.stratos.actor.enrollment", "service": .string(url),
                "boundaries": .array(boundaries.map { ["value": .string($0)] }), "signingKey": .string(key.didKey),
                "attestation": ["sig": .bytes(attestation.signature), "signingKey": .string(attestation.signingKey.didKey)],
                "createdAt": .string(enroll.at.description),
            ]
        ]
        for (path, cid) in cids where path.collection == .post {
            expected[path] = [
                "$type": "zone.stratos.feed.post", "createdAt": "2026-11-22T10:40:36.123Z",
                "source": [
                    "vary": "authenticated", "service": .string("did:web:stratos.example#\(fragment)"),
                    "subject": ["uri": .string("at://\(did)/\(path)"), "cid": .string(cid.description)],
                ],
            ]
        }
        return expected
    }

    func expectPublic(_ dids: DID..., sourceLocation: SourceLocation = #_sourceLocation) async throws {
        for did in dids {
            #expect(try await expected(of: did) == pds.records(of: did), "seed \(TestFiles.seed)", sourceLocation: sourceLocation)
        }
    }
}
