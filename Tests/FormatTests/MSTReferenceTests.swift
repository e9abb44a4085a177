import ATProto
import Foundation
import Simulation
import Testing

@Suite("Tree: beside other implementations")
struct MSTReferenceTests {
    @Test("random histories give the trees, changes, differences and proofs of the definition")
    func histories() throws {
        let counts = try MSTProof.run(trees: 24, seed: TestFiles.seed)
        #expect(counts["trees"] == 24)
        #expect(counts["damages refused", default: 0] > 0)
    }

    @Test("after every edit of its histories atmst has the same root")
    func atmst() throws {
        struct History: Decodable {
            var ops: [[String]]
            var roots: [String]
        }
        let lines = String(decoding: try TestFiles.fixture("mst/histories.jsonl"), as: UTF8.self).split(separator: "\n")
        var edits = 0
        for (number, line) in lines.enumerated() {
            let history = try JSONDecoder().decode(History.self, from: Data(line.utf8))
            #expect(history.ops.count == history.roots.count)
            var tree = MST()
            for (operation, root) in zip(history.ops, history.roots) {
                let key = try MSTKey(operation[1])
                switch operation[0] {
                case "+": try tree.insert(key, CID(operation[2]))
                case "~": try tree.update(key, CID(operation[2]))
                default: try tree.delete(key)
                }
                edits += 1
                guard tree.root().description == root else {
                    Issue.record("history \(number), edit \(edits): \(operation)")
                    return
                }
            }
        }
        #expect(lines.count >= 30)
        print("atmst histories: \(lines.count), edits: \(edits), all roots equal")
    }
}
