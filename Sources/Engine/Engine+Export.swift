package import ATProto
package import Authorization
import Commands
import EventLog
import Projections

/// A repo as it stands at one commit, ready to be streamed: the commit, then the tree in pre-order, each node before its
/// subtrees and its records in key order.
package struct RepoExport: Sendable {
    package let commit: CID
    package let rev: TID
    fileprivate let owner: DID
    /// The event that carries the commit; nil where it is given out whether or not it is served: to whoever runs the program.
    fileprivate var servedFrom: UInt64?
    fileprivate let commitBlock: [UInt8]
    /// Over nodes that are all in memory, so that no later write shows in it.
    fileprivate let tree: MST
    /// The nodes that are asked for, each below the ones that lead to it; nil: all.
    fileprivate let nodes: Set<CID>?
    /// The records that are asked for; nil: all.
    fileprivate let records: Set<CID>?
    fileprivate let recordCount: Int
    /// What the tree takes in memory, nearly.
    package let treeBytes: Int

    /// Pieces that are read at a time.
    private static let piecesAtOnce = 4

    /// Gives the CAR to `write` piece by piece, header first. Records are read from the log as they are reached, a few pieces ahead of
    /// what is written, so that whoever reads slowly costs little memory.
    package func stream(from engine: Engine, to write: ([UInt8]) async throws -> Void) async throws {
        do { try await streamBlocks(from: engine, to: write) } catch let error as MSTError {
            // I8: the nodes are not those of one tree. It is too late for this export; the next one finds them made anew.
            _ = try await engine.lanes.run(owner, isBounded: false) { try await engine.readModel.drop(owner) }
            throw error
        }
    }

    private func streamBlocks(from engine: Engine, to write: ([UInt8]) async throws -> Void) async throws {
        var header: [UInt8] = []
        CARWriter.encodeHeader(roots: [commit], into: &header)
        CARWriter.encodeBlock(commitBlock, cid: commit, into: &header)
        try await give(header, from: engine, to: write)
        var walk = ExportWalk(self)
        try await inOrder(atOnce: Self.piecesAtOnce) {
            try walk.next()
        } make: { items in
            try await read(items[...], from: engine)
        } take: { part in
            try await give(part.bytes, from: engine, to: write)
            var rest = part.rest
            while !rest.isEmpty {
                let part = try await read(rest, from: engine)
                try await give(part.bytes, from: engine, to: write)
                rest = part.rest
            }
        }
    }

    /// Blocks that are not there because the owner has left are no damage.
    private func read(_ items: ArraySlice<ExportItem>, from engine: Engine) async throws -> ExportPart {
        do { return try await engine.read(items, of: owner) } catch let error as EventLogError {
            if let servedFrom, try await !engine.stillServes(owner, madeBy: servedFrom) { throw Refusal.notEnrolled }
            throw error
        }
    }

    /// Piece by piece, since a reader may take hours and the owner leave meanwhile: what has gone out has gone, and no more follows (I12).
    private func give(_ bytes: [UInt8], from engine: Engine, to write: ([UInt8]) async throws -> Void) async throws {
        if let servedFrom { guard try await engine.stillServes(owner, madeBy: servedFrom) else { throw Refusal.notEnrolled } }
        try await write(bytes)
    }
}

private enum ExportItem: Sendable {
    case node(CID, [UInt8])
    case record(CID)
}

/// Some items as they stand in a CAR, and those behind them that would have made it too long.
private struct ExportPart: Sendable {
    var bytes: [UInt8] = []
    var rest: ArraySlice<ExportItem>

    static let bytesMax = 256 << 10
}

/// Cuts the walk over a tree into pieces.
private struct ExportWalk {
    private static let recordsMax = 256

    private let wanted: Set<CID>?
    private var traversal: MSTTraversal
    /// Records with the same content are one block.
    private var seen: Set<CID>

    init(_ export: RepoExport) {
        wanted = export.records
        traversal = if let nodes = export.nodes { export.tree.nodes(among: nodes) } else { export.tree.nodes() }
        seen = Set(minimumCapacity: export.records?.count ?? export.recordCount)
    }

    /// The next piece; nil at the end.
    mutating func next() throws -> [ExportItem]? {
        var items: [ExportItem] = []
        items.reserveCapacity(2 * Self.recordsMax)
        var records = 0
        while records < Self.recordsMax, let item = try traversal.next() {
            switch item {
            case .node(let cid, let bytes): items.append(.node(cid, bytes))
            case .record(_, let cid):
                guard wanted?.contains(cid) ?? true, seen.insert(cid).inserted else { continue }
                items.append(.record(cid))
                records += 1
            }
        }
        return items.isEmpty ? nil : items
    }
}

extension Engine {
    /// Reads the records among `items` and writes as many items as come to one part.
    fileprivate func read(_ items: ArraySlice<ExportItem>, of owner: DID) async throws -> ExportPart {
        var wanted: [CID] = []
        for case .record(let cid) in items { wanted.append(cid) }
        var records: ArraySlice<[UInt8]?> = []
        if !wanted.isEmpty { records = try await log.blocks(inOrder: wanted, of: owner, bytesMax: ExportPart.bytesMax)[...] }
        var part = ExportPart(rest: items)
        part.bytes.reserveCapacity(ExportPart.bytesMax)
        while let item = part.rest.first {
            switch item {
            case .node(let cid, let bytes): CARWriter.encodeBlock(bytes, cid: cid, into: &part.bytes)
            case .record(let cid):
                guard let found = records.popFirst() else { return part }
                guard let bytes = found else { throw EventLogError.malformed("record block \(cid) is missing") }
                CARWriter.encodeBlock(bytes, cid: cid, into: &part.bytes)
            }
            part.rest.removeFirst()
        }
        return part
    }
}

