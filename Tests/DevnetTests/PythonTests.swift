import Devnet
import Foundation
import Keys
import Simulation
import Testing

/// Other people's libraries read what the devnet gives: PyPI's atproto, libipld and cryptography, through `tools/devnet_check.py`.
@Suite("The devnet, read by Python")
struct PythonTests {
    private static let python = TestFiles.root.appending(path: "tools/.venv/bin/python")

    @Test(
        "DIDs, documents, service auth and access tokens hold before independent libraries, and altered ones do not",
        .enabled(if: FileManager.default.isExecutableFile(atPath: python.path), "there is no tools/.venv"))
    func independent() async throws {
        try await Devnet.run { devnet in
            _ = try devnet.createAccount(handle: "alice.test")
            _ = try devnet.createAccount(handle: "bob.test", repoKey: .generate(.p256))
            let process = Process()
            process.executableURL = Self.python
            process.arguments = [
                "-B", TestFiles.root.appending(path: "tools/devnet_check.py").path, devnet.plcURL, devnet.pdsURL, "alice.test", "bob.test",
            ]
            let output = Pipe()
            process.standardOutput = output
            process.standardError = output
            let text = try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<String, any Error>) in
                // The output is a few lines, which the pipe holds until the end.
                process.terminationHandler = { _ in
                    continuation.resume(
                        with: Result { String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self) })
                }
                do { try process.run() } catch { continuation.resume(throwing: error) }
            }
            #expect(process.terminationStatus == 0, "\(text)")
            #expect(text == "alice.test: ES256K 9 checks\nbob.test: ES256 9 checks\n")
        }
    }
}
