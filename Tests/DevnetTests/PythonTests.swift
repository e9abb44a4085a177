import Devnet
import Keys
import Simulation
import Testing

/// Other people's libraries read what the devnet gives: PyPI's atproto, libipld and cryptography, through `tools/devnet_check.py`.
@Suite("The devnet, read by Python")
struct PythonTests {
    @Test(
        "DIDs, documents, service auth and access tokens hold before independent libraries, and altered ones do not",
        .enabled(if: PythonScript.isAvailable, "there is no tools/.venv"))
    func independent() async throws {
        try await Devnet.run { devnet in
            _ = try devnet.createAccount(handle: "alice.test")
            _ = try devnet.createAccount(handle: "bob.test", repoKey: .generate(.p256))
            let outcome = try await PythonScript.run("devnet_check.py", [devnet.plcURL, devnet.pdsURL, "alice.test", "bob.test"])
            #expect(outcome.status == 0, "\(outcome.text)")
            #expect(outcome.text == "alice.test: ES256K 9 checks\nbob.test: ES256 9 checks\n")
        }
    }

    @Test(
        "a client that shares no code with us goes the whole way through OAuth, public and confidential",
        .enabled(if: PythonScript.isAvailable, "there is no tools/.venv"))
    func oauth() async throws {
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            let outcome = try await PythonScript.run("oauth_check.py", [devnet.plcURL, devnet.pdsURL, "alice.test"])
            #expect(outcome.status == 0, "\(outcome.text)")
            #expect(outcome.text == "public: 11 checks\nconfidential: 11 checks\n")
            #expect(devnet.sessions().isEmpty)
            #expect(devnet.writes(of: user.did).map(\.action) == [.create, .delete, .create, .delete])
        }
    }
}
