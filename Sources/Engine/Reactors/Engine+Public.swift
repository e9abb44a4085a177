import ATProto
import Commands
import EventLog
import Projections

/// What an actor's public records are made of, from the fold as it is now.
extension Engine {
    /// The CIDs of those of the records that stand now; nil where the actor is no member.
    func standing(_ paths: [RecordPath], of actor: DID) async throws -> [RecordPath: CID]? {
        guard try await enrollment(of: actor) != nil else { return nil }
        return try await withCurrent(actor) { context, rows in
            guard context.state.membership != nil else { return nil }
            var found: [RecordPath: CID] = [:]
            for path in paths { found[path] = try rows.record(path)?.cid }
            return found
        }
    }

    /// The record at a path, if it stands now and its owner is a member.
    func standing(_ path: RecordPath, of actor: DID) async throws -> RecordRow? {
        guard try await enrollment(of: actor) != nil else { return nil }
        return try await withCurrent(actor) { context, rows in context.state.membership == nil ? nil : try rows.record(path) }
    }

    /// A page of a collection in the order of its keys; empty behind the last one, and where the actor is no member.
    func standing(in collection: NSID, of actor: DID, after: RecordKey?, limit: Int) async throws -> [RecordRow] {
        guard try await enrollment(of: actor) != nil else { return [] }
        return try await withCurrent(actor) { context, rows in
            guard context.state.membership != nil else { return [] }
            return try rows.records(collection, .all, in: KeyRange(after: after, reversed: false, limit: limit))
        }
    }

    /// When a record says it was made; when it was written, where it does not say so in the form of a time: no other text of the record
    /// may pass for one.
    func createdAt(_ row: RecordRow, of actor: DID) async throws -> String {
        let record = try await contents(of: [row], owner: actor).first?.value
        if let text = record?["createdAt"]?.stringValue, (try? Datetime(text)) != nil { return text }
        guard let stored = try await log.events(of: actor, after: row.sequence - 1, limit: 1).first else {
            throw EventLogError.brokenChain(actor: actor, at: row.sequence)
        }
        return try Event(bytes: stored.bytes).time.description
    }
}
