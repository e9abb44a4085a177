internal import ATProto
internal import EventLog

/// The one writer of `log.sqlite`, on a thread of its own.
///
/// Natural group commit: when a transaction is durable, all that has queued up meanwhile is the next one, at most 512 events or
/// 1 MiB; nobody waits for a timer. The order of one group: compare each append with the head it names (I5); one transaction
/// with events, bodies, blocks and request rows; COMMIT, which syncs the WAL; the mark, synced; then, and only then, the answers
/// (I6). What is refused for its head fails alone; what the disk refuses fails the whole group with nothing half-done.
final class LogWriter {
    enum Job: Sendable {
        case append(PendingAppend)
        /// Takes in blocks for an append that is to come.
        case stage([Block], of: DID, CheckedContinuation<Result<StagedBlocks, EventLogError>, Never>)
        /// That append will not come.
        case abandon([ClosedRange<Int64>])
        /// Removes what no longer counts at a time: old request rows, and uses of credentials that have expired.
        case expire(now: Timestamp, CheckedContinuation<Result<Int, EventLogError>, Never>)
        /// Removes some blocks of an actor whose log ends there.
        case erase(of: DID, at: Head, CheckedContinuation<Result<Int, EventLogError>, Never>)
        /// They are gone.
        case endErasure(of: DID, CheckedContinuation<Result<Void, EventLogError>, Never>)
    }

    let connection: SQLiteConnection
    let mark: MarkFile
    let state: LogState
    let options: LogStoreOptions
    private let queue: BlockingQueue<Job>
    private let checkpointer: LogCheckpointer?
    private let reader: LogReader
    private let onFatal: @Sendable (EventLogError) -> Void

    /// What the next rows are numbered from; moved only after a commit.
    var next: LogNumbers
    var staging: LogStaging
    /// Pages in the WAL at which a checkpoint is tried again while events wait.
    private var checkpointPages: Int
    /// Pages in the WAL when it was last looked at.
    private var seenPages = 0

    init(
        opened: sending OpenedLog, state: LogState, queue: BlockingQueue<Job>, checkpointer: LogCheckpointer?,
        options: LogStoreOptions, onFatal: @escaping @Sendable (EventLogError) -> Void
    ) {
        connection = opened.connection
        mark = opened.mark
        next = opened.next
        staging = LogStaging(orphans: opened.orphans)
        reader = LogReader(connection: opened.connection)
        self.state = state
        self.queue = queue
        self.checkpointer = checkpointer
        self.options = options
        self.onFatal = onFatal
        checkpointPages = options.checkpointPages
    }

    /// The life of the thread: until the queue is closed and empty.
    func run() {
        while true {
            var budget = GroupBudget(options)
            let jobs = queue.take(wait: wait, while: { budget.admits($0) })
            guard jobs != nil || staging.isActive else { break }
            handle(jobs ?? [])
            stageNextSlice()
            checkpointIfDue(isIdle: jobs?.isEmpty ?? true)
        }
        finish()
    }

    private var wait: BlockingQueue<Job>.Wait {
        if staging.isActive { return .none }
        return connection.walPages > 0 || staging.hasOrphans ? .milliseconds(options.idleMilliseconds) : .forever
    }

