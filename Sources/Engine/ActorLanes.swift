package import ATProto
import Commands
import DequeModule
import Synchronization

/// One lane per actor: what changes an actor's log runs alone, in the order of arrival. Reading does not enter a lane.
/// At most `waitingMax` commands wait for one actor; the next one is refused with `overloaded`.
///
/// Whoever is cancelled while waiting leaves the queue at once, with nothing done. Whoever has the lane keeps it to the end: what
/// is durable is then also projected, though nobody waits for the answer any more.
package final class ActorLanes: Sendable {
    private enum Turn { case begins, full, cancelled }

    private struct Waiting {
        let number: UInt64
        let turn: CheckedContinuation<Turn, Never>
    }

    private struct State {
        /// Who waits for each actor whose lane is taken; an actor whose lane is free is not in here.
        var queues: [DID: Deque<Waiting>] = [:]
        var lastNumber: UInt64 = 0
    }

    private let waitingMax: Int
    private let state = Mutex(State())

    package init(waitingMax: Int = 128) { self.waitingMax = waitingMax }

    /// - Parameter isBounded: false for maintenance, which waits behind however many.
    /// - Throws: `overloaded`, `CancellationError`, and what `body` throws.
    package func run<Result>(_ actor: DID, isBounded: Bool = true, _ body: () async throws -> Result) async throws -> Result {
        switch await enter(actor, isBounded: isBounded) {
        case .begins: break
        case .full: throw Refusal.overloaded
        case .cancelled: throw CancellationError()
        }
        defer { leave(actor) }
        return try await body()
    }

    /// How many wait for this actor.
    package func waitingCount(_ actor: DID) -> Int { state.withLock { $0.queues[actor]?.count ?? 0 } }

    /// Whether somebody has this actor's lane.
    package func isTaken(_ actor: DID) -> Bool { state.withLock { $0.queues[actor] != nil } }

    private func enter(_ actor: DID, isBounded: Bool) async -> Turn {
        let number = state.withLock { state in
            state.lastNumber += 1
            return state.lastNumber
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { (turn: CheckedContinuation<Turn, Never>) in
                let answer: Turn? = state.withLock { state in
                    // Under the lock, so that a cancellation either is seen here or finds the entry.
                    if Task.isCancelled { return .cancelled }
                    guard let queue = state.queues[actor] else {
                        state.queues[actor] = []
                        return .begins
                    }
                    guard !isBounded || queue.count < waitingMax else { return .full }
                    state.queues[actor]!.append(Waiting(number: number, turn: turn))
                    return nil
                }
                if let answer { turn.resume(returning: answer) }
            }
        } onCancel: {
            let waiting: Waiting? = state.withLock { state in
                guard let index = state.queues[actor]?.firstIndex(where: { $0.number == number }) else { return nil }
                return state.queues[actor]!.remove(at: index)
            }
            waiting?.turn.resume(returning: .cancelled)
        }
    }

    private func leave(_ actor: DID) {
        let next: Waiting? = state.withLock { state in
            if let next = state.queues[actor]?.popFirst() { return next }
            state.queues[actor] = nil
            return nil
        }
        next?.turn.resume(returning: .begins)
    }
}
