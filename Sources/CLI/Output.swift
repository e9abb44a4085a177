import ATProto
import ArgumentParser
import EventLog
import Glibc
import Synchronization

/// What went wrong, for people and for programs, and the exit status that says so.
struct Problem: Error {
    enum Status: Int32 {
        /// What was looked at is refused, or has problems.
        case refused = 1
        /// The command was called wrongly.
        case usage = 2
        /// A file or the machine did not do what was asked.
        case inputOutput = 3
    }

    let status: Status
    /// A stable word for programs.
    let error: String
    let message: String
    /// What `verify` reports in its place: something is wrong with the log itself.
    var finding: Finding?
}

/// Standard output for results, standard error for everything else.
enum Output {
    private static let printed = Atomic<Bool>(false)

    /// Whether standard output holds anything yet.
    static var hasPrinted: Bool { printed.load(ordering: .relaxed) }

    /// Whether nobody reads any more what is written there: the other end of the pipe has gone.
    static func isReaderGone(of descriptor: Int32 = STDOUT_FILENO) -> Bool {
        var request = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&request, 1, 0) > 0 && request.revents & Int16(POLLERR) != 0
    }

    /// Runs a command; a problem is told on standard error, or as `{"error", "message"}` on standard output, and ends the program with
    /// its status.
    static func reporting(asJSON json: Bool, _ body: () throws -> Void) throws {
        do {
            try body()
        } catch let problem as Problem {
            tell(problem.error, problem.message, asJSON: json)
            throw ExitCode(problem.status.rawValue)
        }
    }

    /// Says what went wrong: in words, or as `{"error", "message"}` on standard output. Where that holds results already, it holds nothing
    /// else; then, and where it takes nothing, on standard error.
    static func tell(_ error: String, _ message: String, asJSON json: Bool) {
        guard json else { return note("error: \(message)") }
        let line = Self.line(.map(["error": .string(error), "message": .string(message)]))
        if hasPrinted || write(line + "\n", to: STDOUT_FILENO) != 0 { note(line) }
    }

    /// Ends the program, from wherever it is noticed that it cannot go on.
    static func end(_ problem: Problem, asJSON json: Bool) -> Never {
        tell(problem.error, problem.message, asJSON: json)
        exit(problem.status.rawValue)
    }

    /// Lines for standard output. A reader that has gone is no error, everybody's `head` does: the rest is for nobody.
    /// - Throws: where they are lost in any other way.
    static func print(_ text: String) throws(Problem) {
        let code = write(text + "\n", to: STDOUT_FILENO)
        guard code == 0 || code == EPIPE else { throw lost("cannot write to standard output", code) }
    }

    /// One line of JSON.
    static func printJSON(_ value: Value) throws(Problem) { try print(line(value)) }

    private static func line(_ value: Value) -> String { String(decoding: DataModelJSON.encode(value), as: UTF8.self) }

    /// One line to standard error.
    static func note(_ message: String) { draw(message + "\n") }

    fileprivate static func draw(_ text: String) {
        // best effort: there is nowhere left to say that standard error is closed
        _ = write(text, to: STDERR_FILENO)
    }

    private static func write(_ text: String, to descriptor: Int32) -> Int32 { write(Array(text.utf8), to: descriptor) }

    /// Writes all of it; every byte of a result goes through here.
    /// - Returns: 0, or the `errno` that says why the rest is lost.
    static func write(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count >= 0 {
                written += count
                if descriptor == STDOUT_FILENO { printed.store(true, ordering: .relaxed) }
                continue
            }
            switch errno {
            case EINTR: continue
            case EAGAIN:
                // Another program has made it one that does not wait.
                var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = poll(&request, 1, -1)
            default: return errno
            }
        }
        return 0
    }

    static func lost(_ operation: String, _ code: Int32) -> Problem {
        Problem(status: .inputOutput, error: "OutputFailed", message: "\(operation): \(String(cString: strerror(code)))")
    }

    /// A count with its thousands apart: 1,234,567.
    static func grouped(_ count: Int) -> String {
        var digits = String(count.magnitude)
        var place = digits.count - 3
        while place > 0 {
            digits.insert(",", at: digits.index(digits.startIndex, offsetBy: place))
            place -= 3
        }
        return (count < 0 ? "-" : "") + digits
    }
}

/// A bar on standard error that is drawn over itself; nothing where standard error is not a terminal.
struct ProgressBar: ~Copyable {
    private let label: String
    private let total: Int
    private let isShown: Bool
    private var drawn: ContinuousClock.Instant?

    /// - Parameter total: what `advance` counts up to, above 0.
    init(_ label: String, total: Int, json: Bool) {
        self.label = label
        self.total = max(1, total)
        isShown = !json && isatty(STDERR_FILENO) == 1
    }

    /// Draws at most ten times a second.
    mutating func advance(to count: Int, _ detail: @autoclosure () -> String) {
        guard isShown else { return }
        let now = ContinuousClock.now
        if let drawn, now - drawn < .milliseconds(100) { return }
        drawn = now
        let cells = min(24, count * 24 / total)
        let bar = String(repeating: "#", count: cells) + String(repeating: ".", count: 24 - cells)
        Output.draw("\r\u{1B}[2K\(label) [\(bar)] \(min(100, count * 100 / total)) % \(detail())")
    }

    deinit {
        if isShown, drawn != nil { Output.draw("\r\u{1B}[2K") }
    }
}

/// A regular file that is read by place.
final class InputFile: Sendable {
    let path: String
    /// When it was opened, in bytes.
    let count: Int
    private let descriptor: Int32

    init(path: String) throws(Problem) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.problem("cannot open", path, errno) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let code = errno
            close(descriptor)
            throw Self.problem("cannot look at", path, code)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw Problem(status: .inputOutput, error: "NotAFile", message: "\(path) is not a regular file")
        }
        self.path = path
        count = Int(status.st_size)
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Fills `buffer` with the bytes from `offset`.
    /// - Returns: the count of bytes read, less than asked for at the end of the file only.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(Problem) -> Int {
        var done = 0
        while done < buffer.count, let base = buffer.baseAddress {
            let got = pread(descriptor, base + done, buffer.count - done, off_t(offset + done))
            if got == 0 { break }
            if got < 0 {
                if errno == EINTR { continue }
                throw Self.problem("cannot read", path, errno)
            }
            done += got
        }
        return done
    }

    /// Exactly these bytes.
    func read(at offset: Int, count: Int) throws(Problem) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var outcome: Result<Int, Problem> = .success(0)
        bytes.withUnsafeMutableBytes { buffer in
            do throws(Problem) {
                outcome = .success(try read(at: offset, into: buffer))
            } catch {
                outcome = .failure(error)
            }
        }
        guard try outcome.get() == count else {
            throw Problem(
                status: .inputOutput, error: "FileChanged",
                message: "\(path) ends before byte \(offset + count): it was cut while being read")
        }
        return bytes
    }

    private static func problem(_ action: String, _ path: String, _ code: Int32) -> Problem {
        Problem(status: .inputOutput, error: "InputOutput", message: "\(action) \(path): \(String(cString: strerror(code)))")
    }
}
