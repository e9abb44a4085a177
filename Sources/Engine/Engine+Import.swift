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
        let repo = try await verified(source, of: actor, options: options, progress: progress)
        let judged = try await judge(repo, source: source, of: actor, options: options, progress: progress)
        return try await lanes.run(actor) {
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
        let operations: [RecordOperation]
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
        let operations = try repo.records.map { record in
            guard let written = judge.written[record.path] else { throw Refusal.invalidCAR("the file changed while it was read") }
            return RecordOperation(path: record.path, change: .create(written))
        }
        return JudgedRepo(report: repo.report, operations: operations, blocks: Array(blocks.values), sourceCommit: sourceCommit)
    }

    /// The rule on replies, once the boundaries of every record of the file are known.
    private func judgeReplies(_ judge: inout ImportJudge, of actor: DID) async throws {
        let viewer = try await viewer(of: .user(actor))
        for (path, uri) in judge.parents {
            guard case .did(let owner) = uri.authority, let collection = uri.collection, let recordKey = uri.recordKey else { continue }
            let parent = RecordPath(collection: collection, recordKey: recordKey)
            let boundaries =
                if owner == actor, let written = judge.written[parent] {
                    written.boundaries
                } else {
                    try await visibleRow(at: parent, of: owner, to: viewer)?.content.boundaries
                }
            if let boundaries { judge.compare(path, withParentOf: boundaries) }
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
        let (rev, time) = try next(upon: state, now: surroundings.now())
        let chunks = try RepoImport.chunks(of: repo.operations, salt: { surroundings.random(Provenance.saltByteCount) })
        let commit = try ActorCommit.sign(did: actor, rev: rev, data: repo.report.data, with: try signingKey(of: actor, context))
        let bulk = RepoImport(
            provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), chunks: chunks.map(\.cid),
            operationCount: UInt64(repo.operations.count), commit: commit, source: repo.sourceCommit)
        let event = try SignedEvent.sign(.repoImport(bulk), after: state.head, of: actor, time: time, with: try signing(state.tagKey))
        return PreparedImport(
            append: Append(actor: actor, after: state.head, events: [event], blocks: repo.blocks + chunks, use: use),
            receipt: ImportReceipt(
                imported: repo.operations.count, commit: commit.commit(of: actor).cid, rev: rev, data: repo.report.data))
    }
}

/// Judges the records of an import one by one; none is written unless all are taken.
private struct ImportJudge {
    let rules: RecordRules
    let lexicons: Lexicons
    let options: ImportOptions
    let actor: DID
    private(set) var written: [RecordPath: RecordOperation.Written] = [:]
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
            written[path] = RecordOperation.Written(
                cid: block.cid, size: block.bytes.count, boundaries: boundaries, blobs: try WriteDecider.blobs(of: record))
            if !boundaries.isEmpty, let parent = RecordRules.parentURI(of: record) { parents[path] = parent }
        } catch let refusal as Refusal {
            refused.append(RefusedRecord(path: path.description, reason: refusal.reason))
        }
    }

    private func boundaries(of record: Value, at path: RecordPath) throws(Refusal) -> BoundarySet {
        guard path.collection.description.hasPrefix("zone.stratos.") else {
            guard options.allowsForeignCollections else { throw .invalidCollection }
            return .empty
        }
        if options.dropsForeignBoundaries, rules.isForeign(record) { return .empty }
        // A record is kept as it is, or its CID would change; so what is missing in it is not added.
        guard try RecordRules.completed(record, collection: path.collection) == record else {
            throw .invalidRecord("$type must be \(path.collection), and that of its boundary must be given")
        }
        let boundaries = try rules.check(record, collection: path.collection, parent: nil)
        do { try lexicons.validate(record: record, collection: path.collection, rkey: path.recordKey) } catch {
            throw .invalidRecord("\(error)")
        }
        return boundaries
    }

    mutating func compare(_ path: RecordPath, withParentOf boundaries: BoundarySet) {
        guard let wider = written[path]?.boundaries.filter({ !boundaries.contains($0) }), !wider.isEmpty else { return }
        refused.append(RefusedRecord(path: path.description, reason: RecordRules.widerThanParent(wider)))
    }
}
