import Foundation

/// The built `stratos` program, run as a child process: what an operator or a supervisor sees of it.
///
/// Output goes into unnamed files and not into pipes, so a program that says much never waits for its reader, and what it has
/// said can be looked at while it runs.
package struct Program: Sendable {
    package let path: String

    /// The program that was built together with this process; nil where it was not built.
    package static let built: Program? = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        let beside = URL(filePath: own).deletingLastPathComponent().appending(path: "stratos").path
        let candidates = [beside, TestFiles.root.appending(path: ".build/debug/stratos").path]
        return candidates.first { FileManager.default.isExecutableFile(atPath: $0) }.map(Program.init(path:))
    }()

    package init(path: String) { self.path = path }

    /// How a run ended, and all that it said.
    package struct Outcome: Sendable {
        /// As `exit` was called; minus the signal's number where a signal ended it.
        package let status: Int32
        package let output: [UInt8]
        package let errors: [UInt8]

        package var outputText: String { String(decoding: output, as: UTF8.self) }
        package var errorText: String { String(decoding: errors, as: UTF8.self) }
        /// The lines of standard output, without empty ones.
        package var lines: [String] { outputText.split(separator: "\n").map(String.init) }
    }

    /// Runs the program to its end.
    /// - Parameters:
    ///   - environment: all of it; the child sees nothing of this process's own.
    ///   - timeout: after it the program is killed, and `status` is −9.
    package func run(
        _ arguments: [String], environment: [String: String] = [:], timeout: Duration = .seconds(60)
    ) async throws -> Outcome {
        try await start(arguments, environment: environment).finish(within: timeout)
    }

    /// Starts the program; the caller ends it.
    package func start(_ arguments: [String], environment: [String: String] = [:]) throws -> RunningProgram {
        try RunningProgram(path: path, arguments: arguments, environment: environment)
    }
}

/// A child process. It is killed where its owner forgets it.
package final class RunningProgram {
    package let process: Int32
    private let output: Int32
    private let errors: Int32
    private var status: Int32?

    fileprivate init(path: String, arguments: [String], environment: [String: String]) throws {
        output = try Self.unnamedFile()
        errors = try Self.unnamedFile()
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, 1)
        posix_spawn_file_actions_adddup2(&actions, errors, 2)
        // Servers that tests beside this one listen with would go on listening in the child. Some more than there are now: others
        // are opened meanwhile, and closing what is not open is no error here.
        let highest = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap { Int32($0) }.max() ?? 2
        for descriptor in 3...(highest + 64) { posix_spawn_file_actions_addclose(&actions, descriptor) }
        // A test runner ignores or blocks signals of its own; the child begins as from a shell.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var process: Int32 = 0
        let code = Self.withCStrings([path] + arguments) { arguments in
            Self.withCStrings(environment.map { "\($0.key)=\($0.value)" }) { environment in
                posix_spawn(&process, path, &actions, &attributes, arguments, environment)
            }
        }
        self.process = process
        guard code == 0 else {
            status = 127
            throw POSIXError(POSIXErrorCode(rawValue: code) ?? .EINVAL)
        }
    }

    deinit {
        if status == nil {
            kill(process, SIGKILL)
            waitpid(process, nil, 0)
        }
        close(output)
        close(errors)
    }

    /// What it has said so far.
    package var outputSoFar: [UInt8] { Self.contents(of: output) }
    package var errorsSoFar: [UInt8] { Self.contents(of: errors) }
    package var hasEnded: Bool { poll() != nil }

    package func signal(_ number: Int32) {
        if poll() == nil { kill(process, number) }
    }

    /// Waits until `condition` holds of what it has said on standard output; false when it ended or the time was up before.
    package func waits(until condition: ([UInt8]) -> Bool, within timeout: Duration = .seconds(60)) async throws -> Bool {
        let end = ContinuousClock.now + timeout
        while true {
            let isLast = hasEnded || ContinuousClock.now > end
            if condition(outputSoFar) { return true }
            if isLast { return false }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// Waits for its end, and kills it when the time is up.
    package func finish(within timeout: Duration = .seconds(60)) async throws -> Program.Outcome {
        let end = ContinuousClock.now + timeout
        var isKilled = false
        while true {
            if let status = poll() {
                return Program.Outcome(status: status, output: outputSoFar, errors: errorsSoFar)
            }
            if !isKilled, ContinuousClock.now > end {
                isKilled = true
                kill(process, SIGKILL)
            }
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    private func poll() -> Int32? {
        if let status { return status }
        var raw: Int32 = 0
        guard waitpid(process, &raw, WNOHANG) == process else { return nil }
        // wait(2): the low seven bits are the signal, the next byte what `exit` was given.
        let signal = raw & 0x7f
        status = signal == 0 ? raw >> 8 & 0xff : -signal
        return status
    }

    private static func unnamedFile() throws -> Int32 {
        let path = FileManager.default.temporaryDirectory.appending(path: "stratos-output-\(UUID().uuidString)").path
        let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        unlink(path)
        return descriptor
    }

    private static func contents(of descriptor: Int32) -> [UInt8] {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = pread(descriptor, &piece, piece.count, off_t(bytes.count))
            guard count > 0 else { return bytes }
            bytes += piece[..<count]
        }
    }

    /// The texts as C expects an argument list: pointers, then a null pointer.
    private static func withCStrings<Value>(_ texts: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Value) -> Value {
        let pointers = texts.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        return body(pointers + [nil])
    }
}
