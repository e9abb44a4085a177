import Foundation

/// A script of `tools/` that checks what we make with other people's libraries.
package enum PythonScript {
    private static let python = TestFiles.root.appending(path: "tools/.venv/bin/python")

    /// Whether there is a `tools/.venv` to run it with.
    package static var isAvailable: Bool { FileManager.default.isExecutableFile(atPath: python.path) }

    /// Runs `tools/NAME`, and gives its exit code and all that it said: a few lines, which a pipe holds until the end.
    /// - Parameter environment: added to this process's own.
    package static func run(
        _ name: String, _ arguments: [String], environment: [String: String] = [:]
    ) async throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = python
        process.arguments = ["-B", TestFiles.root.appending(path: "tools/\(name)").path] + arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, given in given }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        let text = try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<String, any Error>) in
            process.terminationHandler = { _ in
                continuation.resume(
                    with: Result { String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self) })
            }
            do { try process.run() } catch { continuation.resume(throwing: error) }
        }
        return (process.terminationStatus, text)
    }
}
