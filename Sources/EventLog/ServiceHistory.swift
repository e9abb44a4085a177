package import ATProto
package import Keys

/// What the service's own log says about the service: its pinned DID, its keys by epoch, its generation, its boundaries.
///
/// A fold of that one log. It checks what only the order of these events can show; chain and signatures are checked beside it.
package struct ServiceHistory: Hashable, Sendable {
    package struct Epoch: Hashable, Sendable {
        /// From 1.
        package let number: UInt64
        package let key: PublicKey
        /// Raw cursor from which events are signed with it: at this one, exclusive or inclusive as the hand-over was.
        let begins: UInt64
    }

    /// Pinned by event 1; nil before it.
    package private(set) var service: DID?
    package private(set) var epochs: [Epoch] = []
    package private(set) var generation: UInt64 = 0
    /// The allowed names as the last start had them.
    package private(set) var boundaries: BoundarySet = .empty
    /// 32 bytes; the service's log has one for ever.
    package private(set) var tagKey: [UInt8]?
    /// End of the service's log.
    package private(set) var head: Head = .empty

    package init() {}

    /// The key of an epoch, nil for one that never began.
    package func key(epoch: UInt64) -> PublicKey? {
        epoch >= 1 && epoch <= epochs.count ? epochs[Int(epoch) - 1].key : nil
    }

    /// The epoch that signs now; nil in an empty log.
    package var current: Epoch? { epochs.last }

    /// The epoch in force at a place in the log; for an event without a position that is the current one.
    package func epoch(at position: UInt64?) -> Epoch? {
        guard let position else { return current }
        return epochs.last { $0.begins <= position }
    }

    /// Takes the next event of the service's log.
    /// - Parameter body: nil where it was erased or is not known to this version; such an event changes only the head.
    /// - Throws: `malformed` with the rule that the event breaks. The history has then moved past it all the same.
    package mutating func apply(_ event: Event, cid: CID, position: UInt64?, body: EventBody?) throws(EventLogError) {
        let isFirst = head.sequence == 0
        head = Head(sequence: event.sequence, event: cid, time: event.time)
        switch body {
        case .serviceStart(let start): try apply(start, of: event, position: position, isFirst: isFirst)
        case .serviceKey(let handover): try apply(handover, of: event, position: position)
        case .serviceConfig where !isFirst, nil where !isFirst: return
        default:
            throw .malformed(isFirst ? "event 1 of the service's log is a service.start" : "\(event.kind) stands in the service's log")
        }
    }

    private mutating func apply(_ start: ServiceStart, of event: Event, position: UInt64?, isFirst: Bool) throws(EventLogError) {
        if isFirst {
            service = event.did
            epochs = [Epoch(number: 1, key: start.key, begins: 0)]
            tagKey = start.tagKey
        }
        let before = generation
        generation = max(generation, start.generation)
        boundaries = start.boundaries
        guard start.service == event.did, start.service == service else {
            throw .malformed("service.start names \(start.service), the log is pinned to \(service ?? event.did)")
        }
        guard start.key == current?.key else { throw .malformed("service.start names another key than the epoch's") }
        guard (start.tagKey != nil) == isFirst else { throw .malformed("a tag key stands in event 1 and in no later service.start") }
        guard start.generation == before || (start.generation == before + 1 && start.before != nil) else {
            throw .malformed("service.start names generation \(start.generation) after \(before)")
        }
        guard start.before == nil || start.generation == before + 1 else {
            throw .malformed("service.start opens generation \(start.generation) a second time")
        }
    }

    private mutating func apply(_ handover: ServiceKey, of event: Event, position: UInt64?) throws(EventLogError) {
        let next = UInt64(epochs.count) + 1
        guard handover.epoch == next, handover.service == service else {
            throw .malformed("service.key begins epoch \(handover.epoch) of \(handover.service) where \(next) is due")
        }
        let isLost = handover.handover == .lost
        // Without a position this is the newest event there is, and whatever has a position came before it.
        let place = position ?? .max
        epochs.append(Epoch(number: next, key: handover.key, begins: isLost || place == .max ? place : place + 1))
        guard handover.isAccepted else { throw .malformed("service.key: the new key has not accepted") }
    }

    /// Reads and folds the service's log.
    /// - Parameter service: nil to take the DID of the first event of all.
    /// - Throws: the store's errors; `brokenChain` where the log breaks a rule, or is not chained, or is signed by another key.
    package static func read(from store: some EventStore, service: DID? = nil) async throws(EventLogError) -> ServiceHistory {
        var history = ServiceHistory()
        guard let did = if let service { service } else { try await firstActor(in: store) } else { return history }
        while true {
            let page = try await store.events(of: did, after: history.head.sequence, limit: 500)
            guard !page.isEmpty else { return history }
            for stored in page {
                do throws(EventLogError) {
                    try history.check(stored)
                } catch {
                    throw .brokenChain(actor: did, at: history.head.sequence)
                }
            }
        }
    }

    static func firstActor(in store: some EventStore) async throws(EventLogError) -> DID? {
        guard let first = try await store.events(afterPosition: 0, limit: 1).first else { return nil }
        return try Event(bytes: first.bytes).did
    }

    private mutating func check(_ stored: StoredEvent) throws(EventLogError) {
        let event = try Event(bytes: stored.bytes)
        let cid = CID(hashing: stored.bytes)
        guard event.sequence == head.sequence + 1, event.prev == head.event else { throw .malformed("I2, I3: not chained") }
        guard stored.body.map({ CID(hashing: $0) == event.body }) ?? true else { throw .malformed("I1: the body is another") }
        let body: EventBody?
        do throws(EventLogError) {
            body = if let bytes = stored.body { try EventBody(kind: event.kind, bytes: bytes) } else { nil }
        } catch {
            guard case .unknownKind = error else { throw error }
            body = nil
        }
        try apply(event, cid: cid, position: stored.position, body: body)
        guard let key = key(epoch: event.keyEpoch), event.verifies(with: key) else { throw .malformed("I4: signed by another key") }
    }
}
