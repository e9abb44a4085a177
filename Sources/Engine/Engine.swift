package import ATProto
package import Commands
package import EventLog
package import Keys
package import Logging
package import Projections
import Synchronization

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
    /// Keeps an actor's new key in the place of an older one, durable on return.
    package let keep: @Sendable (PrivateKey, DID) throws -> Void
    /// Takes an actor's key away, and whatever a crash has left of others beside it; durable on return. Nothing where there is none.
    package let remove: @Sendable (DID) throws -> Void
    /// A key that nobody had before.
    package let make: @Sendable () throws -> PrivateKey

    package init(
        read: @escaping @Sendable (DID) throws -> PrivateKey?, keep: @escaping @Sendable (PrivateKey, DID) throws -> Void,
        remove: @escaping @Sendable (DID) throws -> Void,
        make: @escaping @Sendable () throws -> PrivateKey = { PrivateKey.generate(.p256) }
    ) {
        self.read = read
        self.keep = keep
        self.remove = remove
        self.make = make
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
    package let lanes: ActorLanes
    /// The actors whose repos are being imported.
    let imports = ActorLanes()
    /// Actors whose fold in memory is not to be believed: it is made anew before anybody uses it.
    private let doubted = Mutex<Set<DID>>([])
    let enrollments: Enrollments
    /// Who is told of each append, once it is projected.
    private let listeners = Mutex<[@Sendable (Append) -> Void]>([])
    /// What the reactors have done and what is due; nil where nobody has kept any of it.
    let reactorStore: (any ReactorStore)?
    /// Whether requests are to be answered; false while the projections are dropped or rebuilt.
    package let gate = MaintenanceGate()

    /// How often a command is decided where other writers are faster each time.
    private static let decisionsMax = 8

    /// - Parameters:
    ///   - waitingMax: commands that may wait for one actor.
    ///   - enrollmentsMax: actors whose enrollments are kept in memory.
    package init(
        log: any EventStore, readModel: any ReadModel, keys: ActorKeys, authority: Authority?, lexicons: Lexicons,
        surroundings: Surroundings, logger: Logger, waitingMax: Int = 128, enrollmentsMax: Int = 16_384,
        reactorStore: (any ReactorStore)? = nil
    ) {
        self.log = log
        self.readModel = readModel
        self.keys = keys
        self.authority = authority
        self.lexicons = lexicons
        self.surroundings = surroundings
        self.logger = logger
        self.reactorStore = reactorStore
        lanes = ActorLanes(waitingMax: waitingMax)
        enrollments = Enrollments(countMax: enrollmentsMax)
        let bytes = surroundings.random(2)
        clockID = (UInt16(bytes[0]) << 8 | UInt16(bytes[1])) & 0x3ff
    }

    /// Has `listener` called after each append, once it is durable and folded and where that is not known, on whatever task appended:
    /// it must return at once.
    package func onAppend(_ listener: @escaping @Sendable (Append) -> Void) { listeners.withLock { $0.append(listener) } }

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
        do {
            if let result = try await attempt(actor, body) { return result }
            if let result = try await attempt(actor, at: try await log.head(of: actor), body) { return result }
        } catch is MSTError {
            // The stored tree is not one: in the lane it is made anew.
        }
        return try await lanes.run(actor) { try await withCurrentInLane(actor, body) }
    }

    /// The same for a caller who is in the actor's lane already. The fold is compared with the log itself, which another service may
    /// have written to: what is decided, a refusal too, is decided upon the truth.
    func withCurrentInLane<Result: Sendable>(
        _ actor: DID, _ body: @escaping @Sendable (ActorContext, any ActorRows) throws -> Result
    ) async throws -> Result {
        var isMadeAnew = false
        // Other services may write, and faster than this one catches up: not for ever.
        for _ in 0..<16 {
            do {
                if let result = try await attempt(actor, at: try await log.head(of: actor), body) { return result }
                try await catchUp(actor)
            } catch  where Self.contradictsRows(error) && !isMadeAnew {
                // I8: rows that contradict themselves, or the log, are none. If they do so again, then it is the log.
                logger.error("rows dropped", metadata: ["actor": .string(actor.description), "error": "\(error)"])
                _ = try await readModel.drop(actor)
                isMadeAnew = true
            }
        }
        throw Refusal.overloaded
    }

    /// Whether an error says that stored rows are not what the log gives: a tree that is no tree, or operations that do not fit.
    private static func contradictsRows(_ error: any Error) -> Bool {
        switch error {
        case is MSTError, FoldError.rootDiffers, FoldError.recordDiffers: true
        default: false
        }
    }

    /// Enters the actor's lane and runs `body`, which decides and appends; again where another writer was faster (I5).
    func inLane<Result>(_ actor: DID, _ body: () async throws -> Result) async throws -> Result {
        try await lanes.run(actor) {
            for _ in 0..<Self.decisionsMax {
                do { return try await body() } catch EventLogError.headMoved { continue }
            }
            throw Refusal.overloaded
        }
    }

    /// Nil where the fold does not stand at the end of the log.
    /// - Parameter head: the end, where it was asked for; else only a fold will do that this process has kept at the end. Rows that
    ///   stand at the very event are those of this log: each event names the one before it (I3).
    private func attempt<Result: Sendable>(
        _ actor: DID, at head: Head? = nil, _ body: @escaping @Sendable (ActorContext, any ActorRows) throws -> Result
    ) async throws -> Result? {
        guard !isDoubted(actor) else { return nil }
        return try await readModel.withActor(actor) { [enrollments] rows in
            let context = try ActorContext.of(actor, in: rows)
            if let head {
                if context.state.head == head { context.isCurrent = true }
                if context.state.head.sequence < head.sequence {
                    context.isCurrent = false
                    enrollments.forget(actor)
                }
                guard context.state.head == head else { return nil }
            }
            return context.isCurrent ? try body(context, rows) : nil
        }
    }

    /// Events that are folded into rows at a time.
    private static let catchUpMax = 1024

    private func catchUp(_ actor: DID) async throws {
        if isDoubted(actor) {
            try await readModel.withActor(actor) { [enrollments] rows in
                rows.memory = nil
                enrollments.forget(actor)
            }
            _ = doubted.withLock { $0.remove(actor) }
        }
        let head = try await log.head(of: actor)
        var standing = try await standing(of: actor)
        if try await !isPrefix(standing.head, of: head, actor: actor) {
            logger.warning("rows of another history dropped", metadata: ["actor": .string(actor.description)])
            _ = try await readModel.drop(actor)
            standing = ActorState(did: actor)
        }
        // The rows may be closed for others' sake between two pages: what was folded is in them, and they are opened again.
        // Whoever has left with everything gets no rows again that would only be removed once more.
        let erasure = standing.head.sequence < head.sequence ? try await erasure(at: head, of: actor) : nil
        while standing.head.sequence < head.sequence {
            guard let step = try await nextStep(of: actor, upon: standing, erasure: erasure, limit: Self.catchUpMax) else {
                throw EventLogError.brokenChain(actor: actor, at: standing.head.sequence + 1)
            }
            standing = try await readModel.withActor(actor) { rows in
                let context = try ActorContext.of(actor, in: rows)
                try context.apply(step, to: rows)
                return context.state
            }
        }
        try await readModel.withActor(actor) { [enrollments] rows in
            let context = try ActorContext.of(actor, in: rows)
            if context.state.head == head { enrollments.set(EnrollmentSummary(context.state), of: actor) }
        }
    }

    private func standing(of actor: DID) async throws -> ActorState {
        try await readModel.withActor(actor) { rows in try ActorContext.of(actor, in: rows).state }
    }

    /// Whether rows that stand at `standing` are a fold of the log that ends at `head`.
    private func isPrefix(_ standing: Head, of head: Head, actor: DID) async throws -> Bool {
        guard standing.sequence > 0 else { return true }
        guard standing.sequence < head.sequence else { return standing == head }
        return try await log.events(of: actor, after: standing.sequence - 1, limit: 1).first?.cid == standing.event
    }

    /// Appends what was decided and folded (`ActorContext.prepare`), and moves the rows with it (architecture, section 4). Only in
    /// the actor's lane.
    ///
    /// Once the append has returned, the change is a fact: where the rows do not follow, the fold in memory is doubted, and the
    /// next touch catches up. Where it has not, what the log holds is not known, and the next touch reads it.
    func append(_ append: Append) async throws {
        // Last, so that whoever is woken finds the rows where the log is; also where it is not known what the log holds.
        defer { for listener in listeners.withLock({ $0 }) { listener(append) } }
        // I6: durable before anything is answered or projected.
        do {
            _ = try await log.append(append)
        } catch {
            doubt(append.actor)
            throw error
        }
        do {
            try await readModel.withActor(append.actor) { [enrollments] rows in
                let context = try ActorContext.of(append.actor, in: rows)
                try context.settle(append, rows)
                enrollments.set(EnrollmentSummary(context.state), of: append.actor)
            }
        } catch {
            logger.error("rows do not follow the log", metadata: ["actor": .string(append.actor.description), "error": "\(error)"])
            doubt(append.actor)
        }
    }

    private func doubt(_ actor: DID) { _ = doubted.withLock { $0.insert(actor) } }

    func isDoubted(_ actor: DID) -> Bool { doubted.withLock { $0.contains(actor) } }

    /// How an event of this actor is signed now.
    func signing(_ tagKey: [UInt8]) throws -> SignedEvent.Signing {
        let authority = try requireAuthority()
        return SignedEvent.Signing(keyEpoch: authority.keyEpoch, key: authority.key, tagKey: tagKey)
    }

    /// Gives the revs and record keys of what follows upon a state: above every rev before (I10), also past the time of the last
    /// event where nothing else is known of it. One clock gives both, keys first, so that no key is below a later rev's reach and
    /// given twice, whatever the machine's clock does.
    func revClock(upon state: ActorState, now microseconds: Int64) -> RevClock {
        let floor = (state.head.time?.milliseconds ?? 0) * 1000 + 1
        return RevClock(clock: TIDClock(clockID: clockID, last: state.revFloor), now: max(microseconds, floor))
    }

    /// The time of the event that carries a commit: never before the commit's rev.
    func eventTime(upon state: ActorState, now microseconds: Int64, rev: TID) -> Timestamp {
        let time = state.head.nextTime(now: Timestamp(milliseconds: microseconds / 1000))
        return max(time, Timestamp(milliseconds: Int64(rev.microseconds) / 1000))
    }
}

struct RevClock {
    fileprivate var clock: TIDClock
    fileprivate let now: Int64

    mutating func next() throws(TIDClockError) -> TID { try clock.next(microseconds: now) }
}
