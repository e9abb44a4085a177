internal import ATProto
internal import EventLog

/// Blocks that are too many for one transaction go into the file before the event that refers to them, in transactions of at
/// most 1 MiB (or what the caller of `stage` gives at a time) between the groups of others. Until that event nothing refers to
/// them; the table `staged` names their rows, so that a start after a crash removes them. This is the writer's memory of them.
struct LogStaging {
    struct Active {
        let pending: PendingAppend
        let actor: Int64
        /// Index of the first block that is not staged yet.
        var nextBlock = 0
        var ranges: [ClosedRange<Int64>] = []
    }

    /// In order of arrival; only the first makes progress.
    private var waiting: [PendingAppend] = []
    /// Beyond so many, with a megabyte or more each, `overloaded`.
    private static let waitingMax = 64
    var active: Active?
    private var finished: [ReadyAppend] = []
    /// Rows of refused appends, to be removed when nothing waits.
    private(set) var orphans: [ClosedRange<Int64>] = []
    /// Every range of rows that no event refers to yet, orphans included.
    private var unreferenced: [ClosedRange<Int64>] = []
    /// Numbers given to actors whose first append is still being staged.
    var reserved: [DID: Int64] = [:]
    /// Rows that another append has taken over while nothing referred to them yet: old row to new row.
    private var moved: [Int64: Int64] = [:]
    /// Ranges with a block whose row was taken over by an append that was then refused: it is swept with that one's rows.
    private var lost: Set<ClosedRange<Int64>> = []

    var isActive: Bool { active != nil || !waiting.isEmpty || !finished.isEmpty }
    var hasOrphans: Bool { !orphans.isEmpty }

    init(orphans: [ClosedRange<Int64>]) {
        self.orphans = orphans
        unreferenced = orphans
    }

    /// - Returns: false where too many wait.
    mutating func begin(_ pending: PendingAppend) -> Bool {
        guard waiting.count < Self.waitingMax else { return false }
        waiting.append(pending)
        return true
    }

    mutating func takeWaiting() -> PendingAppend? { waiting.isEmpty ? nil : waiting.removeFirst() }

    mutating func takeFinished() -> [ReadyAppend] {
        defer { finished = [] }
        return finished
    }

    /// Everything that still waits for an answer.
    mutating func takeAll() -> [PendingAppend] {
        defer { (waiting, active, finished) = ([], nil, []) }
        return waiting + (active.map { [$0.pending] } ?? []) + finished.map(\.pending)
    }

    /// A slice is durable. Whole: the append can be written.
    mutating func staged(_ active: Active, slice: ClosedRange<Int64>?) {
        if let slice { unreferenced.append(slice) }
        guard active.nextBlock == active.pending.append.blocks.count else {
            self.active = active
            return
        }
        finished.append(ReadyAppend(pending: active.pending, stagedRanges: active.ranges))
        self.active = nil
    }

    /// A slice is durable that an append will name.
    mutating func hold(_ slice: ClosedRange<Int64>) { unreferenced.append(slice) }

    /// Whether nothing refers to this slice yet.
    func isUnreferenced(_ slice: ClosedRange<Int64>) -> Bool { unreferenced.contains(slice) }

    mutating func abandon(_ ranges: [ClosedRange<Int64>]) {
        orphans += ranges
        for source in moved.keys where ranges.contains(where: { $0.contains(movedRow(source)) }) {
            if let range = unreferenced.first(where: { $0.contains(source) }) { lost.insert(range) }
        }
        forgetIfQuiet()
    }

    /// Whether a block that was staged in one of these is gone.
    func hasLost(_ ranges: [ClosedRange<Int64>]) -> Bool { !lost.isDisjoint(with: ranges) }

    mutating func swept(_ range: ClosedRange<Int64>) {
        orphans.removeAll { $0 == range }
        unreferenced.removeAll { $0 == range }
        lost.remove(range)
        forgetIfQuiet()
    }

