import ATProto
import Commands
import EventLog
import Keys
import Simulation

/// The posts of `PostGenerator` as posts of this service: in its collection, with a boundary, and replies to posts of its kind.
struct StratosPosts: Sendable {
    static let service = "did:web:bench.example"
    static let boundary = BoundaryName.qualified("general", service: service)

    private var posts: PostGenerator

    init(seed: UInt64) { posts = PostGenerator(seed: seed) }

    /// The next post; record keys rise.
    mutating func next() -> (recordKey: RecordKey, record: ValueMap) {
        let post = posts.next()
        guard case .map(var record) = post.record, let slash = post.path.lastIndex(of: "/"),
            let recordKey = try? RecordKey(String(post.path[post.path.index(after: slash)...]))
        else { preconditionFailure("a generated post is a map under a record key") }
        record["$type"] = .string(RecordRules.postCollection)
        record["boundary"] = [
            "$type": "zone.stratos.boundary.defs#Domains", "values": [["value": .string(Self.boundary)]],
        ]
        if case .map(let reply) = record["reply"] { record["reply"] = .map(Self.renamed(reply)) }
        return (recordKey, record)
    }

    private static func renamed(_ reply: ValueMap) -> ValueMap {
        var renamed = ValueMap()
        for (name, reference) in reply {
            guard case .map(var fields) = reference, let uri = fields["uri"]?.stringValue else { continue }
            let parts = uri.split(separator: "/")
            fields["uri"] = .string("at://\(parts[1])/\(RecordRules.postCollection)/\(parts[3])")
            renamed[name] = .map(fields)
        }
        return renamed
    }
}

/// A repo of such posts in a CAR file, signed by a key of its own, ready to be imported.
struct StratosRepo: Sendable {
    let recordKeys: [RecordKey]
    let file: [UInt8]

    init(of did: DID, posts count: Int, seed: UInt64) throws {
        var posts = StratosPosts(seed: seed)
        var recordKeys: [RecordKey] = []
        var blocks: [CID: [UInt8]] = [:]
        var entries: [(key: MSTKey, value: CID)] = []
        let collection = try NSID(RecordRules.postCollection)
        for _ in 0..<count {
            let post = posts.next()
            let bytes = DAGCBOR.encode(.map(post.record))
            let cid = CID(hashing: bytes)
            blocks[cid] = bytes
            recordKeys.append(post.recordKey)
            entries.append((MSTKey(collection: collection, recordKey: post.recordKey), cid))
        }
        self.recordKeys = recordKeys
        file = try Self.file(of: did, tree: try MST.build(sorted: entries), blocks: blocks, seed: seed)
    }

    private static func file(of did: DID, tree: MST, blocks: [CID: [UInt8]], seed: UInt64) throws -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        let rev = TID(microseconds: 1_790_000_000_000_000, clockID: 7)
        let key = try PrivateKey(curve: .p256, rawBytes: generator.keyBytes())
        let signature = try key.sign(Commit.unsignedBytes(did: did, data: tree.root(), rev: rev))
        let commit = Commit(did: did, data: tree.root(), rev: rev, signature: signature)
        var file: [UInt8] = []
        CARWriter.encodeHeader(roots: [commit.cid], into: &file)
        CARWriter.encodeBlock(commit.block, cid: commit.cid, into: &file)
        var nodes = tree.nodes()
        while let item = try nodes.next() {
            switch item {
            case .node(let cid, let bytes): CARWriter.encodeBlock(bytes, cid: cid, into: &file)
            case .record(_, let cid):
                guard let bytes = blocks[cid] else { preconditionFailure("every record of the tree was made above") }
                CARWriter.encodeBlock(bytes, cid: cid, into: &file)
            }
        }
        return file
    }
}