    private func handle(_ jobs: [Job]) {
        if let failure { refuseStaged(failure) }
        var group = staging.takeFinished()
        var stagings: [([Block], DID, CheckedContinuation<Result<StagedBlocks, EventLogError>, Never>)] = []
        var later: [() -> Void] = []
        for job in jobs {
            switch job {
            case .append(let pending) where pending.isStaged:
                if !staging.begin(pending) { pending.answer.resume(returning: .failure(.overloaded)) }
            case .append(let pending): group.append(ReadyAppend(pending: pending))
            case .stage(let blocks, let actor, let answer): stagings.append((blocks, actor, answer))
            case .abandon(let ranges): staging.abandon(ranges.filter(staging.isUnreferenced))
            case .expire(let now, let answer): later.append { answer.resume(returning: self.expire(now: now)) }
            case .erase(let actor, let head, let answer):
                later.append { answer.resume(returning: self.failure.map { .failure($0) } ?? self.eraseBlocks(of: actor, at: head)) }
            case .endErasure(let actor, let answer):
                later.append { answer.resume(returning: self.failure.map { .failure($0) } ?? self.endErasure(of: actor)) }
            }
        }
        if !group.isEmpty { commit(group) }
        for (blocks, actor, answer) in stagings { answer.resume(returning: failure.map { .failure($0) } ?? stage(blocks, of: actor)) }
        for job in later { job() }
    }

    // MARK: One group

    private func commit(_ group: [ReadyAppend]) {
        if let failure { return settle(group, .failure(failure)) }
        var draft = GroupDraft(next: next)
        var isCommitting = false
        do throws(SQLiteError) {
            let transaction = try SQLiteTransaction(on: connection)
            for ready in group { draft.outcomes.append(try write(ready, into: &draft)) }
            if draft.last != nil {
                isCommitting = true
                try transaction.commit()
            }
        } catch {
            return settle(group, .failure(refuse(error, isCommitting: isCommitting)))
        }
        if let last = draft.last {
            next = draft.next
            staging.committed(draft)
            do throws(SQLiteError) { try mark.write(last) } catch {
                guard error.isNoSpace else { return settle(group, .failure(fail(EventLogError(error)))) }
                return leaveUnmarked(group, draft, last, error)
            }
            publish(draft, last)
        }
        // The checkpointer's thread may have found meanwhile that the disk does not keep what it is given.
        if let failure { return settle(group, .failure(failure)) }
        for (ready, outcome) in zip(group, draft.outcomes) { settle([ready], outcome) }
    }

    /// The group is in the log, and the disk has no room for its mark: file systems that never write in place need some. Nobody
    /// is told that it is there (I6), nor that it is not; the next group's mark covers it.
    private func leaveUnmarked(_ group: [ReadyAppend], _ draft: GroupDraft, _ last: MarkFile.Mark, _ error: SQLiteError) {
        publish(draft, last)
        state.with { $0.activity.refusals += 1 }
        let unknown = EventLogError.storage(operation: "\(MarkFile.fileName): \(error.operation)", code: error.code)
        for (ready, outcome) in zip(group, draft.outcomes) {
            if case .failure = outcome { settle([ready], outcome) } else { ready.pending.answer.resume(returning: .failure(unknown)) }
        }
    }

    /// Answers; what was staged for a refused append is nobody's from here on.
    private func settle(_ group: [ReadyAppend], _ outcome: Result<[Appended], EventLogError>) {
        for ready in group {
            if case .failure = outcome { staging.abandon(ready.stagedRanges) }
            ready.pending.answer.resume(returning: outcome)
        }
    }

