import Foundation

/// `stratos-prove NAME --worker DIRECTORY` as a child process, which a proof kills when it likes.
package final class ProofWorker {
    private let process = Process()
    private let outputPath: String

    /// The program that holds the proofs: this process, or what was built beside it. Nil where it was not built.
    package static let program: String? = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        let url = URL(filePath: own)
        let path = url.deletingLastPathComponent().appending(path: "stratos-prove").path
        return FileManager.default.isExecutableFile(atPath: path) ? path : nil
    }()

    /// Starts the worker of a proof. Its standard output goes into a file beside the directory.
    package init(program: String, proof: String, directory: String) throws {
        outputPath = directory + "/worker.out"
        try Data().write(to: URL(filePath: outputPath))
        process.executableURL = URL(filePath: program)
        process.arguments = [proof, "--worker", directory]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try FileHandle(forWritingTo: URL(filePath: outputPath))
        try process.run()
    }

    deinit { if process.isRunning { kill() } }

    /// The lines that it has printed so far.
    package var lines: [String] {
        get throws {
            String(decoding: try Data(contentsOf: URL(filePath: outputPath)), as: UTF8.self).split(separator: "\n").map(String.init)
        }
    }

    package var isRunning: Bool { process.isRunning }

    /// `kill -9`, and waits until it is gone.
    package func kill() {
        Foundation.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// Waits for its end.
    /// - Returns: whether it ended by itself, and well.
    package func finish() -> Bool {
        process.waitUntilExit()
        return process.terminationReason == .exit && process.terminationStatus == 0
    }
}
