import Synchronization

/// Says that something happened, to the one who waits for it. Any number of signals that nobody has waited for are one.
final class WakeSignal: Sendable {
    private enum State {
        case quiet
        case signalled
        case waited(CheckedContinuation<Void, Never>)
    }

    private let state = Mutex(State.quiet)

    /// Costs a lock and never waits.
    func signal() {
        let waiting: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard case .waited(let waiting) = state else {
                state = .signalled
                return nil
            }
            state = .quiet
            return waiting
        }
        waiting?.resume()
    }

    /// Whether somebody who waited now would return at once.
    var isSignalled: Bool {
        state.withLock { state in
            if case .signalled = state { true } else { false }
        }
    }

    /// Returns at the next signal, after `timeout`, or when the task is cancelled.
    func wait(atMost timeout: Duration) async {
        guard timeout > .zero else { return }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.wait() }
            // best effort: it ends early where it is cancelled, which is what is wanted.
            group.addTask { try? await Task.sleep(for: timeout) }
            await group.next()
            group.cancelAll()
        }
    }

    /// Returns at the next signal, or when the task is cancelled. One waits, no more.
    func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let isOver: Bool = state.withLock { state in
                    if case .signalled = state {
                        state = .quiet
                        return true
                    }
                    if Task.isCancelled { return true }
                    if case .waited = state { preconditionFailure("one waits for a signal") }
                    state = .waited(continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            let waiting: CheckedContinuation<Void, Never>? = state.withLock { state in
                guard case .waited(let waiting) = state else { return nil }
                state = .quiet
                return waiting
            }
            waiting?.resume()
        }
    }
}
