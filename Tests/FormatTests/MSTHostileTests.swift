import ATProto
import Simulation
import Testing

@Suite("Tree: nodes that a stranger made")
struct MSTHostileTests {
    // Layers by the published example keys: the digit of A0 … Z5 is the layer.
    private let a0 = "A0/374913", b0 = "B0/601692", c0 = "C0/451630", d0 = "D0/952776"
    private let b1 = "B1/986427", d1 = "D1/834852", b2 = "B2/827649"
    private let value = CID(hashing: [1])

    @Test("a well-formed node of every shape is accepted")
    func accepted() throws {
        #expect(try refusal { root(in: &$0, []) } == nil)
        #expect(try refusal { root(in: &$0, [(a0, nil), (b0, nil)]) } == nil)
        #expect(try refusal { root(in: &$0, left: leaf(in: &$0, [a0]), [(b1, leaf(in: &$0, [c0, d0]))]) } == nil)
        // A layer without keys keeps its node.
        #expect(try refusal { root(in: &$0, left: node(in: &$0, leaf(in: &$0, [a0]), []), [(b2, nil)]) } == nil)
    }

    @Test("the empty tree is exactly one node, and no other node is empty")
    func empty() throws {
        #expect(MST().root().description == "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm")
        #expect(try refusal { root(in: &$0, left: leaf(in: &$0, []), [(b1, nil)]) } == .empty)
        #expect(try refusal { root(in: &$0, left: node(in: &$0, leaf(in: &$0, []), []), [(b2, nil)]) } == .empty)
        // A root that has no keys hides the tree below it; its layer is unknown, so its subtree is refused.
        #expect(try refusal { root(in: &$0, left: leaf(in: &$0, [a0]), []) } == .belowLayerZero)
    }

    @Test("keys ascend in a node, between nodes, and each in its layer")
    func order() throws {
        #expect(try refusal { root(in: &$0, [(b0, nil), (a0, nil)]) } == .order(entry: 1))
        #expect(try refusal { root(in: &$0, [(a0, nil), (b1, nil)]) } == .layer(entry: 1))
        #expect(try refusal { root(in: &$0, left: leaf(in: &$0, [c0]), [(b1, nil)]) } == .bounds(entry: 0))
        #expect(try refusal { root(in: &$0, left: leaf(in: &$0, [a0, c0]), [(b1, nil)]) } == .bounds(entry: 1))
        #expect(try refusal { root(in: &$0, [(b1, leaf(in: &$0, [a0]))]) } == .bounds(entry: 0))
        #expect(try refusal { root(in: &$0, [(b1, leaf(in: &$0, [c0])), (d1, leaf(in: &$0, [c0]))]) } == .bounds(entry: 0))
        #expect(try refusal { root(in: &$0, left: leaf(in: &$0, [a0]), [(b2, nil)]) } == .layer(entry: 0))
        #expect(try refusal { root(in: &$0, [(a0, leaf(in: &$0, [b0]))]) } == .belowLayerZero)
    }

    @Test("a key is refused when equal to the one before")
    func duplicate() throws {
        // Its shared prefix is the whole key and its suffix empty.
        #expect(try refusal { root(in: &$0, [(a0, nil), (a0, nil)]) } == .order(entry: 1))
    }

    @Test("the shared prefix is stated exactly: not less, not more, not past the key before")
    func prefix() throws {
        for (shared, fault) in [
            (0, MSTNodeFault.prefix(entry: 1)), (1, .prefix(entry: 1)), (10, .prefix(entry: 1)), (65_535, .prefix(entry: 1)),
        ] {
            let entries: [Value] = [
                entry(shared: 0, suffix: "A0/374913"), entry(shared: shared, suffix: String("A0/39".dropFirst(min(shared, 4)))),
            ]
            #expect(try refusal(of: ["e": .array(entries), "l": .null]) == fault, "\(shared)")
        }
        #expect(try refusal(of: ["e": .array([entry(shared: 1, suffix: "0/1")]), "l": .null]) == .prefix(entry: 0))
    }

