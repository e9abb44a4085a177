package import ATProto
package import Commands
package import EventLog
package import Keys
package import Logging
package import Projections

/// Time and randomness, as the engine is given them.
package struct Surroundings: Sendable {
    /// Microseconds since 1970.
    package let now: @Sendable () -> Int64
    /// So many bytes that nobody can guess.
    package let random: @Sendable (Int) -> [UInt8]

    package init(now: @escaping @Sendable () -> Int64, random: @escaping @Sendable (Int) -> [UInt8]) {
        self.now = now
        self.random = random
    }
}

/// Where the actors' commit keys are kept.
package struct ActorKeys: Sendable {
    /// The actor's key; nil where there is none.
    package let read: @Sendable (DID) throws -> PrivateKey?
    /// Keeps a new actor's key, durable on return.
    package let keep: @Sendable (PrivateKey, DID) throws -> Void

    package init(read: @escaping @Sendable (DID) throws -> PrivateKey?, keep: @escaping @Sendable (PrivateKey, DID) throws -> Void) {
        self.read = read
        self.keep = keep
    }
}

/// What a process needs to change anything: the service's key, and what the service allows.
package struct Authority: Sendable {
    package let key: PrivateKey
    package let keyEpoch: UInt64
    package let terms: ServiceTerms

    package init(key: PrivateKey, keyEpoch: UInt64, terms: ServiceTerms) {
        self.key = key
        self.keyEpoch = keyEpoch
        self.terms = terms
    }
}

