package import ATProto
package import Authorization
import Commands
package import EventLog
import Projections

/// One record, released.
package struct RecordContent: Hashable, Sendable {
    package let uri: ATURI
    package let cid: CID
    package let value: Value
}

/// A page of records in the order of their keys.
package struct RecordPage: Hashable, Sendable {
    package let records: [RecordContent]
    /// Where the next page begins; nil where the viewer has seen the last record that is there for them.
    package let cursor: RecordKey?
}

extension Engine {
    /// A caller with the boundaries that the caller's own log gives now.
    package func viewer(of caller: Caller) async throws -> Viewer {
        guard case .user(let did) = caller else { return Viewer(caller: caller, boundaries: .empty) }
        return Viewer(caller: caller, boundaries: try await enrollment(of: did)?.membership.boundaries ?? .empty)
    }

    /// One record, or nil: absent, of somebody who is not here, of another version, or not for this viewer (I12).
    package func record(at path: RecordPath, of owner: DID, cid: CID? = nil, to caller: Caller) async throws -> Readable<RecordContent>? {
        let viewer = try await viewer(of: caller)
        let visible = try await visibleRow(at: path, of: owner, to: viewer) { [log] row in
            cid == nil || row.cid == cid ? try log.blocksOnThisThread([row.cid], of: owner) : [:]
        }
        guard let visible, cid == nil || visible.row.content.cid == cid else { return nil }
        let row = visible.row.content
        // Read where the row was, the block is of the same moment; else the owner may have left in between.
        let contents: [RecordContent]? =
            if let blocks = visible.found, blocks[row.cid] != nil {
                try contents(of: [row], in: blocks, owner: owner)
            } else {
                try await servedContents(of: [row], owner: owner)
            }
        return contents?.first.flatMap { ReadPolicy.release($0, of: row.scope(owner), to: viewer) }
    }

    /// The row of a record that the viewer may read; another is not even looked at, so that it takes as long as none (I12).
    func visibleRow(at path: RecordPath, of owner: DID, to viewer: Viewer) async throws -> Readable<RecordRow>? {
        try await visibleRow(at: path, of: owner, to: viewer) { _ in }?.row
    }

    /// The same, with what `body` finds for it on the thread that has the rows open.
    private func visibleRow<Found: Sendable>(
        at path: RecordPath, of owner: DID, to viewer: Viewer, _ body: @escaping @Sendable (RecordRow) throws -> Found
    ) async throws -> (row: Readable<RecordRow>, found: Found)? {
        guard try await mayBeMember(owner) else { return nil }
        let selection = ReadPolicy.selection(of: owner, for: viewer)
        return try await withCurrent(owner) { context, rows in
            guard context.state.membership != nil, let row = try rows.record(path, selection),
                let readable = ReadPolicy.release(row, of: row.scope(owner), to: viewer)
            else { return nil }
            return (readable, try body(row))
        }
    }

    /// A page of what the viewer may read of a collection; what is hidden neither shortens it nor shows in its cursor, nor in the
    /// time that it takes: only what the viewer may see is looked up (I12).
    /// - Parameters:
    ///   - after: exclusive.
    ///   - reversed: oldest key first.
    package func records(
        in collection: NSID, of owner: DID, after: RecordKey?, reversed: Bool, limit: Int, to caller: Caller
    ) async throws -> Readable<RecordPage>? {
        let viewer = try await viewer(of: caller)
        guard try await mayBeMember(owner) else { return nil }
        let selection = ReadPolicy.selection(of: owner, for: viewer)
        // One row more than the page shows whether there is more.
        let visible: [RecordRow] = try await withCurrent(owner) { context, rows in
            guard context.state.membership != nil else { return [] }
            return try rows.records(collection, selection, in: KeyRange(after: after, reversed: !reversed, limit: limit + 1))
        }
        let page = Array(visible.prefix(Self.countOnPage(visible.map(\.size), limit: limit)))
        guard let contents = try await servedContents(of: page, owner: owner) else { return nil }
        let cursor = visible.count > page.count ? page.last?.path.recordKey : nil
        return ReadPolicy.releasePage(RecordPage(records: contents, cursor: cursor), of: page.map { $0.scope(owner) }, to: viewer)
    }

    /// How many of these records a page holds: `limit` at most, and no more than 4 MiB of them, but always one. Only what the viewer may
    /// read is counted, so a page that ends early says nothing of what is hidden (I12).
    private static func countOnPage(_ sizes: [Int], limit: Int) -> Int {
        var bytes = 0
        for (index, size) in sizes.prefix(limit).enumerated() {
            bytes += size
            if bytes > 4 << 20 { return max(1, index) }
        }
        return min(limit, sizes.count)
    }

    /// The records behind rows of a member; nil where the member has left since the rows were read, whatever became of the bytes.
    func servedContents(of rows: [RecordRow], owner: DID) async throws -> [RecordContent]? {
        guard let oldest = rows.map(\.sequence).min() else { return [] }
        let blocks = try await log.blocks(rows.map(\.cid), of: owner)
        guard try await stillServes(owner, madeBy: oldest) else { return nil }
        return try contents(of: rows, in: blocks, owner: owner)
    }

    /// The records behind rows, their bytes from the log, where they are compared with their CIDs.
    func contents(of rows: [RecordRow], owner: DID) async throws -> [RecordContent] {
        guard !rows.isEmpty else { return [] }
        return try contents(of: rows, in: try await log.blocks(rows.map(\.cid), of: owner), owner: owner)
    }

    private func contents(of rows: [RecordRow], in blocks: [CID: [UInt8]], owner: DID) throws -> [RecordContent] {
        try rows.map { row in
            guard let bytes = blocks[row.cid] else { throw EventLogError.brokenChain(actor: owner, at: row.sequence) }
            return RecordContent(uri: row.path.uri(of: owner), cid: row.cid, value: try DAGCBOR.decode(bytes))
        }
    }
}

extension RecordRow {
    func scope(_ owner: DID) -> RecordScope { RecordScope(owner: owner, boundaries: boundaries) }
}
