import ATProto
import Commands
import EventLog
import Projections

/// What a repo gained between two of its commits: what an export `since` the first one holds.
///
/// The rows know only the tree as it stands. The one before is had by undoing upon it what the log says was done since, and it must
/// be the one that was signed then (I7): so every block that is left out stood in the earlier repo, and whoever holds that one has
/// the whole of the later one.
struct RepoGain {
    /// The nodes that the earlier tree does not have. Below a node that it has there are none.
    let nodes: Set<CID>
    /// The records that were written at keys that held something else then.
    let records: Set<CID>
}

/// What the log says of a repo between two commits.
struct RepoSpan: Sendable {
    /// The root of the earlier one.
    let data: CID
    /// The later one.
    let commit: CID
    /// Each key once, as it was and as it is, in no order.
    let differences: [MSTDifference]
}

extension RepoSpan {
    /// - Parameter repo: the later one, which the rows hold.
    func gain(of actor: DID, upon repo: RepoHead, in rows: any ActorRows) throws -> RepoGain {
        var earlier = ActorContext.tree(of: repo, in: rows)
        try earlier.invert(differences)
        let nodes = earlier.takeChanges().removed
        // I7, I8: upon rows that are the log's this cannot be.
        guard earlier.root() == data else { throw FoldError.rootDiffers(actor: actor, at: repo.sequence) }
        return RepoGain(nodes: Set(nodes), records: Set(differences.compactMap(\.new)))
    }
}

extension Engine {
    /// Events that are read to find an earlier commit; whoever asks for one from before them gets the whole tree.
    private static let spanEventsMax: UInt64 = 16_384
    /// Operations that are undone.
    private static let spanOperationsMax = 20_000
    private static let spanPageMax = 512

    /// What happened to a repo since the last commit that is not after `rev`. Nil where it cannot be had, or not at a sensible price:
    /// before the repo's first commit, over an import or another enrollment, over what was erased, or very long ago.
    func span(of actor: DID, from rev: TID, to repo: RepoHead) async throws -> RepoSpan? {
        if rev >= repo.rev { return RepoSpan(data: repo.data, commit: repo.commit, differences: []) }
        var count: UInt64 = 64
        while true {
            let after = repo.sequence > count ? repo.sequence - count : 0
            switch try await span(of: actor, from: rev, to: repo, after: after) {
            case .found(let span): return span
            case .impossible: return nil
            case .before where after == 0 || count >= Self.spanEventsMax: return nil
            case .before: count *= 4
            }
        }
    }

    private enum SpanSearch {
        case found(RepoSpan)
        /// The commit that is looked for is before the events that were read.
        case before
        case impossible
    }

    private func span(of actor: DID, from rev: TID, to repo: RepoHead, after sequence: UInt64) async throws -> SpanSearch {
        var data: CID?
        var isBroken = false
        var changes = NetChanges()
        var sequence = sequence
        while sequence < repo.sequence {
            let limit = min(Self.spanPageMax, Int(repo.sequence - sequence))
            let page = try await log.events(of: actor, after: sequence, limit: limit)
            guard !page.isEmpty else { throw EventLogError.brokenChain(actor: actor, at: sequence + 1) }
            for stored in page {
                let event = try Event(bytes: stored.bytes)
                sequence = event.sequence
                guard let bytes = stored.body else {
                    isBroken = true
                    continue
                }
                let body = try EventBody(kind: event.kind, bytes: bytes)
                if let commit = body.commit, commit.rev <= rev {
                    (data, isBroken, changes) = (commit.data, false, NetChanges())
                    continue
                }
                switch body {
                case .repoWrite(let write): for operation in write.operations { changes.take(operation) }
                case .repoImport, .accountEnroll, .accountLeave: isBroken = true
                default: break
                }
            }
            if isBroken, data != nil { return .impossible }
            guard changes.operations <= Self.spanOperationsMax else { return .impossible }
        }
        guard let data else { return isBroken ? .impossible : .before }
        return .found(RepoSpan(data: data, commit: repo.commit, differences: changes.differences))
    }
}

/// What operations come to, one after the other.
private struct NetChanges {
    private var ends: [RecordPath: (before: CID?, after: CID?)] = [:]
    private(set) var operations = 0

    mutating func take(_ operation: RecordOperation) {
        operations += 1
        let before = ends[operation.path].map(\.before) ?? operation.previous?.cid
        ends[operation.path] = (before, operation.written?.cid)
    }

    var differences: [MSTDifference] {
        ends.compactMap { path, ends in
            let key = MSTKey(collection: path.collection, recordKey: path.recordKey)
            return switch ends {
            case (nil, nil): nil
            case (nil, let after?): .created(key, after)
            case (let before?, nil): .deleted(key, before)
            case (let before?, let after?): before == after ? nil : .updated(key, from: before, to: after)
            }
        }
    }
}
