import ATProto
import EventLog
import Projections

/// The reactors' queue, as an operator looks at it: a line an actor, and one for all.
extension Engine {
    func listReactors(_ emit: Emit) async throws {
        let head = try await log.statistics().position
        var after: DID?
        var cursor = ReactorCursor.start
        var counts: [ReactorActor.State: Int64] = [:]
        if let reactorStore {
            cursor = try await reactorStore.transaction { try $0.cursor() }
            while true {
                let page = try await reactorStore.transaction { [after] rows in
                    try rows.actors(after: after, limit: 256).map { ($0, try rows.counts(of: $0.did)) }
                }
                for (actor, count) in page {
                    counts[actor.state, default: 0] += 1
                    try await emit(.object(actor.line(due: count.due, refused: count.refused)))
                }
                guard let last = page.last else { break }
                after = last.0.did
            }
        }
        var summary: ValueMap = [
            "cursor": .integer(Int64(clamping: cursor.position)), "head": .integer(Int64(clamping: head)),
            "lag": .integer(Self.lag(from: cursor.position, to: head)),
        ]
        for state in ReactorActor.State.allCases { summary[state.rawValue] = .integer(counts[state] ?? 0) }
        try await emit(.object(.map(summary)))
    }

    /// Events that are not read yet; of generations before the head's, those are not counted.
    private static func lag(from cursor: UInt64, to head: UInt64) -> Int64 {
        guard let from = StreamCursor(rawValue: cursor), let to = StreamCursor(rawValue: head) else { return 0 }
        let read = from.generation == to.generation ? from.position : 0
        return Int64(clamping: to.position) - Int64(clamping: read)
    }
}

extension ReactorActor {
    fileprivate func line(due: Int, refused: Int) -> Value {
        // What is asked of the actor as a whole is one more thing to do.
        let whole = sweeps > 0 || tidies > 0 || leaving > 0 ? 1 : 0
        return [
            "actor": .string(did.description), "state": .string(state.rawValue), "pending": .integer(Int64(due + whole)),
            "refused": .integer(Int64(refused)), "since": .optional(since?.description), "attempts": .integer(Int64(attempts)),
            "nextAttempt": .optional(nextAttempt?.description), "lastError": .optional(lastError),
        ]
    }
}