    /// Writes one append, or says why it is refused; throws only what must end the group.
    private func write(_ ready: ReadyAppend, into draft: inout GroupDraft) throws(SQLiteError) -> Result<[Appended], EventLogError> {
        let append = ready.pending.append
        let known: HeadCache.Entry?
        do throws(EventLogError) {
            known = if let entry = draft.heads[append.actor] { entry } else { try entry(of: append.actor) }
        } catch {
            // A read that the disk refused, or that had to make room and found none, has ended the transaction: what the others write
            // would be committed row by row.
            guard connection.isInTransaction else {
                let code: Int32 = error == .noSpace ? 13 : 10  // SQLITE_FULL, SQLITE_IOERR
                throw SQLiteError(operation: "read", code: code, message: error.description, path: connection.path)
            }
            return .failure(error)
        }
        let head = known?.head ?? .empty
        guard head.sequence == append.after.sequence, head.event == append.after.event else { return .failure(.headMoved(to: head)) }
        guard append.events[0].event.time >= head.time ?? append.events[0].event.time else {
            return .failure(.malformed("event: time: before its predecessor's"))
        }
        guard append.staged.allSatisfy(staging.isUnreferenced) else {
            return .failure(.malformed("append: staged: rows that are not staged"))
        }
        let ranges = append.staged + ready.stagedRanges
        guard !staging.hasLost(ranges) else { return .failure(.overloaded) }
        guard let positions = draft.next.positions(for: append.events) else {
            return .failure(.malformed("service.start: opens a generation that is not later than the log's"))
        }

        if let use = append.use { guard try insert(use) else { return .failure(.alreadyUsed) } }
        let actor = if let known { known.actor } else { try insertActor(append.actor, into: &draft) }
        for (signed, position) in zip(append.events, positions) { try insert(signed, at: position, of: actor) }
        if !ready.pending.isStaged { try insertBlocks(append.blocks, of: actor, into: &draft) }
        if let request = append.request {
            try insert(request, at: positions[Int(request.sequence - append.events[0].event.sequence)])
        }
        if append.erasesBlocks { try insertErasure(of: actor, at: append.head.sequence) }
        for range in ranges { try connection.run("DELETE FROM staged WHERE first = ?", .integer(range.lowerBound)) }

        let lastEvent = append.events[append.events.count - 1]
        draft.next.position = positions[positions.count - 1]
        draft.events += UInt64(append.events.count)
        draft.last = MarkFile.Mark(position: draft.next.position, digest: lastEvent.cid.digest)
        draft.heads[append.actor] = HeadCache.Entry(actor: actor, head: append.head)
        draft.finished += ranges
        return .success(append.appended)
    }

    /// The head as the file has it, where it is not remembered; nil for an actor without a log.
    func entry(of did: DID) throws(EventLogError) -> HeadCache.Entry? {
        if let entry = state.with({ $0.heads.find(did) }) { return entry }
        guard let row = try reader.actorRow(did) else { return nil }
        let entry = HeadCache.Entry(actor: row, head: try reader.head(of: did, row: row))
        state.with { $0.heads.set(did, entry) }
        return entry
    }

    private func insertActor(_ did: DID, into draft: inout GroupDraft) throws(SQLiteError) -> Int64 {
        let id = staging.reserved[did] ?? draft.next.takeActor()
        try connection.run(
            "INSERT INTO actors(id, did, checksum) VALUES (?, ?, ?)", .integer(id), .text(did.description),
            .integer(LogSchema.actorChecksum(id: id, did: did.description)))
        draft.actors += 1
        return id
    }

    private func insert(_ signed: SignedEvent, at position: UInt64, of actor: Int64) throws(SQLiteError) {
        let event = try connection.statement(
            "INSERT INTO events(position, actor, sequence, event, tag, checksum) VALUES (?, ?, ?, ?, ?, ?)")
        try event.bind(1, position)
        try event.bind(2, actor)
        try event.bind(3, signed.event.sequence)
        try event.bind(4, signed.bytes)
        let tag = signed.leaf[1..<33]
        let outcome: Result<Int64, SQLiteError> = tag.withUnsafeBytes { tag in
            Result { () throws(SQLiteError) in
                try event.bind(5, tag)
                return LogSchema.eventChecksum(position: position, digest: signed.cid.digest, tag: tag)
            }
        }
        try event.bind(6, try outcome.get())
        try event.run()

        let body = try connection.statement("INSERT INTO bodies(position, slot, body) VALUES (?, NULL, ?)")
        try body.bind(1, position)
        try body.run(binding: 2, uncopied: SealedRow(plain: signed.bodyBytes).stored)
    }

