package import ATProto
package import EventLog
import Synchronization

/// What was used once, for as long as it could be used again: one node's memory, and bounded. A caller has a share of it, so that one
/// alone cannot take the place of everybody. Where all of it is full, what expires soonest is forgotten before anybody is refused: of
/// what changes something, the log itself refuses a second use (`Append.use`).
///
/// Entries stand in buckets of 16 seconds of expiry, which are dropped whole.
package final class ReplayMemory: Sendable {
    private struct Bucket {
        var uses: Set<Digest> = []
        /// Of callers who have a share.
        var counts: [DID: Int] = [:]
    }

    private struct State {
        var buckets: [Int64: Bucket] = [:]
        var count = 0
        var counts: [DID: Int] = [:]

        mutating func drop(_ number: Int64) {
            guard let bucket = buckets.removeValue(forKey: number) else { return }
            count -= bucket.uses.count
            for (caller, uses) in bucket.counts {
                let left = (counts[caller] ?? 0) - uses
                counts[caller] = left > 0 ? left : nil
            }
        }

        /// Drops what has expired.
        mutating func sweep(now: Int64) {
            for number in buckets.keys where (number + 1) * bucketSeconds <= now { drop(number) }
        }
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

    package enum Outcome: Sendable {
        case first, again
        /// The caller's share is full of what has not expired.
        case tooMany
    }

    private static let bucketSeconds: Int64 = 16
    private let countMax: Int
    private let shareMax: Int
    private let state = Mutex(State())

    /// - Parameters:
    ///   - countMax: entries of about 40 bytes.
    ///   - shareMax: of one caller.
    package init(countMax: Int = 1_000_000, shareMax: Int = 250_000) {
        self.countMax = countMax
        self.shareMax = shareMax
    }

    /// Notes a use.
    /// - Parameters:
    ///   - caller: whose share it counts to; nil for one who may use all of it.
    ///   - now: seconds since 1970.
    package func note(_ use: SingleUse, of caller: DID?, now: Int64) -> Outcome {
        let (bucket, digest) = (use.expires / Self.bucketSeconds, Digest(use.scope))
        return state.withLock { state in
            if state.buckets[bucket]?.uses.contains(digest) == true { return .again }
            if let caller, state.counts[caller] ?? 0 >= shareMax {
                state.sweep(now: now)
                guard state.counts[caller] ?? 0 < shareMax else { return .tooMany }
            }
            if state.count >= countMax { state.sweep(now: now) }
            while state.count >= countMax, let soonest = state.buckets.keys.min() { state.drop(soonest) }
            state.buckets[bucket, default: Bucket()].uses.insert(digest)
            state.count += 1
            if let caller {
                state.buckets[bucket, default: Bucket()].counts[caller, default: 0] += 1
                state.counts[caller, default: 0] += 1
            }
            return .first
        }
    }
}
