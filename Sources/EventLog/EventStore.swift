package import ATProto

/// Bytes under their CID: a record's block, or a chunk of an import's operations. One copy an actor, never shared between actors.
package struct Block: Hashable, Sendable {
    package let cid: CID
    package let bytes: [UInt8]

    package init(cid: CID, bytes: [UInt8]) {
        self.cid = cid
        self.bytes = bytes
    }

    package init(hashing bytes: [UInt8]) { self.init(cid: CID(hashing: bytes), bytes: bytes) }
}

/// Blocks that wait for the append that will refer to them.
package struct StagedBlocks: Hashable, Sendable {
    /// Where the store has put them; they go with the append as `Append.staged`.
    package let rows: ClosedRange<Int64>?
    /// Those that the store leaves to the caller; they go with the append as `Append.blocks`.
    package let held: [Block]

    package init(rows: ClosedRange<Int64>?) {
        self.rows = rows
        held = []
    }

    package init(held: [Block]) {
        rows = nil
        self.held = held
    }
}

/// What is appended to one actor's log in one step, all or none.
package struct Append: Sendable {
    package let actor: DID
    /// What the writer decided upon; the append succeeds only there (I5).
    package let after: Head
    /// 1…200, chained from `after`.
    package let events: [SignedEvent]
    /// What the events newly refer to, an import's chunks too. A block that the actor already has is kept once.
    package let blocks: [Block]
    /// Rows of blocks that were staged for this append (`EventStore.stage`), and that its events refer to from here on.
    package let staged: [ClosedRange<Int64>]
    package let request: RequestRow?
    /// What proved the caller, where it may be used once: the append is refused where it was used before.
    package let use: SingleUse?
    /// Whether its last event takes the content of all events before away: the store remembers, in the same transaction, that the
    /// actor's blocks are to go (`EventStore.erasuresDue`).
    package let erasesBlocks: Bool

    package static let eventsMax = 200

    package init(
        actor: DID, after: Head, events: [SignedEvent], blocks: [Block] = [], staged: [ClosedRange<Int64>] = [], request: RequestRow? = nil,
        use: SingleUse? = nil, erasesBlocks: Bool = false
    ) {
        precondition((1...Append.eventsMax).contains(events.count), "an append holds 1…\(Append.eventsMax) events")
        self.actor = actor
        self.after = after
        self.events = events
        self.blocks = blocks
        self.staged = staged
        self.request = request
        self.use = use
        self.erasesBlocks = erasesBlocks
        checkInvariants()
    }

    package var appended: [Appended] { events.map { Appended(sequence: $0.event.sequence, event: $0.cid) } }

    /// The head once this is stored.
    package var head: Head { events[events.count - 1].head }

    private func checkInvariants() {
        var head = after
        for signed in events {
            precondition(signed.event.did == actor, "an append is for one actor")
            precondition(signed.event.sequence == head.sequence + 1, "I2: event \(signed.event.sequence) after \(head.sequence)")
            precondition(signed.event.prev == head.event, "I3: event \(signed.event.sequence) does not name its predecessor")
            head = signed.head
        }
    }
}

/// What an append gives back: never a position, which some stores decide a moment later.
package struct Appended: Sendable, Hashable {
    package let sequence: UInt64
    package let event: CID

    package init(sequence: UInt64, event: CID) {
        self.sequence = sequence
        self.event = event
    }
}

/// A stored event as a store gives it: bytes as they were appended, checked by whoever reads them.
package struct StoredEvent: Hashable, Sendable {
    /// Raw value of its `StreamCursor`; in generation 0 the position itself. Nil while a store has not yet decided it.
    package let position: UInt64?
    package let bytes: [UInt8]
    package let cid: CID
    /// Nil once erased.
    package let body: [UInt8]?
    /// 65 bytes.
    package let leaf: [UInt8]

    package init(position: UInt64?, bytes: [UInt8], cid: CID, body: [UInt8]?, leaf: [UInt8]) {
        self.position = position
        self.bytes = bytes
        self.cid = cid
        self.body = body
        self.leaf = leaf
    }
}

package struct LogStatistics: Hashable, Sendable {
    package let events: UInt64
    package let actors: UInt64
    /// What the log takes on disk.
    package let bytes: UInt64
    /// Raw cursor of the last event that has a position; 0 in an empty log.
    package let position: UInt64

    package init(events: UInt64, actors: UInt64, bytes: UInt64, position: UInt64) {
        self.events = events
        self.actors = actors
        self.bytes = bytes
        self.position = position
    }
}

