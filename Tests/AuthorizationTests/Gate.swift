import Foundation
import Synchronization

/// Holds threads until it is opened.
final class Gate: Sendable {
    private let semaphore = Mutex(false)

    func open() { semaphore.withLock { $0 = true } }

    /// Looks every few milliseconds, for 20 seconds at most.
    func wait() {
        for _ in 0..<10_000 where !semaphore.withLock({ $0 }) { usleep(2000) }
    }
}

/// A clock that moves when it is told to; microseconds.
final class TestClock: Sendable {
    private let time: Mutex<Int64>

    init(_ start: Int64 = 1_700_000_000_000_000) { time = Mutex(start) }

    var now: @Sendable () -> Int64 { { self.time.withLock { $0 } } }

    func advance(seconds: Double) { time.withLock { $0 += Int64(seconds * 1_000_000) } }
}

final class Counter: Sendable {
    private let number = Mutex(0)

    func add() { number.withLock { $0 += 1 } }
    var value: Int { number.withLock { $0 } }
}
