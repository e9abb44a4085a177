import Simulation
import Testing

@Suite("Proof: effects")
struct EffectsProofTests {
    @Test(
        "what members' own servers show becomes what the log says, through every failure of the server and kills of the real service",
        .timeLimit(.minutes(4)))
    func effects() async throws {
        guard Program.built != nil else { return TestFiles.note("skipped: the program is not built, so the proof `effects` was not run") }
        let directory = try TemporaryDirectory()
        let result = try await EffectsProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures.isEmpty, "\(result.failures.prefix(5))")
        #expect(result.counts.contains { $0.name == "kills" && $0.count > 20 }, "\(result.counts)")
    }
}
