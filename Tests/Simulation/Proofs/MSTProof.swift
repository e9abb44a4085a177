import ATProto

/// Random trees and edit histories, put beside `ReferenceTree` after every batch of edits: roots, walks, changes, differences,
/// proofs and inversion, in memory and over stored blocks, and damaged blocks.
package enum MSTProof {
    package static let proof = Proof(
        name: "mst", claim: "any history of edits gives the tree that the definition gives, and its changes, differences and proofs"
    ) { request in
        do {
            let counts = try run(trees: request.small ? 60 : 10_000, seed: request.seed)
            return ProofResult(counts: counts.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
        } catch let counterexample as MSTCounterexample {
            return ProofResult(counts: [], failures: [counterexample.description])
        }
    }

    /// - Returns: how much of what was compared, by name.
    /// - Throws: the first `MSTCounterexample`.
    package static func run(trees: Int, seed: UInt64) throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for number in 0..<trees {
            var history = MSTHistory(number: number, seed: seed)
            do {
                try history.run()
            } catch let counterexample as MSTCounterexample {
                throw counterexample
            } catch {
                throw MSTCounterexample(description: "seed \(seed), tree \(number): \(error)")
            }
            counts.merge(history.counts, uniquingKeysWith: +)
        }
        return counts
    }
}

package struct MSTCounterexample: Error, CustomStringConvertible {
    package let description: String
}

/// One tree through its life.
private struct MSTHistory {
    private let name: String
    private var generator: SeededGenerator
    private let keys: [String]
    private(set) var counts: [String: Int] = [:]

    private var map: [String: CID] = [:]
    private var reference = ReferenceTree([:])
    private var tree = MST()

    init(number: Int, seed: UInt64) {
        name = "seed \(seed), tree \(number)"
        generator = SeededGenerator(seed: seed &+ UInt64(number) &* 0xD1B5_4A32_D192_ED03)
        keys = Self.keys(kind: number % 6, &generator)
    }

    mutating func run() throws {
        count("trees")
        let first = tree.takeChanges()
        try expect(first.added.map(\.cid) == [reference.root] && first.removed.isEmpty, "the empty tree is one new node")
        for _ in 0..<Int.random(in: 2...6, using: &generator) {
            try step(operations(count: Int.random(in: 1...12, using: &generator)))
        }
        try checkWalks()
        try checkDamage()
        if Int.random(in: 0..<4, using: &generator) == 0 {
            try step(map.map { .deleted(try MSTKey($0.key), $0.value) })
            try expect(tree.root() == MST().root(), "a tree from which all was deleted is the empty tree")
        }
    }

    /// One batch of operations, and everything that must be true of it.
    private mutating func step(_ operations: [MSTOperation]) throws {
        let (before, beforeReference) = (tree, reference)
        try apply(operations)
        reference = ReferenceTree(map)
        if Bool.random(using: &generator) { try checkRoot("before its changes were taken") }
        let changes = tree.takeChanges()
        try checkRoot("after its changes were taken")
        try expect(before.root() == beforeReference.root, "a copy is not changed by the edits of another")
        try check(changes, from: beforeReference)
        try checkDifferences(from: before, beforeReference)
        try checkStored(operations, from: beforeReference, changes)
        try checkProofs()
        try checkInversion(operations, to: beforeReference.root)
        try checkBuild()
        count("batches")
        count("operations", operations.count)
    }

    // MARK: Making histories

    /// 1…60 keys of one kind; small sets, so that histories meet the same keys again.
    private static func keys(kind: Int, _ generator: inout SeededGenerator) -> [String] {
        let count = Int.random(in: 1...60, using: &generator)
        let honest = (0..<count).map { _ in
            let collection = ["app.bsky.feed.post", "app.bsky.feed.like", "zone.stratos.feed.post"].randomElement(using: &generator)!
            return "\(collection)/3k\(String(UInt64.random(in: 0..<1 << 45, using: &generator), radix: 32))"
        }
        let mined = (0..<Int.random(in: 1...8, using: &generator)).map { _ in MinedKeys.all.randomElement(using: &generator)! }
        switch kind {
        case 0: return honest
        case 1: return honest + mined
        case 2: return mined
        case 3: return [mined[0]] + honest.prefix(2)
        case 4: return (0..<count).map { "a/\($0)" } + mined.prefix(2)
        default:
            let stem = "com.example.long/" + String(repeating: "x", count: Int.random(in: 0...990, using: &generator))
            return (0..<min(count, 12)).map { stem + String($0 * $0, radix: 3) } + ["-/-", "~/~"] + mined.prefix(1)
        }
    }

