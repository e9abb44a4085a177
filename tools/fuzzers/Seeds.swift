import ATProto
import Glibc
import Keys

/// The inputs that fuzzing begins with: valid ones of each format, small, one for each thing that the format can hold. Written
/// to a folder for each target, with names that say what they are.
enum Seeds {
    static func write(to directory: String) {
        for target in FuzzTarget.allCases {
            let folder = "\(directory)/\(target.rawValue)"
            mkdir(directory, 0o755)
            mkdir(folder, 0o755)
            for (index, bytes) in seeds(of: target).enumerated() { save(bytes, "\(folder)/seed-\(index)") }
        }
    }

    private static func save(_ bytes: [UInt8], _ path: String) {
        guard let file = fopen(path, "w"), fwrite(bytes, 1, bytes.count, file) == bytes.count, fclose(file) == 0 else {
            fail("cannot write \(path)")
        }
    }

    private static func seeds(of target: FuzzTarget) -> [[UInt8]] {
        switch target {
        case .dagCBOR: values.map { DAGCBOR.encode($0) }
        case .json: values.map { DataModelJSON.encode($0) } + texts.json
        case .car: cars
        case .mst: [trees(0), trees(1), trees(4), trees(40)]
        case .atURI: texts.identifiers
        case .didKey: keys
        }
    }
}

// MARK: Values and texts

extension Seeds {
    private static let cid = CID(hashing: [0xF6])

    private static let values: [Value] = [
        ["a": .null, "b": true, "c": false, "d": [], "e": [:], "f": .bytes([]), "g": ""],
        ["n": [0, 23, 24, 255, 256, 65535, 65536, 4_294_967_295, 4_294_967_296, -1, -24, -25, -256, -257]],
        ["n": [.integer(DataModelJSON.integerMax), .integer(-DataModelJSON.integerMax)]],
        ["n": [.integer(.max), .integer(.min)]],
        ["link": .link(cid), "raw": .link(CID(hashing: [], codec: .raw)), "bytes": .bytes([1, 2, 3])],
        ["text": "ASCII, é, 東京, 👩‍🚀, \u{0}, \u{1F}, \", \\, /", "東": "key", "longer key than others": 1],
        ["a": [["b": [["c": [["d": [["e": [["f": 1]]]]]]]]]]],
        [
            "$type": "app.bsky.feed.post", "text": "a post", "createdAt": "2026-01-31T12:00:00.000Z", "langs": ["en", "pt-BR"],
            "reply": [
                "root": ["cid": .string(cid.description), "uri": "at://did:plc:44ybard66vv44zksje25o7dz/app.bsky.feed.post/3jzfcijpj2z2a"]
            ],
        ],
        ["$type": "x.y.z", "blob": ["$type": "blob", "ref": .link(CID(hashing: [7], codec: .raw)), "mimeType": "image/png", "size": 1]],
    ]

    private static let texts: (json: [[UInt8]], identifiers: [[UInt8]]) = (
        json: [
            #" { "a" : [ 1 , -2 , 3.0 , 1e3 , 12.50e1 ] , "\u0061b" : "\ud83d\ude00\n\/\b\f\r\t" } "#,
            #"{"$bytes":"AQID"}"#, #"{"a":{"$link":"bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"}}"#,
            #"{"a":9007199254740991}"#,
        ].map { Array($0.utf8) },
        identifiers: [
            "at://did:plc:44ybard66vv44zksje25o7dz/app.bsky.feed.post/3jzfcijpj2z2a", "at://alice.example.com/com.example.record/self",
            "at://alice.example.com", "at://did:web:localhost%3A8080/a.b-c.d", "did:method:val%BB:x", "alice.xn--example-9d0b.com",
            "com.example.fooBar", "a~B_9-.:c", "3jzfcijpj2z2a", "2026-01-31T12:00:00.123456Z", "1985-04-12T23:20:50.52-07:00",
            "en-Latn-GB-boont",
            "i-navajo", "https://example.com/a?b#c", "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
        ].map { Array($0.utf8) }
    )

    private static let keys: [[UInt8]] = fixedKeys.flatMap { key in
        [Array(key.didKey.utf8), Array(key.multibase.utf8), Array(key.jwk.x.utf8), key.compressed, uncompressed(key)]
    }

    private static let fixedKeys: [PublicKey] = Curve.allCases.map { fixedKey($0).publicKey }

    private static func fixedKey(_ curve: Curve) -> PrivateKey {
        guard let key = try? PrivateKey(curve: curve, rawBytes: [UInt8](repeating: 7, count: 32)) else {
            fatalError("a fixed key is valid")
        }
        return key
    }

