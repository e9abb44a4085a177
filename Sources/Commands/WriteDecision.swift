package import ATProto
package import EventLog

/// What a write request comes to, decided upon one state of the actor and not yet signed.
package struct WriteDecision: Sendable {
    package let operations: [RecordOperation]
    /// The tree with the operations applied, and its root.
    package let tree: MST
    package let data: CID
    /// The new records' blocks.
    package let blocks: [Block]
    package let results: [WriteReceipt.Result]
}

/// Decides over writes: the actor's state and rows as they stand in, operations or a refusal out. No clock, no I/O of its own.
package struct WriteDecider: Sendable {
    package let terms: ServiceTerms
    package let lexicons: Lexicons

    package init(terms: ServiceTerms, lexicons: Lexicons) {
        self.terms = terms
        self.lexicons = lexicons
    }

    /// - Parameters:
    ///   - parents: the records that the request's records reply to, as judged for the author; one that is unknown is not in here.
    ///   - row: the record at a path as it stands.
    ///   - freshRecordKey: a new key for each call.
    /// - Returns: nil where there is nothing to do: only deletes of what is not there.
    /// - Throws: `Refusal`, and what `row` and the tree throw.
    package func decide(
        _ request: WriteRequest, upon state: ActorState, tree: MST, parents: [String: JudgedParent],
        row: (RecordPath) throws -> RecordRow?, freshRecordKey: () throws -> RecordKey
    ) throws -> WriteDecision? {
        guard let membership = state.membership, let repo = state.repo else { throw Refusal.notEnrolled }
        guard (1...WriteRequest.writesMax).contains(request.writes.count) else {
            throw Refusal.invalidRequest("1 to \(WriteRequest.writesMax) writes make a commit")
        }
        if let swap = request.swapCommit, swap != repo.commit { throw Refusal.invalidSwap("Commit was at \(repo.commit)") }
        let rules = RecordRules(terms: terms, held: membership.boundaries)
        var plan = Plan(tree: tree)
        for write in request.writes {
            let path = RecordPath(collection: write.collection, recordKey: try recordKey(of: write, freshRecordKey))
            guard plan.paths.insert(path).inserted else { throw Refusal.invalidRequest("\(path) is written twice in one commit") }
            let standing = try row(path)
            try check(write.swap, against: standing)
            if write.action == .delete {
                try delete(standing, at: path, refusesAbsent: request.refusesAbsentDelete, in: &plan)
            } else {
                let parent = write.record.flatMap(RecordRules.parentURI).flatMap { parents[$0.description] }
                let judged = try judge(write, at: path, rules: rules, parent: parent, checksLexicons: request.checksLexicons)
                try put(judged, write: write, at: path, over: standing, in: &plan)
            }
        }
        guard !plan.operations.isEmpty else { return nil }
        let size = plan.blocks.reduce(0) { $0 + $1.bytes.count }
        guard size <= WriteRequest.blocksBytesMax else {
            throw Refusal.invalidRequest("the records of one commit have at most \(WriteRequest.blocksBytesMax) bytes, these have \(size)")
        }
        return WriteDecision(
            operations: plan.operations, tree: plan.tree, data: plan.tree.root(), blocks: plan.blocks, results: plan.results)
    }

    private struct Plan {
        var tree: MST
        var paths: Set<RecordPath> = []
        var operations: [RecordOperation] = []
        var blocks: [Block] = []
        var results: [WriteReceipt.Result] = []
    }

    private struct JudgedRecord {
        let block: Block
        let written: RecordOperation.Written
    }

    private func recordKey(of write: RecordWrite, _ fresh: () throws -> RecordKey) throws -> RecordKey {
        if let key = write.recordKey { return key }
        guard write.action == .create else { throw Refusal.invalidRequest("rkey is required for all but a create") }
        return try fresh()
    }

    private func check(_ swap: RecordWrite.Swap, against standing: RecordRow?) throws(Refusal) {
        switch swap {
        case .any: return
        case .nothing: if let standing { throw .invalidSwap("Record was at \(standing.cid)") }
        case .record(let cid):
            guard let standing, standing.cid == cid else {
                throw .invalidSwap("Record was at \(standing?.cid.description ?? "null")")
            }
        }
    }

    private func judge(
        _ write: RecordWrite, at path: RecordPath, rules: RecordRules, parent: JudgedParent?, checksLexicons: Bool
    ) throws(Refusal) -> JudgedRecord {
        guard path.collection.description.hasPrefix("zone.stratos.") else { throw .invalidCollection }
        guard let given = write.record else { throw .invalidRequest("a record is required for all but a delete") }
        let record = try RecordRules.completed(given, collection: path.collection)
        let boundaries = try rules.check(record, collection: path.collection, parent: parent)
        if checksLexicons {
            do {
                try lexicons.validate(record: record, collection: path.collection, rkey: path.recordKey)
            } catch {
                throw .invalidRecord("\(error)")
            }
        }
        let bytes = DAGCBOR.encode(record)
        guard bytes.count <= WriteRequest.recordBytesMax else {
            throw .invalidRequest("a record has at most \(WriteRequest.recordBytesMax) bytes, this one has \(bytes.count)")
        }
        let block = Block(hashing: bytes)
        let written = RecordOperation.Written(
            cid: block.cid, size: bytes.count, boundaries: boundaries, against: parent?.parent, blobs: try Self.blobs(of: record))
        return JudgedRecord(block: block, written: written)
    }

    /// The blobs that a record refers to. The decoder's bound on nesting bounds the recursion.
    package static func blobs(of record: Value) throws(Refusal) -> [CID] {
        var blobs: Set<CID> = []
        collectBlobs(of: record, into: &blobs)
        guard blobs.count <= RecordOperation.blobsMax else {
            throw .invalidRecord("a record refers to at most \(RecordOperation.blobsMax) blobs")
        }
        return Array(blobs)
    }

    private static func collectBlobs(of value: Value, into blobs: inout Set<CID>) {
        switch value {
        case .array(let items):
            for item in items { collectBlobs(of: item, into: &blobs) }
        case .map(let fields):
            if fields["$type"]?.stringValue == "blob", let cid = fields["ref"]?.linkValue { blobs.insert(cid) }
            for (_, field) in fields { collectBlobs(of: field, into: &blobs) }
        case .null, .bool, .integer, .string, .bytes, .link: return
        }
    }

    private func put(
        _ judged: JudgedRecord, write: RecordWrite, at path: RecordPath, over standing: RecordRow?, in plan: inout Plan
    ) throws {
        let key = MSTKey(collection: path.collection, recordKey: path.recordKey)
        plan.results.append(.init(path: path, cid: judged.block.cid))
        guard let standing else {
            guard write.action != .update else { throw Refusal.recordNotFound }
            try plan.tree.insert(key, judged.block.cid)
            plan.operations.append(RecordOperation(path: path, change: .create(judged.written)))
            plan.blocks.append(judged.block)
            return
        }
        guard write.action != .create else { throw Refusal.invalidRequest("a record stands at \(path) already") }
        guard standing.cid != judged.block.cid else { return }  // The record stands as it is asked for.
        _ = try plan.tree.update(key, judged.block.cid)
        plan.operations.append(RecordOperation(path: path, change: .update(judged.written, prev: standing.previous)))
        plan.blocks.append(judged.block)
    }

    private func delete(_ standing: RecordRow?, at path: RecordPath, refusesAbsent: Bool, in plan: inout Plan) throws {
        guard path.collection.description.hasPrefix("zone.stratos.") || standing != nil else { throw Refusal.invalidCollection }
        plan.results.append(.init(path: path, cid: nil))
        guard let standing else {
            if refusesAbsent { throw Refusal.recordNotFound }
            return
        }
        _ = try plan.tree.delete(MSTKey(collection: path.collection, recordKey: path.recordKey))
        plan.operations.append(RecordOperation(path: path, change: .delete(prev: standing.previous)))
    }
}
