import ATProto
import Authorization
import EventLog
import Synchronization

/// Where in the log the enrollments stand, and who has left: a fold of the whole log that is read once, and then as it grows. It has
/// eight bytes for each enrollment event, and the DIDs of those who are gone.
final class EnrollmentIndex: Sendable {
    private struct State {
        /// Raw cursors, rising.
        var positions: [UInt64] = []
        var left: Set<DID> = []
        /// How far the log has been looked through.
        var searched: UInt64 = 0
    }

    private let state = Mutex(State())
    /// One looks at a time; whoever waits finds it done.
    private let lanes = ActorLanes()
    private static let pageMax = 512

    static func isIndexed(_ kind: EventKind) -> Bool { kind == .accountEnroll || kind == .accountBoundaries || kind == .accountLeave }

    /// Looks through the log to its end.
    func extend(over log: any EventStore, service: DID) async throws {
        try await lanes.run(service, isBounded: false) {
            while true {
                let page = try await log.events(afterPosition: state.withLock { $0.searched }, limit: Self.pageMax)
                guard !page.isEmpty else { return }
                let found = try page.compactMap { stored in
                    let event = try Event(bytes: stored.bytes)
                    return Self.isIndexed(event.kind) ? stored.position.map { (position: $0, did: event.did, kind: event.kind) } : nil
                }
                state.withLock { state in
                    for (position, did, kind) in found {
                        state.positions.append(position)
                        if kind == .accountLeave { state.left.insert(did) }
                        if kind == .accountEnroll { state.left.remove(did) }
                    }
                    state.searched = page.last?.position ?? state.searched
                }
            }
        }
    }

    struct Found: Sendable {
        let positions: [UInt64]
        /// Up to where there are no others.
        let end: UInt64
        let isAtEnd: Bool
    }

    func positions(after cursor: UInt64, limit: Int) -> Found {
        state.withLock { state in
            var (low, high) = (0, state.positions.count)
            while low < high {
                let middle = (low + high) / 2
                if state.positions[middle] <= cursor { low = middle + 1 } else { high = middle }
            }
            let positions = Array(state.positions[low...].prefix(limit))
            let isAtEnd = low + positions.count == state.positions.count
            return Found(positions: positions, end: max(cursor, isAtEnd ? state.searched : positions.last ?? cursor), isAtEnd: isAtEnd)
        }
    }

    func hasLeft(_ did: DID) -> Bool { state.withLock { $0.left.contains(did) } }
}

/// Who joined, left and changed boundaries, over all actors, for services. Of somebody who has left it is told that they left and
/// nothing of what they were members of.
struct EnrollmentStream: Sendable {
    let engine: Engine
    let index: EnrollmentIndex
    let service: DID
    let serviceURL: String
    let viewer: Viewer

    private static let eventsAtOnce = 64

    func batch(after place: StreamPlace) async throws -> Readable<StreamBatch> {
        try await index.extend(over: engine.log, service: service)
        let found = index.positions(after: place.event, limit: Self.eventsAtOnce)
        var frames: [[UInt8]] = []
        for position in found.positions {
            guard let stored = try await engine.log.events(afterPosition: position - 1, limit: 1).first, stored.position == position else {
                throw EventLogError.malformed("I13: no event stands at position \(position)")
            }
            if let frame = try frame(of: stored, at: position) { frames.append(frame) }
        }
        let batch = StreamBatch(frames: frames, place: StreamPlace(after: found.end), isAtEnd: found.isAtEnd)
        guard let released = ReadPolicy.releaseMembership(batch, of: service, to: viewer) else {
            throw StreamRefusal.authenticationRequired(Streams.servicesOnly)
        }
        return released
    }

    private func frame(of stored: StoredEvent, at position: UInt64) throws -> [UInt8]? {
        let event = try Event(bytes: stored.bytes)
        guard let change = try change(of: event, body: stored.body) else { return nil }
        return StreamFrames.enrollment(change, of: event.did, cursor: position, time: event.time, service: serviceURL)
    }

    private func change(of event: Event, body: [UInt8]?) throws -> StreamFrames.Membership? {
        if event.kind == .accountLeave { return .unenroll }
        guard !index.hasLeft(event.did), let body else { return nil }
        return switch try EventBody(kind: event.kind, bytes: body) {
        case .accountEnroll(let enroll): .enroll(enroll.boundaries)
        case .accountBoundaries(let change): .update(change.after)
        default: nil
        }
    }
}