extension Engine {
    /// A repo for streaming, or nil where it is absent or not for this caller (I12).
    /// - Parameter since: only what came after this rev; the commit always comes.
    package func exportRepo(of owner: DID, since: TID? = nil, to caller: Caller) async throws -> Readable<RepoExport>? {
        let viewer = try await viewer(of: caller)
        guard try await mayBeMember(owner) else { return nil }
        var span: RepoSpan?
        if let since {
            guard let standing = try await releasedRepo(of: owner, to: viewer) else { return nil }
            span = try await self.span(of: owner, from: since, to: standing.content)
        }
        return try await withCurrent(owner) { [span] context, rows in
            guard let (released, isBounded) = try Self.release(owner, context: context, rows: rows, to: viewer) else { return nil }
            let repo = released.content
            // Where a write came between, the whole tree.
            let gain = span?.commit == repo.commit ? try span?.gain(of: owner, upon: repo, in: rows) : nil
            var export =
                if let gain {
                    try Self.export(repo, of: owner, gain: gain, rows: rows)
                } else {
                    try Self.export(repo, of: owner, since: since, rows: rows)
                }
            export.servedFrom = repo.sequence
            return ReadPolicy.releaseRepo(export, of: owner, everyRecordHasBoundary: isBounded, to: viewer)
        }
    }

    private func releasedRepo(of owner: DID, to viewer: Viewer) async throws -> Readable<RepoHead>? {
        try await withCurrent(owner) { context, rows in try Self.release(owner, context: context, rows: rows, to: viewer)?.repo }
    }

    /// On the actor's thread, and before log or tree are read, so that whoever may not have a repo costs and learns as little as with
    /// an absent one.
    private static func release(
        _ owner: DID, context: ActorContext, rows: any ActorRows, to viewer: Viewer
    ) throws -> (repo: Readable<RepoHead>, isBounded: Bool)? {
        guard context.state.membership != nil, let repo = context.state.repo else { return nil }
        let isBounded = try rows.everyRecordHasBoundary()
        return ReadPolicy.releaseRepo(repo, of: owner, everyRecordHasBoundary: isBounded, to: viewer).map { ($0, isBounded) }
    }

    /// The same for whoever runs the program on the machine, also of an account that has left and was kept.
    func exportForOperator(of owner: DID) async throws -> Readable<RepoExport>? {
        guard try await log.head(of: owner).sequence > 0 else { return nil }
        return try await withCurrent(owner) { context, rows in
            guard let repo = context.state.repo else { return nil }
            return ReadPolicy.releaseToOperator(try Self.export(repo, of: owner, since: nil, rows: rows))
        }
    }

    /// On the actor's thread: what the repo gained since an earlier commit.
    private static func export(_ repo: RepoHead, of owner: DID, gain: RepoGain, rows: any ActorRows) throws -> RepoExport {
        var nodes: [CID: [UInt8]] = [:]
        for cid in gain.nodes { nodes[cid] = try rows.node(cid) }
        let tree = try tree(of: repo, over: nodes)
        return RepoExport(
            commit: repo.commit, rev: repo.rev, owner: owner, commitBlock: repo.commit(of: owner).block, tree: tree, nodes: gain.nodes,
            records: gain.records, recordCount: gain.records.count, treeBytes: Self.byteCount(of: nodes))
    }

    /// On the actor's thread: the whole tree.
    /// - Parameter since: leaves out records that were there at this rev.
    private static func export(_ repo: RepoHead, of owner: DID, since: TID?, rows: any ActorRows) throws -> RepoExport {
        // All at once: a walk that asks for one node after the other waits for each.
        let nodes = try rows.nodes()
        let tree = try tree(of: repo, over: nodes)
        return RepoExport(
            commit: repo.commit, rev: repo.rev, owner: owner, commitBlock: repo.commit(of: owner).block, tree: tree, nodes: nil,
            records: try since.map { try records(of: tree, after: $0, rows: rows) },
            recordCount: try rows.collections().values.reduce(0) { $0 + $1.records }, treeBytes: Self.byteCount(of: nodes))
    }

    /// Each node has its place in a table beside its bytes.
    private static func byteCount(of nodes: [CID: [UInt8]]) -> Int { nodes.values.reduce(0) { $0 + $1.count + 128 } }

    /// A tree over nodes that are hashed before the first byte goes out, while damaged rows can still be made anew.
    private static func tree(of repo: RepoHead, over nodes: [CID: [UInt8]]) throws -> MST {
        for (cid, bytes) in nodes where CID(hashing: bytes) != cid { throw MSTError.hashMismatch(cid) }
        return MST(root: repo.data, hashesChecked: true, source: { cid throws(MSTError) in nodes[cid] })
    }

    /// The records that came after a rev.
    private static func records(of tree: MST, after rev: TID, rows: any ActorRows) throws -> Set<CID> {
        var records: Set<CID> = []
        var traversal = tree.nodes()
        while let item = try traversal.next() {
            guard case .record(let key, let cid) = item else { continue }
            if let path = RecordPath(key.description), let row = try rows.record(path), row.rev <= rev { continue }
            records.insert(cid)
        }
        return records
    }
}