    @Test(
        "a key that is not a record path is refused", arguments: ["", "a", "/a", "a/", "a/b/c", "a /b", "a/ü", "a/\u{0}", "a/b#", "a/(b)"])
    func syntax(key: String) throws {
        #expect(throws: MSTError.invalidKey(key)) { try MSTKey(key) }
        #expect(try refusal(of: ["e": .array([entry(shared: 0, suffix: key)]), "l": .null]) == .key(entry: 0))
    }

    @Test("a key has at most 1,024 bytes")
    func keyLength() throws {
        let longest = "a/" + String(repeating: "x", count: 1022)
        #expect(try MSTKey(longest).byteCount == 1024)
        #expect(throws: MSTError.self) { try MSTKey(longest + "x") }
        #expect(try refusal(of: ["e": .array([entry(shared: 0, suffix: longest + "x")]), "l": .null]) == .key(entry: 0))
        var tree = MST()
        try tree.insert(MSTKey(longest), value)
        try tree.verify()
    }

    @Test("every character that a record path may have is accepted, and no other")
    func characters() {
        let allowed = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:~-".utf8)
        for byte in UInt8(0)..<128 {
            let text = "a/" + String(UnicodeScalar(byte))
            #expect(((try? MSTKey(text)) != nil) == allowed.contains(byte), "\(byte)")
        }
    }

    @Test("a node that is not exactly the map of e and l, with k, p, t and v, is refused")
    func fields() throws {
        let good = entry(shared: 0, suffix: "A0/374913")
        for wrong: ValueMap in [
            [:], ["e": .array([])], ["l": .null], ["e": .array([]), "l": .null, "x": .null], ["e": .null, "l": .null],
            ["e": .array([]), "l": .bool(false)], ["e": .array([]), "l": .link(CID(hashing: [], codec: .raw))],
            ["e": .array([.map([:])]), "l": .null],
            ["e": .array([changed(good, "k", .string("A0/374913"))]), "l": .null],
            ["e": .array([changed(good, "p", .integer(-1))]), "l": .null],
            ["e": .array([changed(good, "p", .integer(.max))]), "l": .null],
            ["e": .array([changed(good, "v", .null)]), "l": .null],
            ["e": .array([changed(good, "v", nil)]), "l": .null],
            ["e": .array([changed(good, "t", nil)]), "l": .null],
            ["e": .array([changed(good, "t", .array([]))]), "l": .null],
            ["e": .array([changed(good, "x", .null)]), "l": .null],
        ] {
            let fault = try refusal(of: wrong)
            switch fault {
            case .encoding?, .link?: break
            default: Issue.record("\(wrong): \(String(describing: fault))")
            }
        }
    }

