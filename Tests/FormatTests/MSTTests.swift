import ATProto
import Simulation
import Synchronization
import Testing

@Suite("Tree: edits and walks")
struct MSTTests {
    private let one = CID(hashing: [1])
    private let two = CID(hashing: [2])

    @Test("a record is inserted once, updated when there, deleted when there")
    func edits() throws {
        var tree = MST()
        let key = try MSTKey("a.b.c/x")
        #expect(try tree.get(key) == nil)
        #expect(throws: MSTError.absent(key)) { try tree.update(key, one) }
        #expect(throws: MSTError.absent(key)) { try tree.delete(key) }
        try tree.insert(key, one)
        #expect(throws: MSTError.exists(key)) { try tree.insert(key, two) }
        #expect(try tree.update(key, two) == one)
        #expect(try tree.get(key) == two)
        #expect(try tree.delete(key) == two)
        #expect(tree.root() == MST().root())
    }

    @Test("an update to the same CID and an edit undone are no changes")
    func noChanges() throws {
        var tree = MST()
        for number in 0..<50 { try tree.insert(MSTKey("a.b.c/\(number)"), one) }
        _ = tree.takeChanges()
        try tree.update(MSTKey("a.b.c/7"), one)
        try tree.insert(MSTKey(MinedKeys.byLayer[9]![0]), one)
        try tree.delete(MSTKey(MinedKeys.byLayer[9]![0]))
        try tree.update(MSTKey("a.b.c/8"), two)
        try tree.update(MSTKey("a.b.c/8"), one)
        let changes = tree.takeChanges()
        #expect(changes.added.isEmpty && changes.removed.isEmpty)
    }

    @Test("the changes of an empty tree are its node, and the first record replaces it")
    func firstChanges() throws {
        var tree = MST()
        var copy = tree
        let empty = tree.takeChanges()
        #expect(empty.added.map(\.cid) == [MST().root()] && empty.removed.isEmpty)
        try tree.insert(MSTKey("a.b.c/x"), one)
        #expect(tree.takeChanges().removed == [MST().root()])
        // A tree whose empty node nobody has stored does not ask for its removal.
        try copy.insert(MSTKey("a.b.c/x"), one)
        let changes = copy.takeChanges()
        #expect(changes.added.map(\.cid) == [tree.root()] && changes.removed.isEmpty)
    }

    @Test("copies that part have their own changes")
    func copies() throws {
        var left = MST()
        for number in 0..<40 { try left.insert(MSTKey("a.b.c/\(number)"), one) }
        let stored = Set(left.takeChanges().added.map(\.cid))
        try left.insert(MSTKey("a.b.c/left"), one)
        var right = left
        try right.insert(MSTKey("a.b.c/right"), one)
        try left.delete(MSTKey("a.b.c/left"))
        #expect(left.takeChanges().added.isEmpty)
        let changes = right.takeChanges()
        #expect(!changes.added.isEmpty && Set(changes.removed).isSubset(of: stored))
        #expect(try right.get(MSTKey("a.b.c/left")) == one && left.get(MSTKey("a.b.c/left")) == nil)
        try right.verify()
    }

    @Test("trees hashed from many tasks at once agree")
    func concurrentHashing() async throws {
        var tree = MST()
        for number in 0..<300 { try tree.insert(MSTKey("a.b.c/\(number)"), one) }
        let shared = tree
        let roots = await withTaskGroup(of: CID.self) { group in
            for _ in 0..<8 { group.addTask { shared.root() } }
            return await group.reduce(into: Set<CID>()) { $0.insert($1) }
        }
        #expect(roots == [try MST.build(sorted: entries(tree)).root()])
    }

    @Test("a collection is walked both ways from a cursor, and no neighbour with a longer name gets in")
    func collections() throws {
        var tree = MST()
        let names = ["a.b.c", "a.b.c-d", "a.b.cc", "a.b.c.d", "a.b.d"]
        for name in names { for key in ["1", "3", "5"] { try tree.insert(MSTKey("\(name)/\(key)"), one) } }
        #expect(try tree.collections() == names.sorted { "\($0)/" < "\($1)/" })
        let collection = try NSID("a.b.c")
        func walked(after cursor: String?, reversed: Bool) throws -> [String] {
            var keys: [String] = []
            try tree.walk(collection: collection, after: cursor.map { try RecordKey($0) }, reversed: reversed) {
                (key, _) throws(MSTError) in
                keys.append(key.recordKey)
                return true
            }
            return keys
        }
        #expect(try walked(after: nil, reversed: false) == ["1", "3", "5"])
        #expect(try walked(after: nil, reversed: true) == ["5", "3", "1"])
        for (cursor, ahead, back) in [("1", ["3", "5"], []), ("2", ["3", "5"], ["1"]), ("3", ["5"], ["1"]), ("5", [], ["3", "1"])] {
            #expect(try walked(after: cursor, reversed: false) == ahead)
            #expect(try walked(after: cursor, reversed: true) == back)
        }
        #expect(try MST().collections() == [])
    }

