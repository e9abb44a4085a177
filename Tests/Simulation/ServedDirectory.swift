import Foundation

/// A data directory that the built program serves, as a child process, in development mode: started, killed, and started again.
package final class ServedDirectory {
    package enum Failure: Error {
        /// It ended, or did not answer in time; what it said.
        case notServing(String)
        case command([String], Int32, String)
    }

    package static let service = "did:web:stratos.example.com"

    package let program: Program
    package let path: String
    package let port: UInt16
    /// All that the program's environment has; changed between starts.
    package var environment: [String: String]
    package private(set) var running: RunningProgram?

    /// - Parameter path: a directory, made if it is missing.
    package init(_ program: Program, path: String) throws {
        self.program = program
        self.path = path
        port = try Self.freePort()
        environment = [
            "STRATOS_DEV_MODE": "true", "STRATOS_SERVICE_DID": Self.service, "STRATOS_PUBLIC_URL": "http://localhost:\(port)",
            "STRATOS_PORT": String(port), "STRATOS_ALLOWED_DOMAINS": "general,writers", "STRATOS_DATA_DIR": path,
            "STRATOS_WRITE_RATE_MAX_WRITES": "1000000000", "STRATOS_LOG_LEVEL": "warn",
        ]
    }

    /// Starts `stratos serve` and waits until it answers.
    package func start(within timeout: Duration = .seconds(30)) async throws {
        let running = try program.start(["serve"], environment: environment)
        self.running = running
        let end = ContinuousClock.now + timeout
        while true {
            let port = port
            let isUp = try await onThread {
                guard let connection = try? HTTPConnection(port: port, timeout: .seconds(5)) else { return false }
                return (try? connection.ask("GET", "/health"))?.status == 200
            }
            if isUp { return }
            guard !running.hasEnded, ContinuousClock.now < end else {
                running.signal(SIGKILL)
                throw Failure.notServing(String(decoding: running.errorsSoFar, as: UTF8.self))
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Ends the program as a crash of the machine would, but for what the system has in its caches.
    package func kill() async throws {
        guard let running else { return }
        running.signal(SIGKILL)
        _ = try await running.finish()
        self.running = nil
    }

    /// Asks it to stop, and waits until it has.
    @discardableResult
    package func stop(within timeout: Duration = .seconds(60)) async throws -> Program.Outcome? {
        guard let running else { return nil }
        running.signal(SIGTERM)
        let outcome = try await running.finish(within: timeout)
        self.running = nil
        return outcome
    }

    /// Runs another command of the program on the directory: in the server, where one runs.
    package func command(_ arguments: [String], timeout: Duration = .seconds(60)) async throws -> Program.Outcome {
        try await program.run(arguments, environment: environment, timeout: timeout)
    }

    /// The same, and it must end well.
    @discardableResult
    package func succeed(_ arguments: String...) async throws -> Program.Outcome {
        let outcome = try await command(arguments)
        guard outcome.status == 0 else { throw Failure.command(arguments, outcome.status, outcome.outputText + outcome.errorText) }
        return outcome
    }

    /// A figure of the running program in bytes, from `/proc/PID/status`: `VmHWM` is the peak of its memory, `VmRSS` what it has now.
    package func memory(_ name: String) throws -> Int {
        guard let running else { throw Failure.notServing("") }
        let status = try String(contentsOfFile: "/proc/\(running.process)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix(name + ":") }
        guard let kilobytes = line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Int($0) }) else {
            throw Failure.notServing(status)
        }
        return kilobytes * 1024
    }

    /// A port that nobody listens on at this moment, below those that the system gives to whoever asks for any: a test beside this one
    /// would be given it between two starts.
    private static func freePort() throws -> UInt16 {
        for _ in 0..<100 {
            let port = UInt16.random(in: 10_000..<32_000)
            if try isFree(port) { return port }
        }
        throw POSIXError(.EADDRINUSE)
    }

    private static func isFree(_ port: UInt16) throws -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = port.bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