    mutating func committed(_ draft: GroupDraft) {
        unreferenced.removeAll { draft.finished.contains($0) }
        for did in draft.heads.keys { reserved[did] = nil }
        moved.merge(draft.moved) { _, new in new }
    }

    /// Where a staged block stands now, if another append has taken it over meanwhile.
    private func movedRow(_ row: Int64) -> Int64 {
        var row = row
        while let next = moved[row] { row = next }
        return row
    }

    /// Whether the row may still be removed, because only an append that has not come yet refers to it.
    func isUnreferenced(_ row: Int64, beside finished: [ClosedRange<Int64>], own: [ClosedRange<Int64>]) -> Bool {
        unreferenced.contains { $0.contains(row) && !finished.contains($0) && !own.contains($0) }
    }

    private mutating func forgetIfQuiet() {
        if unreferenced.isEmpty, !isActive { (moved, lost) = ([:], []) }
    }
}

extension LogWriter {
    /// Stages at most 1 MiB of the append whose turn it is.
    func stageNextSlice() {
        guard let current = nextStaging() else { return }
        var active = current
        var draft = GroupDraft(next: next)
        let first = draft.next.lastBlock + 1
        var slice: ClosedRange<Int64>?
        var isCommitting = false
        do throws(SQLiteError) {
            let transaction = try SQLiteTransaction(on: connection)
            try stageSlice(of: &active, into: &draft)
            if draft.next.lastBlock >= first {
                slice = first...draft.next.lastBlock
                try insertStaged(first...draft.next.lastBlock)
            }
            isCommitting = true
            try transaction.commit()
        } catch {
            let refusal = refuse(error, isCommitting: isCommitting)
            guard !hasFailed else { return }  // Answered with all the others.
            staging.active = nil
            staging.abandon(current.ranges)
            current.pending.answer.resume(returning: .failure(refusal))
            return
        }
        next = draft.next
        staging.committed(draft)
        if let slice { active.ranges.append(slice) }
        staging.staged(active, slice: slice)
        state.with { $0.activity.stagings += 1 }
    }

    /// Takes in blocks for an append that is to come: one transaction, so that they are durable, or are not there.
    func stage(_ blocks: [Block], of did: DID) -> Result<StagedBlocks, EventLogError> {
        var draft = GroupDraft(next: next)
        let first = draft.next.lastBlock + 1
        let actor: Int64
        do throws(EventLogError) {
            guard let known = try entry(of: did) else { return .failure(.malformed("stage: \(did) has no log")) }
            actor = known.actor
        } catch {
            return .failure(error)
        }
        var isCommitting = false
        do throws(SQLiteError) {
            let transaction = try SQLiteTransaction(on: connection)
            try insertBlocks(blocks, of: actor, into: &draft)
            // The actor may have had all of them.
            guard draft.next.lastBlock >= first else { return .success(StagedBlocks(held: [])) }
            try insertStaged(first...draft.next.lastBlock)
            isCommitting = true
            try transaction.commit()
        } catch {
            return .failure(refuse(error, isCommitting: isCommitting))
        }
        next = draft.next
        staging.committed(draft)
        staging.hold(first...next.lastBlock)
        state.with { $0.activity.stagings += 1 }
        return .success(StagedBlocks(rows: first...next.lastBlock))
    }

    private func insertStaged(_ slice: ClosedRange<Int64>) throws(SQLiteError) {
        try connection.run(
            "INSERT INTO staged(first, last, checksum) VALUES (?, ?, ?)", .integer(slice.lowerBound), .integer(slice.upperBound),
            .integer(LogSchema.stagedChecksum(slice)))
    }