/// The one place that holds the order of a write: decide, sign, append, project, answer. Server, socket and program call it.
package final class Engine: Sendable {
    package let log: any EventStore
    package let readModel: any ReadModel
    package let lexicons: Lexicons
    package let logger: Logger
    let keys: ActorKeys
    /// Nil in a process that only reads: no key is needed for that.
    let authority: Authority?
    let surroundings: Surroundings
    let clockID: UInt16
    let lanes = ActorLanes()
    let enrollments = Enrollments()
    /// Whether requests are to be answered; false while the projections are dropped or rebuilt.
    package let gate = MaintenanceGate()

    package init(
        log: any EventStore, readModel: any ReadModel, keys: ActorKeys, authority: Authority?, lexicons: Lexicons,
        surroundings: Surroundings, logger: Logger
    ) {
        self.log = log
        self.readModel = readModel
        self.keys = keys
        self.authority = authority
        self.lexicons = lexicons
        self.surroundings = surroundings
        self.logger = logger
        let bytes = surroundings.random(2)
        clockID = (UInt16(bytes[0]) << 8 | UInt16(bytes[1])) & 0x3ff
    }

    var now: Timestamp { Timestamp(milliseconds: surroundings.now() / 1000) }

    func requireAuthority() throws -> Authority {
        guard let authority else {
            throw OperatorFailure(exitCode: 2, name: "NoAuthority", message: "this process has no service key, so it changes nothing")
        }
        return authority
    }

    /// Runs `body` on the actor's thread with the actor's fold at the end of its log. Catches up first where it lags: after a
    /// crash, a dropped projection or a long rest, by the same code that every write goes through.
    func withCurrent<Result: Sendable>(
        _ actor: DID, _ body: @escaping @Sendable (ActorContext, any ActorRows) throws -> Result
    ) async throws -> Result {
        if let result = try await attempt(actor, body) { return result }
        return try await lanes.run(actor) { try await withCurrentInLane(actor, body) }
    }

    /// The same for a caller who is in the actor's lane already.
    func withCurrentInLane<Result: Sendable>(
        _ actor: DID, _ body: @escaping @Sendable (ActorContext, any ActorRows) throws -> Result
    ) async throws -> Result {
        // The rows may be closed for others' sake between catching up and the body: rarely, so not for ever.
        for _ in 0..<16 {
            if let result = try await attempt(actor, body) { return result }
            try await catchUp(actor)
        }
        throw Refusal.overloaded
    }

    /// Nil where the fold does not stand at the end of the log.
    private func attempt<Result: Sendable>(
        _ actor: DID, _ body: @escaping @Sendable (ActorContext, any ActorRows) throws -> Result
    ) async throws -> Result? {
        try await readModel.withActor(actor) { rows in
            let context = try ActorContext.of(actor, in: rows)
            return context.isCurrent ? try body(context, rows) : nil
        }
    }

    /// Events that are folded into rows at a time.
    private static let catchUpMax = 1024

    private func catchUp(_ actor: DID) async throws {
        let head = try await log.head(of: actor)
        var standing = try await standing(of: actor)
        if try await !isPrefix(standing, of: head, actor: actor) {
            logger.warning("rows of another history dropped", metadata: ["actor": .string(actor.description)])
            _ = try await readModel.drop(actor)
            standing = .empty
        }
        while standing.sequence < head.sequence {
            let events = try await log.events(of: actor, after: standing.sequence, limit: Self.catchUpMax)
            guard !events.isEmpty else { throw EventLogError.brokenChain(actor: actor, at: standing.sequence + 1) }
            let chunks = try await chunks(of: events, actor: actor)
            standing = try await readModel.withActor(actor) { rows in
                let context = try ActorContext.of(actor, in: rows)
                try context.apply(events, chunks: chunks, to: rows)
                return context.state.head
            }
        }
        try await readModel.withActor(actor) { [enrollments] rows in
            let context = try ActorContext.of(actor, in: rows)
            context.isCurrent = context.state.head == head
            if context.isCurrent { enrollments.set(EnrollmentSummary(context.state), of: actor) }
        }
    }

    private func standing(of actor: DID) async throws -> Head {
        try await readModel.withActor(actor) { rows in try ActorContext.of(actor, in: rows).state.head }
    }

    /// Whether rows that stand at `standing` are a fold of the log that ends at `head`.
    private func isPrefix(_ standing: Head, of head: Head, actor: DID) async throws -> Bool {
        guard standing.sequence > 0 else { return true }
        guard standing.sequence < head.sequence else { return standing == head }
        return try await log.events(of: actor, after: standing.sequence - 1, limit: 1).first?.cid == standing.event
    }

    /// The chunks of the imports among some events.
    func chunks(of events: [StoredEvent], actor: DID) async throws -> [CID: [UInt8]] {
        var cids: [CID] = []
        for stored in events {
            guard let body = stored.body, try Event(bytes: stored.bytes).kind == .repoImport,
                case .repoImport(let bulk) = try EventBody(kind: .repoImport, bytes: body)
            else { continue }
            cids += bulk.chunks
        }
        return cids.isEmpty ? [:] : try await log.blocks(cids, of: actor)
    }

    /// Appends what was decided and moves the rows with it (architecture, section 4). Only in the actor's lane.
    ///
    /// Once the append has returned, the change is a fact: where the rows do not follow, the fold in memory is forgotten, and the
    /// next touch catches up.
    func append(_ append: Append) async throws {
        // I6: durable before anything is answered or projected.
        do {
            _ = try await log.append(append)
        } catch {
            await forget(append.actor)
            throw error
        }
        do {
            let stored = append.events.map { StoredEvent(position: nil, bytes: $0.bytes, cid: $0.cid, body: $0.bodyBytes, leaf: $0.leaf) }
            let isImport = append.events.contains { $0.event.kind == .repoImport }
            let chunks = isImport ? Dictionary(append.blocks.map { ($0.cid, $0.bytes) }) { first, _ in first } : [:]
            try await readModel.withActor(append.actor) { [enrollments] rows in
                let context = try ActorContext.of(append.actor, in: rows)
                try context.apply(stored, chunks: chunks, to: rows)
                enrollments.set(EnrollmentSummary(context.state), of: append.actor)
            }
        } catch {
            logger.error("rows do not follow the log", metadata: ["actor": .string(append.actor.description), "error": "\(error)"])
            await forget(append.actor)
        }
    }

    private func forget(_ actor: DID) async {
        // best effort: a thread that takes no more work has forgotten everything already.
        try? await readModel.withActor(actor) { [enrollments] rows in
            rows.memory = nil
            enrollments.forget(actor)
        }
    }

    /// How an event of this actor is signed now.
    func signing(_ tagKey: [UInt8]) throws -> SignedEvent.Signing {
        let authority = try requireAuthority()
        return SignedEvent.Signing(keyEpoch: authority.keyEpoch, key: authority.key, tagKey: tagKey)
    }

    /// The rev of the next commit and the time of the event that carries it. Revs rise (I10), also past the time of the last
    /// event where nothing else is known of it; and no event's time lies before its own commit's rev.
    func next(upon state: ActorState, now microseconds: Int64) throws -> (rev: TID, time: Timestamp) {
        var clock = TIDClock(clockID: clockID, last: state.revFloor)
        let floor = (state.head.time?.milliseconds ?? 0) * 1000 + 1
        let rev = try clock.next(microseconds: max(microseconds, floor))
        let time = state.head.nextTime(now: Timestamp(milliseconds: microseconds / 1000))
        return (rev, max(time, Timestamp(milliseconds: Int64(rev.microseconds) / 1000)))
    }
}
