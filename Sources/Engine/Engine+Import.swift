package import ATProto
import Authorization
import Commands
package import EventLog
import Keys
import Projections

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
    private static let pieceBytes = 256 << 10

    /// Imports a repo into an empty one: the whole file is verified, every record judged, and one event carries all of it. The
    /// records keep their CIDs and the tree its root; the commit is new, with a new rev (I10), signed by the actor's key here.
    /// - Throws: `Refusal`, with nothing written.
    package func importRepo(
        _ source: ImportSource, into actor: DID, options: ImportOptions, by agent: Agent, use: SingleUse? = nil,
        progress: @Sendable (_ done: Int, _ of: Int) async throws -> Void
    ) async throws -> ImportReceipt {
        guard try await isEnrolled(actor) else { throw Refusal.notEnrolled }
        // Decided again in the lane; asked here so that nobody waits for a long file in vain.
        guard try await withCurrent(actor, { _, rows in try rows.collections().isEmpty }) else { throw Refusal.repoAlreadyExists }
        let repo = try await verified(source, of: actor, options: options, progress: progress)
        let judged = try await judge(repo, source: source, of: actor, options: options, progress: progress)
        return try await inLane(actor) {
            let prepared = try await withCurrentInLane(actor) { [self] context, rows in
                try prepareImport(judged, of: actor, agent: agent, use: use, context: context, rows: rows)
            }
            try await append(prepared.append)
            return prepared.receipt
        }
    }

    private struct VerifiedRepo: Sendable {
        let report: RepoReport
        /// In the order of their keys.
        let records: [(path: RecordPath, cid: CID)]
    }

    private struct JudgedRepo: Sendable {
        let report: RepoReport
        /// In the order of their keys.
        let records: [JudgedRecord]
        let blocks: [Block]
        let sourceCommit: [UInt8]
    }

    private func verified(
        _ source: ImportSource, of actor: DID, options: ImportOptions, progress: @Sendable (Int, Int) async throws -> Void
    ) async throws -> VerifiedRepo {
        let key: PublicKey?
        do { key = try options.verifyingKey.map { text throws(KeysError) in try PublicKey(didKey: text) } } catch {
            throw Refusal.invalidRequest("the key to verify with is no did:key of P-256 or secp256k1")
        }
        var found: [(MSTKey, CID)] = []
        let report: RepoReport
        do {
            var verifier = RepoVerifier(key: key, visit: { found.append(($0.key, $0.cid)) })
            var offset = 0
            while offset < source.size {
                let count = min(Self.pieceBytes, source.size - offset)
                try verifier.push(try source.read(offset, count))
                offset += count
                try await progress(offset / 2, source.size)
            }
            var step = try verifier.finish()
            while case .read(let offset, let count) = step { step = try verifier.answer(try source.read(offset, count)) }
            guard case .done(let done) = step else { preconditionFailure("a verifier reads or is done") }
            report = done
        } catch let error as RepoError {
            throw Refusal.invalidCAR("\(error)")
        }
        guard report.did == actor else { throw Refusal.invalidCAR("Commit DID does not match authenticated user") }
        return VerifiedRepo(report: report, records: try found.map { (try Self.path($0.0), $0.1) })
    }

    private static func path(_ key: MSTKey) throws(Refusal) -> RecordPath {
        guard let path = RecordPath(key.description) else {
            throw .invalidCAR("\(key) is not a collection and a record key")
        }
        return path
    }

    /// Reads the file a second time and judges each record where its block comes by.
    private func judge(
        _ repo: VerifiedRepo, source: ImportSource, of actor: DID, options: ImportOptions,
        progress: @Sendable (Int, Int) async throws -> Void
    ) async throws -> JudgedRepo {
        let authority = try requireAuthority()
        guard let membership = try await enrollment(of: actor)?.membership else { throw Refusal.notEnrolled }
        var judge = ImportJudge(
            rules: RecordRules(terms: authority.terms, held: membership.boundaries), lexicons: lexicons, options: options, actor: actor)
        let places = Dictionary(grouping: repo.records.indices) { repo.records[$0].cid }
        var blocks: [CID: Block] = [:]
        var sourceCommit: [UInt8] = []
        var reader = CARReader()
        var offset = 0
        while offset < source.size {
            let count = min(Self.pieceBytes, source.size - offset)
            reader.push(try source.read(offset, count))
            offset += count
            do {
                while let block = try reader.next() {
                    if block.cid == repo.report.commit { sourceCommit = block.bytes }
                    guard let indices = places[block.cid], blocks[block.cid] == nil else { continue }
                    blocks[block.cid] = Block(cid: block.cid, bytes: block.bytes)
                    for index in indices { try judge.judge(block, at: repo.records[index].path) }
                }
            } catch let error as CARError {
                throw Refusal.invalidCAR("the file changed while it was read: \(error)")
            }
            try await progress((source.size + offset) / 2, source.size)
        }
        try await judgeReplies(&judge, of: actor)
        guard judge.refused.isEmpty else { throw Refusal.recordsRefused(judge.refused.sorted { $0.path < $1.path }) }
        let records = try repo.records.map { record in
            guard let judged = judge.judged[record.path] else { throw Refusal.invalidCAR("the file changed while it was read") }
            return judged
        }
        // In the order of the keys, which is that of an export: the log then gives them back from neighbouring pages. Each once.
        let ordered = repo.records.compactMap { blocks.removeValue(forKey: $0.cid) }
        return JudgedRepo(report: repo.report, records: records, blocks: ordered, sourceCommit: sourceCommit)
    }

    /// The rule on replies, once the boundaries of every record of the file are known.
    private func judgeReplies(_ judge: inout ImportJudge, of actor: DID) async throws {
        let viewer = try await viewer(of: .user(actor))
        for (path, uri) in judge.parents {
            guard let (owner, place) = uri.place else { continue }
            if owner == actor {
                guard let parent = judge.judged[place] else { continue }
                judge.compare(path, withParent: .here(uri, parent.cid), boundaries: parent.boundaries)
            } else if let row = try await visibleRow(at: place, of: owner, to: viewer)?.content {
                let parent = RecordOperation.Parent(uri: uri, cid: row.cid, sequence: row.sequence)
                judge.compare(path, withParent: .elsewhere(parent), boundaries: row.boundaries)
            }
        }
    }

    private struct PreparedImport: Sendable {
        let append: Append
        let receipt: ImportReceipt
    }

    /// On the actor's thread.
    private func prepareImport(
        _ repo: JudgedRepo, of actor: DID, agent: Agent, use: SingleUse?, context: ActorContext, rows: any ActorRows
    ) throws -> PreparedImport {
        let state = context.state
        guard state.membership != nil, let head = state.repo else { throw Refusal.notEnrolled }
        guard try rows.collections().isEmpty else { throw Refusal.repoAlreadyExists }
        precondition(head.data == MST().root(), "I7: a repo without records has the root of the empty tree")
        let now = surroundings.now()
        var clock = revClock(upon: state, now: now)
        let rev = try clock.next()
        let operations = repo.records.map { $0.operation(sequence: state.head.sequence + 1) }
        let chunks = try RepoImport.chunks(of: operations, salt: { surroundings.random(Provenance.saltByteCount) })
        let commit = try ActorCommit.sign(did: actor, rev: rev, data: repo.report.data, with: try signingKey(of: actor, context))
        let bulk = RepoImport(
            provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), chunks: chunks.map(\.cid),
            operationCount: UInt64(operations.count), commit: commit, source: repo.sourceCommit)
        let event = try SignedEvent.sign(
            .repoImport(bulk), after: state.head, of: actor, time: eventTime(upon: state, now: now, rev: rev),
            with: try signing(state.tagKey))
        let append = Append(actor: actor, after: state.head, events: [event], blocks: repo.blocks + chunks, use: use)
        try context.prepare(append, upon: rows)
        return PreparedImport(
            append: append,
            receipt: ImportReceipt(
                imported: operations.count, commit: commit.commit(of: actor).cid, rev: rev, data: repo.report.data))
    }
}