    @Test("a diff does not read subtrees that both trees have")
    func diffReadsLittle() throws {
        var tree = MST()
        for number in 0..<1000 { try tree.insert(MSTKey("a.b.c/\(number)"), one) }
        let before = tree.takeChanges().added
        let beforeRoot = tree.root()
        let (created, updated) = (try MSTKey("a.b.c/500x"), try MSTKey("a.b.c/77"))
        try tree.insert(created, two)
        try tree.update(updated, two)
        let blocks = before + tree.takeChanges().added
        let reads = Reads(blocks)
        let differences = try MST.diff(from: reads.tree(beforeRoot), to: reads.tree(tree.root()))
        #expect(differences == [.created(created, two), .updated(updated, from: one, to: two)])
        #expect(reads.count <= 60, "of \(before.count) nodes")
    }

    @Test("operations are undone all or none, and a key may be named once")
    func inversion() throws {
        var tree = MST()
        let (x, y) = (try MSTKey("a.b.c/x"), try MSTKey("a.b.c/y"))
        try tree.apply([.created(x, one), .created(y, one)])
        let root = tree.root()
        #expect(throws: MSTError.repeatedKey(x)) { try tree.invert([.created(x, one), .created(x, one)]) }
        #expect(throws: MSTError.notResult(of: .created(x, two), found: one)) { try tree.invert([.created(x, two), .created(y, one)]) }
        #expect(throws: MSTError.notResult(of: .deleted(x, two), found: one)) { try tree.invert([.deleted(x, two)]) }
        let absent = try MSTKey("a.b.c/z")
        #expect(throws: MSTError.notResult(of: .updated(absent, from: one, to: two), found: nil)) {
            try tree.invert([.updated(absent, from: one, to: two)])
        }
        #expect(throws: MSTError.exists(x)) { try tree.apply([.deleted(y, one), .created(x, one)]) }
        #expect(throws: MSTError.notResult(of: .deleted(x, two), found: one)) { try tree.apply([.deleted(x, two)]) }
        #expect(tree.root() == root)
        try tree.invert([.created(y, one), .created(x, one)])
        #expect(tree.root() == MST().root())
    }

    @Test("entries for a bulk build must ascend")
    func build() throws {
        let (x, y) = (try MSTKey("a.b.c/x"), try MSTKey("a.b.c/y"))
        #expect(throws: MSTError.unsorted(x)) { try MST.build(sorted: [(key: y, value: one), (key: x, value: one)]) }
        #expect(throws: MSTError.unsorted(x)) { try MST.build(sorted: [(key: x, value: one), (key: x, value: one)]) }
        #expect(try MST.build(sorted: []).root() == MST().root())
    }

    @Test("a key made of a collection and a record key is the one made of their text")
    func keys() throws {
        let key = MSTKey(collection: try NSID("app.bsky.feed.post"), recordKey: try RecordKey("9adeb165882c"))
        #expect(key == (try MSTKey("app.bsky.feed.post/9adeb165882c")))
        #expect(key.layer == 8 && key.description == "app.bsky.feed.post/9adeb165882c")
        #expect(key.collection == "app.bsky.feed.post" && key.recordKey == "9adeb165882c")
        let texts = ["a/b", "a/b-", "a/bb", "a/b~", "aa/b", "a-/b", "a/bbbbbbbbbbbbbbb", "a/bbbbbbbbbbbbbbbb", "a/bbbbbbbbbbbbbba"]
        for left in texts {
            for right in texts {
                #expect(try (MSTKey(left) < MSTKey(right)) == left.utf8.lexicographicallyPrecedes(right.utf8), "\(left) \(right)")
            }
        }
    }

    private func entries(_ tree: MST) throws -> [(key: MSTKey, value: CID)] {
        var entries: [(key: MSTKey, value: CID)] = []
        try tree.walk { (key, value) throws(MSTError) in
            entries.append((key, value))
            return true
        }
        return entries
    }
}

/// A source that counts what it is asked for.
private final class Reads: Sendable {
    private let blocks: [CID: [UInt8]]
    private let counter = Mutex(0)

    init(_ blocks: [MST.Block]) {
        self.blocks = Dictionary(blocks.map { ($0.cid, $0.bytes) }, uniquingKeysWith: { first, _ in first })
    }

    var count: Int { counter.withLock { $0 } }

    func tree(_ root: CID) -> MST {
        MST(
            root: root,
            source: { (cid) throws(MSTError) in
                self.counter.withLock { $0 += 1 }
                return self.blocks[cid]
            })
    }
}
