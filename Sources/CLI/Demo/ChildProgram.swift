import Glibc

/// Another program of ours, run beside this one: what it prints is read a line at a time, what it logs goes into a file.
///
/// It is not of this process's group, so that Ctrl-C reaches this process alone, which then stops it when nothing needs it any more.
/// And it holds the reading end of a pipe as its standard input: when this process is gone, however it went, that ends.
final class ChildProgram {
    private let process: pid_t
    private let input: Int32
    private let output: Int32
    private var unread: [UInt8] = []
    private var hasEnded = false

    /// - Parameters:
    ///   - name: of a program in the same folder as this one.
    ///   - log: the file that its standard error is appended to.
    init(beside name: String, arguments: [String], log: String) throws(Problem) {
        let path = try Self.path(beside: name)
        let (input, output) = (try Self.channel(), try Self.channel())
        defer {
            close(input.reading)
            close(output.writing)
        }
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_adddup2(&actions, input.reading, STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, output.writing, STDOUT_FILENO)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        let words = ([path] + arguments).map { strdup($0) }
        defer { for word in words { free(word) } }
        var process: pid_t = 0
        let code = posix_spawn(&process, path, &actions, &attributes, words + [nil], environ)
        guard code == 0 else {
            close(input.writing)
            close(output.reading)
            throw Problem(status: .inputOutput, error: "ChildFailed", message: "cannot start \(path): \(String(cString: strerror(code)))")
        }
        self.process = process
        self.input = input.writing
        self.output = output.reading
    }

    deinit {
        stop()
        close(output)
    }

    /// Tells it to stop and waits for its end.
    func stop() {
        guard !hasEnded else { return }
        hasEnded = true
        close(input)
        kill(process, SIGTERM)
        while waitpid(process, nil, 0) < 0, errno == EINTR {}
    }

    /// The next line that it prints; blocks this thread.
    /// - Throws: where it ends, or says nothing for so many seconds.
    func line(within seconds: Int32 = 30) throws(Problem) -> [UInt8] {
        while true {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                defer { unread.removeFirst(end + 1) }
                return Array(unread[..<end])
            }
            var waited = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            let ready = poll(&waited, 1, seconds * 1000)
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else {
                throw Problem(status: .inputOutput, error: "ChildFailed", message: "a program that was started said nothing")
            }
            var piece = [UInt8](repeating: 0, count: 4096)
            let count = piece.withUnsafeMutableBytes { read(output, $0.baseAddress, $0.count) }
            guard count > 0 else {
                throw Problem(status: .inputOutput, error: "ChildFailed", message: "a program that was started has ended")
            }
            unread += piece[..<count]
        }
    }

    private static func path(beside name: String) throws(Problem) -> String {
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = buffer.withUnsafeMutableBytes {
            readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
        }
        let own = String(decoding: buffer[..<max(0, count)], as: UTF8.self)
        let path = own.split(separator: "/").dropLast().map { "/" + $0 }.joined() + "/" + name
        guard count > 0, access(path, X_OK) == 0 else {
            throw Problem(
                status: .inputOutput, error: "ProgramMissing",
                message: "\(path) is not there: build it with `swift build --product \(name)`")
        }
        return path
    }

    /// Both ends close where another program is started.
    private static func channel() throws(Problem) -> (reading: Int32, writing: Int32) {
        var ends: [Int32] = [0, 0]
        guard Glibc.pipe(&ends) == 0 else {
            throw Problem(status: .inputOutput, error: "ChildFailed", message: "pipe: \(String(cString: strerror(errno)))")
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }
}
