import Synchronization

/// A clock that stands where it is put, and moves on a little with each reading, as time does between two things that happen.
package final class VirtualClock: Sendable {
    private struct State {
        var microseconds: Int64
        var tick: Int64
    }

    private let state: Mutex<State>

    /// - Parameters:
    ///   - microseconds: since 1970; 2026-11-22T10:40:36.123Z where nothing else is said.
    ///   - tick: how far a reading moves it on.
    package init(microseconds: Int64 = SimulatedService.startTime.milliseconds * 1000, tick: Int64 = 1777) {
        state = Mutex(State(microseconds: microseconds, tick: tick))
    }

    package func now() -> Int64 {
        state.withLock { state in
            defer { state.microseconds += state.tick }
            return state.microseconds
        }
    }

    /// The time of the next reading.
    package var microseconds: Int64 { state.withLock { $0.microseconds } }

    package func set(_ microseconds: Int64) { state.withLock { $0.microseconds = microseconds } }

    package func advance(seconds: Int64) { state.withLock { $0.microseconds += seconds * 1_000_000 } }

    package func setTick(_ tick: Int64) { state.withLock { $0.tick = tick } }
}
