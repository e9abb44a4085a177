import ATProto
package import Keys

/// A repository in a CAR file that a verifier must refuse, and the name that its error must have. Every hash is right unless the
/// hash is the point: what is wrong was written by somebody who knows how CIDs are made.
package struct HostileRepo: Sendable {
    package let name: String
    package let car: [UInt8]
    /// `RepoError.name`; empty for one that must be accepted.
    package let refusal: String
    package var key: PublicKey?

    /// One of each kind.
    package static func all(seed: UInt64) throws -> [HostileRepo] {
        let maker = try Maker(seed: seed)
        return try maker.sound() + maker.missing() + maker.misplaced() + maker.sizes() + maker.encodings() + maker.commits()
            + maker.framing()
    }
}

/// Makes the files out of one small tree: `root` on layer 1 with two records, and below it three nodes with one record each.
private struct Maker {
    typealias Block = RepoSample.Block

    struct Entry {
        var key: String
        var value: CID
        var after: CID?
        /// Nil: as many bytes as it shares with the key before.
        var shared: Int?
    }

    let did: DID
    let key: PrivateKey
    let records: [Block]
    /// Keys in ascending order; layers 0, 1, 0, 1, 0, 2.
    let keys: [String]
    let leaves: [Block]
    let root: Block

    init(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        key = try PrivateKey(curve: .p256, rawBytes: [0] + random.bytes(31))
        did = try DID("did:web:hostile.example.com")
        records = (0..<6).map { Block(RepoSample.record($0, seed: seed)) }
        var keys: [String] = []
        var start = random.next() >> 30
        for layer in [0, 1, 0, 1, 0, 2] {
            let (key, next) = try Self.mine(layer: layer, from: start)
            keys.append(key)
            start = next
        }
        self.keys = keys
        let records = records
        leaves = [0, 2, 4].map { Self.node([Entry(key: keys[$0], value: records[$0].cid)]) }
        root = Self.node(
            left: leaves[0].cid,
            [
                Entry(key: keys[1], value: records[1].cid, after: leaves[1].cid),
                Entry(key: keys[3], value: records[3].cid, after: leaves[2].cid),
            ])
    }

    /// The first key on `layer` from a number on, and the number after it; keys ascend with the numbers.
    static func mine(layer: Int, from start: UInt64) throws -> (key: String, next: UInt64) {
        var number = start
        while true {
            let digits = String(number)
            let key = "com.example.record/" + String(repeating: "0", count: 20 - digits.count) + digits
            number += 1
            if try MSTKey(key).layer == layer { return (key, number) }
        }
    }

    static func value(left: CID? = nil, _ entries: [Entry]) -> Value {
        var before: [UInt8] = []
        var items: [Value] = []
        for entry in entries {
            let key = [UInt8](entry.key.utf8)
            let shared = entry.shared ?? zip(before, key).prefix { $0 == $1 }.count
            items.append(
                .map([
                    "k": .bytes([UInt8](key[shared...])), "p": .integer(Int64(shared)), "t": entry.after.map(Value.link) ?? .null,
                    "v": .link(entry.value),
                ]))
            before = key
        }
        return .map(["e": .array(items), "l": left.map(Value.link) ?? .null])
    }

    static func node(left: CID? = nil, _ entries: [Entry]) -> Block { Block(DAGCBOR.encode(value(left: left, entries))) }

    func entry(_ index: Int, after: CID? = nil) -> Entry { Entry(key: keys[index], value: records[index].cid, after: after) }

    func commit(_ data: CID) throws -> Block {
        let rev = TID(microseconds: 1_790_000_000_000_000, clockID: 0)
        let signature = try key.sign(Commit.unsignedBytes(did: did, data: data, rev: rev))
        return Block(Commit(did: did, data: data, rev: rev, signature: signature).block)
    }

    /// A file with `root` as its tree, and of the ordinary blocks those that are not named.
    func repo(
        _ name: String, _ refusal: String, root: Block? = nil, adding: [Block] = [], without: [Block] = []
    ) throws -> HostileRepo {
        let root = root ?? self.root
        let commit = try commit(root.cid)
        let blocks = ([commit, root] + leaves + records + adding).filter { !without.contains($0) }
        return HostileRepo(name: name, car: RepoSample.car(root: commit.cid, blocks), refusal: refusal, key: key.publicKey)
    }

