import ATProto
import Authorization
package import Commands
import EventLog
import Keys
import Projections

extension Engine {
    /// Writes records: one commit, one event, durable before it returns (I6).
    /// - Throws: `Refusal` with nothing written.
    package func write(_ request: WriteRequest) async throws -> WriteReceipt {
        let parents = try await judgeParents(of: request)
        return try await lanes.run(request.repo) {
            if let earlier = try await receipt(ofEarlier: request) { return earlier }
            let prepared = try await withCurrentInLane(request.repo) { [self] context, rows in
                try prepare(request, parents: parents, context: context, rows: rows)
            }
            if let append = prepared.append { try await self.append(append) }
            return prepared.receipt
        }
    }

    private struct PreparedWrite: Sendable {
        /// Nil where there is nothing to do.
        let append: Append?
        let receipt: WriteReceipt
    }

    /// On the actor's thread: decides and signs. Nothing has happened yet.
    private func prepare(
        _ request: WriteRequest, parents: [String: JudgedParent], context: ActorContext, rows: any ActorRows
    ) throws -> PreparedWrite {
        let state = context.state
        let authority = try requireAuthority()
        let now = surroundings.now()
        let (rev, time) = try next(upon: state, now: now)
        var keyClock = TIDClock(clockID: clockID, last: state.revFloor)
        let decider = WriteDecider(terms: authority.terms, lexicons: lexicons)
        let decision = try decider.decide(
            request, upon: state, tree: context.tree, parents: parents, row: { try rows.record($0) },
            freshRecordKey: { try RecordKey(keyClock.next(microseconds: now).description) })
        guard let repo = state.repo else { throw Refusal.notEnrolled }
        guard let decision else {
            let results = request.writes.compactMap { write in
                write.recordKey.map { WriteReceipt.Result(path: RecordPath(collection: write.collection, recordKey: $0), cid: nil) }
            }
            return PreparedWrite(append: nil, receipt: WriteReceipt(results: results, commit: repo.commit, rev: repo.rev, isNew: false))
        }
        let commit = try ActorCommit.sign(did: request.repo, rev: rev, data: decision.data, with: try signingKey(of: request.repo, context))
        let provenance = Provenance(
            salt: surroundings.random(Provenance.saltByteCount), by: request.agent, request: request.client)
        let body = EventBody.repoWrite(RepoWrite(provenance: provenance, operations: decision.operations, commit: commit))
        let event: SignedEvent
        do {
            event = try SignedEvent.sign(body, after: state.head, of: request.repo, time: time, with: try signing(state.tagKey))
        } catch EventLogError.tooLarge(let bytes, let max) {
            throw Refusal.invalidRequest("what is to be said of these writes takes \(bytes) bytes, and an event holds \(max)")
        }
        let row = request.client.map { client in
            RequestRow(
                scope: RequestRow.scope(actor: request.repo, by: request.agent, request: client), input: client.input,
                sequence: event.event.sequence, time: time)
        }
        let append = Append(
            actor: request.repo, after: state.head, events: [event], blocks: decision.blocks, request: row, use: request.use)
        let receipt = WriteReceipt(results: decision.results, commit: commit.commit(of: request.repo).cid, rev: rev, isNew: true)
        return PreparedWrite(append: append, receipt: receipt)
    }

    /// The key that signs the actor's commits, which must be the one that the log says.
    func signingKey(of actor: DID, _ context: ActorContext) throws -> PrivateKey {
        if let key = context.signingKey { return key }
        guard let key = try keys.read(actor), key.publicKey == context.state.signingKey else {
            throw OperatorFailure(
                exitCode: 3, name: "KeyMissing", message: "the signing key of \(actor) is not in the data directory, or is another one")
        }
        context.signingKey = key
        return key
    }

    /// The records that these replies are to, as their author may see them: what the author may not read is unknown.
    private func judgeParents(of request: WriteRequest) async throws -> [String: JudgedParent] {
        var judged: [String: JudgedParent] = [:]
        var viewer: Viewer?
        for uri in Set(request.writes.compactMap { $0.record.flatMap(RecordRules.parentURI) }) {
            guard case .did(let owner) = uri.authority, let collection = uri.collection, let recordKey = uri.recordKey else { continue }
            if viewer == nil { viewer = try await self.viewer(of: .user(request.repo)) }
            let path = RecordPath(collection: collection, recordKey: recordKey)
            guard let row = try await visibleRow(at: path, of: owner, to: viewer!) else { continue }
            judged[uri.description] = JudgedParent(
                parent: RecordOperation.Parent(uri: uri, cid: row.content.cid, sequence: row.content.sequence),
                boundaries: row.content.boundaries)
        }
        return judged
    }

    /// The answer to a request that was carried out before, under the same key, with the same input.
    private func receipt(ofEarlier request: WriteRequest) async throws -> WriteReceipt? {
        guard let client = request.client else { return nil }
        let scope = RequestRow.scope(actor: request.repo, by: request.agent, request: client)
        guard let row = try await log.request(scope), row.counts(at: now) else { return nil }
        guard row.input == client.input else {
            throw Refusal.invalidRequest("this idempotency key was used for another input")
        }
        guard let stored = try await log.events(of: request.repo, after: row.sequence - 1, limit: 1).first, let body = stored.body,
            case .repoWrite(let write) = try EventBody(kind: try Event(bytes: stored.bytes).kind, bytes: body)
        else { throw EventLogError.brokenChain(actor: request.repo, at: row.sequence) }
        return WriteReceipt(
            results: try Self.results(of: request, from: write.operations), commit: write.commit.commit(of: request.repo).cid,
            rev: write.commit.rev, isNew: false, isRepeated: true)
    }

    /// The results of a request that became these operations: a write that changed nothing became none.
    private static func results(of request: WriteRequest, from operations: [RecordOperation]) throws -> [WriteReceipt.Result] {
        var operations = operations[...]
        return try request.writes.compactMap { write in
            if let operation = operations.first, operation.path.collection == write.collection,
                write.recordKey.map({ $0 == operation.path.recordKey }) ?? true
            {
                operations.removeFirst()
                return WriteReceipt.Result(path: operation.path, cid: operation.written?.cid)
            }
            guard let recordKey = write.recordKey else { return nil }
            let record = try write.record.map { try RecordRules.completed($0, collection: write.collection) }
            return WriteReceipt.Result(
                path: RecordPath(collection: write.collection, recordKey: recordKey),
                cid: record.map { CID(hashing: DAGCBOR.encode($0)) })
        }
    }
}
