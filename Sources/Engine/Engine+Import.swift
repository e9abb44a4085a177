package import ATProto
import Authorization
import Commands
package import EventLog
import Keys
import Projections
import Synchronization

/// A CAR file that is to be imported, read in pieces.
package struct ImportSource: Sendable {
    /// Bytes.
    package let size: Int
    /// Reads exactly `count` bytes at `offset`.
    package let read: @Sendable (_ offset: Int, _ count: Int) throws -> [UInt8]

    package init(size: Int, read: @escaping @Sendable (_ offset: Int, _ count: Int) throws -> [UInt8]) {
        self.size = size
        self.read = read
    }
}

package struct ImportReceipt: Hashable, Sendable {
    package let imported: Int
    package let commit: CID
    package let rev: TID
    /// The root of the MST, the one that the file came with.
    package let data: CID
}

extension Engine {
    /// Imports a repo into an empty one: the whole file is verified, every record judged, and one event carries all of it. The
    /// records keep their CIDs and the tree its root; the commit is new, with a new rev (I10), signed by the actor's key here.
    /// - Throws: `Refusal`, with the repo as it was.
    package func importRepo(
        _ source: ImportSource, into actor: DID, options: ImportOptions, by agent: Agent, use: SingleUse? = nil,
        progress: @Sendable (_ done: Int, _ of: Int) async throws -> Void
    ) async throws -> ImportReceipt {
        // One at a time, in a lane of its own: what was staged is one import's, and writes need not wait for it.
        try await imports.run(actor) {
            try await importAlone(source, into: actor, options: options, by: agent, use: use, progress: progress)
        }
    }

    /// The member whose empty repo may take an import; others do not. Decided again in the lane of writes; asked before, so that nobody
    /// waits for a long file in vain.
    /// - Throws: `Refusal.notEnrolled`, `Refusal.repoAlreadyExists`.
    @discardableResult
    package func requireEmptyRepo(of actor: DID) async throws -> EnrollmentSummary {
        guard let member = try await enrollment(of: actor) else { throw Refusal.notEnrolled }
        guard try await withCurrent(actor, { _, rows in try rows.collections().isEmpty }) else { throw Refusal.repoAlreadyExists }
        return member
    }

    private func importAlone(
        _ source: ImportSource, into actor: DID, options: ImportOptions, by agent: Agent, use: SingleUse?,
        progress: @Sendable (_ done: Int, _ of: Int) async throws -> Void
    ) async throws -> ImportReceipt {
        let member = try await requireEmptyRepo(of: actor)
        let repo = try await judge(source, of: member, options: options, progress: progress)
        do {
            return try await inMembersLane(actor) {
                let head = try await withCurrentInLane(actor) { context, _ in context.state.head }
                let chunks = try await chunks(of: repo.records, sequence: head.sequence + 1)
                let prepared = try await withCurrentInLane(actor) { [self] context, rows in
                    guard context.state.head == head else { throw EventLogError.headMoved(to: context.state.head) }
                    // Judged for an enrollment that is over, the records are not those of another; and its blocks may be gone.
                    guard let membership = context.state.membership, membership.sequence == member.membership.sequence else {
                        throw Refusal.notEnrolled
                    }
                    guard member.membership.boundaries.allSatisfy(membership.boundaries.contains) else {
                        throw Refusal.invalidRequest("boundaries were taken away while the file was read; import it again")
                    }
                    return try prepareImport(repo, chunks, of: actor, agent: agent, use: use, context: context, rows: rows)
                }
                try await append(prepared.append)
                return prepared.receipt
            }
        } catch {
            await log.abandon(repo.staged)
            throw error
        }
    }

    private struct JudgedRepo: Sendable {
        let report: RepoReport
        /// In the order of their keys.
        let records: [JudgedRecord]
        /// Their blocks, nearly in that order, which is that of an export: the log then gives them back from neighbouring pages.
        let staged: [StagedBlocks]
    }

    /// Batches of records that are judged and staged at a time: enough that one is always worked on while others wait for the disk.
    private static let batchesAtOnce = 4

    /// Verifies the file from start to end, judges the records as they are found, and stages their blocks in the log: what is held in
    /// memory does not grow with them. Nothing refers to the blocks before the import's event; where it is refused they are removed.
    private func judge(
        _ source: ImportSource, of member: EnrollmentSummary, options: ImportOptions, progress: @Sendable (Int, Int) async throws -> Void
    ) async throws -> JudgedRepo {
        let authority = try requireAuthority()
        let actor = member.did
        let judge = ImportJudge(
            rules: RecordRules(terms: authority.terms, held: member.membership.boundaries), lexicons: lexicons, options: options)
        var scan = try ImportScan(source, of: actor, verifyingKey: options.verifyingKey)
        var records: [JudgedRecord] = []
        var refused: [RefusedRecord] = []
        let staged = StagedSoFar()
        do {
            try await inOrder(atOnce: Self.batchesAtOnce) {
                try scan.next()
            } make: { [log] batch in
                let judged = try await judge.judge(batch, of: source)
                if judged.refused.isEmpty { staged.add(try await log.stage(judged.blocks, of: actor)) }
                return (records: judged.records, refused: judged.refused, end: batch.end)
            } take: { batch in
                records += batch.records
                refused += batch.refused
                // Nobody waits to the end of a long file for somebody who has left.
                guard try await enrollment(of: actor)?.membership.sequence == member.membership.sequence else { throw Refusal.notEnrolled }
                try await progress(batch.end, source.size)
            }
            let report = try scan.report()
            try await judgeReplies(among: &records, refusing: &refused, of: actor)
            guard refused.isEmpty else { throw Refusal.recordsRefused(refused.sorted { $0.path < $1.path }) }
            return JudgedRepo(report: report, records: records, staged: staged.all)
        } catch {
            await log.abandon(staged.all)
            throw error
        }
    }