    @Test("a node is refused when cut at any byte, with any byte after it, and with any other encoding of its counts")
    func bytes() throws {
        var tree = MST()
        for key in [a0, b0, c0] { try tree.insert(MSTKey(key), value) }
        let block = tree.takeChanges().added[0].bytes
        for end in block.indices { #expect(try refusal(ofBytes: Array(block[..<end])) != nil, "cut at \(end)") }
        #expect(try refusal(ofBytes: block + [0]) == .encoding(offset: block.count))
        // The array of three as 0x98 03, 0x99 0003, 0x9A 00000003, and of indefinite length.
        for head: [UInt8] in [[0x98, 3], [0x99, 0, 3], [0x9A, 0, 0, 0, 3], [0x9B, 0, 0, 0, 0, 0, 0, 0, 3], [0x9F]] {
            #expect(try refusal(ofBytes: Array(block[..<3]) + head + Array(block[4...])) == .encoding(offset: 3), "\(head)")
        }
    }

    @Test("a node may not have more entries than the limit, on reading or by an edit")
    func entries() throws {
        let limits = MSTLimits(entriesMax: 3)
        let keys = try [a0, b0, c0, d0].map { try MSTKey($0) }
        let three = try MST.build(sorted: keys.prefix(3).map { (key: $0, value: value) })
        try three.verify(limits: limits)
        let four = try MST.build(sorted: keys.map { (key: $0, value: value) })
        #expect(throws: MSTError.invalidNode(four.root(), .entries(count: 4))) { try four.verify(limits: limits) }
        #expect(throws: MSTError.nodeTooLarge(entries: 4, entriesMax: 3)) {
            try MST.build(sorted: keys.map { (key: $0, value: value) }, limits: limits)
        }
        var limited = try MST.build(sorted: keys.prefix(3).map { (key: $0, value: value) }, limits: limits)
        #expect(throws: MSTError.nodeTooLarge(entries: 4, entriesMax: 3)) { try limited.insert(keys[3], value) }
        #expect(limited.root() == three.root())
        // A count that lies about what follows.
        #expect(try refusal(ofBytes: [0xA2, 0x61, 0x65, 0x99, 0xFF, 0xFF]) == .entries(count: 65_535))
        #expect(try refusal(ofBytes: [0xA2, 0x61, 0x65, 0x99, 0x04, 0x00]) == .encoding(offset: 6))
    }

    @Test("a root above the limit is refused")
    func depth() throws {
        let high = try MSTKey(MinedKeys.byLayer[12]![0])
        var tree = MST()
        try tree.insert(high, value)
        #expect(try tree.verify(limits: MSTLimits(layerMax: 12)).layer == 12)
        #expect(throws: MSTError.invalidNode(tree.root(), .depth(layer: 12))) { try tree.verify(limits: MSTLimits(layerMax: 11)) }
    }

    @Test("a source that answers a cycle, other bytes, nothing or an error is named for it, and the walk ends")
    func sources() throws {
        // Hashes are not checked here, so the source can close a circle: each node is its own left subtree.
        let cid = CID(hashing: [7])
        let circle = DAGCBOR.encode(.map(["e": .array([entry(shared: 0, suffix: b1)]), "l": .link(cid)]))
        let tree = MST(root: cid, hashesChecked: true, source: { (_) throws(MSTError) in circle })
        #expect(throws: MSTError.invalidNode(cid, .layer(entry: 0))) { try tree.verify() }
        let hollow = DAGCBOR.encode(.map(["e": .array([]), "l": .link(cid)]))
        let root = DAGCBOR.encode(.map(["e": .array([entry(shared: 0, suffix: b2)]), "l": .link(cid)]))
        let rootCID = CID(hashing: root)
        let hollowTree = MST(root: rootCID, hashesChecked: true, source: { (asked) throws(MSTError) in asked == rootCID ? root : hollow })
        #expect(throws: MSTError.invalidNode(cid, .belowLayerZero)) { try hollowTree.verify() }

        #expect(throws: MSTError.hashMismatch(cid)) { try MST(root: cid, source: { (_) throws(MSTError) in circle }).get(MSTKey(a0)) }
        #expect(throws: MSTError.missingBlock(cid)) { try MST(root: cid, blocks: []).verify() }
        let failing = MST(root: cid, source: { (cid) throws(MSTError) in throw .unreadableBlock(cid, reason: "disk") })
        #expect(throws: MSTError.unreadableBlock(cid, reason: "disk")) { try failing.walk { (_, _) throws(MSTError) in true } }
    }

