import Foundation
import Simulation
import Testing

@Suite("Fuzzing: the kept corpus")
struct FuzzCorpusTests {
    @Test(
        "every kept input, cut and changed too, keeps the target's invariants",
        arguments: FuzzTarget.allCases)
    func corpus(target: FuzzTarget) throws {
        let directory = TestFiles.root.appending(path: "Fixtures/fuzz/\(target.rawValue)")
        let names = try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
        #expect(!names.isEmpty)
        var generator = SeededGenerator(seed: TestFiles.seed)
        var accepted = 0
        for name in names {
            let bytes = [UInt8](try Data(contentsOf: directory.appending(path: name)))
            #expect(bytes.count <= target.bytesMax)
            do {
                if try target.run(bytes) { accepted += 1 }
            } catch {
                Issue.record("\(target.rawValue)/\(name): \(error)")
            }
            // The same cut and with one byte changed: a little fuzzing in every run of the suite.
            guard !bytes.isEmpty else { continue }
            let cut = Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &generator)))
            var changed = bytes
            changed[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(
                in: 0...255, using: &generator)
            for other in [cut, changed] {
                #expect(throws: Never.self, "\(target.rawValue)/\(name), seed \(TestFiles.seed): \(other)") { try target.run(other) }
            }
        }
        // A corpus that is all refused, or all accepted, would not have gone far.
        #expect((1..<names.count).contains(accepted), "\(accepted) of \(names.count) accepted")
    }
}
