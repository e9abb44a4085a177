/// How far a subscriber has come: behind an event, and within the one after it where that is told in several messages.
package struct StreamPlace: Hashable, Comparable, Sendable {
    /// The event that was told last: its number in the actor's log, or its raw cursor among all logs.
    package var event: UInt64
    /// Of the event after it: the chunk of an import and the operation in that chunk that come next.
    package var chunk = 0
    package var operation = 0

    package init(after event: UInt64) { self.event = event }

    package init(after event: UInt64, chunk: Int, operation: Int) {
        self.event = event
        self.chunk = chunk
        self.operation = operation
    }

    /// Whether part of the event after `event` was told.
    package var isInside: Bool { chunk > 0 || operation > 0 }

    package static func < (left: StreamPlace, right: StreamPlace) -> Bool {
        (left.event, left.chunk, left.operation) < (right.event, right.chunk, right.operation)
    }
}

/// How a subscriber passes from what is in the log to what is yet to come, with nothing lost between: pure, state in, action out.
///
/// *Backfill* reads the log until there is nothing behind the subscriber's place. *Cut-over* asks to be woken from then on, and reads
/// once more: what was appended between the last read and the registration is found by this read, what comes later wakes. *Live*
/// reads when it is woken. The bell keeps ringing from the first append on until somebody hears it, so an append during a read is
/// not missed either.
package struct StreamHandover: ~Copyable {
    package enum Phase: Hashable, Sendable { case backfill, cutover, live }

    package enum Action: Hashable, Sendable {
        /// Read what comes behind this place, and say what was found.
        case read(after: StreamPlace)
        /// Ask to be woken by whatever is appended from now on.
        case register
        /// Nothing to do until the bell rings.
        case wait
    }

    package private(set) var phase = Phase.backfill
    package private(set) var place: StreamPlace
    private var isRegistered = false
    /// Whether the last read found the end, and nothing has rung since.
    private var isCaughtUp = false

    package init(after place: StreamPlace) { self.place = place }

    package func next() -> Action {
        switch phase {
        case .backfill: .read(after: place)
        case .cutover: isRegistered ? .read(after: place) : .register
        case .live: isCaughtUp ? .wait : .read(after: place)
        }
    }

    package mutating func registered() {
        precondition(phase == .cutover && !isRegistered, "a subscriber registers once, at the cut-over")
        isRegistered = true
    }

    /// - Parameter isAtEnd: whether nothing more stood behind `place` when it was read.
    package mutating func hasRead(upTo place: StreamPlace, isAtEnd: Bool) {
        precondition(place >= self.place, "a stream never goes back")
        self.place = place
        switch phase {
        case .backfill: if isAtEnd { phase = .cutover }
        case .cutover:
            precondition(isRegistered, "the last read comes after the registration")
            guard isAtEnd else { return }
            phase = .live
            isCaughtUp = true
        case .live: isCaughtUp = isAtEnd
        }
    }

    package mutating func woken() {
        precondition(phase == .live, "nobody is woken who does not wait")
        isCaughtUp = false
    }
}
