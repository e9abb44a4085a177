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
    private let usage: (NSID) throws -> Usage

    package var state: ActorState { changes.state }

    /// - Parameters:
    ///   - state: the fold of every event before.
    ///   - tree: the repo's tree as it stands; the empty one before the first commit.
    ///   - row: the record at a path as it stands.
    ///   - usage: what the records of a collection come to as they stand.
    package init(
        upon state: ActorState, tree: MST, row: @escaping (RecordPath) throws -> RecordRow?, usage: @escaping (NSID) throws -> Usage
    ) {
        changes = ActorChanges(from: state)
        self.tree = tree
        self.row = row
        self.usage = usage
    }

    /// The actor's tree after the folded events; `changes` then hold the nodes that came and went. Where there is no repo there are no
    /// nodes either, not even the empty tree's: that comes with the first commit, however many events are folded at once.
    package mutating func finish() -> (changes: ActorChanges, tree: MST) {
        guard changes.state.repo != nil else { return (changes, MST()) }
        let nodes = tree.takeChanges()
        for (cid, bytes) in nodes.added { changes.nodesAdded[cid] = bytes }
        changes.nodesRemoved.formUnion(nodes.removed)
        return (changes, tree)
    }

    /// - Parameter chunk: the bytes of an import's chunk.
    package mutating func apply(_ stored: StoredEvent, chunk: (CID) throws -> [UInt8]?) throws {
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
            if leave.content == .erase { clear() }
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

    private mutating func fold(_ enroll: AccountEnroll, at sequence: UInt64, time: Timestamp) throws {
        changes.state.membership = Membership(
            enrolledAt: time, boundaries: enroll.boundaries, pds: enroll.pds, recordKey: enroll.recordKey, attestation: enroll.attestation)
        changes.state.signingKey = enroll.key
        changes.state.tagKey = enroll.tagKey
        try fold(enroll.commit, at: sequence)
    }

    private mutating func fold(_ bulk: RepoImport, at sequence: UInt64, chunk: (CID) throws -> [UInt8]?) throws {
        for cid in bulk.chunks {
            guard let bytes = try chunk(cid) else { throw FoldError.chunkMissing(actor: state.did, at: sequence, cid: cid) }
            for operation in try RepoImport.Chunk(bytes: bytes).operations {
                guard let operation else { continue }  // Erased without trace: nothing of it is to be shown.
                try fold(operation, rev: bulk.commit.rev, at: sequence)
            }
        }
        try fold(bulk.commit, at: sequence)
    }

    private mutating func fold(_ operation: RecordOperation, rev: TID, at sequence: UInt64) throws {
        let path = operation.path
        let key = MSTKey(collection: path.collection, recordKey: path.recordKey)
        let standing = try changes.records[path] ?? (changes.clears ? nil : row(path))
        guard standing?.previous == operation.previous else {
            throw FoldError.recordDiffers(actor: state.did, at: sequence, path: path.description)
        }
        switch operation.change {
        case .create(let written): try tree.insert(key, written.cid)
        case .update(let written, _): _ = try tree.update(key, written.cid)
        case .delete: _ = try tree.delete(key)
        }
        let written = operation.written.map {
            RecordRow(path: path, cid: $0.cid, boundaries: $0.boundaries, sequence: sequence, rev: rev, size: $0.size)
        }
        changes.records[path] = .some(written)
        var total = try changes.usage[path.collection] ?? (changes.clears ? Usage() : usage(path.collection))
        total.records += (written == nil ? 0 : 1) - (standing == nil ? 0 : 1)
        total.bytes += (written?.size ?? 0) - (standing?.size ?? 0)
        changes.usage[path.collection] = total
    }

    // I8: the tree that the operations lead to is the one that the actor signed.
    private mutating func fold(_ commit: ActorCommit, at sequence: UInt64) throws(FoldError) {
        guard tree.root() == commit.data else { throw FoldError.rootDiffers(actor: state.did, at: sequence) }
        changes.state.repo = RepoHead(
            commit: commit.commit(of: state.did).cid, rev: commit.rev, data: commit.data, signature: commit.signature, sequence: sequence)
        changes.state.revFloor = commit.rev
    }

    private mutating func clear() {
        changes.clears = true
        changes.records = [:]
        changes.usage = [:]
        changes.adminReads = []
        changes.nodesAdded = [:]
        changes.nodesRemoved = []
        changes.state.repo = nil
        tree = MST()
    }
}