    func sound() throws -> [HostileRepo] {
        let empty = Self.node([])
        return try [
            repo("the ordinary tree", ""),
            repo("the empty tree", "", root: empty),
            repo("blocks twice, and blocks of nobody", "", adding: [root, records[0], Block([0xA0]), Block([0xFF])]),
        ]
    }

    func missing() throws -> [HostileRepo] {
        let commit = try commit(root.cid)
        var repos = [
            HostileRepo(name: "no commit", car: RepoSample.car(root: commit.cid, [root] + leaves + records), refusal: "MissingBlock")
        ]
        for block in [root] + leaves + records.prefix(5) {
            repos.append(try repo("without block \(block.cid)", "MissingBlock", without: [block]))
        }
        return repos
    }

    /// Wrong order, wrong depth, wrong place.
    func misplaced() throws -> [HostileRepo] {
        let deep = Self.node(left: leaves[0].cid, [])
        let skipping = Self.node(left: leaves[0].cid, [entry(5)])
        let cases: [(String, Block, [Block])] = [
            ("two keys swapped", Self.node(left: leaves[0].cid, [entry(3), entry(1)]), []),
            ("a key twice", Self.node([entry(1), entry(1)]), []),
            ("a subtree before its lower bound", Self.node([entry(1, after: leaves[0].cid)]), []),
            ("a subtree beyond its upper bound", Self.node(left: leaves[1].cid, [entry(1)]), []),
            ("a subtree in two places", Self.node(left: leaves[0].cid, [entry(1, after: leaves[0].cid)]), []),
            ("a key of a lower layer beside one of a higher", Self.node([entry(1), entry(2)]), []),
            ("a key of a higher layer beside one of a lower", Self.node([entry(0), entry(1)]), []),
            ("a child two layers down", skipping, []),
            ("a root without keys over a tree", deep, []),
            ("an empty node as a child", Self.node(left: Self.node([]).cid, [entry(1)]), [Self.node([])]),
            ("a child below layer 0", Self.node(left: leaves[0].cid, [entry(2)]), []),
            ("a record as a node", Self.node(left: records[0].cid, [entry(1)]), []),
            ("a prefix shorter than shared", Self.node([entry(1), Entry(key: keys[3], value: records[3].cid, shared: 0)]), []),
            ("a prefix longer than the key before", prefixBeyond(), []),
        ]
        var repos = try cases.map { try repo($0.0, "InvalidNode", root: $0.1, adding: $0.2) }
        for bad in ["com.example.record", "com.example.record/", "/self", "com.example.record/a/b", "com.example.record/ä", ""] {
            repos.append(try repo("the key \"\(bad)\"", "InvalidNode", root: Self.node([Entry(key: bad, value: records[0].cid)])))
        }
        for bad in [
            "example/self", "com.example.record/..", "com.example.1/self", "com.example.record/" + String(repeating: "a", count: 513),
        ] {
            repos.append(try repo("the key \"\(bad.prefix(40))\"", "InvalidKey", root: Self.node([Entry(key: bad, value: records[0].cid)])))
        }
        return repos
    }

    private func prefixBeyond() -> Block {
        Block(
            DAGCBOR.encode(
                .map([
                    "e": .array([
                        .map(["k": .bytes([UInt8](keys[1].utf8)), "p": .integer(1), "t": .null, "v": .link(records[1].cid)])
                    ]), "l": .null,
                ])))
    }

    func sizes() throws -> [HostileRepo] {
        var entries: [Entry] = []
        var start: UInt64 = 0
        while entries.count <= MSTLimits.standard.entriesMax {
            let (key, next) = try Self.mine(layer: 0, from: start)
            entries.append(Entry(key: key, value: records[0].cid))
            start = next
        }
        let big = Block(
            DAGCBOR.encode(.map(["$type": .string("com.example.record"), "text": .bytes([UInt8](repeating: 7, count: 1_000_000))])))
        let huge = [UInt8](repeating: 7, count: 3 << 20)
        var car = try repo("", "").car
        Varint.encode(UInt64(CID.byteCount + huge.count), into: &car)
        CID(hashing: huge).append(to: &car)
        return try [
            repo("a node of as many entries as there may be", "", root: Self.node(Array(entries.dropLast()))),
            repo("an oversized node", "InvalidNode", root: Self.node(entries)),
            repo("a record over a million bytes", "InvalidRecord", root: Self.node([Entry(key: keys[0], value: big.cid)]), adding: [big]),
            HostileRepo(name: "a section of 3 MiB", car: car + huge, refusal: "InvalidCAR"),
        ]
    }

