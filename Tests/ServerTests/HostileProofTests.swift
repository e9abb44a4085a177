import Simulation
import Testing

@Suite("Proof: hostile")
struct HostileProofTests {
    @Test("hostile input to the real service is answered as it must be, within the bound on memory", .timeLimit(.minutes(2)))
    func hostile() async throws {
        guard Program.built != nil else { return TestFiles.note("skipped: the program is not built, so the proof `hostile` was not run") }
        let directory = try TemporaryDirectory()
        let result = try await HostileProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures.isEmpty, "\(result.failures.prefix(5))")
        #expect(result.counts.allSatisfy { !$0.name.hasSuffix("requests") || $0.count >= 12 }, "\(result.counts)")
    }
}
