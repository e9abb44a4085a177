package import ATProto
package import Keys

/// A repo commit without what the event says already: the whole block is `{did, rev, data, prev: null, version: 3, sig}`.
package struct ActorCommit: Hashable, Sendable {
    package let rev: TID
    /// Root of the MST.
    package let data: CID
    /// By the actor's P-256 key: 64 bytes, low-S.
    package let signature: [UInt8]

    package init(rev: TID, data: CID, signature: [UInt8]) {
        precondition(signature.count == 64, "a signature has 64 bytes")
        self.rev = rev
        self.data = data
        self.signature = signature
    }

    package static func sign(did: DID, rev: TID, data: CID, with key: PrivateKey) throws(EventLogError) -> ActorCommit {
        let signature: [UInt8]
        do { signature = try key.sign(Commit.unsignedBytes(did: did, data: data, rev: rev)) } catch { throw .signing("\(error)") }
        return ActorCommit(rev: rev, data: data, signature: signature)
    }

    package func verifies(did: DID, with key: PublicKey) -> Bool {
        key.verifies(signature, of: Commit.unsignedBytes(did: did, data: data, rev: rev))
    }

    /// The commit as it stands in the repo of its actor.
    package func commit(of did: DID) -> Commit { Commit(did: did, data: data, rev: rev, signature: signature) }

    init(_ value: Value) throws(EventLogError) {
        var fields = try FieldReader(value, in: "commit")
        let text = try fields.text("rev", bytesMax: 13)
        do { rev = try TID(text) } catch { throw fields.failure("rev", "\(error)") }
        data = try fields.link("data")
        signature = try fields.bytes("sig", count: 64)
        try fields.finish()
    }

    func encoded() -> Value { ["rev": .string(rev.description), "data": .link(data), "sig": .bytes(signature)] }
}

/// What happened to one record.
package struct RecordOperation: Hashable, Sendable {
    package enum Change: Hashable, Sendable {
        case create(Written)
        case update(Written, prev: Previous)
        case delete(prev: Previous)
    }

    /// The record as it now is.
    package struct Written: Hashable, Sendable {
        package let cid: CID
        /// Bytes of the record's block, so that a fold can account for storage without the block.
        package let size: Int
        /// None: for its owner alone.
        package let boundaries: BoundarySet
        /// The reply's parent as it was judged, so that no fold looks into another actor's log.
        package let against: Parent?
        /// The blobs that the record refers to, in order of their CIDs.
        package let blobs: [CID]

        package init(cid: CID, size: Int, boundaries: BoundarySet, against: Parent? = nil, blobs: [CID] = []) {
            precondition(size > 0, "a record's block has bytes")
            self.cid = cid
            self.size = size
            self.boundaries = boundaries
            self.against = against
            self.blobs = blobs.count < 2 ? blobs : Set(blobs).sorted()
        }
    }

    /// The record as it was before, so that a filtered stream can send the right delete.
    package struct Previous: Hashable, Sendable {
        package let cid: CID
        package let boundaries: BoundarySet

        package init(cid: CID, boundaries: BoundarySet) {
            self.cid = cid
            self.boundaries = boundaries
        }
    }

    package struct Parent: Hashable, Sendable {
        package let uri: ATURI
        package let cid: CID
        /// The number of the event in the parent's log that wrote this version.
        package let sequence: UInt64

        package init(uri: ATURI, cid: CID, sequence: UInt64) {
            self.uri = uri
            self.cid = cid
            self.sequence = sequence
        }
    }

    package let path: RecordPath
    package let change: Change

    package static let blobsMax = 1000

    package init(path: RecordPath, change: Change) {
        self.path = path
        self.change = change
    }

    package var written: Written? {
        switch change {
        case .create(let written), .update(let written, _): written
        case .delete: nil
        }
    }

    package var previous: Previous? {
        switch change {
        case .update(_, let previous), .delete(let previous): previous
        case .create: nil
        }
    }

    private enum Action: String { case create, update, delete }

    init(_ value: Value) throws(EventLogError) {
        var fields = try FieldReader(value, in: "op")
        path = try fields.path("path")
        change =
            switch try fields.choice("action", Action.self) {
            case .create: .create(try Written(&fields))
            case .update: .update(try Written(&fields), prev: try Previous(&fields))
            case .delete: .delete(prev: try Previous(&fields))
            }
        try fields.finish()
    }

    func encoded() -> Value {
        var map: ValueMap = ["path": .string(path.description)]
        switch change {
        case .create: map["action"] = .string(Action.create.rawValue)
        case .update: map["action"] = .string(Action.update.rawValue)
        case .delete: map["action"] = .string(Action.delete.rawValue)
        }
        if let written { written.encode(into: &map) }
        if let previous {
            map["prev"] = .link(previous.cid)
            map["was"] = previous.boundaries.encoded()
        }
        return .map(map)
    }
}

