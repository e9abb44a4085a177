import Simulation
import Testing

@Suite("Proof: stream")
struct StreamProofTests {
    @Test(
        "subscribers who lose their connections at random are told all that is due, once and in order, through a kill and a rebuild",
        .timeLimit(.minutes(2)))
    func stream() async throws {
        guard Program.built != nil else { return TestFiles.note("skipped: the program is not built, so the proof `stream` was not run") }
        let directory = try TemporaryDirectory()
        let result = try await StreamProof.proof.run(ProofRequest(seed: TestFiles.seed, small: true, directory: directory.path))
        #expect(result.failures.isEmpty, "\(result.failures.prefix(5))")
        #expect(result.counts.contains { $0.name == "due" && $0.count > 100 }, "\(result.counts)")
    }
}
