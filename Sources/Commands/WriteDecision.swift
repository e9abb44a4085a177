package import ATProto
package import EventLog

/// What a write request comes to, decided upon one state of the actor and not yet signed.
package struct WriteDecision: Sendable {
    /// None where everything stands as it is asked for.
    package let operations: [RecordOperation]
    /// The root of the tree with the operations applied.
    package let data: CID
    /// The new records' blocks.
    package let blocks: [Block]
    /// One for each write, in order.
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
    ///   - parents: the records in others' repos that the request's records reply to, as judged for the author; one that is unknown
    ///     is not in here. Those in the author's own repo are judged here, as the writes before in the same request leave them.
    ///   - row: the record at a path as it stands.
    ///   - freshRecordKey: a new key for each call, above every one it gave before.
    /// - Throws: `Refusal`, and what `row` and the tree throw.
    package func decide(
        _ request: WriteRequest, upon state: ActorState, tree: MST, parents: [String: JudgedParent],
        row: @escaping (RecordPath) throws -> RecordRow?, freshRecordKey: () throws -> RecordKey
    ) throws -> WriteDecision {
        guard let membership = state.membership, let repo = state.repo else { throw Refusal.notEnrolled }
        guard (1...WriteRequest.writesMax).contains(request.writes.count) else {
            throw Refusal.invalidRequest("1 to \(WriteRequest.writesMax) writes make a commit")
        }
        if let swap = request.swapCommit, swap != repo.commit { throw Refusal.invalidSwap("Commit was at \(repo.commit)") }
        let rules = RecordRules(terms: terms, held: membership.boundaries)
        var plan = Plan(tree: tree, author: request.repo, sequence: state.head.sequence + 1, parents: parents, row: row)
        let named = Set(request.writes.compactMap(\.path))
        for write in request.writes {
            let path = try write.path ?? freshPath(for: write, besides: named, in: plan, freshRecordKey)
            guard plan.paths.insert(path).inserted else { throw Refusal.invalidRequest("\(path) is written twice in one commit") }
            let standing = try row(path)
            try check(write.swap, against: standing)
            if write.action == .delete {
                try delete(standing, at: path, refusesAbsent: request.refusesAbsentDelete, in: &plan)
            } else {
                let parent = try write.record.flatMap(RecordRules.parentURI).flatMap { try plan.parent($0) }
                let judged = try judge(write, at: path, rules: rules, parent: parent, checksLexicons: request.checksLexicons)
                try put(judged, write: write, at: path, over: standing, in: &plan)
            }
        }
        let size = plan.blocks.reduce(0) { $0 + $1.bytes.count }
        guard size <= WriteRequest.blocksBytesMax else {
            throw Refusal.invalidRequest("the records of one commit have at most \(WriteRequest.blocksBytesMax) bytes, these have \(size)")
        }
        return WriteDecision(operations: plan.operations, data: plan.tree.root(), blocks: plan.blocks, results: plan.results)
    }

    private struct JudgedRecord {
        let block: Block
        let written: RecordOperation.Written
    }

    /// A path at which nothing stands and which the request does not name.
    private func freshPath(
        for write: RecordWrite, besides named: Set<RecordPath>, in plan: Plan, _ fresh: () throws -> RecordKey
    ) throws -> RecordPath {
        guard write.action == .create else { throw Refusal.invalidRequest("rkey is required for all but a create") }
        while true {
            let path = RecordPath(collection: write.collection, recordKey: try fresh())
            if !named.contains(path), !plan.paths.contains(path), try plan.row(path) == nil { return path }
        }
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
        _ write: RecordWrite, at path: RecordPath, rules: RecordRules, parent: JudgedParent?, checksLexicons: Bool?
    ) throws(Refusal) -> JudgedRecord {
        guard RecordRules.isStratos(path.collection) else { throw .invalidCollection }
        guard let given = write.record else { throw .invalidRequest("a record is required for all but a delete") }
        let record = try RecordRules.completed(given, collection: path.collection)
        let boundaries = try rules.check(record, collection: path.collection, parent: parent)
        if checksLexicons ?? lexicons.definesRecord(path.collection) {
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
        // What is stored can be read again: nesting and counts too are within the bounds of a record.
        do { try DAGCBOR.validate(bytes, limits: .record) } catch {
            throw .invalidRequest("the record is not one that can be kept: \(error)")
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
        plan.results.append(.init(path: path, cid: judged.block.cid))
        guard let standing else {
            guard write.action != .update else { throw Refusal.recordNotFound }
            return try plan.add(.create(judged.written), at: path, judged.block)
        }
        guard write.action != .create else { throw Refusal.invalidRequest("a record stands at \(path) already") }
        guard standing.cid != judged.block.cid else { return }  // The record stands as it is asked for.
        try plan.add(.update(judged.written, prev: standing.previous), at: path, judged.block)
    }

    private func delete(_ standing: RecordRow?, at path: RecordPath, refusesAbsent: Bool, in plan: inout Plan) throws {
        guard RecordRules.isStratos(path.collection) || standing != nil else { throw Refusal.invalidCollection }
        plan.results.append(.init(path: path, cid: nil))
        guard let standing else {
            if refusesAbsent { throw Refusal.recordNotFound }
            return
        }
        try plan.add(.delete(prev: standing.previous), at: path)
    }
}

/// What the writes of a request come to, one after the other.
private struct Plan {
    var tree: MST
    let author: DID
    /// The number of the event that will carry it.
    let sequence: UInt64
    let parents: [String: JudgedParent]
    let row: (RecordPath) throws -> RecordRow?
    var paths: Set<RecordPath> = []
    var operations: [RecordOperation] = []
    var blocks: [Block] = []
    var results: [WriteReceipt.Result] = []
    /// The record at a path that an operation changed; nil: none.
    private var changed: [RecordPath: RecordOperation.Written?] = [:]

    init(
        tree: MST, author: DID, sequence: UInt64, parents: [String: JudgedParent], row: @escaping (RecordPath) throws -> RecordRow?
    ) {
        self.tree = tree
        self.author = author
        self.sequence = sequence
        self.parents = parents
        self.row = row
    }

    mutating func add(_ change: RecordOperation.Change, at path: RecordPath, _ block: Block? = nil) throws {
        let operation = RecordOperation(path: path, change: change)
        let key = MSTKey(collection: path.collection, recordKey: path.recordKey)
        do {
            switch change {
            case .create(let written): try tree.insert(key, written.cid)
            case .update(let written, _): try tree.update(key, written.cid)
            case .delete: try tree.delete(key)
            }
        } catch MSTError.nodeTooLarge(let entries, let max) {
            // Somebody chose record keys for their hashes. The rest of what a tree throws is about stored rows.
            throw Refusal.invalidRequest("with \(path) a node of the repo's tree would hold \(entries) records, and \(max) is the most")
        }
        operations.append(operation)
        changed[path] = .some(operation.written)
        if let block { blocks.append(block) }
    }

    /// The record that a reply is to, if it is known here and the author may read it.
    func parent(_ uri: ATURI) throws -> JudgedParent? {
        guard case .did(author) = uri.authority else { return parents[uri.description] }
        guard let path = uri.place?.path else { return nil }
        if let changed = changed[path] {
            return changed.map {
                JudgedParent(parent: .init(uri: uri, cid: $0.cid, sequence: sequence), boundaries: $0.boundaries)
            }
        }
        return try row(path).map {
            JudgedParent(parent: .init(uri: uri, cid: $0.cid, sequence: $0.sequence), boundaries: $0.boundaries)
        }
    }
}
