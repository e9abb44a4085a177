import ATProto
import Authorization
import Commands
import EventLog
import Projections

/// What a run of events makes due, actor by actor. It names places and no content: what is done there, the fold of that moment says.
struct ReactorMarks: Sendable {
    private struct Marks: Sendable {
        var host: String?
        /// The enrollment record is to be looked at.
        var enrollment = false
        /// All items are to be compared with the fold.
        var sweeps = false
        /// The records on the server are to be looked at.
        var tidies = false
        /// How the run leaves the membership, where it changes it.
        var membership: Change?
        /// Each once, with the event that touched it first and the one that did last.
        var paths: [RecordPath: (first: UInt64, last: UInt64)] = [:]
        var order: [RecordPath] = []

        mutating func touch(_ path: RecordPath, by sequence: UInt64) {
            if let known = paths[path] {
                paths[path] = (known.first, sequence)
            } else {
                paths[path] = (sequence, sequence)
                order.append(path)
            }
        }
    }

    private enum Change: Sendable {
        case began
        case ended(UInt64, at: Timestamp)
    }

    private let service: DID
    private var actors: [DID: Marks] = [:]
    private(set) var cursor: ReactorCursor
    private(set) var pathCount = 0
    /// Events that could not be read; their actors are compared with the fold as a whole.
    private(set) var unreadable = 0

    init(after cursor: ReactorCursor, service: DID) {
        self.cursor = cursor
        self.service = service
    }

    /// - Parameter stored: the event behind the one before, with its position.
    mutating func add(_ stored: StoredEvent) {
        cursor = ReactorCursor(position: stored.position ?? cursor.position, event: stored.cid)
        guard let event = try? Event(bytes: stored.bytes) else {
            // best effort: whose it is nobody knows. `verify` names it.
            unreadable += 1
            return
        }
        guard event.did != service, Self.kinds.contains(event.kind) else { return }
        var marks = actors[event.did] ?? Marks()
        do {
            guard let bytes = stored.body else { throw EventLogError.malformed("the body is gone") }
            note(try EventBody(kind: event.kind, bytes: bytes), event, in: &marks)
        } catch {
            // An erased body is no damage, and what it named is found by comparison all the same.
            if stored.body != nil { unreadable += 1 }
            (marks.enrollment, marks.sweeps) = (true, true)
        }
        actors[event.did] = marks
    }

    /// Places that are noted of somebody who is parked, and then come in their order when a session does.
    private static let parkedMarksMax = 1000

    private static let kinds: Set<EventKind> = [
        .accountEnroll, .accountBoundaries, .accountAttest, .accountKey, .accountLeave, .repoWrite, .repoImport,
    ]

    private mutating func note(_ body: EventBody, _ event: Event, in marks: inout Marks) {
        switch body {
        case .accountEnroll(let enroll):
            // What somebody wrote who comes back may have been kept.
            (marks.enrollment, marks.sweeps, marks.tidies) = (true, true, true)
            marks.membership = .began
            marks.host = enroll.pds.flatMap { WebOrigin($0) }?.description
        case .accountBoundaries, .accountAttest, .accountKey: marks.enrollment = true
        case .accountLeave:
            (marks.enrollment, marks.sweeps, marks.tidies) = (true, true, true)
            marks.membership = .ended(event.sequence, at: event.time)
        case .repoWrite(let write):
            for operation in write.operations where PublicRecords.stubs.contains(operation.path.collection) {
                marks.touch(operation.path, by: event.sequence)
                pathCount += 1
            }
        case .repoImport: marks.sweeps = true
        default: break
        }
    }

    /// Writes it down, with how far the log was read.
    func apply(to rows: any ReactorRows, enrollmentPath: RecordPath?, at now: Timestamp) throws {
        for (did, marks) in actors {
            var actor = try rows.actor(did) ?? ReactorActor(did: did)
            if actor.state == .parked, marks.membership == nil {
                if actor.parkedMarks >= Self.parkedMarksMax {
                    guard actor.sweeps == 0 else { continue }
                    actor.sweeps = 1
                    try rows.put(actor)
                    continue
                }
                actor.parkedMarks += marks.order.count
            }
            if let host = marks.host { actor.host = host }
            if marks.sweeps { actor.sweeps += 1 }
            if marks.tidies { actor.tidies += 1 }
            actor.mark(at: now)
            switch marks.membership {
            case .began?:
                (actor.leaving, actor.left, actor.failingSince) = (0, nil, nil)
                if actor.state == .givenUp { actor.resume(at: now) }
            case .ended(let sequence, let time)?:
                (actor.leaving, actor.left, actor.failingSince) = (sequence, time, nil)
                // Who is parked is looked at once more: from here on the time counts in which somebody who left can be cleaned up.
                if actor.state != .pending { actor.resume(at: now) }
            case nil: break
            }
            try rows.put(actor)
            if marks.enrollment, let enrollmentPath { try mark(enrollmentPath, of: did, in: rows, first: 0, last: 0) }
            for path in marks.order {
                guard let touched = marks.paths[path] else { continue }
                try mark(path, of: did, in: rows, first: touched.first, last: touched.last)
            }
        }
        try rows.set(cursor)
    }

    private func mark(_ path: RecordPath, of did: DID, in rows: any ReactorRows, first: UInt64, last: UInt64) throws {
        var item = try rows.item(path, of: did) ?? ReactorItem(path: path)
        item.mark(due: first)
        item.last = last
        try rows.put(item, of: did)
    }
}
