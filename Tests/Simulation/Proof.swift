/// A claim of this project that a program can check at any size, by a seed that can be run again.
///
/// `tools/prove NAME` runs it at its full size, a test of the suite runs it small. A proof lives in `Tests/Simulation/Proofs`
/// and is entered in `tools/proofs/Catalogue.swift`.
package struct Proof: Sendable {
    package let name: String
    /// One sentence: what is claimed.
    package let claim: String
    package let run: @Sendable (ProofRequest) async throws -> ProofResult
    /// What a process of its own does in a directory, for a proof that kills it: `stratos-prove NAME --worker DIRECTORY`.
    package let work: (@Sendable (_ directory: String) async throws -> Void)?

    package init(
        name: String, claim: String, work: (@Sendable (_ directory: String) async throws -> Void)? = nil,
        run: @escaping @Sendable (ProofRequest) async throws -> ProofResult
    ) {
        self.name = name
        self.claim = claim
        self.work = work
        self.run = run
    }
}

package struct ProofRequest: Sendable {
    package var seed: UInt64
    /// Seconds instead of minutes: the size that the test suite runs.
    package var small: Bool
    /// An empty directory that this run owns, on the file system that its result will name.
    package var directory: String

    package init(seed: UInt64, small: Bool, directory: String) {
        self.seed = seed
        self.small = small
        self.directory = directory
    }
}

package struct ProofResult: Sendable {
    /// What was done, in the order it is to be printed: `("trees", 10000)`.
    package var counts: [(name: String, count: Int)]
    /// Each one a counterexample, with what is needed to see it again. Empty: the claim held.
    package var failures: [String]

    package init(counts: [(name: String, count: Int)], failures: [String] = []) {
        self.counts = counts
        self.failures = failures
    }
}