    /// Other bytes for the same things.
    func encodings() throws -> [HostileRepo] {
        var repos: [HostileRepo] = []
        for (name, bytes) in nodeForms() { repos.append(try repo("a node with \(name)", "InvalidNode", root: Block(bytes))) }
        let forms: [(String, [UInt8])] = [
            ("keys out of order", [0xA2, 0x61, 0x62, 0x01, 0x61, 0x61, 0x01]), ("a key twice", [0xA2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x01]),
            ("a long integer", [0xA1, 0x61, 0x61, 0x18, 0x01]), ("a float", [0xA1, 0x61, 0x61, 0xFB] + [UInt8](repeating: 0, count: 8)),
            ("an indefinite map", [0xBF, 0x61, 0x61, 0x01, 0xFF]), ("a byte too many", [0xA1, 0x61, 0x61, 0x01, 0x00]),
            ("a byte too few", [0xA1, 0x61, 0x61]), ("no map", [0x80]), ("nothing", []), ("a bad string", [0xA1, 0x61, 0x61, 0x61, 0xFF]),
            ("an unknown tag", [0xA1, 0x61, 0x61, 0xC1, 0x01]),
            ("33 arrays in each other", [0xA1, 0x61, 0x61] + [UInt8](repeating: 0x81, count: 32) + [0x01]),
        ]
        for (name, bytes) in forms {
            let record = Block(bytes)
            let root = Self.node([Entry(key: keys[0], value: record.cid)])
            repos.append(try repo("a record with \(name)", "InvalidRecord", root: root, adding: [record]))
        }
        let raw = Block([1, 2, 3], codec: .raw)
        repos.append(try repo("a raw block", "InvalidCodec", adding: [raw]))
        repos.append(try repo("a record with a raw CID", "MissingBlock", root: Self.node([Entry(key: keys[0], value: raw.cid)])))
        return repos
    }

    /// The node of one record, in every way but the right one.
    private func nodeForms() -> [(String, [UInt8])] {
        let right = DAGCBOR.encode(Self.value([entry(0)]))
        let suffix = [UInt8](keys[0].utf8)
        // A2 61 65 81 | A4 61 6B 58 nn suffix | 61 70 00 | 61 74 F6 | 61 76 link | 61 6C F6
        let body = Array(right[4..<right.count - 3])
        let left: [UInt8] = [0x61, 0x6C, 0xF6]
        let entries: [UInt8] = [0x61, 0x65]
        var longPrefix = right
        longPrefix.replaceSubrange(9 + suffix.count + 2..<9 + suffix.count + 3, with: [0x18, 0x00])
        var longSuffix = right
        longSuffix.replaceSubrange(7..<9, with: [0x59, 0x00, UInt8(suffix.count)])
        return [
            ("`l` before `e`", [0xA2] + left + entries + [0x81] + body),
            ("a long count", [0xA2] + entries + [0x98, 0x01] + body + left),
            ("an indefinite array", [0xA2] + entries + [0x9F] + body + [0xFF] + left),
            ("a long prefix", longPrefix), ("a long suffix length", longSuffix), ("a byte after it", right + [0x00]),
            ("a byte less", Array(right.dropLast())), ("a field more", [0xA3] + right.dropFirst() + [0x61, 0x7A, 0x00]),
            ("no `l`", [0xA1] + entries + [0x81] + body), ("a missing `l` value", [0xA2] + entries + [0x81] + body + [0x61, 0x6C, 0xF7]),
        ]
    }

