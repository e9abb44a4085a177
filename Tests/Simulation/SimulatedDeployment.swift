package import ATProto
package import Commands
package import Engine
package import EventLog
package import Keys
import Logging
package import Projections
package import SQLiteStore
import Synchronization

/// A whole service without its network: an engine over any log, actors' rows and keys in a directory, a clock that a test sets and
/// chance by seed. Opened again over the same log and directory it is the same service after a restart.
package struct SimulatedDeployment: Sendable {
    package struct Options: Sendable {
        package var seed: UInt64
        package var serviceDID = "did:web:stratos.example"
        package var domains = ["engineering", "general", "design"]
        package var autoEnrollDomains: [String] = []
        /// False: a process that only reads, and needs no key.
        package var hasAuthority = true
        package var waitingMax = 128
        /// Actors whose rows are open at once.
        package var openMax = 64
        /// Threads that have rows open.
        package var rowThreads = 2
        /// Actors whose enrollments are kept in memory.
        package var enrollmentsMax = 64
        /// What stands between the engine and the rows.
        package var readModel: @Sendable (ActorDatabases) -> any ReadModel = { $0 }

        package init(seed: UInt64) { self.seed = seed }
    }

    package let options: Options
    package let log: any EventStore
    package let files: ActorDirectory
    package let clock: VirtualClock
    package let engine: Engine
    package let databases: ActorDatabases
    package let serviceKey: PrivateKey
    private let chance: Chance

    /// Randomness that goes on where it was after a restart: what is new then was not given before.
    private final class Chance: Sendable {
        private let generator: Mutex<SeededGenerator>

        init(seed: UInt64) { generator = Mutex(SeededGenerator(seed: seed)) }

        func bytes(_ count: Int) -> [UInt8] { generator.withLock { $0.bytes(count) } }
        func keyBytes() -> [UInt8] { generator.withLock { $0.keyBytes() } }
    }

    package static func open(
        _ log: any EventStore, in directory: String, options: Options, clock: VirtualClock = VirtualClock()
    ) async throws -> SimulatedDeployment {
        try await SimulatedDeployment(log, ActorDirectory(dataDirectory: directory), options, clock, Chance(seed: options.seed ^ 0xc4a2ce))
    }

    private init(_ log: any EventStore, _ files: ActorDirectory, _ options: Options, _ clock: VirtualClock, _ chance: Chance) async throws {
        var keys = SeededGenerator(seed: options.seed ^ 0x5e471ce)
        let serviceKey = try PrivateKey(curve: .k256, rawBytes: keys.keyBytes())
        let surroundings = Surroundings(now: { clock.now() }, random: { chance.bytes($0) })
        let deployment = Deployment(
            serviceDID: try DID(options.serviceDID), allowedDomains: options.domains, autoEnrollDomains: options.autoEnrollDomains,
            missing: [], version: "0.1.0", build: [UInt8](repeating: 7, count: 32))
        let authority: Authority? =
            if options.hasAuthority {
                try await Authority.take(over: log, deployment: deployment, isStart: true, surroundings: surroundings) { _ in serviceKey }
            } else {
                nil
            }
        databases = ActorDatabases(directory: files, threads: options.rowThreads, openMax: options.openMax)
        engine = Engine(
            log: log, readModel: options.readModel(databases),
            keys: ActorKeys(
                read: { try files.signingKey(of: $0) }, keep: { try files.keep($0, of: $1) }, remove: { try files.removeKey(of: $0) },
                make: { try PrivateKey(curve: .p256, rawBytes: chance.keyBytes()) }),
            authority: authority, lexicons: .embedded, surroundings: surroundings,
            logger: Logger(label: "stratos", factory: { _ in SwiftLogNoOpLogHandler() }), waitingMax: options.waitingMax,
            enrollmentsMax: options.enrollmentsMax)
        self.options = options
        self.log = log
        self.files = files
        self.clock = clock
        self.serviceKey = serviceKey
        self.chance = chance
    }

    /// Ends the threads that have rows open.
    package func close() { databases.close() }

    /// The same service after a restart: closes this one.
    /// - Parameter log: nil for the same one.
    package func reopened(over log: (any EventStore)? = nil, _ change: (inout Options) -> Void = { _ in }) async throws
        -> SimulatedDeployment
    {
        close()
        var options = options
        change(&options)
        return try await SimulatedDeployment(log ?? self.log, files, options, clock, chance)
    }

    // MARK: Who and what

    package static func actor(_ number: Int) -> DID {
        var generator = SeededGenerator(seed: UInt64(number) &+ 0xac7042)
        let letters = Array("abcdefghijklmnopqrstuvwxyz234567")
        let name = String((0..<24).map { _ in letters.randomElement(using: &generator)! })
        guard let did = try? DID("did:plc:\(name)") else { preconditionFailure("did:plc:\(name) is a DID") }
        return did
    }

    package var service: DID {
        get throws { try DID(options.serviceDID) }
    }

    /// `NAME` as a boundary of this service.
    package func boundary(_ name: String) -> String { "\(options.serviceDID)/\(name)" }

    package func agent(_ did: DID) -> Agent { Agent(did: did, credential: .dpop) }

    @discardableResult
    package func enroll(_ did: DID, _ boundaries: [String] = []) async throws -> EnrollmentSummary {
        try await engine.enroll(
            did, boundaries: boundaries, pds: "https://pds.example", by: Agent(did: try service, credential: .operator))
    }

    package func leave(_ did: DID, _ content: AccountLeave.Content) async throws {
        try await engine.leave(did, content: content, reason: "asked", by: Agent(did: try service, credential: .operator))
    }

    /// A post that keeps every rule.
    package func post(_ text: String, in boundaries: [String] = ["engineering"]) -> Value {
        [
            "$type": "zone.stratos.feed.post", "text": .string(text), "createdAt": "2026-11-22T10:40:36.123Z",
            "boundary": [
                "$type": "zone.stratos.boundary.defs#Domains", "values": .array(boundaries.map { ["value": .string(boundary($0))] }),
            ],
        ]
    }

    @discardableResult
    package func write(
        _ did: DID, _ writes: [RecordWrite], swapCommit: CID? = nil, client: ClientRequest? = nil, refusesAbsentDelete: Bool = false
    ) async throws -> WriteReceipt {
        try await engine.write(
            WriteRequest(
                repo: did, writes: writes, swapCommit: swapCommit, refusesAbsentDelete: refusesAbsentDelete, agent: agent(did),
                client: client))
    }

    /// Appends what this release's engine does not do itself, such as a leave, signed as it would be. The engine does not learn it:
    /// open it again.
    @discardableResult
    package func append(_ body: (_ provenance: Provenance, _ state: SimulatedState) throws -> EventBody, to did: DID) async throws -> Head {
        let state = try await SimulatedState(of: did, in: log)
        let body = try body(
            Provenance(salt: chance.bytes(32), by: Agent(did: try service, credential: .operator)), state)
        let signing = SignedEvent.Signing(keyEpoch: 1, key: serviceKey, tagKey: body.tagKey ?? state.tagKey)
        let time = state.head.nextTime(now: Timestamp(milliseconds: clock.now() / 1000))
        let signed = try SignedEvent.sign(body, after: state.head, of: did, time: time, with: signing)
        _ = try await log.append(Append(actor: did, after: state.head, events: [signed]))
        return signed.head
    }
}