    /// Operations on different keys, each of which can be done to the map as it is.
    private mutating func operations(count: Int) throws -> [MSTOperation] {
        let chosen = Set(keys).sorted().shuffled(using: &generator).prefix(count)
        return try chosen.map { text in
            let key = try MSTKey(text)
            let value = CID(hashing: [UInt8.random(in: 0...3, using: &generator)])
            guard let old = map[text] else { return .created(key, value) }
            return Int.random(in: 0..<3, using: &generator) > 0 ? .deleted(key, old) : .updated(key, from: old, to: value)
        }
    }

    private mutating func apply(_ operations: [MSTOperation]) throws {
        for operation in operations {
            let text = operation.key.description
            try checkRefusals(operation)
            switch operation {
            case .created(let key, let new): try tree.insert(key, new)
            case .updated(let key, let old, let new):
                try expect(try tree.update(key, new) == old, "update gives the old CID")
            case .deleted(let key, let old):
                try expect(try tree.delete(key) == old, "delete gives the old CID")
            }
            map[text] = operation.new
            try expect(try tree.get(operation.key) == operation.new, "get gives what was written")
        }
    }

    /// What cannot be done changes nothing.
    private func checkRefusals(_ operation: MSTOperation) throws {
        var tree = tree
        let refusal = Self.failure { () throws(MSTError) in
            if let old = operation.old { try tree.insert(operation.key, old) } else { try tree.delete(operation.key) }
        }
        let expected: MSTError = operation.old == nil ? .absent(operation.key) : .exists(operation.key)
        try expect(refusal == expected && tree.root() == self.tree.root(), "an edit that cannot be is refused and changes nothing")
    }

    // MARK: Checks

    private func checkRoot(_ moment: String) throws {
        try expect(tree.root() == reference.root, "the root \(moment)")
    }

    private mutating func check(_ changes: (added: [MST.Block], removed: [CID]), from before: ReferenceTree) throws {
        let (old, new) = (before.blocks, reference.blocks)
        let added = Set(changes.added.map(\.cid))
        try expect(added.count == changes.added.count && Set(changes.removed).count == changes.removed.count, "each change is named once")
        try expect(added == Set(new.keys).subtracting(old.keys), "added nodes")
        try expect(Set(changes.removed) == Set(old.keys).subtracting(new.keys), "removed nodes")
        for (cid, bytes) in changes.added { try expect(new[cid] == bytes, "the bytes of \(cid)") }
        count("nodes changed", added.count + changes.removed.count)
    }

    private mutating func checkDifferences(from before: MST, _ beforeReference: ReferenceTree) throws {
        let old = Dictionary(uniqueKeysWithValues: beforeReference.records.map { ($0.key, $0.value) })
        var expected: [MSTDifference] = []
        for text in Set(old.keys).union(map.keys).sorted() {
            let key = try MSTKey(text)
            switch (old[text], map[text]) {
            case (let old?, let new?) where old != new: expected.append(.updated(key, from: old, to: new))
            case (let old?, nil): expected.append(.deleted(key, old))
            case (nil, let new?): expected.append(.created(key, new))
            default: break
            }
        }
        try expect(try MST.diff(from: before, to: tree) == expected, "differences in memory")
        try expect(try MST.diff(from: stored(beforeReference), to: stored(reference)) == expected, "differences of stored trees")
        try expect(try MST.diff(from: tree, to: before).count == expected.count, "differences backwards")
        count("differences", expected.count)
    }

    /// The same batch on a tree that reads its nodes from a store.
    private mutating func checkStored(
        _ operations: [MSTOperation], from before: ReferenceTree, _ changes: (added: [MST.Block], removed: [CID])
    ) throws {
        var tree = stored(before)
        try tree.apply(operations)
        try expect(tree.root() == reference.root, "the root of a stored tree after the same operations")
        let storedChanges = tree.takeChanges()
        try expect(
            storedChanges.added.map(\.cid) == changes.added.map(\.cid) && Set(storedChanges.removed) == Set(changes.removed),
            "the changes of a stored tree after the same operations")
        try expect(try tree.verify().records == map.count, "an edited stored tree is valid")
        try expect(try self.tree.verify() == stored(reference).verify(), "the tree is valid, in memory and stored")
    }

    private mutating func checkProofs() throws {
        for text in keys.shuffled(using: &generator).prefix(4) {
            let key = try MSTKey(text)
            let proof = try tree.proof(of: key)
            try expect(proof.map(\.cid) == reference.proof(of: text), "the proof of \(text)")
            try expect(try MST(root: reference.root, blocks: proof).get(key) == map[text], "what the proof of \(text) proves")
            try expect(try stored(reference).proof(of: key).map(\.cid) == proof.map(\.cid), "the proof of a stored tree")
            count("proofs")
        }
    }