    private func insert(_ request: RequestRow, at position: UInt64) throws(SQLiteError) {
        // A scope that is there already is of a request too old to count: who decides holds the clock.
        try connection.run(
            "INSERT OR REPLACE INTO requests(scope, input, sequence, time, position, checksum) VALUES (?, ?, ?, ?, ?, ?)",
            .blob(request.scope), .blob(request.input), .integer(Int64(bitPattern: request.sequence)), .integer(request.time.milliseconds),
            .integer(Int64(bitPattern: position)), .integer(LogSchema.requestChecksum(request, position: position)))
    }

    /// - Returns: false where it was used before; then nothing is written.
    private func insert(_ use: SingleUse) throws(SQLiteError) -> Bool {
        try connection.run(
            "INSERT INTO uses(scope, expires, checksum) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", .blob(use.scope), .integer(use.expires),
            .integer(LogSchema.useChecksum(use)))
        return connection.changes == 1
    }

    private func publish(_ draft: GroupDraft, _ last: MarkFile.Mark) {
        let appends = draft.outcomes.count { outcome in if case .success = outcome { true } else { false } }
        state.with { published in
            for (did, entry) in draft.heads { published.heads.set(did, entry) }
            published.position = last.position
            published.events += draft.events
            published.actors += draft.actors
            published.activity.groups += 1
            published.activity.appends += UInt64(appends)
            published.activity.events += draft.events
        }
    }

    // MARK: Refusals

    /// What a failed transaction means: a full disk refuses it and no more, a failed write or sync ends the store, because after
    /// it nobody knows what the disk holds.
    func refuse(_ error: SQLiteError, isCommitting: Bool) -> EventLogError {
        if error.isNoSpace {
            state.with { $0.activity.refusals += 1 }
            return .noSpace
        }
        let refusal = EventLogError(error)
        guard isCommitting || error.isInputOutput || error.isCorruption || error.isConstraint else { return refusal }
        return fail(refusal)
    }

    @discardableResult
    func fail(_ error: EventLogError) -> EventLogError {
        if state.end(with: error) { onFatal(error) }
        let failure = failure ?? error
        refuseStaged(failure)
        return failure
    }

    private func refuseStaged(_ failure: EventLogError) {
        for pending in staging.takeAll() { pending.answer.resume(returning: .failure(failure)) }
    }

    /// Why the store has ended; nil while it has not.
    private var failure: EventLogError? { state.failure }

    var hasFailed: Bool { failure != nil }

    private func expire(now: Timestamp) -> Result<Int, EventLogError> {
        if let failure { return .failure(failure) }
        do throws(SQLiteError) {
            // Rows stand in the order they were made, so the old ones are the first ones; in slices, so that writers never wait long.
            let keptFrom = now.milliseconds - RequestRow.millisecondsMax + 1
            var removed = 0
            try connection.transaction { () throws(SQLiteError) in
                try connection.run(
                    "DELETE FROM requests WHERE id IN (SELECT id FROM requests ORDER BY id LIMIT 500) AND time < ?",
                    .integer(keptFrom))
                removed = connection.changes
                if removed > 0 {
                    try connection.run("UPDATE meta SET value = max(value, ?) WHERE name = 'requestsKeptFrom'", .integer(keptFrom))
                }
                // Uses expire nearly in the order they were made.
                try connection.run(
                    "DELETE FROM uses WHERE id IN (SELECT id FROM uses ORDER BY id LIMIT 500) AND expires < ?",
                    .integer(now.milliseconds / 1000))
                removed += connection.changes
            }
            return .success(removed)
        } catch {
            return .failure(refuse(error, isCommitting: true))
        }
    }

    // MARK: Checkpoints