    /// The append that is being staged, or the next one, if it still names the head.
    private func nextStaging() -> LogStaging.Active? {
        if let active = staging.active { return active }
        guard !hasFailed, let pending = staging.takeWaiting() else { return nil }
        let did = pending.append.actor
        do throws(EventLogError) {
            let known = try entry(of: did)
            let head = known?.head ?? .empty
            guard head.sequence == pending.append.after.sequence, head.event == pending.append.after.event else {
                throw .headMoved(to: head)
            }
            let actor = known?.actor ?? staging.reserved[did] ?? next.takeActor()
            if known == nil { staging.reserved[did] = actor }
            let active = LogStaging.Active(pending: pending, actor: actor)
            staging.active = active
            return active
        } catch {
            pending.answer.resume(returning: .failure(error))
            return nil
        }
    }

    private func stageSlice(of active: inout LogStaging.Active, into draft: inout GroupDraft) throws(SQLiteError) {
        let blocks = active.pending.append.blocks
        var bytes = 0
        while active.nextBlock < blocks.count {
            let block = blocks[active.nextBlock]
            guard bytes == 0 || bytes + block.bytes.count <= options.groupBytesMax else { return }
            bytes += block.bytes.count
            try insert(block, of: active.actor, own: active.ranges, into: &draft)
            active.nextBlock += 1
        }
    }

    /// Writes the blocks that come with their event.
    func insertBlocks(_ blocks: [Block], of actor: Int64, into draft: inout GroupDraft) throws(SQLiteError) {
        for block in blocks { try insert(block, of: actor, own: [], into: &draft) }
    }

    /// Writes a block, or finds it where the actor has it already.
    /// - Returns: its row.
    @discardableResult
    private func insert(
        _ block: Block, of actor: Int64, own: [ClosedRange<Int64>], into draft: inout GroupDraft
    ) throws(SQLiteError) -> Int64 {
        let key = BlockKey.bytes(block.cid)
        let row = draft.next.lastBlock + 1
        let insertion = try connection.statement(
            "INSERT INTO blocks(id, actor, cid, slot, block) VALUES (?, ?, ?, NULL, ?) ON CONFLICT DO NOTHING")
        try insertion.bind(1, row)
        try insertion.bind(2, actor)
        try insertion.bind(3, key)
        try insertion.run(binding: 4, uncopied: SealedRow(plain: block.bytes).stored)
        if connection.changes == 1 { return draft.next.takeBlock() }

        let existing = try connection.single(
            "SELECT id, block IS NULL FROM blocks WHERE actor = ? AND cid = ?", .integer(actor), .blob(key)
        ) {
            ($0.integer(0), $0.integer(1) != 0)
        }
        guard let (found, isErased) = existing else {
            throw SQLiteError(operation: "insert", code: 11, message: "block row \(row) is in use", path: connection.path)
        }
        if isErased {
            try connection.run("UPDATE blocks SET block = ? WHERE id = ?", .blob(SealedRow(plain: block.bytes).stored), .integer(found))
            return found
        }
        guard staging.isUnreferenced(found, beside: draft.finished, own: own) else { return found }
        // The append that staged it may yet be refused and its rows removed: this one needs the block in a row of its own.
        try connection.run("DELETE FROM blocks WHERE id = ?", .integer(found))
        let taken = try insert(block, of: actor, own: own, into: &draft)
        draft.moved[found] = taken
        return taken
    }

    /// Removes some of what was staged for appends that were refused: one range, so that whoever writes meanwhile does not wait for all.
    func sweepOrphan() {
        guard let range = staging.orphans.first else { return }
        do throws(SQLiteError) {
            try LogStaging.sweep(range, on: connection)
            staging.swept(range)
        } catch {
            _ = refuse(error, isCommitting: true)  // A full disk: tried again at the next quiet moment, or swept at the next start.
        }
    }
}

extension LogStaging {
    static func sweep(_ range: ClosedRange<Int64>, on connection: SQLiteConnection) throws(SQLiteError) {
        try connection.transaction { () throws(SQLiteError) in
            try connection.run("DELETE FROM blocks WHERE id BETWEEN ? AND ?", .integer(range.lowerBound), .integer(range.upperBound))
            try connection.run("DELETE FROM staged WHERE first = ?", .integer(range.lowerBound))
        }
    }
}