    private mutating func checkInversion(_ operations: [MSTOperation], to root: CID) throws {
        let proof = try tree.coveringProof(of: operations)
        let expected = reference.coveringProof(of: operations.map(\.key.description))
        try expect(Set(proof.map(\.cid)) == expected && proof.count == expected.count, "the covering proof")
        for order in [operations, operations.shuffled(using: &generator)] {
            var partial = MST(root: reference.root, blocks: proof)
            try partial.invert(order)
            try expect(partial.root() == root, "the tree before, by inversion")
        }
        if let last = operations.last, last.new != nil {
            var partial = MST(root: reference.root, blocks: proof)
            let wrong = MSTOperation.created(last.key, CID(hashing: [9, 9]))
            let refusal = Self.failure { () throws(MSTError) in try partial.invert([wrong]) }
            try expect(refusal == .notResult(of: wrong, found: last.new), "an operation that did not happen is not undone")
        }
        count("inversions", 2)
    }

    private mutating func checkBuild() throws {
        let entries = try reference.records.map { (key: try MSTKey($0.key), value: $0.value) }
        var built = try MST.build(sorted: entries)
        try expect(built.root() == reference.root, "the root of a tree built at once")
        let changes = built.takeChanges()
        try expect(Set(changes.added.map(\.cid)) == Set(reference.nodes.map(\.cid)) && changes.removed.isEmpty, "all of it is new")
    }

    private mutating func checkWalks() throws {
        var traversal = stored(reference).nodes()
        var items: [ReferenceTree.Item] = []
        while let item = try traversal.next() {
            switch item {
            case .node(let cid, let bytes):
                try expect(CID(hashing: bytes) == cid, "the bytes of \(cid)")
                items.append(.node(cid))
            case .record(let key, let value): items.append(.record(key.description, value))
            }
        }
        try expect(items == reference.items, "the order of a streamed tree")

        let text = keys.randomElement(using: &generator)!
        let after = reference.records.filter { $0.key >= text }
        let before = reference.records.filter { $0.key <= text }.reversed()
        for tree in [tree, stored(reference)] {
            var met: [String] = []
            try tree.walk(from: MSTKey(text)) { (key, _) throws(MSTError) in
                met.append(key.description)
                return met.count < 20
            }
            try expect(met == after.prefix(20).map(\.key), "a walk from \(text)")
            met = []
            try tree.walkReversed(from: MSTKey(text)) { (key, _) throws(MSTError) in
                met.append(key.description)
                return met.count < 20
            }
            try expect(met == before.prefix(20).map(\.key), "a walk back from \(text)")
            var collections: [String] = []
            for record in reference.records {
                let collection = String(record.key.prefix { $0 != "/" })
                if collections.last != collection { collections.append(collection) }
            }
            try expect(try tree.collections() == collections, "collections")
        }
        count("walks", 4)
    }

    /// A node with one bit changed, hashed anew up to the root, is refused, or it is the valid tree of what it now says.
    private mutating func checkDamage() throws {
        for _ in 0..<4 {
            var blocks = reference.blocks
            let key = keys.randomElement(using: &generator)!
            let path = reference.proof(of: key)
            var old = path[Int.random(in: 0..<path.count, using: &generator)]
            var bytes = blocks[old]!
            bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            var new = CID(hashing: bytes)
            blocks[new] = bytes
            for parent in path[..<path.firstIndex(of: old)!].reversed() {
                bytes = Self.replacing(old.bytes, with: new.bytes, in: blocks[parent]!)
                (old, new) = (parent, CID(hashing: bytes))
                blocks[new] = bytes
            }
            let damaged = MST(root: new, blocks: blocks.map { ($0.key, $0.value) })
            var records: [String: CID] = [:]
            let refusal = Self.failure { () throws(MSTError) in
                try damaged.verify()
                try damaged.walk { (key, value) throws(MSTError) in
                    records[key.description] = value
                    return true
                }
            }
            switch refusal {
            case nil:
                try expect(ReferenceTree(records).root == new, "a damaged tree that is accepted is the tree of its records")
                count("damages that are other valid trees")
            case .invalidNode?: count("damages refused")
            case .missingBlock?: count("damages that lose a node")
            case let refusal?: try expect(false, "a damaged tree is refused for its damage, not by \(refusal)")
            }
        }
    }

    // MARK: Tools

    private func stored(_ reference: ReferenceTree) -> MST {
        let blocks = reference.blocks
        return MST(root: reference.root, source: { (cid) throws(MSTError) in blocks[cid] })
    }

    private static func failure(_ body: () throws(MSTError) -> Void) -> MSTError? {
        do {
            try body()
            return nil
        } catch {
            return error
        }
    }

    private static func replacing(_ old: [UInt8], with new: [UInt8], in bytes: [UInt8]) -> [UInt8] {
        guard let start = bytes.indices.first(where: { bytes[$0...].starts(with: old) }) else { return bytes }
        return bytes[..<start] + new + bytes[(start + old.count)...]
    }

    private mutating func count(_ what: String, _ number: Int = 1) {
        counts[what, default: 0] += number
    }

    private func expect(_ condition: Bool, _ what: String) throws {
        guard condition else { throw MSTCounterexample(description: "\(name): \(what)") }
    }
}
