import ATProto
import Synchronization

/// How many writes one actor may make in a time (wire contract, section 4.5).
package struct WriteRate: Sendable {
    package let writesMax: Int
    package let window: Duration
    package let cooldown: Duration
    package let jitter: Duration

    package init(writesMax: Int, window: Duration, cooldown: Duration, jitter: Duration) {
        self.writesMax = writesMax
        self.window = window
        self.cooldown = cooldown
        self.jitter = jitter
    }
}

/// Counts writes per actor over a sliding window. Whoever passes the limit waits for the cooldown and a random part of the
/// jitter; asking meanwhile does not make it longer. A write counts also where it is then refused.
final class WriteRateLimiter: Sendable {
    private struct Actor {
        /// When, and how many.
        var writes: [(at: ContinuousClock.Instant, count: Int)] = []
        var closedUntil: ContinuousClock.Instant?
    }

    /// Above so many actors, those whose writes are all past are forgotten first.
    private static let sweepAbove = 10_000

    private let rate: WriteRate
    private let actors = Mutex<[DID: Actor]>([:])

    init(_ rate: WriteRate) { self.rate = rate }

    /// Counts `cost` writes.
    /// - Returns: how long to wait, where they are one too many; then nothing is to be written.
    func admit(_ actor: DID, cost: Int, now: ContinuousClock.Instant = .now) -> Duration? {
        actors.withLock { actors in
            if actors.count > Self.sweepAbove {
                actors = actors.filter { entry in
                    entry.value.closedUntil.map { $0 > now } ?? (entry.value.writes.last.map { now - $0.at < rate.window } ?? false)
                }
            }
            var entry = actors[actor] ?? Actor()
            defer { actors[actor] = entry }
            if let until = entry.closedUntil {
                guard now >= until else { return until - now }
                entry.closedUntil = nil
                entry.writes = []
            }
            entry.writes.removeAll { now - $0.at >= rate.window }
            guard entry.writes.reduce(cost, { $0 + $1.count }) <= rate.writesMax else {
                let until = now + rate.cooldown + rate.jitter * Double.random(in: 0...1)
                entry.closedUntil = until
                return until - now
            }
            entry.writes.append((now, cost))
            return nil
        }
    }
}