    /// Moves the WAL's pages into the file, off the path of any answer: when nothing waits, or when the WAL is past its size and the
    /// checkpointer has left little of it.
    private func checkpointIfDue(isIdle: Bool) {
        guard !hasFailed else { return }
        if isIdle { sweepOrphan() }
        let pages = connection.walPages
        if pages < seenPages { checkpointer?.forget() }
        seenPages = pages
        guard pages > 0, isIdle || pages >= checkpointPages else { return }
        if !isIdle, let checkpointer, pages < 4 * options.checkpointPages {
            if checkpointer.takeDiskFull() { return waitForRoom(pages) }
            if checkpointer.left(of: pages) > options.checkpointRestPages { return checkpointer.request() }
        }
        do throws(SQLiteError) {
            let left = try connection.checkpoint().left
            checkpointPages = options.checkpointPages + left
            state.with { $0.activity.checkpoints += 1 }
        } catch {
            if error.isNoSpace { waitForRoom(pages) } else if !error.isBusy { fail(EventLogError(error)) }
        }
    }

    private func waitForRoom(_ pages: Int) { checkpointPages = pages + options.checkpointPages / 4 }

    private func finish() {
        checkpointer?.close()
        if !hasFailed {
            // Everything acknowledged is durable already: this only makes the log one file again.
            connection.checkpointsWhenClosed = true
        }
        connection.close()
    }
}

/// How much one transaction takes from the queue.
private struct GroupBudget {
    private let options: LogStoreOptions
    private var events = 0
    private var bytes = 0
    private var stagings = 0

    init(_ options: LogStoreOptions) { self.options = options }

    /// Counts the job in, and says whether the group is still within its bounds with it.
    mutating func admits(_ job: LogWriter.Job) -> Bool {
        // One transaction of staging between two groups.
        if case .stage = job {
            stagings += 1
            return stagings <= 1
        }
        guard case .append(let pending) = job, !pending.isStaged else { return true }
        events += pending.append.events.count
        bytes += pending.byteCount
        return events <= options.groupEventsMax && bytes <= options.groupBytesMax
    }
}

/// What the next rows are numbered from.
struct LogNumbers: Hashable, Sendable {
    /// Raw cursor of the last event.
    var position: UInt64
    var lastActor: Int64
    var lastBlock: Int64

    /// No log comes to so many actors or blocks.
    static let rowMax: Int64 = 1 << 53

    mutating func takeActor() -> Int64 {
        lastActor += 1
        return lastActor
    }

    mutating func takeBlock() -> Int64 {
        lastBlock += 1
        return lastBlock
    }

    /// The raw cursors of the events: one after the other, or from 1 of the generation that an event opens; nil where that would go back (I13).
    func positions(for events: [SignedEvent]) -> [UInt64]? {
        var last = position
        var positions: [UInt64] = []
        positions.reserveCapacity(events.count)
        for signed in events {
            if let generation = signed.opensGeneration {
                guard let cursor = StreamCursor(generation: generation, position: 1), cursor.rawValue > last else { return nil }
                last = cursor.rawValue
            } else {
                last += 1
            }
            positions.append(last)
        }
        return positions
    }
}

/// An append in the writer's queue.
struct PendingAppend: Sendable {
    let append: Append
    /// Events, bodies and blocks.
    let byteCount: Int
    /// Its blocks are too many for one transaction and go before it.
    let isStaged: Bool
    let answer: CheckedContinuation<Result<[Appended], EventLogError>, Never>
}

/// An append whose blocks are staged, or few enough to be written with it.
struct ReadyAppend {
    let pending: PendingAppend
    var stagedRanges: [ClosedRange<Int64>] = []
}

/// What one transaction would change, believed only when it is durable.
struct GroupDraft {
    var next: LogNumbers
    var outcomes: [Result<[Appended], EventLogError>] = []
    var heads: [DID: HeadCache.Entry] = [:]
    /// Of the last event written; nil while nothing is.
    var last: MarkFile.Mark?
    var events: UInt64 = 0
    var actors: UInt64 = 0
    /// Block rows that were taken from another append's staging: old row to new row.
    var moved: [Int64: Int64] = [:]
    /// Staged ranges that are referred to from here on.
    var finished: [ClosedRange<Int64>] = []

    init(next: LogNumbers) { self.next = next }
}
