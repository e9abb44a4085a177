package import ATProto
import EventLog
import Synchronization

/// What a subscriber follows.
package enum StreamTopic: Hashable, Sendable {
    /// The commits of one actor.
    case commits(of: DID)
    /// Who joins, leaves and changes boundaries, over all actors.
    case enrollments
}

/// Who is to be woken by which append. An append costs a look into a table, and one signal for each who follows that actor; nobody
/// is handed anything, so whoever is slow holds up nobody and keeps nothing.
final class StreamFollowers: Sendable {
    private struct Followers {
        var signals: [ObjectIdentifier: WakeSignal] = [:]
        /// Another number after each append: what was judged under an older one is not to be used again.
        var version: UInt64
    }

    private struct State {
        var followers: [StreamTopic: Followers] = [:]
        var lastVersion: UInt64 = 0
        /// Events appended since the followers of enrollments were last woken.
        var unsearched = 0
    }

    private let state = Mutex(State())

    /// Followers of enrollments look through the log after so many events, also where none of them is about an enrollment: then the
    /// next one is found at once.
    private static let unsearchedMax = 4096

    func register(_ signal: WakeSignal, for topic: StreamTopic) {
        state.withLock { state in
            if state.followers[topic] == nil {
                state.lastVersion += 1
                state.followers[topic] = Followers(version: state.lastVersion)
            }
            state.followers[topic]!.signals[ObjectIdentifier(signal)] = signal
        }
    }

    func remove(_ signal: WakeSignal, for topic: StreamTopic) {
        state.withLock { state in
            state.followers[topic]?.signals[ObjectIdentifier(signal)] = nil
            if state.followers[topic]?.signals.isEmpty ?? false { state.followers[topic] = nil }
        }
    }

    /// Nil where nobody follows this.
    func version(of topic: StreamTopic) -> UInt64? { state.withLock { $0.followers[topic]?.version } }

    /// Called once an append is durable and folded, and where that is not known.
    func wake(after append: Append) {
        let isOfEnrollments = append.events.contains { EnrollmentIndex.isIndexed($0.event.kind) }
        let woken = state.withLock { state in
            guard !state.followers.isEmpty else { return [WakeSignal]() }
            var signals: [WakeSignal] = []
            func wake(_ topic: StreamTopic) {
                guard state.followers[topic] != nil else { return }
                state.lastVersion += 1
                state.followers[topic]!.version = state.lastVersion
                signals += state.followers[topic]!.signals.values
            }
            wake(.commits(of: append.actor))
            state.unsearched += append.events.count
            if isOfEnrollments || state.unsearched >= Self.unsearchedMax {
                state.unsearched = 0
                wake(.enrollments)
            }
            return signals
        }
        for signal in woken { signal.signal() }
    }
}