/// What whoever signs an actor's next event must know, read from the log alone.
package struct SimulatedState: Sendable {
    package private(set) var head: Head = .empty
    package private(set) var tagKey: [UInt8] = []
    package private(set) var key: PublicKey?
    package private(set) var commits: [ActorCommit] = []
    package private(set) var boundaries: BoundarySet = .empty
    package private(set) var bodies: [EventBody] = []
    package private(set) var events: [Event] = []

    package init(of did: DID, in log: any EventStore) async throws {
        while true {
            let page = try await log.events(of: did, after: head.sequence, limit: 256)
            guard !page.isEmpty else { return }
            for stored in page {
                let event = try Event(bytes: stored.bytes)
                head = Head(sequence: event.sequence, event: stored.cid, time: event.time)
                events.append(event)
                guard let bytes = stored.body else { continue }
                let body = try EventBody(kind: event.kind, bytes: bytes)
                bodies.append(body)
                if let tagKey = body.tagKey { self.tagKey = tagKey }
                if let commit = body.commit { commits.append(commit) }
                switch body {
                case .accountEnroll(let enroll): (key, boundaries) = (enroll.key, enroll.boundaries)
                case .accountKey(let change): key = change.key
                case .accountBoundaries(let change): boundaries = change.after
                default: break
                }
            }
        }
    }
}

extension NSID {
    /// A collection of our own making.
    package static func named(_ text: String) -> NSID {
        guard let nsid = try? NSID(text) else { preconditionFailure("\(text) is no NSID") }
        return nsid
    }

    package static let post = NSID.named("zone.stratos.feed.post")
    /// One that no lexicon describes.
    package static let note = NSID.named("zone.stratos.test.note")
}

extension RecordKey {
    package static func named(_ text: String) -> RecordKey {
        guard let key = try? RecordKey(text) else { preconditionFailure("\(text) is no record key") }
        return key
    }

    /// The n-th of a run of TIDs: posts have no other keys.
    package static func tid(_ number: Int) -> RecordKey {
        named(TID(microseconds: 1_700_000_000_000_000 + Int64(number) * 1000, clockID: 5).description)
    }
}

extension RecordWrite {
    package static func create(_ record: Value, in collection: NSID = .post, at key: RecordKey? = nil) -> RecordWrite {
        RecordWrite(action: .create, collection: collection, recordKey: key, record: record)
    }

    package static func update(_ record: Value, in collection: NSID = .post, at key: RecordKey, swap: Swap = .any) -> RecordWrite {
        RecordWrite(action: .update, collection: collection, recordKey: key, record: record, swap: swap)
    }

    package static func put(_ record: Value, in collection: NSID = .post, at key: RecordKey, swap: Swap = .any) -> RecordWrite {
        RecordWrite(action: .put, collection: collection, recordKey: key, record: record, swap: swap)
    }

    package static func delete(in collection: NSID = .post, at key: RecordKey, swap: Swap = .any) -> RecordWrite {
        RecordWrite(action: .delete, collection: collection, recordKey: key, record: nil, swap: swap)
    }
}
