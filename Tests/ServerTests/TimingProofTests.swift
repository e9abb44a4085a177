import Simulation
import Testing

@Suite("Proof: timing")
struct TimingProofTests {
    @Test("denied and absent reads of the real service get the same bytes on the wire (I12)", .timeLimit(.minutes(2)))
    func timing() async throws {
        guard Program.built != nil else { return TestFiles.note("skipped: the program is not built, so the proof `timing` was not run") }
        let directory = try TemporaryDirectory()
        let result = try await TimingProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures.isEmpty, "\(result.failures.prefix(5))")
        #expect(result.counts.count == 4 && result.counts.allSatisfy { $0.count == 50 }, "\(result.counts)")
    }
}