    private static func uncompressed(_ key: PublicKey) -> [UInt8] {
        guard let x = try? Base64URL.decode(key.jwk.x), let y = try? Base64URL.decode(key.jwk.y) else { fatalError("our own JWK decodes") }
        return [4] + x + y
    }
}

// MARK: Trees and files

extension Seeds {
    private typealias Piece = (cid: CID, bytes: [UInt8])

    /// The nodes of a tree of `count` records from the root down, as FuzzMST reads them.
    private static func trees(_ count: Int) -> [UInt8] {
        var row: [UInt8] = []
        for block in numbered(nodes(tree(count))) { row += [UInt8(block.bytes.count >> 8), UInt8(block.bytes.count & 0xFF)] + block.bytes }
        return row
    }

    /// Whole repos: versions 3 and 2, with an absent block, twice the same, another order.
    private static let cars: [[UInt8]] = {
        let small = repo(3, version: 3)
        let large = repo(24, version: 3)
        let noHeader: [UInt8] = []
        return [
            file(small), file(large), file(repo(2, version: 2)), file(repo(0, version: 3)), file(Array(small.dropLast())),
            file(small + small.suffix(2)),
            file(small.prefix(1) + small.dropFirst().reversed()), noHeader,
        ]
    }()

    private static func tree(_ count: Int) -> MST {
        var tree = MST()
        for number in 0..<count {
            let collection = number.isMultiple(of: 3) ? "app.bsky.feed.like" : "app.bsky.feed.post"
            guard let key = try? MSTKey("\(collection)/\(TID(microseconds: Int64(number) * 1_000_003, clockID: 7))"),
                (try? tree.insert(key, CID(hashing: record(number)))) != nil
            else { fatalError("a generated key is valid") }
        }
        return tree
    }

    private static func record(_ number: Int) -> [UInt8] {
        DAGCBOR.encode(["$type": "app.bsky.feed.post", "text": .string("number \(number)")])
    }

    private static func nodes(_ tree: MST) -> [Piece] {
        var pieces: [Piece] = []
        var traversal = tree.nodes()
        while let item = try? traversal.next() {
            if case .node(let cid, let bytes) = item { pieces.append((cid, bytes)) }
        }
        return pieces
    }

    /// Commit, nodes, records: each block before what it refers to.
    private static func repo(_ count: Int, version: Int64) -> [Piece] {
        let tree = tree(count)
        guard let did = try? DID("did:plc:44ybard66vv44zksje25o7dz"),
            let signature = try? fixedKey(.k256).sign(
                Commit.unsignedBytes(did: did, data: tree.root(), rev: TID(microseconds: 1_700_000_000_000_000, clockID: 1)))
        else { fatalError("a fixed commit is valid") }
        var fields: ValueMap = [
            "did": .string(did.description), "version": .integer(version), "data": .link(tree.root()), "prev": .null,
            "sig": .bytes(signature),
        ]
        if version == 3 { fields["rev"] = .string(TID(microseconds: 1_700_000_000_000_000, clockID: 1).description) }
        let commit = DAGCBOR.encode(.map(fields))
        let records = (0..<count).map { number in (cid: CID(hashing: record(number)), bytes: record(number)) }
        return [(CID(hashing: commit), commit)] + nodes(tree) + records
    }

    private static func file(_ pieces: some Sequence<Piece>) -> [UInt8] {
        let blocks = numbered(Array(pieces))
        var file: [UInt8] = []
        CARWriter.encodeHeader(roots: [CID(codec: .dagCBOR, digest: FuzzBlocks.placeholder(0))], into: &file)
        for (index, block) in blocks.enumerated() {
            CARWriter.encodeBlock(block.bytes, cid: CID(codec: .dagCBOR, digest: FuzzBlocks.placeholder(index)), into: &file)
        }
        return file
    }

    /// The blocks with numbers in place of their links to each other.
    private static func numbered(_ pieces: [Piece]) -> [Piece] {
        let numbers = Dictionary(pieces.enumerated().map { ($1.cid.digest, $0) }, uniquingKeysWith: { first, _ in first })
        return pieces.map { piece in
            var bytes = piece.bytes
            var offset = 0
            // A digest is found by what stands before it: CIDv1, dag-cbor, SHA-256, 32 bytes.
            while offset + 36 <= bytes.count {
                if bytes[offset..<offset + 4].elementsEqual([0x01, 0x71, 0x12, 0x20]),
                    let number = numbers[Array(bytes[offset + 4..<offset + 36])]
                {
                    bytes.replaceSubrange(offset + 4..<offset + 36, with: FuzzBlocks.placeholder(number))
                    offset += 36
                } else {
                    offset += 1
                }
            }
            return (piece.cid, bytes)
        }
    }
}
