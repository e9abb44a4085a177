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
/// jitter; asking meanwhile does not make it longer. A write counts also where it is then refused; one that was not admitted does not.
final class WriteRateLimiter: Sendable {
    /// Above so many actors, those whose writes are all past are forgotten, once a window.
    private static let sweepAbove = 10_000

    private struct State {
        var actors: [DID: ActorWrites] = [:]
        var nextSweep: ContinuousClock.Instant?
    }

    private let rate: WriteRate
    private let state = Mutex(State())

    init(_ rate: WriteRate) { self.rate = rate }

    /// How many actors are remembered.
    var count: Int { state.withLock { $0.actors.count } }

    /// Counts `cost` writes.
    /// - Parameter random: 0…1, the part of the jitter that a cooldown takes.
    /// - Returns: how long to wait until they would be admitted, where they are too many now; then nothing is to be written.
    func admit(
        _ actor: DID, cost: Int, now: ContinuousClock.Instant = .now, random: @autoclosure () -> Double = .random(in: 0...1)
    ) -> Duration? {
        state.withLock { state in
            if state.actors.count > Self.sweepAbove { sweep(&state, now) }
            return state.actors[actor, default: ActorWrites()].admit(cost, now, rate, random)
        }
    }

    private func sweep(_ state: inout State, _ now: ContinuousClock.Instant) {
        guard state.nextSweep.map({ now >= $0 }) ?? true else { return }
        state.nextSweep = now + rate.window
        state.actors = state.actors.filter { !$0.value.isPast(now, rate) }
    }
}

/// One actor's writes within the window.
private struct ActorWrites {
    /// When, and how many; those before `first` are past.
    private var writes: [(at: ContinuousClock.Instant, count: Int)] = []
    private var first = 0
    private var total = 0
    private var closedUntil: ContinuousClock.Instant?

    mutating func admit(_ cost: Int, _ now: ContinuousClock.Instant, _ rate: WriteRate, _ random: () -> Double) -> Duration? {
        forget(before: now, rate)
        if let until = closedUntil, now < until { return max(until - now, room(for: cost, now, rate)) }
        guard total + cost <= rate.writesMax else {
            let until = now + rate.cooldown + rate.jitter * random()
            closedUntil = until
            return max(until - now, room(for: cost, now, rate))
        }
        closedUntil = nil
        writes.append((now, cost))
        total += cost
        return nil
    }

    func isPast(_ now: ContinuousClock.Instant, _ rate: WriteRate) -> Bool {
        (closedUntil.map { $0 <= now } ?? true) && (writes.last.map { now - $0.at >= rate.window } ?? true)
    }

    private mutating func forget(before now: ContinuousClock.Instant, _ rate: WriteRate) {
        while first < writes.count, now - writes[first].at >= rate.window {
            total -= writes[first].count
            first += 1
        }
        if first == writes.count {
            writes.removeAll(keepingCapacity: writes.capacity <= 64)
            first = 0
        } else if first > 64, first > writes.count / 2 {
            writes.removeFirst(first)
            first = 0
        }
    }

    /// How long until enough writes have left the window for `cost` more; zero for a cost that never fits.
    private func room(for cost: Int, _ now: ContinuousClock.Instant, _ rate: WriteRate) -> Duration {
        guard cost <= rate.writesMax else { return .zero }
        var left = total
        for write in writes[first...] {
            if left + cost <= rate.writesMax { break }
            left -= write.count
            if left + cost <= rate.writesMax { return max(.zero, write.at + rate.window - now) }
        }
        return .zero
    }
}
