package import ATProto
package import Authorization
package import Commands
package import EventLog
import Projections

extension Engine {
    /// A CAR that proves one record, or its absence, to the owner: the commit, the tree's path to the key, the record.
    /// To others the path shows its neighbours' keys, so they get one only for a record that they may read, and where every key
    /// in the path's nodes is one that they may read too (I12).
    /// - Parameter showsNeighbours: whoever may read the record gets its proof, whatever else that names: the operator's choice.
    /// - Returns: nil where there is nothing for this caller.
    package func proof(
        of path: RecordPath, of owner: DID, to caller: Caller, showsNeighbours: Bool = false
    ) async throws -> Readable<[UInt8]>? {
        let viewer = try await viewer(of: caller)
        guard try await mayBeMember(owner) else { return nil }
        let selection = ReadPolicy.selection(of: owner, for: viewer)
        let found: ProofPath? = try await withCurrent(owner) { context, rows in
            guard context.state.membership != nil, let repo = context.state.repo else { return nil }
            let row = try rows.record(path, selection)
            let isOwner = caller == .user(owner)
            // Before anything is looked up, so that a hidden record takes no longer than an absent one.
            guard isOwner || row.map({ ReadPolicy.mayRead($0.scope(owner), as: viewer) }) ?? false else { return nil }
            let blocks = try context.tree.proof(of: MSTKey(collection: path.collection, recordKey: path.recordKey))
            var scopes: [RecordScope] = []
            if let row, showsNeighbours { scopes = [row.scope(owner)] }
            for key in isOwner || showsNeighbours ? [] : try blocks.flatMap({ try Self.keys(ofNode: $0.bytes) }) {
                guard let neighbour = RecordPath(key), let row = try rows.record(neighbour) else { return nil }
                scopes.append(row.scope(owner))
            }
            return ProofPath(
                commit: repo.commit(of: owner), sequence: repo.sequence, nodes: blocks.map(\.bytes), record: row?.cid, scopes: scopes)
        }
        guard let found else { return nil }
        var car: [UInt8] = []
        CARWriter.encodeHeader(roots: [found.commit.cid], into: &car)
        CARWriter.encodeBlock(found.commit.block, cid: found.commit.cid, into: &car)
        for node in found.nodes { CARWriter.encodeBlock(node, cid: CID(hashing: node), into: &car) }
        if let cid = found.record {
            let block = try await log.block(cid, of: owner)
            guard try await stillServes(owner, madeBy: found.sequence) else { return nil }
            guard let block else { throw EventLogError.malformed("record block \(cid) is missing") }
            CARWriter.encodeBlock(block, cid: cid, into: &car)
        }
        if caller == .user(owner) { return ReadPolicy.releaseAccount(car, of: owner, to: viewer) }
        return ReadPolicy.releasePage(car, of: found.scopes, to: viewer)
    }

    private struct ProofPath: Sendable {
        let commit: Commit
        /// Of the event that carries the commit.
        let sequence: UInt64
        let nodes: [[UInt8]]
        let record: CID?
        /// Of every key in the nodes, or of the record alone where neighbours may be shown; empty for the owner.
        let scopes: [RecordScope]
    }

    /// The keys that a node of our own tree names, each put together from its prefix and its rest.
    private static func keys(ofNode bytes: [UInt8]) throws -> [String] {
        var keys: [String] = []
        var previous: [UInt8] = []
        for entry in try DAGCBOR.decode(bytes)["e"]?.arrayValue ?? [] {
            guard let shared = entry["p"]?.integerValue, let rest = entry["k"]?.bytesValue, shared <= previous.count else {
                throw EventLogError.malformed("a stored node of the tree is not one")
            }
            previous = Array(previous.prefix(Int(shared))) + rest
            keys.append(String(decoding: previous, as: UTF8.self))
        }
        return keys
    }

    /// The newest commit, for those who may have the whole repo.
    package func latestCommit(of owner: DID, to caller: Caller) async throws -> Readable<(commit: CID, rev: TID)>? {
        let viewer = try await viewer(of: caller)
        guard try await mayBeMember(owner) else { return nil }
        let found = try await withCurrent(owner) { context, rows -> (commit: CID, rev: TID, isBounded: Bool)? in
            guard context.state.membership != nil, let repo = context.state.repo else { return nil }
            return (repo.commit, repo.rev, try rows.everyRecordHasBoundary())
        }
        return found.flatMap {
            ReadPolicy.releaseRepo((commit: $0.commit, rev: $0.rev), of: owner, everyRecordHasBoundary: $0.isBounded, to: viewer)
        }
    }

    /// The collections of a repo, for its owner alone.
    package func collections(of owner: DID, to caller: Caller) async throws -> Readable<[NSID]>? {
        guard try await mayBeMember(owner) else { return nil }
        let viewer = try await viewer(of: caller)
        return try await withCurrent(owner) { context, rows in
            guard context.state.membership != nil else { return nil }
            // Before they are looked up, so that others learn nothing of their number by the time that it takes.
            guard let account = ReadPolicy.releaseAccount(owner, of: owner, to: viewer) else { return nil }
            let collections = try rows.collections().keys.sorted { $0.description < $1.description }
            return ReadPolicy.releaseAccount(collections, of: account.content, to: viewer)
        }
    }

    /// Boundaries and attestation of a member, for those who may know them.
    package func membership(of member: EnrollmentSummary, to caller: Caller) -> Readable<Membership>? {
        ReadPolicy.releaseMembership(member.membership, of: member.did, to: Viewer(caller: caller, boundaries: .empty))
    }
}
