package import ATProto
package import Commands
package import EventLog

/// What the records of a collection come to: one more fold.
package struct Usage: Hashable, Sendable {
    package var records: Int
    package var bytes: Int

    package init(records: Int = 0, bytes: Int = 0) {
        self.records = records
        self.bytes = bytes
    }

    mutating func add(_ row: RecordRow) {
        records += 1
        bytes += row.size
    }

    mutating func remove(_ row: RecordRow) {
        records -= 1
        bytes -= row.size
    }
}

/// That an administrator read a record of this actor: a receipt that the actor can list.
package struct AdminReadRow: Hashable, Sendable {
    /// Of the event.
    package let sequence: UInt64
    package let time: Timestamp
    package let administrator: String
    package let uri: ATURI
    package let reason: String

    package init(sequence: UInt64, time: Timestamp, administrator: String, uri: ATURI, reason: String) {
        self.sequence = sequence
        self.time = time
        self.administrator = administrator
        self.uri = uri
        self.reason = reason
    }
}

/// What one or more events change in an actor's rows. Rows and state are applied in one transaction (I9).
package struct ActorChanges: Sendable {
    /// The event that the rows stand at before, and after.
    package let from: UInt64
    package var state: ActorState
    /// What an import put into a repo without records, in the order of the tree's keys. `records` come after it.
    package var created: [RecordRow] = []
    /// The record at a path from now on; nil: none.
    package var records: [RecordPath: RecordRow?] = [:]
    package var nodesAdded: [CID: [UInt8]] = [:]
    package var nodesRemoved: Set<CID> = []
    package var usage: [NSID: Usage] = [:]
    package var adminReads: [AdminReadRow] = []
    /// Whether what stood there before is gone as a whole.
    package var clears = false

    package init(from state: ActorState) {
        from = state.head.sequence
        self.state = state
    }

    /// The row that an import created at a path.
    func created(_ path: RecordPath) -> RecordRow? {
        let key = path.description.utf8
        var (low, high) = (0, created.count)
        while low < high {
            let middle = (low + high) / 2
            if created[middle].path == path { return created[middle] }
            if created[middle].path.description.utf8.lexicographicallyPrecedes(key) { low = middle + 1 } else { high = middle }
        }
        return nil
    }
}

/// Which of an actor's records a lookup or a listing may find, so that what it costs depends on these alone.
package enum RecordSelection: Hashable, Sendable {
    case all
    /// Those that name a boundary.
    case bounded
    /// Those that name one of these.
    case sharing(BoundarySet)
}

/// One actor's projections: the rows as they stand, on the one thread that has them open.
package protocol ActorRows: AnyObject {
    /// What the owner of the thread keeps in memory beside the rows, and loses with them.
    var memory: AnyObject? { get set }

    /// Nil before the first event was applied.
    func state() throws -> ActorState?
    func record(_ path: RecordPath) throws -> RecordRow?
    /// The same, if it is selected. One that is not is not even read, so it takes as long as one that is not there (I12).
    func record(_ path: RecordPath, _ selection: RecordSelection) throws -> RecordRow?
    /// The selected rows of a collection in order of their keys, from the one behind `after` on. Rows that are not selected cost
    /// nothing: neither their number nor their existence shows in the time that this takes (I12).
    func records(_ collection: NSID, _ selection: RecordSelection, in range: KeyRange) throws -> [RecordRow]
    func collections() throws -> [NSID: Usage]
    /// Newest first, from the one before `before` on.
    func adminReads(before: UInt64?, limit: Int) throws -> [AdminReadRow]
    /// The block of an MST node.
    func node(_ cid: CID) throws -> [UInt8]?
    /// The blocks of all MST nodes, for whoever is about to walk the whole tree.
    func nodes() throws -> [CID: [UInt8]]
    /// Whether every record names a boundary.
    func everyRecordHasBoundary() throws -> Bool
    /// Moves the rows from `changes.from` to `changes.state.head`, all or none.
    func apply(_ changes: ActorChanges) throws
    /// Every row in the order of the digest: projection, key, canonical value.
    func forEachRow(_ visit: (_ projection: String, _ key: String, _ row: Value) throws -> Void) throws
}

/// A page of keys.
package struct KeyRange: Hashable, Sendable {
    /// Exclusive.
    package let after: RecordKey?
    /// Highest key first.
    package let reversed: Bool
    package let limit: Int

    package init(after: RecordKey?, reversed: Bool, limit: Int) {
        self.after = after
        self.reversed = reversed
        self.limit = limit
    }
}

/// Where the actors' projections are kept. Every call runs on a thread that alone has that actor's rows open.
package protocol ReadModel: Sendable {
    func withActor<Result: Sendable>(
        _ actor: DID, _ body: @escaping @Sendable (any ActorRows) throws -> Result
    ) async throws -> Result
    /// The actors that may have rows here, in no order.
    func actors() async throws -> [DID]
    /// Forgets the rows of an actor; the log brings them back. Keys are not touched.
    /// - Returns: whether there were any.
    func drop(_ actor: DID) async throws -> Bool
}
