import ATProto
import Authorization
package import Commands
import EventLog
import Keys
import Projections

extension Engine {
    /// Writes records: one commit, one event, durable before it returns (I6). A request that finds everything as it asks for it
    /// makes neither, unless it has an idempotency key: then its answer is recorded by an event without operations.
    /// - Throws: `Refusal` with nothing written.
    package func write(_ request: WriteRequest) async throws -> WriteReceipt {
        for write in request.writes where write.action != .delete && !RecordRules.isStratos(write.collection) {
            throw Refusal.invalidCollection
        }
        guard try await mayBeMember(request.repo) else { throw Refusal.notEnrolled }
        let parents = try await judgeParents(of: request)
        return try await inMembersLane(request.repo) {
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

    /// On the actor's thread: decides, signs, and folds what was signed. Nothing has happened yet.
    private func prepare(
        _ request: WriteRequest, parents: [String: JudgedParent], context: ActorContext, rows: any ActorRows
    ) throws -> PreparedWrite {
        let state = context.state
        let authority = try requireAuthority()
        let now = surroundings.now()
        var clock = revClock(upon: state, now: now)
        let decider = WriteDecider(terms: authority.terms, lexicons: lexicons)
        let decision = try decider.decide(
            request, upon: state, tree: context.tree, parents: parents, row: { try rows.record($0) },
            freshRecordKey: { try RecordKey(clock.next().description) })
        guard let repo = state.repo else { throw Refusal.notEnrolled }
        if decision.operations.isEmpty, request.client == nil {
            let receipt = WriteReceipt(results: decision.results, commit: repo.commit, rev: repo.rev, isNew: false)
            return PreparedWrite(append: nil, receipt: receipt)
        }
        let rev = try clock.next()
        let commit = try ActorCommit.sign(did: request.repo, rev: rev, data: decision.data, with: try signingKey(of: request.repo, context))
        let time = eventTime(upon: state, now: now, rev: rev)
        let append = try append(of: decision, commit: commit, for: request, upon: state, time: time)
        try context.prepare(append, upon: rows)
        let receipt = WriteReceipt(results: decision.results, commit: commit.commit(of: request.repo).cid, rev: rev, isNew: true)
        return PreparedWrite(append: append, receipt: receipt)
    }

    private func append(
        of decision: WriteDecision, commit: ActorCommit, for request: WriteRequest, upon state: ActorState, time: Timestamp
    ) throws -> Append {
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
        return Append(
            actor: request.repo, after: state.head, events: [event], blocks: decision.blocks, request: row, use: request.use)
    }

    /// On the actor's thread: an event without blocks and without a commit, signed and folded. Nothing has happened yet.
    func prepare(
        _ body: EventBody, of actor: DID, context: ActorContext, rows: any ActorRows, use: SingleUse? = nil, erasesBlocks: Bool = false
    ) throws -> Append {
        let state = context.state
        let event = try SignedEvent.sign(
            body, after: state.head, of: actor, time: state.head.nextTime(now: now), with: try signing(state.tagKey))
        let append = Append(actor: actor, after: state.head, events: [event], use: use, erasesBlocks: erasesBlocks)
        try context.prepare(append, upon: rows)
        return append
    }

    /// The key that signs the actor's commits, which must be the one that the log says.
    /// - Throws: `LostKey` where it is not; what can be done about it is done in `inMembersLane`.
    func signingKey(of actor: DID, _ context: ActorContext) throws -> PrivateKey {
        if let key = context.signingKey { return key }
        guard let key = try keys.read(actor), key.publicKey == context.state.signingKey else { throw LostKey(actor: actor) }
        context.signingKey = key
        return key
    }

    /// The records of others that these replies are to, as their author may see them: what the author may not read is unknown.
    private func judgeParents(of request: WriteRequest) async throws -> [String: JudgedParent] {
        var judged: [String: JudgedParent] = [:]
        var viewer: Viewer?
        for uri in Set(request.writes.compactMap { $0.record.flatMap(RecordRules.parentURI) }) {
            guard let (owner, path) = uri.place, owner != request.repo else { continue }
            if viewer == nil { viewer = try await self.viewer(of: .user(request.repo)) }
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
        // What was written before the content went is not there any more, so a repeat is a new request.
        let erased = try await withCurrentInLane(request.repo) { context, _ in
            guard context.state.membership != nil else { throw Refusal.notEnrolled }
            return context.state.erasedThrough
        }
        guard erased == 0 || row.sequence > erased else { return nil }
        guard row.input == client.input else {
            throw Refusal.invalidRequest("this idempotency key was used for another input")
        }
        guard row.sequence > 0, let stored = try await log.events(of: request.repo, after: row.sequence - 1, limit: 1).first,
            let body = stored.body,
            case .repoWrite(let write) = try EventBody(kind: try Event(bytes: stored.bytes).kind, bytes: body)
        else { throw EventLogError.brokenChain(actor: request.repo, at: row.sequence) }
        return WriteReceipt(
            results: try Self.results(of: request, from: write.operations), commit: write.commit.commit(of: request.repo).cid,
            rev: write.commit.rev, isNew: false, isRepeated: true)
    }

    /// The results of a request that became these operations: a write that changed nothing became none.
    private static func results(of request: WriteRequest, from operations: [RecordOperation]) throws -> [WriteReceipt.Result] {
        let named = Set(request.writes.compactMap(\.path))
        let byPath = Dictionary(operations.map { ($0.path, $0) }) { first, _ in first }
        // A create without a key always becomes an operation, and they stand in the order of the writes.
        var fresh = operations.filter { !named.contains($0.path) }[...]
        return try request.writes.map { write in
            guard let path = write.path else {
                guard let operation = fresh.popFirst() else {
                    throw EventLogError.malformed("the event of an earlier request is not what that request asks for")
                }
                return WriteReceipt.Result(path: operation.path, cid: operation.written?.cid)
            }
            if let operation = byPath[path] { return WriteReceipt.Result(path: path, cid: operation.written?.cid) }
            let record = try write.record.map { try RecordRules.completed($0, collection: write.collection) }
            return WriteReceipt.Result(path: path, cid: record.map { CID(hashing: DAGCBOR.encode($0)) })
        }
    }
}
