package import ATProto
package import Authorization
import Commands
import EventLog
import Projections

/// A repo as it stands at one commit, ready to be streamed: the commit, then the tree in pre-order, each node before its
/// subtrees and its records in key order.
package struct RepoExport: Sendable {
    fileprivate enum Item: Sendable {
        case block(CID, [UInt8])
        case record(CID)
    }

    package let commit: CID
    package let rev: TID
    fileprivate let owner: DID
    fileprivate let items: [Item]

    /// The CAR in pieces of about 256 KiB, header first. Records are read from the log as they are reached.
    package func chunks(from engine: Engine) -> AsyncThrowingStream<[UInt8], any Error> {
        var buffer: [UInt8] = []
        CARWriter.encodeHeader(roots: [commit], into: &buffer)
        let state = ExportState(export: self, engine: engine, buffer: buffer)
        return AsyncThrowingStream { try await state.next() }
    }

    fileprivate actor ExportState {
        private static let pieceBytes = 256 << 10
        /// Blocks asked for at a time; they are read until they come to `pieceBytes`.
        private static let readMax = 1024

        private let export: RepoExport
        private let engine: Engine
        private var buffer: [UInt8]
        /// The item that comes next, and the next one whose record has not been read.
        private var (position, unread) = (0, 0)
        /// The records of the items from `position` on, as far as they have been read.
        private var records: ArraySlice<[UInt8]> = []

        init(export: RepoExport, engine: Engine, buffer: [UInt8]) {
            self.export = export
            self.engine = engine
            self.buffer = buffer
        }

        /// Writes what was read while the records after it are being read.
        func next() async throws -> [UInt8]? {
            while buffer.count < Self.pieceBytes, position < export.items.count {
                let wanted = wanted()
                async let read = read(wanted)
                write()
                take(try await read)
            }
            guard !buffer.isEmpty else { return nil }
            defer { buffer.removeAll(keepingCapacity: true) }
            return buffer
        }

        private func wanted() -> [CID] {
            var wanted: [CID] = []
            var index = unread
            while index < export.items.count, wanted.count < Self.readMax {
                if case .record(let cid) = export.items[index] { wanted.append(cid) }
                index += 1
            }
            return wanted
        }

        private func take(_ read: [[UInt8]]) {
            records += read
            var left = read.count
            while left > 0 {
                if case .record = export.items[unread] { left -= 1 }
                unread += 1
            }
        }

        private nonisolated func read(_ cids: [CID]) async throws -> [[UInt8]] {
            guard !cids.isEmpty else { return [] }
            let blocks = try await engine.log.blocks(inOrder: cids, of: export.owner, bytesMax: Self.pieceBytes)
            return try zip(cids, blocks).map { cid, bytes in
                guard let bytes else { throw EventLogError.malformed("record block \(cid) is missing") }
                return bytes
            }
        }

        private func write() {
            while position < export.items.count {
                switch export.items[position] {
                case .block(let cid, let bytes): CARWriter.encodeBlock(bytes, cid: cid, into: &buffer)
                case .record(let cid):
                    guard let bytes = records.popFirst() else { return }
                    CARWriter.encodeBlock(bytes, cid: cid, into: &buffer)
                }
                position += 1
            }
        }
    }
}

extension Engine {
    /// A repo for streaming, or nil where it is absent or not for this caller (I12).
    /// - Parameter since: only what came after this rev; the commit always comes.
    package func exportRepo(of owner: DID, since: TID? = nil, to caller: Caller) async throws -> Readable<RepoExport>? {
        let viewer = try await viewer(of: caller)
        guard try await log.head(of: owner).sequence > 0 else { return nil }
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
            let export =
                if let gain {
                    try Self.export(repo, of: owner, gain: gain, rows: rows)
                } else {
                    try Self.export(repo, of: owner, since: since, rows: rows)
                }
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
        var items: [RepoExport.Item] = [.block(repo.commit, repo.commit(of: owner).block)]
        var traversal = ActorContext.tree(of: repo, in: rows).nodes(among: gain.nodes)
        var left = gain.records
        while let item = try traversal.next() {
            switch item {
            case .node(let cid, let bytes): items.append(.block(cid, bytes))
            case .record(_, let cid): if left.remove(cid) != nil { items.append(.record(cid)) }
            }
        }
        return RepoExport(commit: repo.commit, rev: repo.rev, owner: owner, items: items)
    }

    /// On the actor's thread: the whole tree.
    /// - Parameter since: leaves out records that were there at this rev.
    private static func export(_ repo: RepoHead, of owner: DID, since: TID?, rows: any ActorRows) throws -> RepoExport {
        var items: [RepoExport.Item] = [.block(repo.commit, repo.commit(of: owner).block)]
        // All at once: a walk that asks for one node after the other waits for each.
        let nodes = try rows.nodes()
        var traversal = MST(root: repo.data, source: { cid throws(MSTError) in nodes[cid] }).nodes()
        var seen: Set<CID> = []
        while let item = try traversal.next() {
            switch item {
            case .node(let cid, let bytes): items.append(.block(cid, bytes))
            case .record(let key, let cid):
                if let since, let path = RecordPath(key.description), let row = try rows.record(path), row.rev <= since { continue }
                // Records with the same content are one block.
                if seen.insert(cid).inserted { items.append(.record(cid)) }
            }
        }
        return RepoExport(commit: repo.commit, rev: repo.rev, owner: owner, items: items)
    }
}
