package import ATProto
package import Keys

/// A signed repository made from a seed: every record can be made again from its number alone, so a sample of millions need not be held.
package struct RepoSample: Sendable {
    package struct Block: Hashable, Sendable {
        package let cid: CID
        package let bytes: [UInt8]

        package init(_ bytes: [UInt8], codec: CID.Codec = .dagCBOR) {
            cid = CID(hashing: bytes, codec: codec)
            self.bytes = bytes
        }
    }

    /// What a section of the file holds.
    package enum Section: Sendable {
        case made(Block)
        case record(Int)
    }

    package let key: PrivateKey
    package let commit: Block
    /// In the order of a streamable file: commit, then each node followed by its subtrees and records.
    package let sections: [Section]
    package let records: Int
    private let seed: UInt64

    /// - Parameter records: 1 or more.
    package init(records: Int, seed: UInt64, curve: Curve = .k256) throws {
        var random = SeededGenerator(seed: seed)
        key = try PrivateKey(curve: curve, rawBytes: [0] + random.bytes(31))
        let entries = (0..<records).lazy.map { index in
            (key: Self.key(index, of: records), value: CID(hashing: Self.record(index, seed: seed)))
        }
        let tree = try MST.build(sorted: entries)
        let did = try DID("did:web:sample\(seed).example.com")
        let rev = TID(microseconds: 1_790_000_000_000_000, clockID: 7)
        let signature = try key.sign(Commit.unsignedBytes(did: did, data: tree.root(), rev: rev))
        commit = Block(Commit(did: did, data: tree.root(), rev: rev, signature: signature).block)
        var sections = [Section.made(commit)]
        var next = 0
        var items = tree.nodes()
        while let item = try items.next() {
            switch item {
            case .node(_, let bytes): sections.append(.made(Block(bytes)))
            case .record:
                sections.append(.record(next))
                next += 1
            }
        }
        self.sections = sections
        self.records = records
        self.seed = seed
    }

    package func block(_ section: Section) -> Block {
        switch section {
        case .made(let block): block
        case .record(let index): Block(Self.record(index, seed: seed))
        }
    }

    package var blocks: [Block] { sections.map(block) }

    /// The file, with its blocks in the given order or in a streamable one.
    package func car(_ blocks: [Block]? = nil) -> [UInt8] {
        Self.car(root: commit.cid, blocks ?? self.blocks)
    }

    package static func car(root: CID, _ blocks: [Block]) -> [UInt8] {
        var file: [UInt8] = []
        CARWriter.encodeHeader(roots: [root], into: &file)
        for block in blocks { CARWriter.encodeBlock(block.bytes, cid: block.cid, into: &file) }
        return file
    }

    /// The key of record `index`, in ascending order: likes, posts, reposts.
    package static func key(_ index: Int, of records: Int) -> MSTKey {
        let collection = index * 10 < records * 4 ? "like" : index * 10 < records * 9 ? "post" : "repost"
        let tid = TID(microseconds: 1_700_000_000_000_000 + Int64(index) * 1_000_003, clockID: UInt16(index % 1024))
        do {
            return try MSTKey("app.bsky.feed.\(collection)/\(tid)")
        } catch {
            preconditionFailure("a key of our own making: \(error)")
        }
    }

    /// About 300 bytes.
    package static func record(_ index: Int, seed: UInt64) -> [UInt8] {
        var random = SeededGenerator(seed: seed ^ UInt64(index) << 20)
        var text = "record \(index) "
        while text.utf8.count < 96 { text += String(random.next(), radix: 36) + " " }
        let subject = CID(codec: .dagCBOR, digest: random.bytes(32))
        return DAGCBOR.encode(
            .map([
                "$type": .string("app.bsky.feed.post"), "text": .string(text), "langs": .array([.string("en")]),
                "createdAt": .string("2026-11-22T10:40:36.123Z"), "likes": .integer(Int64(random.next() >> 40)),
                "subject": .map([
                    "cid": .link(subject), "uri": .string("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3lro5ygxvjl22"),
                ]),
            ]))
    }
}
