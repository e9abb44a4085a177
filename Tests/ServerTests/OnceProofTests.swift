import Simulation
import Testing

@Suite("Proof: once")
struct OnceProofTests {
    @Test(
        "requests that are repeated under their keys have their effect once, through three kills of the real service",
        .timeLimit(.minutes(2)))
    func once() async throws {
        guard Program.built != nil else { return TestFiles.note("skipped: the program is not built, so the proof `once` was not run") }
        let directory = try TemporaryDirectory()
        let result = try await OnceProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures.isEmpty, "\(result.failures.prefix(5))")
        #expect(result.counts.contains { $0.name == "requests" && $0.count > 10 }, "\(result.counts)")
    }
}