extension RecordOperation.Previous {
    fileprivate init(_ fields: inout FieldReader) throws(EventLogError) {
        self.init(cid: try fields.link("prev"), boundaries: try fields.boundaries("was"))
    }
}

extension RecordOperation.Written {
    fileprivate init(_ fields: inout FieldReader) throws(EventLogError) {
        cid = try fields.link("cid")
        size = Int(try fields.integer("size", least: 1))
        boundaries = try fields.boundaries("boundaries")
        against = if let value = fields.optional("against") { try RecordOperation.Parent(value) } else { nil }
        guard let value = fields.optional("blobs") else {
            blobs = []
            return
        }
        var blobs: [CID] = []
        guard case .array(let array) = value, (1...RecordOperation.blobsMax).contains(array.count) else {
            throw fields.failure("blobs", "1 to \(RecordOperation.blobsMax) links, or absent")
        }
        for item in array {
            guard case .link(let cid) = item, blobs.last.map({ $0 < cid }) ?? true else {
                throw fields.failure("blobs", "links in order, each once")
            }
            blobs.append(cid)
        }
        self.blobs = blobs
    }

    fileprivate func encode(into map: inout ValueMap) {
        map["cid"] = .link(cid)
        map["size"] = .integer(Int64(size))
        map["boundaries"] = boundaries.encoded()
        if let against { map["against"] = against.encoded() }
        if !blobs.isEmpty { map["blobs"] = .array(blobs.map(Value.link)) }
    }
}

extension RecordOperation.Parent {
    fileprivate init(_ value: Value) throws(EventLogError) {
        var fields = try FieldReader(value, in: "against")
        self.init(uri: try fields.uri("uri"), cid: try fields.link("cid"), sequence: try fields.integer("seq", least: 1))
        try fields.finish()
    }

    fileprivate func encoded() -> Value {
        ["uri": .string(uri.description), "cid": .link(cid), "seq": .integer(Int64(sequence))]
    }
}

/// `repo.write`: one commit of 1–200 operations; of none only where a request with an idempotency key came to nothing, which is
/// recorded so that its repeat comes to nothing too, whatever has happened since.
package struct RepoWrite: Hashable, Sendable {
    package let provenance: Provenance
    /// No path twice.
    package let operations: [RecordOperation]
    package let commit: ActorCommit

    package static let operationsMax = 200

    package init(provenance: Provenance, operations: [RecordOperation], commit: ActorCommit) {
        precondition(
            (provenance.request == nil ? 1...RepoWrite.operationsMax : 0...RepoWrite.operationsMax).contains(operations.count),
            "a write holds 1…\(RepoWrite.operationsMax) operations, none only for a request")
        self.provenance = provenance
        self.operations = operations
        self.commit = commit
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        var operations: [RecordOperation] = []
        for value in try fields.array("ops", countMax: RepoWrite.operationsMax) { operations.append(try RecordOperation(value)) }
        guard !operations.isEmpty || provenance.request != nil else { throw fields.failure("ops", "at least one, without a request") }
        guard Set(operations.map(\.path)).count == operations.count else { throw fields.failure("ops", "no path twice") }
        self.operations = operations
        commit = try ActorCommit(try fields.required("commit"))
    }

    func encode(into map: inout ValueMap) {
        map["ops"] = .array(operations.map { $0.encoded() })
        map["commit"] = commit.encoded()
    }
}

