package import ATProto
package import Authorization
import Commands
package import EventLog
package import Projections

extension Engine {
    /// Gives an administrator a record, and the record's owner a receipt of it: `admin.read` is durable before this returns (I6).
    /// The receipt is written also where no record stands there.
    /// - Parameter reason: 1–2,000 bytes.
    /// - Returns: nil where there is no such record, or nobody of this DID.
    package func readAsAdministrator(
        _ path: RecordPath, of owner: DID, reason: String, by agent: Agent
    ) async throws -> Readable<RecordContent>? {
        guard (1...reasonBytesMax).contains(reason.utf8.count) else {
            throw Refusal.invalidRequest("a reason has 1 to \(reasonBytesMax) bytes")
        }
        guard try await isEnrolled(owner) else { return nil }
        let uri = path.uri(of: owner)
        let row = try await inLane(owner) { () -> RecordRow? in
            guard try await mayBeMember(owner) else { return nil }
            let (append, row) = try await withCurrentInLane(owner) { [self] context, rows -> (Append?, RecordRow?) in
                guard context.state.membership != nil else { return (nil, nil) }
                let row = try rows.record(path)
                let read = AdminRead(
                    provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), uri: uri, cid: row?.cid,
                    reason: reason)
                return (try prepare(.adminRead(read), of: owner, context: context, rows: rows), row)
            }
            if let append { try await self.append(append) }
            return row
        }
        guard let row else { return nil }
        return try await servedContents(of: [row], owner: owner)?.first.map { ReadPolicy.releaseToAdministrator($0) }
    }

    /// What administrators read of this account, newest first.
    /// - Parameters:
    ///   - before: the number of an event, exclusive; nil begins with the newest.
    ///   - limit: 1…100.
    /// - Returns: the page, and the number to go on before; nil at the end.
    package func adminReads(
        of owner: DID, before: UInt64?, limit: Int, to caller: Caller
    ) async throws -> Readable<AdminReadPage>? {
        let viewer = try await viewer(of: caller)
        // Who has left is answered as a stranger is: nobody read anything of theirs.
        guard try await isEnrolled(owner) else {
            return ReadPolicy.releaseAccount(AdminReadPage(reads: [], cursor: nil), of: owner, to: viewer)
        }
        return ReadPolicy.releaseAccount(try await adminReads(of: owner, before: before, limit: limit), of: owner, to: viewer)
    }

    func adminReads(of owner: DID, before: UInt64?, limit: Int) async throws -> AdminReadPage {
        guard try await log.head(of: owner).sequence > 0 else { return AdminReadPage(reads: [], cursor: nil) }
        // One row more than the page shows whether there is more.
        let found = try await withCurrent(owner) { _, rows in try rows.adminReads(before: before, limit: limit + 1) }
        let page = Array(found.prefix(limit))
        return AdminReadPage(reads: page, cursor: found.count > limit ? page.last?.sequence : nil)
    }
}

package struct AdminReadPage: Hashable, Sendable {
    package let reads: [AdminReadRow]
    /// The number of the last event on the page; nil where nothing older is there.
    package let cursor: UInt64?
}

extension AdminReadRow {
    /// `{time, admin, uri, reason}`.
    package var value: Value {
        ["time": .string(time.description), "admin": .string(administrator), "uri": .string(uri.description), "reason": .string(reason)]
    }
}
