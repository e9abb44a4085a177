package import ATProto
package import Commands
package import EventLog
import Keys

/// What can be wrong with a log when it is folded. Each stops that actor's projection, never the log.
package enum FoldError: Error, Equatable {
    /// An event that does not follow the one before it (I2, I3).
    case outOfOrder(actor: DID, at: UInt64)
    /// The body was erased and nothing says what stands in its place.
    case bodyMissing(actor: DID, at: UInt64)
    /// A kind that this version does not know.
    case unknownKind(actor: DID, at: UInt64, kind: String)
    /// The operations do not lead to the root that the commit names (I7, I8).
    case rootDiffers(actor: DID, at: UInt64)
    /// An operation on a record that does not stand as it says.
    case recordDiffers(actor: DID, at: UInt64, path: String)
    /// A chunk of an import's operations is not in the store.
    case chunkMissing(actor: DID, at: UInt64, cid: CID)
}

/// The fold of one actor's log into rows: pure, one `switch` over kinds. It reads no clock, no random source, no setting and no
/// network, signs nothing, and asks only for the rows as they stand (I8).
package struct ActorFold {
    package private(set) var changes: ActorChanges
    private var tree: MST
    private let row: (RecordPath) throws -> RecordRow?
    private let usage: [NSID: Usage]
    private let erasedThrough: UInt64

    package var state: ActorState { changes.state }

    /// - Parameters:
    ///   - state: the fold of every event before.
    ///   - tree: the repo's tree as it stands; the empty one before the first commit.
    ///   - row: the record at a path as it stands.
    ///   - usage: what the records of each collection come to as they stand.
    ///   - erasedThrough: the number of a leave, among the events that will be folded, which takes all content before it away. Of the events
    ///     up to it only that is folded which outlives it, and this is the same as with all of them: chunks of operations are not
    ///     asked for, since they went with the content. Only from that leave on do the changes say how the rows stand.
    package init(
        upon state: ActorState, tree: MST, row: @escaping (RecordPath) throws -> RecordRow?, usage: [NSID: Usage],
        erasedThrough: UInt64 = 0
    ) {
        changes = ActorChanges(from: state)
        self.tree = tree
        self.row = row
        self.usage = usage
        self.erasedThrough = erasedThrough
    }

    /// The actor's tree after the folded events; `changes` then hold the nodes that came and went. Where there is no repo there are no
    /// nodes either, not even the empty tree's: that comes with the first commit, however many events are folded at once.
    package mutating func finish() -> (changes: ActorChanges, tree: MST) {
        guard changes.state.repo != nil else { return (changes, MST()) }
        let nodes = tree.takeChanges()
        changes.nodesAdded.reserveCapacity(nodes.added.count)
        for (cid, bytes) in nodes.added { changes.nodesAdded[cid] = bytes }
        changes.nodesRemoved.formUnion(nodes.removed)
        return (changes, tree)
    }

    /// - Parameter chunk: a chunk of an import's operations.
    package mutating func apply(_ stored: StoredEvent, chunk: (CID) throws -> RepoImport.Chunk?) throws {
        let event = try Event(bytes: stored.bytes)
        let at = event.sequence
        guard at == state.head.sequence + 1, event.prev == state.head.event, event.did == state.did else {
            throw FoldError.outOfOrder(actor: state.did, at: at)
        }
        guard let bytes = stored.body else { throw FoldError.bodyMissing(actor: state.did, at: at) }
        let body: EventBody
        do {
            body = try EventBody(kind: event.kind, bytes: bytes)
        } catch .unknownKind(let kind) {
            throw FoldError.unknownKind(actor: state.did, at: at, kind: kind)
        }
        changes.state.head = Head(sequence: at, event: stored.cid, time: event.time)
        guard at >= erasedThrough else { return foldWhatOutlives(body) }
        switch body {
        case .accountEnroll(let enroll): try fold(enroll, at: at, time: event.time)
        case .accountBoundaries(let change):
            changes.state.membership?.boundaries = change.after
            changes.state.membership?.attestation = change.attestation
        case .accountAttest(let attest): changes.state.membership?.attestation = attest.attestation
        case .accountKey(let change):
            changes.state.signingKey = change.key
            changes.state.membership?.attestation = change.attestation
            try fold(change.commit, at: at)
        case .accountLeave(let leave):
            changes.state.membership = nil
            if leave.content == .erase { clear(at: at) }
        case .repoWrite(let write):
            for operation in write.operations { try fold(operation, rev: write.commit.rev, at: at) }
            try fold(write.commit, at: at)
        case .repoImport(let bulk): try fold(bulk, at: at, chunk: chunk)
        case .adminRead(let read):
            changes.adminReads.append(
                AdminReadRow(
                    sequence: at, time: event.time, administrator: read.provenance.by.identity.name, uri: read.uri, reason: read.reason))
        case .blobPut, .blobState, .moderationTakedown, .moderationRestore, .erasure, .erasureDone, .serviceStart, .serviceKey,
            .serviceConfig:
            break  // Nothing that these rows hold.
        }
    }

    /// What an event leaves behind that no erasure takes away: the keys in force, and the rev that the next one must exceed.
    private mutating func foldWhatOutlives(_ body: EventBody) {
        switch body {
        case .accountEnroll(let enroll): (changes.state.signingKey, changes.state.tagKey) = (enroll.key, enroll.tagKey)
        case .accountKey(let change): changes.state.signingKey = change.key
        default: break
        }
        if let rev = body.commit?.rev { changes.state.revFloor = rev }
    }

    private mutating func fold(_ enroll: AccountEnroll, at sequence: UInt64, time: Timestamp) throws {
        changes.state.membership = Membership(
            enrolledAt: time, sequence: sequence, boundaries: enroll.boundaries, pds: enroll.pds, recordKey: enroll.recordKey,
            attestation: enroll.attestation)
        changes.state.signingKey = enroll.key
        changes.state.tagKey = enroll.tagKey
        try fold(enroll.commit, at: sequence)
    }

    private mutating func fold(_ bulk: RepoImport, at sequence: UInt64, chunk: (CID) throws -> RepoImport.Chunk?) throws {
        if try !foldIntoEmpty(bulk, at: sequence, chunk: chunk) {
            try Self.forEachOperation(of: bulk, by: state.did, at: sequence, chunk: chunk) {
                try fold($0, rev: bulk.commit.rev, at: sequence)
            }
        }
        try fold(bulk.commit, at: sequence)
    }

    private static func forEachOperation(
        of bulk: RepoImport, by actor: DID, at sequence: UInt64, chunk: (CID) throws -> RepoImport.Chunk?,
        _ visit: (RecordOperation) throws -> Void
    ) throws {
        for cid in bulk.chunks {
            guard let chunk = try chunk(cid) else { throw FoldError.chunkMissing(actor: actor, at: sequence, cid: cid) }
            for operation in chunk.operations {
                guard let operation else { continue }  // Erased without trace: nothing of it is to be shown.
                try visit(operation)
            }
        }
    }

    /// The same for a repo without records, and operations in the order of their keys, as this service writes them: the tree is made
    /// from the bottom up, which is many times faster than by one edit a record.
    /// - Returns: false, with nothing changed, where it is not so.
    private mutating func foldIntoEmpty(_ bulk: RepoImport, at sequence: UInt64, chunk: (CID) throws -> RepoImport.Chunk?) throws -> Bool {
        guard changes.records.isEmpty, changes.created.isEmpty, changes.clears || usage.isEmpty, bulk.operationCount > 0 else {
            return false
        }
        let emptyRoot = MST().root()
        guard tree.root() == emptyRoot else { return false }
        var entries: [(key: MSTKey, value: CID)] = []
        var rows: [RecordRow] = []
        var totals: [NSID: Usage] = [:]
        // An import of so many comes from a log that this service has written; and a chunk has at most so many.
        let count = min(Int(clamping: bulk.operationCount), bulk.chunks.count * RepoImport.Chunk.operationsMax)
        entries.reserveCapacity(count)
        rows.reserveCapacity(count)
        var isEachCreated = true
        try Self.forEachOperation(of: bulk, by: state.did, at: sequence, chunk: chunk) { operation in
            guard case .create(let written) = operation.change else { return isEachCreated = false }
            let row = Self.row(operation.path, written, rev: bulk.commit.rev, at: sequence, created: sequence)
            entries.append((MSTKey(collection: row.path.collection, recordKey: row.path.recordKey), written.cid))
            totals[row.path.collection, default: Usage()].add(row)
            rows.append(row)
        }
        guard isEachCreated, !rows.isEmpty else { return false }
        do throws(MSTError) { tree = try MST.build(sorted: entries) } catch {
            guard case .unsorted = error else { throw error }
            return false
        }
        changes.nodesRemoved.insert(emptyRoot)
        changes.created = rows
        changes.usage = totals
        return true
    }

    /// A record as it stands after what was folded so far.
    private func standing(_ path: RecordPath) throws -> RecordRow? {
        if let change = changes.records[path] { return change }
        if let created = changes.created(path) { return created }
        return changes.clears ? nil : try row(path)
    }

    private static func row(
        _ path: RecordPath, _ written: RecordOperation.Written, rev: TID, at sequence: UInt64, created: UInt64
    ) -> RecordRow {
        RecordRow(
            path: path, cid: written.cid, boundaries: written.boundaries, sequence: sequence, created: created, rev: rev,
            size: written.size)
    }

    private mutating func fold(_ operation: RecordOperation, rev: TID, at sequence: UInt64) throws {
        let path = operation.path
        let key = MSTKey(collection: path.collection, recordKey: path.recordKey)
        let standing = try standing(path)
        guard standing?.previous == operation.previous else {
            throw FoldError.recordDiffers(actor: state.did, at: sequence, path: path.description)
        }
        switch operation.change {
        case .create(let written): try tree.insert(key, written.cid)
        case .update(let written, _): _ = try tree.update(key, written.cid)
        case .delete: _ = try tree.delete(key)
        }
        let written = operation.written.map {
            Self.row(path, $0, rev: rev, at: sequence, created: standing?.created ?? sequence)
        }
        changes.records[path] = .some(written)
        var total = changes.usage[path.collection] ?? (changes.clears ? nil : usage[path.collection]) ?? Usage()
        if let standing { total.remove(standing) }
        if let written { total.add(written) }
        changes.usage[path.collection] = total
    }

    // I8: the tree that the operations lead to is the one that the actor signed.
    private mutating func fold(_ commit: ActorCommit, at sequence: UInt64) throws(FoldError) {
        guard tree.root() == commit.data else { throw FoldError.rootDiffers(actor: state.did, at: sequence) }
        changes.state.repo = RepoHead(
            commit: commit.commit(of: state.did).cid, rev: commit.rev, data: commit.data, signature: commit.signature, sequence: sequence)
        changes.state.revFloor = commit.rev
    }

    private mutating func clear(at sequence: UInt64) {
        changes.state.erasedThrough = sequence
        changes.clears = true
        changes.created = []
        changes.records = [:]
        changes.usage = [:]
        changes.adminReads = []
        changes.nodesAdded = [:]
        changes.nodesRemoved = []
        changes.state.repo = nil
        tree = MST()
    }
}
