import ATProto
import Foundation
import Simulation
import Testing

@Suite("Tree: published vectors")
struct MSTVectorTests {
    @Test("the layer of a text is half the zero bits its hash begins with")
    func keyHeights() throws {
        struct Vector: Decodable {
            var key: String
            var height: Int
        }
        let name = "interop/mst/key_heights.json"
        guard let vectors = try Self.vectors(name, as: Vector.self) else { return }
        let failed = vectors.filter { vector in Array(vector.key.utf8).withUnsafeBytes(MSTKey.layer(of:)) != vector.height }
        Self.report(name, vectors.count, failed.map(\.key))
    }

    @Test("the shared prefix of two texts is counted in bytes")
    func commonPrefix() throws {
        struct Vector: Decodable {
            var left: String
            var right: String
            var len: Int
        }
        let name = "interop/mst/common_prefix.json"
        guard let vectors = try Self.vectors(name, as: Vector.self) else { return }
        let failed = vectors.filter { vector in
            Array(vector.left.utf8).withUnsafeBytes { left in
                Array(vector.right.utf8).withUnsafeBytes { right in MSTKey.sharedPrefix(left, right) }
            } != vector.len
        }
        Self.report(name, vectors.count, failed.map { "\($0.left) \($0.right)" })
    }

    @Test("an example key is in the layer that its name says, and the tree of all of them is the one of the definition")
    func exampleKeys() throws {
        let name = "interop/mst/example_keys.txt"
        guard let keys = try TestFiles.publishedLines(name) else { return }
        let value = CID(hashing: [])
        var tree = MST()
        var failed: [String] = []
        for text in keys {
            let key = try MSTKey(text)
            if String(key.layer) != text.dropFirst().prefix(1) { failed.append(text) }
            try tree.insert(key, value)
        }
        Self.report(name, keys.count, failed)
        let reference = ReferenceTree(Dictionary(uniqueKeysWithValues: keys.map { ($0, value) }))
        #expect(tree.root() == reference.root)
        let count = try tree.verify()
        #expect(count.records == keys.count && count.nodes == reference.nodes.count && count.layer == 5)
        #expect(count.bytes == reference.nodes.map(\.bytes.count).reduce(0, +))
    }

    @Test("a commit has the published roots and covering proof, and is undone on the proof alone in every order of its operations")
    func commitProofs() throws {
        let name = "interop/firehose/commit-proof-fixtures.json"
        guard let vectors = try Self.vectors(name, as: CommitProof.self) else { return }
        let failed = try vectors.flatMap { vector in try vector.failures().map { "\(vector.comment): \($0)" } }
        Self.report(name, vectors.count, failed)
    }

    private struct CommitProof: Decodable {
        var comment: String
        var leafValue: String
        var keys: [String]
        var adds: [String]
        var dels: [String]
        var rootBeforeCommit: String
        var rootAfterCommit: String
        var blocksInProof: [String]

        /// What was not as published. One line for each vector at most, so that the count of those that passed is right.
        func failures() throws -> [String] {
            let value = try CID(leafValue)
            let before = try MST.build(sorted: keys.sorted().map { (key: try MSTKey($0), value: value) })
            guard before.root() == (try CID(rootBeforeCommit)) else { return ["root before"] }
            let operations: [MSTOperation] =
                try adds.map { .created(try MSTKey($0), value) } + dels.map { .deleted(try MSTKey($0), value) }
            var after = before
            try after.apply(operations)
            guard after.root() == (try CID(rootAfterCommit)) else { return ["root after"] }
            let proof = try after.coveringProof(of: operations)
            guard proof.map(\.cid.description).sorted() == blocksInProof.sorted() else { return ["blocks in proof"] }
            for order in permutations(operations) {
                var partial = MST(root: try CID(rootAfterCommit), blocks: proof)
                try partial.invert(order)
                guard partial.root() == before.root() else { return ["inversion in the order \(order.map(\.key))"] }
            }
            return []
        }

        private func permutations<Element>(_ elements: [Element]) -> [[Element]] {
            guard !elements.isEmpty else { return [[]] }
            return elements.indices.flatMap { index in
                var rest = elements
                let first = rest.remove(at: index)
                return permutations(rest).map { [first] + $0 }
            }
        }
    }

    private static func vectors<Vector: Decodable>(_ name: String, as type: Vector.Type) throws -> [Vector]? {
        guard let bytes = try TestFiles.published(name) else { return nil }
        return try JSONDecoder().decode([Vector].self, from: Data(bytes))
    }

    private static func report(_ name: String, _ total: Int, _ failed: [String]) {
        TestFiles.report(vectors: name, passed: total - failed.count, of: total)
        #expect(total > 0)
        #expect(failed == [])
    }
}
