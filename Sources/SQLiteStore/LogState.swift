internal import ATProto
internal import EventLog
internal import Synchronization

/// What the writer's thread tells everybody else. All of it is durable when it stands here.
final class LogState: Sendable {
    struct Published {
        var heads: HeadCache
        /// Raw cursor of the last event.
        var position: UInt64
        var events: UInt64
        var actors: UInt64
        /// Set once, at the first failed write: from then on the store refuses everything.
        var failure: EventLogError?
        var activity = LogActivity()
    }

    private let published: Mutex<Published>

    init(_ initial: Published) { published = Mutex(initial) }

    func with<Value: Sendable>(_ body: (inout Published) -> Value) -> Value {
        published.withLock { value in body(&value) }
    }

    var failure: EventLogError? { with { $0.failure } }

    /// Ends the store.
    /// - Returns: false where it had ended before.
    func end(with error: EventLogError) -> Bool {
        with { published in
            guard published.failure == nil else { return false }
            published.failure = error
            return true
        }
    }

    func checkUsable() throws(EventLogError) {
        if let failure { throw failure }
    }
}

/// What the writer has done since it was opened, for metrics and benchmarks.
package struct LogActivity: Hashable, Sendable {
    /// Transactions that acknowledged appends, each with one sync of the WAL and one of the mark.
    package var groups: UInt64 = 0
    package var appends: UInt64 = 0
    package var events: UInt64 = 0
    /// Transactions that staged blocks beforehand.
    package var stagings: UInt64 = 0
    /// Passes in which pages of the WAL went into the file.
    package var checkpoints: UInt64 = 0
    /// Times that the disk was found full.
    package var refusals: UInt64 = 0
}

/// The ends of the logs that were written lately, so that an append is compared without a read. Bounded: two halves, of which the
/// older one is dropped when the newer one is full. Only the writer's thread puts in what was not there; whoever finds an entry moves it
/// into the newer half.
struct HeadCache: Sendable {
    struct Entry: Hashable, Sendable {
        /// The actor's number in this file.
        var actor: Int64
        var head: Head
    }

    private var recent: [DID: Entry] = [:]
    private var older: [DID: Entry] = [:]
    private let halfMax: Int

    init(countMax: Int) { halfMax = max(1, countMax / 2) }

    mutating func find(_ did: DID) -> Entry? {
        if let entry = recent[did] { return entry }
        guard let entry = older[did] else { return nil }
        set(did, entry)
        return entry
    }

    mutating func set(_ did: DID, _ entry: Entry) {
        if recent.count >= halfMax, recent[did] == nil {
            older = recent
            recent = [:]
        }
        recent[did] = entry
    }
}