    func commits() throws -> [HostileRepo] {
        let good: ValueMap = [
            "did": .string(did.description), "version": .integer(3), "data": .link(root.cid), "prev": .null,
            "rev": .string("3lro5ygxvjl22"), "sig": .bytes([UInt8](repeating: 1, count: 64)),
        ]
        let changes: [(String, String, Value?)] = [
            ("version 1", "version", .integer(1)), ("version 4", "version", .integer(4)), ("no version", "version", nil),
            ("a version in text", "version", .string("3")), ("no did", "did", nil), ("a bad did", "did", .string("did:x")),
            ("no data", "data", nil), ("data in text", "data", .string(root.cid.description)),
            ("raw data", "data", .link(CID(codec: .raw, digest: root.cid.digest))), ("no prev", "prev", nil),
            ("prev in text", "prev", .string("x")), ("no rev", "rev", nil), ("a bad rev", "rev", .string("3lro5ygxvjl2")),
            ("no signature", "sig", nil), ("a signature of 63 bytes", "sig", .bytes([UInt8](repeating: 1, count: 63))),
            ("a signature of 65 bytes", "sig", .bytes([UInt8](repeating: 1, count: 65))), ("a field more", "extra", .null),
        ]
        var repos: [HostileRepo] = []
        for (name, field, value) in changes {
            var map = good
            map[field] = value
            repos.append(commitRepo("a commit with \(name)", DAGCBOR.encode(.map(map))))
        }
        let encoded = DAGCBOR.encode(.map(good))
        repos.append(commitRepo("a commit with a byte after it", encoded + [0]))
        repos.append(commitRepo("a commit that is no map", [0x80]))
        repos.append(commitRepo("a commit of 5,000 bytes", encoded + [UInt8](repeating: 0, count: 5000)))
        var forged = commitRepo("a commit that another key signed", encoded)
        forged = HostileRepo(name: forged.name, car: forged.car, refusal: "InvalidSignature", key: key.publicKey)
        let sound = try repo("", "")
        let stranger = try PrivateKey(curve: .p256, rawBytes: [UInt8](repeating: 9, count: 32)).publicKey
        return repos + [
            forged, HostileRepo(name: "a repository of another key", car: sound.car, refusal: "InvalidSignature", key: stranger),
        ]
    }

    private func commitRepo(_ name: String, _ bytes: [UInt8]) -> HostileRepo {
        let commit = Block(bytes)
        return HostileRepo(name: name, car: RepoSample.car(root: commit.cid, [commit, root] + leaves + records), refusal: "InvalidCommit")
    }

    func framing() throws -> [HostileRepo] {
        let commit = try commit(root.cid)
        let blocks = [commit, root] + leaves + records
        let sections = Array(RepoSample.car(root: commit.cid, blocks).dropFirst(RepoSample.car(root: commit.cid, []).count))
        let root = Value.link(commit.cid)
        let headers: [(String, Value, String)] = [
            ("no root", .map(["roots": .array([]), "version": .integer(1)]), "InvalidRoots"),
            ("two roots", .map(["roots": .array([root, root]), "version": .integer(1)]), "InvalidRoots"),
            ("version 2", .map(["roots": .array([root]), "version": .integer(2)]), "InvalidCAR"),
            ("no version", .map(["roots": .array([root])]), "InvalidCAR"),
            ("a field more", .map(["roots": .array([root]), "version": .integer(1), "x": .null]), "InvalidCAR"),
            ("a root in text", .map(["roots": .array([.string(commit.cid.description)]), "version": .integer(1)]), "InvalidCAR"),
            ("no map", .array([]), "InvalidCAR"),
        ]
        var repos: [HostileRepo] = []
        for (name, value, refusal) in headers {
            let header = DAGCBOR.encode(value)
            repos.append(HostileRepo(name: "a header with \(name)", car: Self.length(header.count) + header + sections, refusal: refusal))
        }
        let start = RepoSample.car(root: commit.cid, blocks)
        let tails: [(String, [UInt8], String)] = [
            ("a section of no bytes", [0], "InvalidCAR"),
            ("a section shorter than a CID", [35] + [UInt8](repeating: 1, count: 35), "InvalidCAR"),
            ("a length in more bytes than it needs", [0xA4, 0x80, 0x00] + records[0].cid.bytes, "InvalidCAR"),
            ("a length without end", [UInt8](repeating: 0xFF, count: 12), "InvalidCAR"),
            ("a CID of version 0", [38, 0x12, 0x20] + [UInt8](repeating: 1, count: 36), "InvalidCAR"),
            ("a CID of another codec", [36, 0x01, 0x70, 0x12, 0x20] + [UInt8](repeating: 1, count: 32), "InvalidCAR"),
            ("half a section", [40] + records[0].cid.bytes, "Truncated"), ("half a length", [0x80], "Truncated"),
            ("a wrong hash", [37] + records[0].cid.bytes + [0], "HashMismatch"),
        ]
        for (name, tail, refusal) in tails { repos.append(HostileRepo(name: name, car: start + tail, refusal: refusal)) }
        repos.append(HostileRepo(name: "nothing", car: [], refusal: "Truncated"))
        repos.append(HostileRepo(name: "a header of a megabyte", car: Self.length(1 << 20) + start, refusal: "InvalidCAR"))
        return repos
    }

    private static func length(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        Varint.encode(UInt64(count), into: &bytes)
        return bytes
    }
}
