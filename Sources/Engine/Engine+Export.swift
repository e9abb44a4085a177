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
        return try await withCurrent(owner) { context, rows in
            guard context.state.membership != nil, let repo = context.state.repo else { return nil }
            let isBounded = try rows.everyRecordHasBoundary()
            // Before the tree is walked, so that whoever may not have it costs and learns as little as with an absent one.
            guard let released = ReadPolicy.releaseRepo(repo, of: owner, everyRecordHasBoundary: isBounded, to: viewer) else { return nil }
            let export = try Self.export(released.content, of: owner, since: since, context: context, rows: rows)
            return ReadPolicy.releaseRepo(export, of: owner, everyRecordHasBoundary: isBounded, to: viewer)
        }
    }

    /// The same for whoever runs the program on the machine, also of an account that has left and was kept.
    func exportForOperator(of owner: DID) async throws -> Readable<RepoExport>? {
        guard try await log.head(of: owner).sequence > 0 else { return nil }
        return try await withCurrent(owner) { context, rows in
            guard let repo = context.state.repo else { return nil }
            return ReadPolicy.releaseToOperator(try Self.export(repo, of: owner, since: nil, context: context, rows: rows))
        }
    }

    /// On the actor's thread.
    private static func export(
        _ repo: RepoHead, of owner: DID, since: TID?, context: ActorContext, rows: any ActorRows
    ) throws -> RepoExport {
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
