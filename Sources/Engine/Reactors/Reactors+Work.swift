import ATProto
import Authorization
import Commands
import EventLog
import Logging
import Projections

/// The work on one actor, by one worker at a time.
extension Reactors {
    private enum Step: Sendable {
        case sweep(ReactorActor)
        case tidy(ReactorActor)
        case item(ReactorItem, ReactorActor)
        case leave(ReactorActor)
        /// Gave up: what is left is to give the session back.
        case abandon(ReactorActor)
        case rest
    }

    /// What is wanted at a place, by the fold of this moment.
    private enum Wanted: Sendable {
        case enrollment(Value)
        case stub(RecordRow)

        /// As `ReactorItem.done` keeps it.
        var mark: CID {
            switch self {
            case .enrollment(let value): CID(hashing: DAGCBOR.encode(value))
            case .stub(let row): row.cid
            }
        }
    }

    /// What kept an attempt from its end.
    private enum Fault: Error {
        case server(PDSError)
        /// The fold could not be asked, or something else of our own failed.
        case ours(String)
        /// Nothing can be noted: the same is tried again.
        case rows(any Error)
    }

    /// Goes on until nothing is due, something fails, or it is others' turn.
    /// - Throws: where the reactors' own rows cannot be read or written: nothing is known to have changed.
    func work(on actor: ReactorActor) async throws {
        do { try await turn(of: actor.did) } catch let failure as RowsFailure { throw failure.reason }
    }

    private func turn(of did: DID) async throws {
        for _ in 0..<pace.effectsPerTurn {
            guard !Task.isCancelled else { return }
            let step = try await nextStep(of: did)
            do throws(Fault) {
                switch step {
                case .rest: return
                case .sweep(let row): try await ours { try await self.sweep(row) }
                case .tidy(let row): try await tidy(row)
                case .item(let item, let row): try await carryOut(item, row)
                case .leave(let row): try await leave(row)
                case .abandon(let row):
                    logger.error("nothing more is removed for somebody who has left", metadata: Self.metadata(row))
                    // best effort: the one attempt to give back the session of somebody whose records could not be removed.
                    if let left = row.left { try? await revoke(did, left) }
                    return
                }
            } catch {
                guard !Task.isCancelled else { return }
                if case .rows(let reason) = error { throw reason }
                return try await note(error, step)
            }
        }
        let now = now
        try await change(did) { row in if row.state == .pending, row.attempts == 0 { row.nextAttempt = now } }
    }

    private static func metadata(_ row: ReactorActor) -> Logger.Metadata {
        ["actor": .string(row.did.description), "error": .string(row.lastError ?? "")]
    }

    /// What to do next, or when there will be something.
    private func nextStep(of did: DID) async throws -> Step {
        let (now, pace) = (now, pace)
        return try await transaction { rows in
            guard var row = try rows.actor(did) else { return .rest }
            if row.state == .parked, row.leaving > 0, Self.isOver(row, pace, now) {
                Self.giveUp(&row)
                try rows.put(row)
                return .abandon(row)
            }
            guard row.state == .pending else {
                // Who came back in the meantime has no time any more after which they are given up.
                if row.leaving == 0, row.nextAttempt != nil {
                    row.nextAttempt = nil
                    try rows.put(row)
                }
                return .rest
            }
            // A comparison is for when there is something to do with its outcome: without a session what stands before it ends the turn.
            let live = try rows.next(of: did, at: now, withBacklog: false)
            if let live, live.path.collection == PublicRecords.enrollments { return .item(live, row) }
            if row.tidies > 0 { return .tidy(row) }
            if let live { return .item(live, row) }
            if row.sweeps > 0 { return .sweep(row) }
            let backlogMayGo = pace.backlogMayGo(row.backlogTime)
            let item = try rows.next(of: did, at: now, withBacklog: backlogMayGo.map { $0 <= now } ?? true)
            if let item { return .item(item, row) }
            if try rows.counts(of: did).due == 0 {
                if row.leaving > 0 { return .leave(row) }
                (row.state, row.since, row.nextAttempt) = (.idle, nil, nil)
            } else {
                let echo = try rows.nextEcho(of: did)
                let hasBacklog = try rows.next(of: did, at: now, withBacklog: true) != nil
                row.nextAttempt = [echo, hasBacklog ? backlogMayGo : nil].compactMap(\.self).min() ?? now
            }
            try rows.put(row)
            return .rest
        }
    }

    private func change(_ did: DID, _ body: @escaping @Sendable (inout ReactorActor) -> Void) async throws {
        try await transaction { rows in
            guard var row = try rows.actor(did) else { return }
            body(&row)
            try rows.put(row)
        }
    }

