import Foundation
import Glibc

/// A program that runs beside a benchmark, with what it takes of processor and memory.
final class ChildProcess {
    let processID: pid_t
    private var isReaped = false

    /// - Parameters:
    ///   - environment: set beside what this process has.
    ///   - output: the descriptor that becomes its standard output; nil: this process's own.
    init(_ program: String, _ arguments: [String], environment: [String: String] = [:], output: Int32? = nil) throws {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let output { posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO) }
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        let merged = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        var variables: [UnsafeMutablePointer<CChar>?] = merged.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for word in words + variables { free(word) } }
        var process: pid_t = 0
        let code = posix_spawn(&process, program, &actions, nil, &words, &variables)
        guard code == 0 else { throw BenchmarkFailure("\(program): \(String(cString: strerror(code)))") }
        processID = process
    }

    /// Ends the process if nobody waited for it.
    deinit {
        guard !isReaped else { return }
        kill(processID, SIGKILL)
        var status: Int32 = 0
        waitpid(processID, &status, 0)
    }

    /// The built program of this name; it stands beside this one.
    static func path(of program: String) -> String {
        URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: program).path
    }

    /// Asks it to end, as an operator does.
    func terminate() { kill(processID, SIGTERM) }

    /// What it took until its end.
    struct Usage {
        let processorSeconds: Double
        /// Bytes; as it was last seen before the end. What wait4(2) says holds this process's own memory too, from before the exec.
        let peakMemory: Int
    }

    /// Waits for its end.
    /// - Throws: `BenchmarkFailure` where that was not a good one.
    @discardableResult
    func wait() throws -> Usage {
        let (status, usage) = try waitForEnd()
        guard status == 0 else { throw BenchmarkFailure("a child process ended with status \(status)") }
        return usage
    }

    /// Waits for its end, whatever it is: the status as wait(2) gives it.
    func waitForEnd() throws -> (status: Int32, usage: Usage) {
        var status: Int32 = 0
        var usage = rusage()
        var peak = 0
        while true {
            peak = max(peak, (try? peakMemory()) ?? 0)  // best effort: a process that has ended has no memory to look at
            let ended = wait4(processID, &status, WNOHANG, &usage)
            guard ended == 0 || (ended < 0 && errno == EINTR) else {
                guard ended == processID else { throw BenchmarkFailure("wait4: \(String(cString: strerror(errno)))") }
                break
            }
            usleep(2000)
        }
        isReaped = true
        let seconds = Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
        return (status, Usage(processorSeconds: seconds, peakMemory: peak))
    }

    /// Of all its threads so far.
    func processorSeconds() throws -> Double {
        let text = try String(contentsOfFile: "/proc/\(processID)/stat", encoding: .utf8)
        // The name of the program, in parentheses, may hold spaces; fields 14 and 15 are ticks in user and system mode.
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
            throw BenchmarkFailure("/proc/\(processID)/stat cannot be read")
        }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// Bytes.
    func peakMemory() throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(processID)/status", encoding: .utf8)
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }),
            let kilobytes = line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Int($0) })
        else { throw BenchmarkFailure("/proc/\(processID)/status cannot be read") }
        return kilobytes * 1024
    }
}
