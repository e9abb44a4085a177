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

/// Rings once for any number of appends: whoever waits is woken, and who does not wait yet finds that it has rung.
package final class StreamBell: Sendable {
    private struct State {
        var hasRung = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    package init() {}

    package func ring() {
        let waiter = state.withLock { state in
            state.hasRung = true
            return state.waiter.take()
        }
        waiter?.resume()
    }

    var isRinging: Bool { state.withLock { $0.hasRung } }

    /// Returns once it has rung since the last time, at once where it has already. One subscriber waits, no more.
    package func heard() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isOver = state.withLock { state in
                precondition(state.waiter == nil, "one subscriber waits for a bell")
                if state.hasRung { return true }
                state.waiter = continuation
                return false
            }
            if isOver { continuation.resume() }
        }
        state.withLock { $0.hasRung = false }
    }
}

/// Who is to be woken by which append. An append costs a look into a table, and one ring for each who follows that actor; nobody
/// is handed anything, so whoever is slow holds up nobody and keeps nothing.
package final class StreamBells: Sendable {
    private struct Followers {
        var bells: [ObjectIdentifier: StreamBell] = [:]
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

    func register(_ bell: StreamBell, for topic: StreamTopic) {
        state.withLock { state in
            if state.followers[topic] == nil {
                state.lastVersion += 1
                state.followers[topic] = Followers(version: state.lastVersion)
            }
            state.followers[topic]!.bells[ObjectIdentifier(bell)] = bell
        }
    }

    func remove(_ bell: StreamBell, for topic: StreamTopic) {
        state.withLock { state in
            state.followers[topic]?.bells[ObjectIdentifier(bell)] = nil
            if state.followers[topic]?.bells.isEmpty ?? false { state.followers[topic] = nil }
        }
    }

    /// Nil where nobody follows this.
    func version(of topic: StreamTopic) -> UInt64? { state.withLock { $0.followers[topic]?.version } }

    /// Called once an append is durable and folded, and where that is not known.
    func ring(after append: Append) {
        let isOfEnrollments = append.events.contains { EnrollmentIndex.isIndexed($0.event.kind) }
        let woken = state.withLock { state in
            guard !state.followers.isEmpty else { return [StreamBell]() }
            var bells: [StreamBell] = []
            func wake(_ topic: StreamTopic) {
                guard state.followers[topic] != nil else { return }
                state.lastVersion += 1
                state.followers[topic]!.version = state.lastVersion
                bells += state.followers[topic]!.bells.values
            }
            wake(.commits(of: append.actor))
            state.unsearched += append.events.count
            if isOfEnrollments || state.unsearched >= Self.unsearchedMax {
                state.unsearched = 0
                wake(.enrollments)
            }
            return bells
        }
        for bell in woken { bell.ring() }
    }

    /// Subscribers that wait to be woken, over all topics.
    package var followerCount: Int { state.withLock { $0.followers.values.reduce(0) { $0 + $1.bells.count } } }
}