    private func ours<Result>(_ body: () async throws -> Result) async throws(Fault) -> Result {
        do { return try await body() } catch let failure as RowsFailure { throw .rows(failure.reason) } catch { throw .ours("\(error)") }
    }

    /// That the reactors' own rows could not be read or written, on its way through what else can fail.
    private struct RowsFailure: Error {
        let reason: any Error
    }

    private func transaction<Result: Sendable>(_ body: @escaping @Sendable (any ReactorRows) throws -> Result) async throws -> Result {
        do { return try await store.transaction(body) } catch { throw RowsFailure(reason: error) }
    }

    // MARK: One place

    private func wanted(at path: RecordPath, of did: DID) async throws -> Wanted? {
        guard path.collection == PublicRecords.enrollments else { return try await engine.standing(path, of: did).map(Wanted.stub) }
        guard path == publicRecords.enrollmentPath, let enrollment = try await engine.enrollment(of: did) else { return nil }
        return .enrollment(publicRecords.enrollment(enrollment))
    }

    private func value(of wanted: Wanted, owner: DID) async throws -> Value {
        switch wanted {
        case .enrollment(let value): value
        case .stub(let row):
            publicRecords.stub(of: row.path, row.cid, owner: owner, createdAt: try await engine.createdAt(row, of: owner))
        }
    }

    /// Reads the fold twice where the record went between row and bytes: then the second look says that it is gone.
    private func wantedValue(at path: RecordPath, of did: DID) async throws -> (mark: CID, value: Value)? {
        guard let first = try await wanted(at: path, of: did) else { return nil }
        do { return (first.mark, try await value(of: first, owner: did)) } catch {
            guard let second = try await wanted(at: path, of: did), second.mark != first.mark else {
                if try await wanted(at: path, of: did) == nil { return nil }
                throw error
            }
            return (second.mark, try await value(of: second, owner: did))
        }
    }

    private func carryOut(_ item: ReactorItem, _ actor: ReactorActor) async throws(Fault) {
        let (did, path) = (actor.did, item.path)
        let wanted = try await ours { try await self.wantedValue(at: path, of: did) }
        if let wanted, wanted.mark == item.done, !item.isDoubtful {
            return try await ours { try await self.settle(item, of: did, done: wanted.mark, isDone: false) }
        }
        try await ours { try await self.begin(item, of: did) }
        do throws(PDSError) {
            if let wanted {
                _ = try await pds.put(wanted.value, path.collection, path.recordKey, did)
            } else {
                try await pds.delete(path.collection, path.recordKey, did)
            }
        } catch {
            throw Self.fault(error)
        }
        try await ours { try await self.settle(item, of: did, done: wanted?.mark, isDone: true) }
    }

    /// A server that does not take the credentials has not looked at the record, so it has not refused it.
    private static func fault(_ error: PDSError) -> Fault {
        if case .refused(401, let name) = error { return .server(.unavailable(reason: "401 \(name)")) }
        return .server(error)
    }

    /// From here on nobody knows whether it was done, until somebody does.
    private func begin(_ item: ReactorItem, of did: DID) async throws {
        guard !item.isDoubtful else { return }
        try await transaction { rows in
            guard var standing = try rows.item(item.path, of: did) else { return }
            standing.isDoubtful = true
            try rows.put(standing, of: did)
        }
    }

    /// - Parameters:
    ///   - item: as it was taken.
    ///   - isDone: false where there was nothing to do.
    private func settle(_ item: ReactorItem, of did: DID, done: CID?, isDone: Bool) async throws {
        let (now, pace) = (now, pace)
        try await transaction { rows in
            guard var standing = try rows.item(item.path, of: did), var row = try rows.actor(did) else { return }
            standing.done = done
            standing.refusal = nil
            var isEcho = false
            if case .echo = item.turn { isEcho = true }
            standing.isDoubtful = item.isDoubtful && !isEcho
            let isSame = standing.marks == item.marks
            if !(standing.isDoubtful && isSame) {
                standing.settle(taken: item)
            } else {
                standing.turn = .echo(at: now + pace.echoAfter)
            }
            if standing.marks == 0, done == nil {
                try rows.remove(item.path, of: did)
            } else {
                try rows.put(standing, of: did)
            }
            guard isDone else { return }
            (row.attempts, row.failingSince, row.lastError) = (0, nil, nil)
            if item.turn == .backlog, done != nil { row.backlogTime = pace.backlogTime(row.backlogTime, at: now) }
            try rows.put(row)
        }
    }

    // MARK: All places