/// The log as every backend gives it. Two ship: SQLite and PostgreSQL. `EventStoreContract` is the behaviour in tests.
///
/// A store keeps bytes and order. It verifies no signature and decodes no body: that is the writer's and the verifier's work.
package protocol EventStore: Sendable {
    /// What a finding names as the file, such as `log.sqlite`.
    var file: String { get }

    /// Whether each event that is read was hashed and compared with its CID, and its body with the one that it names, on its way out:
    /// then whoever verifies need not do it a second time.
    var hashesEventsRead: Bool { get }

    /// Stores all of it or nothing; durable when it returns (I5, I6). Appends of one actor that race are decided by the head:
    /// exactly one wins. Events that are acknowledged before another append begins have lower positions (I13).
    /// - Throws: `headMoved`, `alreadyUsed`, `overloaded`, `noSpace` with nothing stored. After `storage` the outcome is unknown: read the head.
    func append(_ append: Append) async throws(EventLogError) -> [Appended]

    /// Takes blocks in before the append that will refer to them is decided, so that nobody has to hold all of them until then. Nothing
    /// refers to them until that append, which may follow a refused one; a start removes what no append came for. An actor's blocks are
    /// staged for one append at a time: a block that two wait for is the later one's.
    /// - Parameter actor: has a log.
    /// - Throws: `noSpace`, `overloaded` with nothing stored.
    func stage(_ blocks: [Block], of actor: DID) async throws(EventLogError) -> StagedBlocks

    /// Removes what was staged for an append that will not come.
    func abandon(_ staged: [StagedBlocks]) async

    /// The end of an actor's log; `.empty` where there is none.
    func head(of actor: DID) async throws(EventLogError) -> Head

    /// The events of one log in order of their number, whether or not they have a position yet.
    /// - Parameters:
    ///   - sequence: exclusive; 0 begins at the start.
    ///   - limit: 1…; fewer may come while there are more, but never none.
    func events(of actor: DID, after sequence: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent]

    /// The events of all logs in order of position: only those that have one, so nothing is ever inserted behind a reader.
    /// - Parameter position: raw cursor, exclusive; 0 begins at the start.
    func events(afterPosition position: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent]

    /// The actors that have a log, the service's own included, in order of the DID's bytes.
    func actors(after: DID?, limit: Int) async throws(EventLogError) -> [DID]

    /// Those of the actors that have a log.
    func withLog(among actors: [DID]) async throws(EventLogError) -> Set<DID>

    /// The bytes of a block, nil where the actor has none under this CID. The reader compares them with the CID.
    func block(_ cid: CID, of actor: DID) async throws(EventLogError) -> [UInt8]?

    /// Those of the blocks that the actor has.
    func blocks(_ cids: [CID], of actor: DID) async throws(EventLogError) -> [CID: [UInt8]]

    /// The same on the thread that calls, which waits for the disk: a thread of the caller's own, never a task's. It spares a reader of a
    /// few blocks the way to another thread and back. Nil where the store has no such way.
    func blocksOnThisThread(_ cids: [CID], of actor: DID) throws(EventLogError) -> [CID: [UInt8]]?

    /// The bytes of blocks in the order of `cids`, nil where the actor has none, until they come to `bytesMax`: fewer than were asked
    /// for, but never none.
    /// - Parameter cids: one or more.
    func blocks(inOrder cids: [CID], of actor: DID, bytesMax: Int) async throws(EventLogError) -> [[UInt8]?]

    /// Removes blocks of an actor, a bounded number at a time so that writers never wait for long; called again until it gives 0. What is
    /// staged stays: it is another append's.
    /// - Parameter head: the end of the actor's log, up to which an event takes all content away; nothing behind it refers to a block.
    /// - Returns: how many are gone now.
    /// - Throws: `headMoved` with nothing removed, because what is appended since may refer to blocks.
    func eraseBlocks(of actor: DID, at head: Head) async throws(EventLogError) -> Int

    /// The actors whose blocks are to go, since an append said so (`Append.erasesBlocks`) and nobody that they are gone. It tells where to
    /// look; whether they may go is decided from the log.
    func erasuresDue() async throws(EventLogError) -> [DID]

    /// Forgets that the actor's blocks are to go. Durable on return.
    func endErasure(of actor: DID) async throws(EventLogError)

    /// The row of an earlier request, however old: the caller has the clock, the store has none.
    func request(_ scope: [UInt8]) async throws(EventLogError) -> RequestRow?

    /// Rows of requests from before this time may have been removed, because they counted no more. It only rises.
    func requestsKeptFrom() async throws(EventLogError) -> Timestamp

    func statistics() async throws(EventLogError) -> LogStatistics

    /// What only the backend can see of its own damage: indexes against tables, a log behind its mark. Reads everything.
    func inspect() async -> [Finding]
}

extension EventStore {
    package var hashesEventsRead: Bool { false }

    package func stage(_ blocks: [Block], of actor: DID) async throws(EventLogError) -> StagedBlocks { StagedBlocks(held: blocks) }

    package func abandon(_ staged: [StagedBlocks]) async {}

    package func withLog(among actors: [DID]) async throws(EventLogError) -> Set<DID> {
        var found: Set<DID> = []
        for actor in actors where try await head(of: actor).sequence > 0 { found.insert(actor) }
        return found
    }

    package func blocksOnThisThread(_ cids: [CID], of actor: DID) throws(EventLogError) -> [CID: [UInt8]]? { nil }

    /// A few at a time, whatever their size: a block has at most 1 MiB.
    package func blocks(inOrder cids: [CID], of actor: DID, bytesMax: Int) async throws(EventLogError) -> [[UInt8]?] {
        let first = Array(cids.prefix(16))
        let found = try await blocks(first, of: actor)
        return first.map { found[$0] }
    }
}
