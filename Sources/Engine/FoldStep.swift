import ATProto
import Commands
import EventLog
import Projections

/// What is folded next of an actor's log.
enum FoldStep: Sendable {
    /// Events, with the chunks of the imports among them.
    case events([StoredEvent], chunks: [CID: [UInt8]])
    /// All that comes of the events up to a leave which took their content away, at once: chunks of operations went with it, so there are no
    /// rows between them and the leave that anybody could fold (I11). The rows and the digest at the leave are the same either way.
    case erased(ActorChanges)
}

extension Engine {
    /// - Parameters:
    ///   - state: the fold of the events before.
    ///   - erasure: the number of a leave that is known to take the content before it away.
    ///   - position: raw cursor; what came later is left out, also as an explanation. Nil: nothing is.
    /// - Returns: nil at the end.
    func nextStep(
        of actor: DID, upon state: ActorState, until position: UInt64? = nil, erasure: UInt64? = nil, limit: Int
    ) async throws -> FoldStep? {
        let events = try await page(of: actor, after: state.head.sequence, until: position, limit: limit)
        guard !events.isEmpty else { return nil }
        if let erasure { return .erased(try await changes(of: actor, upon: state, through: erasure, limit: limit)) }
        let (chunks, gap) = try await chunks(of: events, actor: actor)
        guard let gap, let leave = try await lastErasure(of: actor, after: gap, until: position) else {
            return .events(events, chunks: chunks)
        }
        return .erased(try await changes(of: actor, upon: state, through: leave, limit: limit))
    }

    /// What comes of the events up to a leave that takes their content away.
    private func changes(of actor: DID, upon state: ActorState, through leave: UInt64, limit: Int) async throws -> ActorChanges {
        var fold = ActorFold(upon: state, tree: MST(), row: { _ in nil }, usage: [:], erasedThrough: leave)
        while fold.state.head.sequence < leave {
            let count = min(limit, Int(clamping: leave - fold.state.head.sequence))
            let page = try await log.events(of: actor, after: fold.state.head.sequence, limit: count)
            guard !page.isEmpty else { throw EventLogError.brokenChain(actor: actor, at: fold.state.head.sequence + 1) }
            for event in page { try fold.apply(event) { _ in nil } }
        }
        return fold.finish().changes
    }

    private func page(of actor: DID, after sequence: UInt64, until position: UInt64?, limit: Int) async throws -> [StoredEvent] {
        let page = try await log.events(of: actor, after: sequence, limit: limit)
        guard let position else { return page }
        return Array(page.prefix { $0.position.map { $0 <= position } ?? false })
    }

    /// The chunks of the imports among some events.
    /// - Returns: beside them the number of the first event of which one is not there.
    private func chunks(of events: [StoredEvent], actor: DID) async throws -> (chunks: [CID: [UInt8]], gap: UInt64?) {
        var wanted: [(sequence: UInt64, chunks: [CID])] = []
        for stored in events {
            guard let body = stored.body, case let event = try Event(bytes: stored.bytes), event.kind == .repoImport,
                case .repoImport(let bulk) = try EventBody(kind: .repoImport, bytes: body)
            else { continue }
            wanted.append((event.sequence, bulk.chunks))
        }
        guard !wanted.isEmpty else { return ([:], nil) }
        let found = try await log.blocks(wanted.flatMap(\.chunks), of: actor)
        return (found, wanted.first { $0.chunks.contains { found[$0] == nil } }?.sequence)
    }

    /// The number of the last event that takes the content of all before it away; nil where none does.
    func lastErasure(of actor: DID, after sequence: UInt64, until position: UInt64? = nil) async throws -> UInt64? {
        var last: UInt64?
        var sequence = sequence
        while true {
            let page = try await page(of: actor, after: sequence, until: position, limit: 1024)
            guard !page.isEmpty else { return last }
            for stored in page {
                let event = try Event(bytes: stored.bytes)
                sequence = event.sequence
                if try stored.takesContentAway(event) { last = sequence }
            }
        }
    }
}

extension StoredEvent {
    /// Whether this is a leave that takes the content of all events before it away.
    func takesContentAway(_ event: Event) throws -> Bool {
        guard event.kind == .accountLeave, let body, case .accountLeave(let leave) = try EventBody(kind: event.kind, bytes: body) else {
            return false
        }
        return leave.content == .erase
    }
}
