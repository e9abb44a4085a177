import Authorization
import Synchronization

/// One subscriber's reads of an actor's log. Whoever catches up is given a page while the next one is read and decoded already, on
/// another processor: but only so many at a time, since each of these pages is memory while a slow subscriber takes in the one before.
final class CommitReader {
    private let stream: CommitStream
    private var place: ReadAhead.Place?
    private var ahead: CommitStream.Page?

    /// - Parameter place: nil: reads nothing ahead.
    init(_ stream: CommitStream, _ place: ReadAhead.Place?) {
        self.stream = stream
        self.place = place
    }

    func batch(after place: StreamPlace, isLive: Bool) async throws -> Readable<StreamBatch> {
        if isLive { self.place = nil }
        let page = if let ahead, ahead.after == place.event { ahead } else { try await stream.load(after: place.event) }
        ahead = nil
        guard self.place != nil, let next = page.next else { return try await stream.batch(of: page, after: place) }
        let stream = stream
        async let loading = stream.load(after: next)
        let batch = try await stream.batch(of: page, after: place)
        // That there was nothing is not remembered: what came since must be found by the read that follows a registration.
        let loaded = try await loading
        if !loaded.events.isEmpty { ahead = loaded }
        return batch
    }
}

/// How many subscribers may have a page read ahead.
final class ReadAhead: Sendable {
    private static let countMax = 8
    private let taken = Mutex(0)

    /// Held while pages are read ahead.
    final class Place: Sendable {
        private let room: ReadAhead

        fileprivate init(_ room: ReadAhead) { self.room = room }

        deinit { room.taken.withLock { $0 -= 1 } }
    }

    /// Nil where all places are taken.
    func place() -> Place? {
        let isFree = taken.withLock { taken in
            guard taken < Self.countMax else { return false }
            taken += 1
            return true
        }
        return isFree ? Place(self) : nil
    }
}
