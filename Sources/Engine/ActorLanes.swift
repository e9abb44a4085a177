import ATProto
import Commands
import DequeModule
import Synchronization

/// One lane per actor: what changes an actor's log runs alone, in the order of arrival. Reading does not enter a lane.
/// At most `waitingMax` commands wait for one actor; the next one is refused with `overloaded`.
final class ActorLanes: Sendable {
    private typealias Turn = CheckedContinuation<Bool, Never>

    private let waitingMax: Int
    /// Who waits for each actor whose lane is taken; an actor whose lane is free is not in here.
    private let waiting = Mutex<[DID: Deque<Turn>]>([:])

    init(waitingMax: Int = 128) { self.waitingMax = waitingMax }

    func run<Result>(_ actor: DID, _ body: () async throws -> Result) async throws -> Result {
        try await enter(actor)
        defer { leave(actor) }
        return try await body()
    }

    private func enter(_ actor: DID) async throws(Refusal) {
        let admitted = await withCheckedContinuation { (turn: Turn) in
            let answer: Bool? = waiting.withLock { waiting in
                guard let queue = waiting[actor] else {
                    waiting[actor] = []
                    return true
                }
                guard queue.count < waitingMax else { return false }
                waiting[actor]!.append(turn)
                return nil
            }
            if let answer { turn.resume(returning: answer) }
        }
        guard admitted else { throw .overloaded }
    }

    private func leave(_ actor: DID) {
        let next: Turn? = waiting.withLock { waiting in
            if let next = waiting[actor]?.popFirst() { return next }
            waiting[actor] = nil
            return nil
        }
        next?.resume(returning: true)
    }
}