/// `repo.import`: one commit of any number of creates, which stand in chunks that the body links in order.
package struct RepoImport: Hashable, Sendable {
    package let provenance: Provenance
    /// Blocks of the actor, each a `RepoImport.Chunk`; none for an empty repo.
    package let chunks: [CID]
    /// Operations in all chunks. The n-th, counted from 0 over all of them, is what an erasure names.
    package let operationCount: UInt64
    package let commit: ActorCommit
    /// The block of the commit that the records came with, as it was: at most 4,096 bytes.
    package let source: [UInt8]

    package static let chunksMax = 20_000
    package static let sourceBytesMax = 4096

    package init(provenance: Provenance, chunks: [CID], operationCount: UInt64, commit: ActorCommit, source: [UInt8]) {
        precondition((1...RepoImport.sourceBytesMax).contains(source.count), "a commit block has 1…\(RepoImport.sourceBytesMax) bytes")
        self.provenance = provenance
        self.chunks = chunks
        self.operationCount = operationCount
        self.commit = commit
        self.source = source
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        chunks = try fields.links("chunks", codec: .dagCBOR, countMax: RepoImport.chunksMax)
        operationCount = try fields.integer("ops")
        commit = try ActorCommit(try fields.required("commit"))
        source = try fields.bytes("source", countMax: RepoImport.sourceBytesMax)
    }

    func encode(into map: inout ValueMap) {
        map["chunks"] = .array(chunks.map(Value.link))
        map["ops"] = .integer(Int64(operationCount))
        map["commit"] = commit.encoded()
        map["source"] = .bytes(source)
    }

    /// One block of an import's operations, with a salt of its own: 1–1,000 operations, at most 1 MiB.
    package struct Chunk: Hashable, Sendable {
        package let salt: [UInt8]
        /// Index of the first operation among those of all chunks.
        package let first: UInt64
        /// Nil in the place of an operation that was erased without trace.
        package let operations: [RecordOperation?]

        package static let operationsMax = 1000
        package static let bytesMax = 1 << 20

        package init(salt: [UInt8], first: UInt64, operations: [RecordOperation?]) {
            precondition((1...Chunk.operationsMax).contains(operations.count), "a chunk holds 1…\(Chunk.operationsMax) operations")
            precondition(salt.count == Provenance.saltByteCount, "a salt has 32 bytes")
            self.salt = salt
            self.first = first
            self.operations = operations
        }

        package init(bytes: [UInt8]) throws(EventLogError) {
            guard bytes.count <= Chunk.bytesMax else { throw .tooLarge(bytes: bytes.count, max: Chunk.bytesMax) }
            let value: Value
            do { value = try DAGCBOR.decode(bytes, limits: EventBody.limits) } catch { throw .malformed("chunk: \(error)") }
            var fields = try FieldReader(value, in: "chunk")
            salt = try fields.bytes("salt", count: Provenance.saltByteCount)
            first = try fields.integer("first")
            operations = try fields.operations("ops", countMax: Chunk.operationsMax)
            guard !operations.isEmpty else { throw fields.failure("ops", "at least one") }
            try fields.finish()
        }

        /// - Throws: `tooLarge` past 1 MiB: put fewer operations into it.
        package func block() throws(EventLogError) -> Block {
            var encoded: [UInt8] = []
            for operation in operations { DAGCBOR.encode(operation?.encoded() ?? .null, into: &encoded) }
            return try Chunk.block(encoded: encoded, count: operations.count, first: first, salt: salt)
        }

        /// The map `{ops, salt, first}`, its keys in canonical order, around operations that are encoded already.
        fileprivate static func block(encoded: [UInt8], count: Int, first: UInt64, salt: [UInt8]) throws(EventLogError) -> Block {
            var bytes: [UInt8] = []
            bytes.reserveCapacity(encoded.count + 128)
            DAGCBOR.appendHead(.map, 3, to: &bytes)
            DAGCBOR.append(string: "ops", to: &bytes)
            DAGCBOR.appendHead(.array, UInt64(count), to: &bytes)
            bytes += encoded
            DAGCBOR.append(string: "salt", to: &bytes)
            DAGCBOR.appendHead(.bytes, UInt64(salt.count), to: &bytes)
            bytes += salt
            DAGCBOR.append(string: "first", to: &bytes)
            DAGCBOR.append(integer: Int64(first), to: &bytes)
            guard bytes.count <= Chunk.bytesMax else { throw .tooLarge(bytes: bytes.count, max: Chunk.bytesMax) }
            return Block(hashing: bytes)
        }
    }

    /// Puts creates into chunks, as many into each as fit.
    /// - Parameter first: the index of the first one among all of the import.
    /// - Parameter salt: gives 32 random bytes for each chunk.
    package static func chunks(
        of operations: some Sequence<RecordOperation>, first: UInt64 = 0, salt: () -> [UInt8]
    ) throws(EventLogError) -> [Block] {
        var blocks: [Block] = []
        /// The encodings of the operations that wait, one after the other, so that each is encoded once.
        var pending: [UInt8] = []
        var (first, count) = (first, 0)
        for operation in operations {
            let encoded = DAGCBOR.encode(operation.encoded())
            if count > 0, count == Chunk.operationsMax || pending.count + encoded.count > Chunk.bytesMax - 128 {
                blocks.append(try Chunk.block(encoded: pending, count: count, first: first, salt: salt()))
                first += UInt64(count)
                count = 0
                pending.removeAll(keepingCapacity: true)
            }
            pending += encoded
            count += 1
        }
        if count > 0 { blocks.append(try Chunk.block(encoded: pending, count: count, first: first, salt: salt())) }
        return blocks
    }
}

extension RecordOperation {
    static func encode(_ operations: [RecordOperation?]) -> Value { .array(operations.map { $0?.encoded() ?? .null }) }
}

extension FieldReader {
    /// Operations with null in the place of the erased ones.
    mutating func operations(_ field: String, countMax: Int) throws(EventLogError) -> [RecordOperation?] {
        var operations: [RecordOperation?] = []
        for value in try array(field, countMax: countMax) {
            operations.append(value.isNull ? nil : try RecordOperation(value))
        }
        return operations
    }
}