/// A record of an import that is taken.
private struct JudgedRecord: Sendable {
    /// What it replies to, as it was judged.
    enum Parent: Sendable {
        /// In the same file, so that it gets the number of the import's own event.
        case here(ATURI, CID)
        case elsewhere(RecordOperation.Parent)
    }

    let path: RecordPath
    let cid: CID
    let size: Int
    let boundaries: BoundarySet
    let blobs: [CID]
    var parent: Parent?

    /// - Parameter sequence: the number of the import's event.
    func operation(sequence: UInt64) -> RecordOperation {
        let against: RecordOperation.Parent? =
            switch parent {
            case nil: nil
            case .here(let uri, let cid): RecordOperation.Parent(uri: uri, cid: cid, sequence: sequence)
            case .elsewhere(let parent): parent
            }
        return RecordOperation(
            path: path, change: .create(.init(cid: cid, size: size, boundaries: boundaries, against: against, blobs: blobs)))
    }
}

/// Judges the records of an import one by one; none is written unless all are taken.
private struct ImportJudge {
    let rules: RecordRules
    let lexicons: Lexicons
    let options: ImportOptions
    let actor: DID
    private(set) var judged: [RecordPath: JudgedRecord] = [:]
    private(set) var refused: [RefusedRecord] = []
    /// What the replies among the records are to.
    private(set) var parents: [RecordPath: ATURI] = [:]