    @Test("a lazily loaded tree refuses a bad node when it reaches it, and not before, and an edit that fails changes nothing")
    func lazily() throws {
        var blocks: [CID: [UInt8]] = [:]
        let bad = leaf(in: &blocks, [a0])
        let root = root(in: &blocks, left: leaf(in: &blocks, [a0]), [(b1, bad)])
        var tree = MST(root: root, blocks: blocks.map { ($0.key, $0.value) })
        #expect(try tree.get(MSTKey(a0)) == value)
        #expect(throws: MSTError.invalidNode(bad, .bounds(entry: 0))) { try tree.get(MSTKey(c0)) }
        #expect(throws: MSTError.invalidNode(bad, .bounds(entry: 0))) { try tree.insert(MSTKey(c0), value) }
        #expect(throws: MSTError.invalidNode(bad, .bounds(entry: 0))) { try tree.delete(MSTKey(b1)) }
        #expect(tree.root() == root)
        let changes = tree.takeChanges()
        #expect(changes.added.isEmpty && changes.removed.isEmpty)
    }

    @Test("bytes of chance never trap the reader")
    func noise() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        var tree = MST()
        for key in [a0, b0, b1, c0, d1] { try tree.insert(MSTKey(key), value) }
        let block = tree.takeChanges().added.last!.bytes
        for _ in 0..<2000 {
            var bytes = block
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                bytes.replaceSubrange(
                    at..<min(bytes.count, at + Int.random(in: 0...3, using: &generator)),
                    with: generator.bytes(Int.random(in: 0...3, using: &generator)))
                if bytes.isEmpty { break }
            }
            let cid = CID(hashing: bytes)
            guard let node = try? MST(root: cid, blocks: [(cid, bytes)]).nodes().first() else { continue }
            #expect(node == bytes, "seed \(TestFiles.seed)")
        }
    }

    // MARK: Making nodes

    private func leaf(in blocks: inout [CID: [UInt8]], _ keys: [String]) -> CID {
        node(in: &blocks, nil, keys.map { ($0, nil) })
    }

    private func root(in blocks: inout [CID: [UInt8]], left: CID? = nil, _ entries: [(String, CID?)]) -> CID {
        node(in: &blocks, left, entries)
    }

    private func node(in blocks: inout [CID: [UInt8]], _ left: CID?, _ entries: [(String, CID?)]) -> CID {
        var previous = ""
        let list = entries.map { key, after in
            let shared = key.commonPrefix(with: previous).utf8.count
            previous = key
            return changed(entry(shared: shared, suffix: String(key.dropFirst(shared))), "t", after.map { .link($0) } ?? .null)
        }
        let bytes = DAGCBOR.encode(.map(["e": .array(list), "l": left.map { .link($0) } ?? .null]))
        blocks[CID(hashing: bytes)] = bytes
        return CID(hashing: bytes)
    }

    private func entry(shared: Int, suffix: String) -> Value {
        .map(["k": .bytes(Array(suffix.utf8)), "p": .integer(Int64(shared)), "t": .null, "v": .link(value)])
    }

    private func changed(_ entry: Value, _ field: String, _ value: Value?) -> Value {
        guard case .map(var map) = entry else { return entry }
        map[field] = value
        return .map(map)
    }

    /// Why a whole tree is refused; nil when it is not.
    private func refusal(_ build: (inout [CID: [UInt8]]) -> CID) throws -> MSTNodeFault? {
        var blocks: [CID: [UInt8]] = [:]
        let root = build(&blocks)
        do {
            try MST(root: root, blocks: blocks.map { ($0.key, $0.value) }).verify()
            return nil
        } catch {
            guard case .invalidNode(_, let fault) = error else { throw error }
            return fault
        }
    }

    private func refusal(of map: ValueMap) throws -> MSTNodeFault? {
        try refusal(ofBytes: DAGCBOR.encode(.map(map)))
    }

    private func refusal(ofBytes bytes: [UInt8]) throws -> MSTNodeFault? {
        try refusal { blocks in
            blocks[CID(hashing: bytes)] = bytes
            return CID(hashing: bytes)
        }
    }
}

extension MSTTraversal {
    /// The bytes of the root, once it has been read and encoded again.
    fileprivate func first() throws -> [UInt8]? {
        var copy = self
        guard case .node(_, let bytes)? = try copy.next() else { return nil }
        return bytes
    }
}
