import Simulation

/// Every proof that `tools/prove` knows.
enum Catalogue {
    static let proofs: [Proof] = [
        MSTProof.proof, CARProof.proof, FlipProof.proof, FaultProof.proof, CrashProof.proof, RebuildProof.proof, LeaveProof.proof,
        SwapProof.proof, OnceProof.proof, HostileProof.proof, TimingProof.proof, StreamProof.proof,
        EffectsProof.proof,
    ]
}
