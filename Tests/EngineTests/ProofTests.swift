import Foundation
import Simulation
import Testing

/// The proofs at the size of the suite; `tools/prove NAME` runs them at full size.
@Suite("Proofs of the engine")
struct ProofTests {
    @Test("projections and repos come back from the log byte for byte, without keys and through kill -9 (I8)")
    func rebuild() async throws {
        let directory = try TemporaryDirectory()
        let result = try await RebuildProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures == [], "seed \(TestFiles.seed)")
        #expect(result.counts.contains { $0.name == "record writes" && $0.count == 300 })
    }

    @Test("of writers that name the same commit one wins, and the histories of all are linearizable (I5)")
    func swap() async throws {
        let directory = try TemporaryDirectory()
        let result = try await SwapProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures == [], "seed \(TestFiles.seed)")
    }

    @Test("a history that is not linearizable is seen not to be")
    func checker() throws {
        for (name, violations) in SwapProof.selfTest() { #expect(violations > 0, "\(name)") }
    }
}