    /// Marks every item that is not as the fold wants it, page by page.
    private func sweep(_ actor: ReactorActor) async throws {
        let did = actor.did
        var after: RecordPath?
        while true {
            let page = try await transaction { [after] in try $0.items(of: did, after: after, limit: Self.pageMax) }
            guard let last = page.last else { break }
            after = last.path
            try await compare(page, of: did)
        }
        for collection in PublicRecords.stubs {
            var after: RecordKey?
            while true {
                let page = try await engine.standing(in: collection, of: did, after: after, limit: Self.pageMax)
                guard let last = page.last else { break }
                after = last.path.recordKey
                try await transaction { rows in
                    for record in page {
                        var item = try rows.item(record.path, of: did) ?? ReactorItem(path: record.path)
                        guard item.marks == 0, item.done != record.cid else { continue }
                        item.mark(due: record.sequence, .backlog)
                        try rows.put(item, of: did)
                    }
                }
            }
        }
        try await change(did) { row in if row.sweeps == actor.sweeps { row.sweeps = 0 } }
    }

    private static let pageMax = 256

    private func compare(_ page: [ReactorItem], of did: DID) async throws {
        let stubs = page.map(\.path).filter { $0.collection != PublicRecords.enrollments }
        var marks = try await engine.standing(stubs, of: did) ?? [:]
        for path in page.map(\.path) where path.collection == PublicRecords.enrollments {
            marks[path] = try await wanted(at: path, of: did)?.mark
        }
        try await transaction { [marks] rows in
            for path in page.map(\.path) {
                guard var item = try rows.item(path, of: did), item.marks == 0 else { continue }
                let wanted = marks[path]
                if wanted == nil, item.done == nil, item.refusal == nil {
                    try rows.remove(path, of: did)
                } else if wanted != item.done || (wanted == nil && item.refusal != nil) {
                    // What was refused may be there all the same, from an attempt whose outcome nobody knows any more.
                    item.mark(due: 0, wanted == nil || path.collection == PublicRecords.enrollments ? .live : .backlog)
                    try rows.put(item, of: did)
                }
            }
        }
    }

    /// Finds enrollment records of this service under other keys than its own, and has them removed once ours stands.
    private func tidy(_ actor: ReactorActor) async throws(Fault) {
        let did = actor.did
        let found: [PDSRecord]
        do throws(PDSError) { found = try await pds.list(PublicRecords.enrollments, did) } catch { throw Self.fault(error) }
        let others = found.filter { publicRecords.isOurs($0.value) }
            .map { (path: RecordPath(collection: PublicRecords.enrollments, recordKey: $0.key), cid: $0.cid) }
            .filter { [path = publicRecords.enrollmentPath] in $0.path != path }
        try await ours {
            try await self.transaction { rows in
                for other in others {
                    var item = try rows.item(other.path, of: did) ?? ReactorItem(path: other.path)
                    item.done = other.cid
                    item.mark(due: 0)
                    try rows.put(item, of: did)
                }
                guard var row = try rows.actor(did) else { return }
                if row.tidies == actor.tidies { row.tidies = 0 }
                (row.attempts, row.failingSince) = (0, nil)
                try rows.put(row)
            }
        }
    }

    // MARK: Leaving

    /// Nothing of somebody who left is in public any more: the session goes back.
    private func leave(_ actor: ReactorActor) async throws(Fault) {
        let did = actor.did
        if try await ours({ try await self.engine.enrollment(of: did) }) != nil {
            // Came back: the event that says so is still to be read.
            let later = now + .seconds(1)
            return try await ours { try await self.change(did) { row in if row.leaving == actor.leaving { row.nextAttempt = later } } }
        }
        if let left = actor.left {
            do throws(PDSError) { try await revoke(did, left) } catch {
                switch error {
                case .noSession, .sessionEnded, .refused: break  // There is none any more, or the server knows of none.
                case .unavailable: throw .server(error)
                }
            }
        }
        try await ours {
            try await self.transaction { rows in
                guard var row = try rows.actor(did), row.leaving == actor.leaving else { return }
                if try rows.items(of: did, after: nil, limit: 1).isEmpty, row.sweeps == 0, row.tidies == 0 { return try rows.remove(did) }
                (row.leaving, row.left, row.failingSince) = (0, nil, nil)
                try rows.put(row)
            }
        }
    }

    // MARK: Failing

    /// Notes what kept a step from its end.
    private func note(_ fault: Fault, _ step: Step) async throws {
        switch step {
        case .item(let item, let row): try await note(fault, row, item)
        case .sweep(let row), .tidy(let row), .leave(let row): try await note(fault, row, nil)
        case .abandon, .rest: break
        }
    }

