import Simulation
import Testing

@Suite("Proof: leave")
struct LeaveProofTests {
    @Test("who leaves is served no more, comes back and leaves again, through kills of the real service", .timeLimit(.minutes(2)))
    func leave() async throws {
        guard Program.built != nil else { return TestFiles.note("skipped: the program is not built, so the proof `leave` was not run") }
        let directory = try TemporaryDirectory()
        let result = try await LeaveProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures.isEmpty, "\(result.failures.prefix(5))")
        #expect(result.counts.contains { $0.name == "leaves" && $0.count >= 6 }, "\(result.counts)")
    }
}
