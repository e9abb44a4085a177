package import EventLog
import Synchronization

/// What was used once, for as long as it could be used again. One node's memory, bounded: when it is full of what has not expired,
/// new uses are refused rather than old ones forgotten. Entries stand in buckets of 16 seconds of expiry, which are dropped whole.
package final class ReplayMemory: Sendable {
    private struct State {
        var buckets: [Int64: Set<Digest>] = [:]
        var count = 0
    }

    /// The first 16 bytes of a scope: as good as all of it where nobody gains by a refusal of his own token.
    private struct Digest: Hashable {
        let high: UInt64
        let low: UInt64

        init(_ scope: [UInt8]) {
            func word(_ at: Int) -> UInt64 { scope[at..<(at + 8)].reduce(0) { $0 << 8 | UInt64($1) } }
            (high, low) = (word(0), word(8))
        }
    }

    package enum Outcome: Sendable { case first, again, full }

    private static let bucketSeconds: Int64 = 16
    private let countMax: Int
    private let state = Mutex(State())

    /// - Parameter countMax: entries of about 40 bytes.
    package init(countMax: Int = 500_000) { self.countMax = countMax }

    /// Notes a use.
    /// - Parameter now: seconds since 1970.
    package func note(_ use: SingleUse, now: Int64) -> Outcome {
        let (bucket, digest) = (use.expires / Self.bucketSeconds, Digest(use.scope))
        return state.withLock { state in
            if state.buckets[bucket]?.contains(digest) == true { return .again }
            if state.count >= countMax { Self.sweep(&state, now: now) }
            guard state.count < countMax else { return .full }
            state.buckets[bucket, default: []].insert(digest)
            state.count += 1
            return .first
        }
    }

    private static func sweep(_ state: inout State, now: Int64) {
        for bucket in state.buckets.keys where (bucket + 1) * bucketSeconds <= now {
            state.count -= state.buckets.removeValue(forKey: bucket)?.count ?? 0
        }
    }
}