    private func note(_ fault: Fault, _ actor: ReactorActor, _ item: ReactorItem?) async throws {
        let (now, pace, fraction) = (now, pace, fraction())
        let row: ReactorActor? = try await transaction { rows in
            guard var row = try rows.actor(actor.did) else { return nil }
            row.lastError = Self.text(of: fault, item)
            // A session that came while the attempt was under way is a reason to try again at once.
            let isReconciled = row.tidies != actor.tidies
            switch fault {
            case .server(.refused(let status, let name)):
                try Self.refuse(item, of: &row, actor, "\(status) \(name)", in: rows)
                if item?.turn == .backlog { row.backlogTime = pace.backlogTime(row.backlogTime, at: now) }
            case .server(.noSession), .server(.sessionEnded):
                if let item { try Self.forget(item, of: row.did, in: rows) }
                if !isReconciled {
                    (row.state, row.attempts, row.nextAttempt, row.parkedMarks) = (.parked, 0, nil, 0)
                    if row.leaving > 0 {
                        row.failingSince = row.failingSince ?? now
                        row.nextAttempt = row.failingSince.map { $0 + pace.givesUpAfter }
                    }
                }
            case .server(.unavailable(_, let after)):
                Self.retreat(&row, pace, now, asked: after, fraction)
            case .ours, .rows:
                Self.retreat(&row, pace, now, asked: nil, fraction)
            }
            try rows.put(row)
            return row
        }
        guard let row else { return }
        switch fault {
        case .server(.refused): logger.warning("a public record was refused", metadata: Self.metadata(row))
        case .ours where row.attempts == 1: logger.error("a public record waits", metadata: Self.metadata(row))
        case .ours, .rows, .server: logger.debug("a public record waits", metadata: Self.metadata(row))
        }
    }

    /// Longer with each failure. Of somebody who left not for ever: the next look then finds that it is over.
    private static func retreat(_ row: inout ReactorActor, _ pace: ReactorPace, _ now: Timestamp, asked: Duration?, _ fraction: Double) {
        row.attempts += 1
        row.nextAttempt = now + pace.backoff(attempts: row.attempts, asked: asked, fraction: fraction)
        guard row.leaving > 0 else { return }
        row.failingSince = row.failingSince ?? now
        if isOver(row, pace, now) {
            // Looked at once more, at once, as one that is parked: that look gives up.
            row.state = .parked
            row.nextAttempt = now
        }
    }

    /// The server has answered, and that ends this attempt: the next item is tried.
    private static func refuse(
        _ item: ReactorItem?, of row: inout ReactorActor, _ taken: ReactorActor, _ refusal: String, in rows: any ReactorRows
    ) throws {
        (row.attempts, row.failingSince) = (0, nil)
        guard let item else {
            // Only a tidying ends so: what others left there stays there.
            if row.tidies == taken.tidies { row.tidies = 0 }
            return
        }
        guard var standing = try rows.item(item.path, of: row.did) else { return }
        standing.refusal = refusal
        standing.isDoubtful = false
        standing.settle(taken: item)
        try rows.put(standing, of: row.did)
    }

    /// The attempt did not leave this machine.
    private static func forget(_ item: ReactorItem, of did: DID, in rows: any ReactorRows) throws {
        guard var standing = try rows.item(item.path, of: did) else { return }
        standing.isDoubtful = item.isDoubtful
        try rows.put(standing, of: did)
    }

    private static func isOver(_ row: ReactorActor, _ pace: ReactorPace, _ now: Timestamp) -> Bool {
        row.failingSince.map { $0 + pace.givesUpAfter <= now } ?? false
    }

    private static func giveUp(_ row: inout ReactorActor) { (row.state, row.nextAttempt) = (.givenUp, nil) }

    /// By chance, 0..<1.
    private func fraction() -> Double {
        let bytes = surroundings.random(4)
        return Double(bytes.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }) / 4_294_967_296
    }

    /// A few words for whoever looks at the queue.
    private static func text(of fault: Fault, _ item: ReactorItem?) -> String {
        let place = item.map { "\($0.path): " } ?? ""
        let reason =
            switch fault {
            case .server(.noSession): "no session"
            case .server(.sessionEnded): "the server has ended the session"
            case .server(.refused(let status, let name)): "refused: \(status) \(name)"
            case .server(.unavailable(let reason, _)): "unavailable: \(reason)"
            case .ours(let reason): reason
            case .rows(let reason): "\(reason)"
            }
        return String((place + reason).prefix(300))
    }
}