    init(rules: RecordRules, lexicons: Lexicons, options: ImportOptions, actor: DID) {
        self.rules = rules
        self.lexicons = lexicons
        self.options = options
        self.actor = actor
    }

    mutating func judge(_ block: CARBlock, at path: RecordPath) throws {
        do {
            let record: Value
            do { record = try DAGCBOR.decode(block.bytes) } catch { throw Refusal.invalidRecord("\(error)") }
            let boundaries = try boundaries(of: record, at: path)
            judged[path] = JudgedRecord(
                path: path, cid: block.cid, size: block.bytes.count, boundaries: boundaries, blobs: try WriteDecider.blobs(of: record))
            if !boundaries.isEmpty, let parent = RecordRules.parentURI(of: record) { parents[path] = parent }
        } catch let refusal as Refusal {
            refused.append(RefusedRecord(path: path.description, reason: refusal.reason))
        }
    }

    private func boundaries(of record: Value, at path: RecordPath) throws(Refusal) -> BoundarySet {
        guard RecordRules.isStratos(path.collection) else {
            guard options.allowsForeignCollections else { throw .invalidCollection }
            return .empty
        }
        // A record is kept as it is, or its CID would change; so what is missing in it is not added.
        guard try RecordRules.completed(record, collection: path.collection) == record else {
            throw .invalidRecord("$type must be \(path.collection), and that of its boundary must be given")
        }
        let boundaries =
            options.dropsForeignBoundaries && rules.isForeign(record)
            ? .empty : try rules.check(record, collection: path.collection, parent: nil)
        guard lexicons.definesRecord(path.collection) else { return boundaries }
        do { try lexicons.validate(record: record, collection: path.collection, rkey: path.recordKey) } catch {
            throw .invalidRecord("\(error)")
        }
        return boundaries
    }

    mutating func compare(_ path: RecordPath, withParent parent: JudgedRecord.Parent, boundaries: BoundarySet) {
        guard var record = judged[path] else { return }
        let wider = record.boundaries.filter { !boundaries.contains($0) }
        guard wider.isEmpty else {
            return refused.append(RefusedRecord(path: path.description, reason: RecordRules.widerThanParent(wider)))
        }
        record.parent = parent
        judged[path] = record
    }
}
