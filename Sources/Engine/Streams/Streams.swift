package import ATProto
package import Authorization
import EventLog
import Synchronization

/// The streams of a service: reads of the log that go on. Nothing is kept for a subscriber but its place.
package final class Streams: Sendable {
    let engine: Engine
    private let service: DID
    private let serviceURL: String
    private let retentionMilliseconds: Int64
    private let index = EnrollmentIndex()
    private let cache = StreamCache(bytesMax: 16 << 20)
    private let readAhead = ReadAhead()
    private let followers = StreamFollowers()

    static let servicesOnly = "Service auth required for service-level subscription"

    /// - Parameters:
    ///   - service: the service's own DID.
    ///   - retentionDays: how long a version of a record that was superseded is still told.
    package init(engine: Engine, service: DID, serviceURL: String, retentionDays: Int) {
        self.engine = engine
        self.service = service
        self.serviceURL = serviceURL
        retentionMilliseconds = Int64(retentionDays) * 86_400_000
        engine.onAppend { [followers] append in followers.wake(after: append) }
    }

    /// Begins a stream.
    /// - Parameters:
    ///   - cursor: the last message's; nil for everything. Exclusive.
    ///   - domain: only records with this boundary; of enrollments it says nothing.
    /// - Throws: `StreamRefusal`, and what reading the log throws.
    package func subscribe(
        to topic: StreamTopic, after cursor: UInt64?, domain: String?, as caller: Caller
    ) async throws -> StreamSubscription {
        guard engine.gate.isOpen else { throw StreamRefusal.unavailable }
        let viewer = Viewer(caller: caller, boundaries: .empty)
        // Before anything is looked up, so that strangers learn nothing (I12).
        try Self.admit(caller, to: topic)
        if case .commits(let owner) = topic { guard try await engine.isEnrolled(owner) else { throw StreamRefusal.notFound } }
        let cursor = cursor ?? 0
        guard cursor <= (try await engine.log.statistics()).position else { throw StreamRefusal.futureCursor }
        var isOutdated = false
        if cursor > 0 { isOutdated = try await !isInLog(cursor) }
        switch topic {
        case .enrollments:
            let stream = EnrollmentStream(engine: engine, index: index, service: service, serviceURL: serviceURL, viewer: viewer)
            return StreamSubscription(
                engine, followers, topic, after: StreamPlace(after: cursor), viewer: viewer, outdated: isOutdated ? cursor : nil
            ) { place, version in
                try await self.cached(topic, owner: nil, domain: nil, place, version) { try await stream.batch(after: place) }
            }
        case .commits(let owner):
            let (last, next) = try await place(of: cursor, in: owner)
            if cursor > 0, let next, next.milliseconds <= engine.now.milliseconds - retentionMilliseconds { isOutdated = true }
            let stream = CommitStream(
                engine: engine, owner: owner, viewer: viewer, domain: domain, retentionMilliseconds: retentionMilliseconds)
            let audience = caller == .user(owner) ? owner : nil
            let reader = CommitReader(stream, readAhead.place())
            return StreamSubscription(
                engine, followers, topic, after: StreamPlace(after: last), viewer: viewer, outdated: isOutdated ? cursor : nil
            ) { place, version in
                try await self.cached(topic, owner: audience, domain: domain, place, version) {
                    try await reader.batch(after: place, isLive: version != nil)
                }
            }
        }
    }

    private static func admit(_ caller: Caller, to topic: StreamTopic) throws(StreamRefusal) {
        switch (topic, caller) {
        case (_, .appView): return
        case (.commits(let owner), .user(let did)) where did == owner: return
        case (.commits, _): throw .authenticationRequired("Service auth or owner authentication required")
        case (.enrollments, _): throw .authenticationRequired(servicesOnly)
        }
    }

    /// Whether an event stands at a cursor. None does where the log was restored from before it: what stood there is lost.
    private func isInLog(_ cursor: UInt64) async throws -> Bool {
        try await engine.log.events(afterPosition: cursor - 1, limit: 1).first?.position == cursor
    }

    /// The last event of an actor at or before a cursor, and the time of the next one. An actor's events have rising positions.
    private func place(of cursor: UInt64, in owner: DID) async throws -> (last: UInt64, next: Timestamp?) {
        var (low, high) = (UInt64(0), try await engine.log.head(of: owner).sequence)
        var next: StoredEvent?
        while low < high {
            let middle = low + (high - low) / 2
            guard let stored = try await engine.log.events(of: owner, after: middle, limit: 1).first else {
                throw EventLogError.brokenChain(actor: owner, at: middle + 1)
            }
            if let position = stored.position, position <= cursor {
                low = middle + 1
            } else {
                high = middle
                next = stored
            }
        }
        return (low, try next.map { try Event(bytes: $0.bytes).time })
    }

    /// - Parameter version: nil for a subscriber who is still catching up: few are at the same place.
    private func cached(
        _ topic: StreamTopic, owner: DID?, domain: String?, _ place: StreamPlace, _ version: UInt64?,
        _ make: () async throws -> Readable<StreamBatch>
    ) async throws -> Readable<StreamBatch> {
        guard let version else { return try await make() }
        let key = StreamCache.Key(topic: topic, owner: owner, domain: domain, place: place, version: version)
        return try await cache.batch(key, make)
    }
}

