internal import ATProto
internal import Synchronization

/// Lets one caller at a time work on an account's session; others wait in order, and not without bound.
final class AccountTurns: Sendable {
    private typealias Waiter = CheckedContinuation<Bool, Never>

    /// Accounts that somebody works on, each with those who wait.
    private let turns = Mutex<[DID: [Waiter]]>([:])
    private let waitingMax: Int

    init(waitingMax: Int = 64) { self.waitingMax = waitingMax }

    /// - Throws: what `body` throws; `full` where too many wait already.
    func run<Result, Failure>(_ account: DID, full: Failure, _ body: () async throws(Failure) -> Result) async throws(Failure) -> Result {
        guard await enter(account) else { throw full }
        defer { leave(account) }
        return try await body()
    }

    private func enter(_ account: DID) async -> Bool {
        await withCheckedContinuation { continuation in
            let isMine: Bool? = turns.withLock { turns in
                guard let waiting = turns[account] else {
                    turns[account] = []
                    return true
                }
                guard waiting.count < waitingMax else { return false }
                turns[account] = waiting + [continuation]
                return nil
            }
            if let isMine { continuation.resume(returning: isMine) }
        }
    }

    private func leave(_ account: DID) {
        let next: Waiter? = turns.withLock { turns in
            guard var waiting = turns[account], !waiting.isEmpty else {
                turns[account] = nil
                return nil
            }
            let next = waiting.removeFirst()
            turns[account] = waiting
            return next
        }
        next?.resume(returning: true)
    }
}
