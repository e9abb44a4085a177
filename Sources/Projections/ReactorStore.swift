package import ATProto
package import EventLog

/// One record on a user's own server, as far as it is this service's to keep there: what was done about it, and what is due.
package struct ReactorItem: Hashable, Sendable {
    /// When it is its turn, among the items of its actor that are due.
    package enum Turn: Hashable, Sendable {
        /// In the order of the events.
        case live
        /// Behind what is live: puts that no recent event asked for, such as those of an import.
        case backlog
        /// Only once more, because the server may yet carry out an earlier attempt whose outcome was never learnt.
        case echo(at: Timestamp)
    }

    package let path: RecordPath
    /// What was put there: of a stub, the CID of its subject; of an enrollment record, its own. Nil where nothing is known to be there.
    package var done: CID?
    /// How often it was marked since it was last settled; 0 where nothing is due. Whoever settles it names the number it began with, so
    /// that a mark that comes meanwhile is not lost.
    package var marks: UInt64
    /// The number of the event that marked it first since it was last settled.
    package var due: UInt64
    /// The number of the event that marked it last.
    package var last: UInt64
    package var turn: Turn
    /// Whether an attempt was begun whose outcome is not known.
    package var isDoubtful: Bool
    /// The status and name with which the server refused it last.
    package var refusal: String?

    package init(path: RecordPath) {
        self.path = path
        marks = 0
        due = 0
        last = 0
        turn = .live
        isDoubtful = false
    }

    /// Makes it due. What waits in its turn already stays where it is, but what is live does not wait behind a backlog or an echo.
    package mutating func mark(due sequence: UInt64, _ turn: Turn = .live) {
        if marks == 0 || (turn == .live && self.turn != .live) { (due, self.turn) = (sequence, turn) }
        last = sequence
        marks += 1
    }

    /// What it was taken for is done. What marked it meanwhile waits for its own turn, so that a record which is written again and
    /// again keeps none of the others waiting.
    package mutating func settle(taken: ReactorItem) {
        if marks == taken.marks {
            (marks, turn) = (0, .live)
        } else {
            due = last
        }
    }
}

/// What the reactors know of one actor, beside the items.
package struct ReactorActor: Hashable, Sendable {
    package enum State: String, Sendable, CaseIterable {
        /// Nothing is due.
        case idle
        case pending
        /// Work is due, and nobody gave a session to do it with.
        case parked
        /// The actor has left, and it could not be cleaned up behind them.
        case givenUp
    }

    package let did: DID
    /// Host and port of the actor's own server; empty where it is not known.
    package var host: String
    package var state: State
    /// How often a comparison of all items with the fold was asked for since the last one.
    package var sweeps: UInt64
    /// How often a look at the enrollment records on the server was asked for since the last one.
    package var tidies: UInt64
    /// The event by which the actor left, while that is not carried out yet; 0 where there is none.
    package var leaving: UInt64
    /// When that was.
    package var left: Timestamp?
    /// Since when there is something to do.
    package var since: Timestamp?
    /// Failures one after the other.
    package var attempts: Int
    /// Of an actor who has left: since when nothing succeeds.
    package var failingSince: Timestamp?
    /// When to look at this actor again; nil: when something happens.
    package var nextAttempt: Timestamp?
    /// Of an actor who is parked: places that were marked meanwhile. Behind some number of them all are found by comparison, so that
    /// somebody who never gives a session costs next to nothing, however much they write.
    package var parkedMarks: Int
    /// What the backlog's pace counts from.
    package var backlogTime: Timestamp?
    /// A name or a few words; never anything of a record, a token or a key.
    package var lastError: String?

    package init(did: DID) {
        self.did = did
        host = ""
        state = .idle
        sweeps = 0
        tidies = 0
        leaving = 0
        attempts = 0
        parkedMarks = 0
    }

    /// Something is due from now on. Who is parked, or waits after a failure, goes on waiting.
    package mutating func mark(at now: Timestamp) {
        switch state {
        case .idle:
            state = .pending
            since = now
            nextAttempt = now
        case .pending: if attempts == 0 { nextAttempt = nextAttempt.map { min($0, now) } ?? now }
        case .parked, .givenUp: break
        }
    }

    /// There is new reason to try, whatever came before.
    package mutating func resume(at now: Timestamp) {
        if state == .idle || since == nil { since = now }
        state = .pending
        attempts = 0
        failingSince = nil
        lastError = nil
        nextAttempt = now
    }
}

/// How far the log was read: the raw cursor of an event, and the event itself, by which another history is known.
package struct ReactorCursor: Hashable, Sendable {
    package let position: UInt64
    package let event: CID?

    package static let start = ReactorCursor(position: 0, event: nil)

    package init(position: UInt64, event: CID?) {
        self.position = position
        self.event = event
    }
}

/// What the reactors keep, inside one transaction, on the one thread that has it open.
package protocol ReactorRows: AnyObject {
    func cursor() throws -> ReactorCursor
    func set(_ cursor: ReactorCursor) throws
    /// What all items that are settled have in common, such as the service's address.
    func form() throws -> String?
    func set(form: String) throws

    func actor(_ did: DID) throws -> ReactorActor?
    func put(_ actor: ReactorActor) throws
    /// With all items.
    func remove(_ did: DID) throws
    /// In the order of the DIDs.
    func actors(after: DID?, limit: Int) throws -> [ReactorActor]
    /// Those whose next attempt is due, the longest due first.
    /// - Parameter hosts: those that are not asked for.
    func due(at now: Timestamp, limit: Int, except actors: Set<DID>, hosts: Set<String>) throws -> [ReactorActor]
    /// When the next of them is due, after `now`.
    func nextDue(after now: Timestamp) throws -> Timestamp?
    /// Everybody who is parked tries once more.
    func resumeParked(at now: Timestamp) throws

    /// Of an actor that has a row.
    func item(_ path: RecordPath, of did: DID) throws -> ReactorItem?
    func put(_ item: ReactorItem, of did: DID) throws
    func remove(_ path: RecordPath, of did: DID) throws
    /// In the order of the paths.
    func items(of did: DID, after: RecordPath?, limit: Int) throws -> [ReactorItem]
    /// The item whose turn it is: an echo whose time has come, else the first that is live, else the first of the backlog.
    func next(of did: DID, at now: Timestamp, withBacklog: Bool) throws -> ReactorItem?
    /// How many items are due, and how many were refused.
    func counts(of did: DID) throws -> (due: Int, refused: Int)
    /// When the first echo is due.
    func nextEcho(of did: DID) throws -> Timestamp?
}

/// Where the reactors keep what they have done and what is due: neither truth nor, without asking the users' servers, derivable. Where
/// it is lost, everything is done once more.
package protocol ReactorStore: Sendable {
    /// Runs `body` in one transaction, which is undone where it throws. A crash of the process afterwards takes nothing of it; one of
    /// the machine may take the last ones, in order.
    func transaction<Result: Sendable>(_ body: @escaping @Sendable (any ReactorRows) throws -> Result) async throws -> Result
}