/// One subscriber's way along the log. It belongs to one task, but for `stop`, which anybody may call.
package final class StreamSubscription {
    private let engine: Engine
    private let followers: StreamFollowers
    private let topic: StreamTopic
    private let viewer: Viewer
    private let read: (StreamPlace, _ version: UInt64?) async throws -> Readable<StreamBatch>
    private var handover: StreamHandover
    /// A cursor of which the subscriber is to be told that it is too old.
    private var outdated: UInt64?
    private let stopper = Stopper()

    /// Ends a subscription from elsewhere.
    package final class Stopper: Sendable {
        fileprivate let signal = WakeSignal()
        private let isStopped = Mutex(false)

        package func stop() {
            isStopped.withLock { $0 = true }
            signal.signal()
        }

        fileprivate var hasStopped: Bool { isStopped.withLock { $0 } }
    }

    init(
        _ engine: Engine, _ followers: StreamFollowers, _ topic: StreamTopic, after place: StreamPlace, viewer: Viewer, outdated: UInt64?,
        read: @escaping (StreamPlace, _ version: UInt64?) async throws -> Readable<StreamBatch>
    ) {
        self.engine = engine
        self.followers = followers
        self.topic = topic
        self.viewer = viewer
        self.outdated = outdated
        self.read = read
        handover = StreamHandover(after: place)
    }

    deinit { followers.remove(stopper.signal, for: topic) }

    package var phase: StreamHandover.Phase { handover.phase }
    package var stop: Stopper { stopper }

    /// The next messages, once there are any; nil once it was stopped, or its task cancelled.
    /// - Parameter waits: false: nil also where everything was told.
    /// - Throws: `StreamRefusal` where the stream ends, and what reading the log throws.
    package func next(waits: Bool = true) async throws -> Readable<StreamBatch>? {
        if let cursor = outdated {
            outdated = nil
            let message = StreamFrames.info("OutdatedCursor", "Cursor \(cursor) is too old, some events may be missed")
            let batch = StreamBatch(frames: [message], place: handover.place, isAtEnd: false)
            return ReadPolicy.releasePage(batch, of: [], to: viewer)
        }
        while !stopper.hasStopped, !Task.isCancelled {
            switch handover.next() {
            case .read(let place):
                guard engine.gate.isOpen else { throw StreamRefusal.unavailable }
                let version = handover.phase == .live ? followers.version(of: topic) : nil
                let batch = try await read(place, version)
                handover.hasRead(upTo: batch.content.place, isAtEnd: batch.content.isAtEnd)
                if !batch.content.frames.isEmpty { return batch }
            case .register:
                followers.register(stopper.signal, for: topic)
                handover.registered()
            case .wait:
                guard waits || stopper.signal.isSignalled else { return nil }
                await stopper.signal.wait()
                if !stopper.hasStopped { handover.woken() }
            }
        }
        return nil
    }
}