    /// The rule on replies, once the boundaries of every record of the file are known.
    private func judgeReplies(among records: inout [JudgedRecord], refusing refused: inout [RefusedRecord], of actor: DID) async throws {
        let replies = records.indices.filter { records[$0].named != nil }
        guard !replies.isEmpty else { return }
        let owners = Set(replies.compactMap { records[$0].named?.place?.owner })
        let known = try await log.withLog(among: owners.filter { $0 != actor }.sorted())
        var places: [RecordPath: Int] = [:]
        if owners.contains(actor) {
            places.reserveCapacity(records.count)
            for (index, record) in records.enumerated() { places[record.path] = index }
        }
        let viewer = try await viewer(of: .user(actor))
        for index in replies {
            guard let uri = records[index].named, let (owner, place) = uri.place else { continue }
            var found: (parent: JudgedRecord.Reply, boundaries: BoundarySet)?
            if owner == actor {
                found = places[place].map { (.here(uri, records[$0].cid), records[$0].boundaries) }
            } else if known.contains(owner), let row = try await visibleRow(at: place, of: owner, to: viewer)?.content {
                found = (.elsewhere(RecordOperation.Parent(uri: uri, cid: row.cid, sequence: row.sequence)), row.boundaries)
            }
            guard let found else { continue }
            let wider = records[index].boundaries.filter { !found.boundaries.contains($0) }
            if wider.isEmpty {
                records[index].reply = found.parent
            } else {
                refused.append(RefusedRecord(path: records[index].path.description, reason: RecordRules.widerThanParent(wider)))
            }
        }
    }

    /// A chunk of operations, and what is read back from its block.
    private struct WrittenChunk: Sendable {
        let block: Block
        let chunk: RepoImport.Chunk
    }

    /// The operations that the import's event links, written and read back on all processors.
    private func chunks(of records: [JudgedRecord], sequence: UInt64) async throws -> [WrittenChunk] {
        var chunks: [WrittenChunk] = []
        var left = records[...]
        try await inOrder(atOnce: Self.batchesAtOnce) {
            guard !left.isEmpty else { return nil as ArraySlice<JudgedRecord>? }
            defer { left = left.dropFirst(RepoImport.Chunk.operationsMax) }
            return left.prefix(RepoImport.Chunk.operationsMax)
        } make: { [surroundings] slice in
            let operations = slice.lazy.map { $0.operation(sequence: sequence) }
            return try RepoImport.chunks(
                of: operations, first: UInt64(slice.startIndex), salt: { surroundings.random(Provenance.saltByteCount) }
            ).map { WrittenChunk(block: $0, chunk: try RepoImport.Chunk(bytes: $0.bytes)) }
        } take: {
            chunks += $0
        }
        return chunks
    }

    private struct PreparedImport: Sendable {
        let append: Append
        let receipt: ImportReceipt
    }

    /// On the actor's thread.
    private func prepareImport(
        _ repo: JudgedRepo, _ chunks: [WrittenChunk], of actor: DID, agent: Agent, use: SingleUse?, context: ActorContext,
        rows: any ActorRows
    ) throws -> PreparedImport {
        let state = context.state
        guard state.membership != nil, let head = state.repo else { throw Refusal.notEnrolled }
        guard try rows.collections().isEmpty else { throw Refusal.repoAlreadyExists }
        // I7: a repo without records has the root of the empty tree; other rows are not those of the log.
        guard head.data == MST().root() else { throw FoldError.rootDiffers(actor: actor, at: head.sequence) }
        let now = surroundings.now()
        var clock = revClock(upon: state, now: now)
        let rev = try clock.next()
        let commit = try ActorCommit.sign(did: actor, rev: rev, data: repo.report.data, with: try signingKey(of: actor, context))
        let bulk = RepoImport(
            provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), chunks: chunks.map(\.block.cid),
            operationCount: UInt64(repo.records.count), commit: commit, source: repo.report.head.block)
        let event = try SignedEvent.sign(
            .repoImport(bulk), after: state.head, of: actor, time: eventTime(upon: state, now: now, rev: rev),
            with: try signing(state.tagKey))
        let append = Append(
            actor: actor, after: state.head, events: [event], blocks: repo.staged.flatMap(\.held) + chunks.map(\.block),
            staged: repo.staged.compactMap(\.rows), use: use)
        let readBack = Dictionary(chunks.map { ($0.block.cid, $0.chunk) }) { first, _ in first }
        try context.prepare(append, chunks: readBack, upon: rows)
        return PreparedImport(
            append: append,
            receipt: ImportReceipt(
                imported: repo.records.count, commit: commit.commit(of: actor).cid, rev: rev, data: repo.report.data))
    }
}

/// What has been staged, by whichever batch was done first.
private final class StagedSoFar: Sendable {
    private let staged = Mutex<[StagedBlocks]>([])

    var all: [StagedBlocks] { staged.withLock { $0 } }

    func add(_ blocks: StagedBlocks) { staged.withLock { $0.append(blocks) } }
}
