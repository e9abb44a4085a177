import ATProto
import Synchronization

/// The enrollments of the actors that were touched lately, as their folds stand at the end of their logs. Every request asks who is
/// calling and what they hold now: this answers without waiting for the thread that has the caller's rows open.
///
/// Written on the actor's own thread only, whenever the fold in memory moves or is made anew, so it says what that thread would
/// say. Bounded: two halves, of which the older one is dropped when the newer one is full.
final class Enrollments: Sendable {
    private struct Halves {
        /// Nil for an actor who has a log and is no member.
        var recent: [DID: EnrollmentSummary?] = [:]
        var older: [DID: EnrollmentSummary?] = [:]
    }

    private let halfMax: Int
    private let halves = Mutex(Halves())

    init(countMax: Int) { halfMax = max(1, countMax / 2) }

    enum Answer {
        case known(EnrollmentSummary?)
        case unknown
    }

    func find(_ actor: DID) -> Answer {
        halves.withLock { halves in
            if let found = halves.recent[actor] { return .known(found) }
            guard let found = halves.older[actor] else { return .unknown }
            put(found, of: actor, in: &halves)
            return .known(found)
        }
    }

    func set(_ enrollment: EnrollmentSummary?, of actor: DID) {
        halves.withLock { put(enrollment, of: actor, in: &$0) }
    }

    /// For a fold that is not to be believed any more.
    func forget(_ actor: DID) {
        halves.withLock { halves in
            halves.recent[actor] = nil
            halves.older[actor] = nil
        }
    }

    private func put(_ enrollment: EnrollmentSummary?, of actor: DID, in halves: inout Halves) {
        if halves.recent.count >= halfMax, halves.recent[actor] == nil {
            halves.older = halves.recent
            halves.recent = [:]
        }
        halves.recent.updateValue(enrollment, forKey: actor)
    }
}
