import Foundation
import Glibc

/// A program that is run until a moment, killed, and listened to up to its end.
struct KilledProcess: Sendable {
    enum Moment: Sendable {
        case afterStart(milliseconds: Int)
        /// After its first line that begins with `A`.
        case afterAcknowledgement(milliseconds: Int)
    }

    struct Output: Sendable {
        var submitted: [String] = []
        var acknowledged: [String] = []
        var wasKilled = false
        /// How it ended, where it was neither killed nor ended with 0.
        var failure: String?
    }

    struct Failure: Error {
        let call: String
        let code: Int32
    }

    let program: String
    let arguments: [String]

    /// A process that never acknowledges anything is killed all the same.
    private static let patience = 20.0

    /// Blocks a thread of its own.
    func run(until moment: Moment) async throws -> Output {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result { try listen(until: moment) }) }
        }
    }

    private func listen(until moment: Moment) throws -> Output {
        let (process, pipe) = try start()
        defer { close(pipe) }
        var deadline = Clocks.wall() + Self.patience
        if case .afterStart(let milliseconds) = moment { deadline = Clocks.wall() + Double(milliseconds) / 1000 }
        var bytes: [UInt8] = []
        var hasAcknowledged = false
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var isKilled = false
        while true {
            var poll = pollfd(fd: pipe, events: Int16(POLLIN), revents: 0)
            let wait = isKilled ? -1 : Int32(max(0, (deadline - Clocks.wall()) * 1000))
            let ready = Glibc.poll(&poll, 1, wait)
            if !isKilled, Clocks.wall() >= deadline {
                kill(process, SIGKILL)
                isKilled = true
            }
            guard ready > 0 else { continue }
            let count = read(pipe, &buffer, buffer.count)
            guard count > 0 else { break }
            bytes += buffer[..<count]
            guard !hasAcknowledged, case .afterAcknowledgement(let milliseconds) = moment else { continue }
            hasAcknowledged = buffer[..<count].contains(UInt8(ascii: "A"))
            if hasAcknowledged { deadline = Clocks.wall() + Double(milliseconds) / 1000 }
        }
        return try output(bytes, of: process)
    }

    /// The lines are read when the process has ended, so that nothing in the other process waits for this one.
    private func output(_ bytes: [UInt8], of process: pid_t) throws -> Output {
        var status: Int32 = 0
        guard waitpid(process, &status, 0) == process else { throw Failure(call: "waitpid", code: errno) }
        var output = Output()
        let signal = status & 0x7F
        output.wasKilled = signal == SIGKILL
        if !output.wasKilled, status != 0 { output.failure = signal == 0 ? "exit \(status >> 8 & 0xFF)" : "signal \(signal)" }
        // Each line was one call of the system, so the last one is whole too.
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            let text = String(decoding: line.dropFirst(), as: UTF8.self)
            if line.first == UInt8(ascii: "A") { output.acknowledged.append(text) } else { output.submitted.append(text) }
        }
        return output
    }

    private func start() throws -> (process: pid_t, pipe: Int32) {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw Failure(call: "pipe", code: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        defer { close(ends[1]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        let words = ([program] + arguments).map { strdup($0) }
        defer { for word in words { free(word) } }
        var process: pid_t = 0
        let code = posix_spawn(&process, program, &actions, nil, words + [nil], environ)
        guard code == 0 else {
            close(ends[0])
            throw Failure(call: "posix_spawn", code: code)
        }
        return (process, ends[0])
    }
}
