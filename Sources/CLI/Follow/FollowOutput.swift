import Client
import Glibc
import NIOPosix
import Synchronization

/// Standard output, and how far its reader has taken what was written.
///
/// A line counts as delivered when the reader has taken its last byte. In a pipe the system says how much lies there untaken, so what a
/// reader that goes away leaves is not lost: the next run begins with it. A file or a terminal takes all at once.
///
/// Writing blocks, so it happens on a thread of its own, and never for longer than a signal allows: before each piece it is asked
/// whether there is room.
final class FollowOutput: Sendable {
    /// The reader closed its end: no error, everybody's `head` does.
    struct ReaderGone: Error {}

    private struct State {
        var written = 0
        /// Lines of which the end is not known to have been taken, each with where it ends; in order.
        var untaken: [(end: Int, line: FollowLine)] = []
        var delivered: StreamPosition
        var saved: StreamPosition
        var stopsBy: ContinuousClock.Instant?
    }

    /// Lines that are remembered before it is looked whether they were taken: more than a pipe holds.
    private static let untakenMax = 1024
    /// What a pipe takes without blocking where there is room at all.
    private static let pieceBytes = 4096
    /// How long a reader may take for what it was sent when it is time to stop.
    private static let patience: Duration = .seconds(2)

    private let state: Mutex<State>
    private let file: CursorFile?
    private let descriptor: Int32
    private let isPipe: Bool
    private let isFile: Bool

    init(from position: StreamPosition, file: CursorFile?, descriptor: Int32 = STDOUT_FILENO) {
        state = Mutex(State(delivered: position, saved: position))
        self.file = file
        self.descriptor = descriptor
        var status = stat()
        let kind = fstat(descriptor, &status) == 0 ? status.st_mode & S_IFMT : 0
        isPipe = kind == S_IFIFO
        isFile = kind == S_IFREG
    }

    /// Writes lines whole. A task that is cancelled meanwhile stops at the end of a line.
    /// - Throws: `ReaderGone`, or a `Problem`.
    func write(_ lines: [FollowLine]) async throws {
        try await withTaskCancellationHandler {
            try await NIOThreadPool.singleton.runIfActive { [self] in try writeBlocking(lines) }
        } onCancel: {
            state.withLock { $0.stopsBy = $0.stopsBy ?? .now + Self.patience }
        }
    }

    private func writeBlocking(_ lines: [FollowLine]) throws {
        var buffer: [UInt8] = []
        var ends: [Int] = []
        buffer.reserveCapacity(lines.reduce(0) { $0 + $1.bytes.count })
        for line in lines {
            buffer += line.bytes
            ends.append(buffer.count)
        }
        var done = 0
        var next = 0
        func note() {
            state.withLock { state in
                while next < lines.count, ends[next] <= done {
                    state.untaken.append((state.written + ends[next] - done, lines[next]))
                    next += 1
                }
                if state.untaken.count >= Self.untakenMax { settle(&state) }
            }
        }
        note()
        while done < buffer.count {
            // A stop is obeyed between lines, and within one only when the reader takes too long.
            let stopsBy = state.withLock { $0.stopsBy }
            if let stopsBy, next == 0 ? done == 0 : ends[next - 1] == done || stopsBy < .now { return }
            if let stopsBy, stopsBy < .now { return }
            guard try waitForRoom() else { continue }
            let end = stopsBy == nil ? buffer.count : ends[next]
            let count = try piece(buffer, done..<min(end, done + Self.pieceBytes))
            done += count
            state.withLock { $0.written += count }
            note()
        }
    }

    /// - Returns: whether there is room now; asks again after a tenth of a second, so that a signal is seen.
    private func waitForRoom() throws -> Bool {
        var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        let count = poll(&request, 1, 100)
        if count < 0, errno != EINTR { throw Self.failed("poll", errno) }
        if count > 0, request.revents & Int16(POLLERR) != 0, isPipe { throw ReaderGone() }
        return count > 0
    }

    private func piece(_ buffer: [UInt8], _ range: Range<Int>) throws -> Int {
        while true {
            let count = buffer[range].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count >= 0 { return count }
            switch errno {
            case EINTR: continue
            case EAGAIN: return 0
            case EPIPE: throw ReaderGone()
            default: throw Self.failed("write", errno)
            }
        }
    }

    /// Saves how far the lines were taken, where that moved.
    func save() throws {
        let position = state.withLock { state in
            settle(&state)
            return state.delivered
        }
        guard let file, position != state.withLock({ $0.saved }) else { return }
        // What is said to be delivered must not be lost with the machine.
        if isFile, fdatasync(descriptor) != 0 { throw Self.failed("fdatasync", errno) }
        try file.write(position)
        state.withLock { $0.saved = position }
    }

    /// Gives the reader a moment to take the rest, then saves. A reader that is there and slow will take it; one that has gone has not.
    func finish() async throws {
        let end = ContinuousClock.now + Self.patience
        while isPipe, unread > 0, !isReaderGone, ContinuousClock.now < end {
            // best effort: a task that is cancelled looks again at once, until the time is up.
            try? await Task.sleep(for: .milliseconds(2))
        }
        if isPipe, !isReaderGone { state.withLock { deliverAll(&$0) } }
        try save()
    }

    private func settle(_ state: inout State) {
        let taken = state.written - unread
        let count = state.untaken.prefix { $0.end <= taken }.count
        guard count > 0 else { return }
        state.delivered = state.untaken[count - 1].line.position
        state.untaken.removeFirst(count)
    }

    private func deliverAll(_ state: inout State) {
        guard let last = state.untaken.last else { return }
        state.delivered = last.line.position
        state.untaken = []
    }

    /// Bytes that lie in the pipe. The system tells it on either end (pipe(7), FIONREAD).
    private var unread: Int {
        guard isPipe else { return 0 }
        var count: Int32 = 0
        return ioctl(descriptor, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
    }

    private var isReaderGone: Bool { Output.isReaderGone(of: descriptor) }

    private static func failed(_ operation: String, _ code: Int32) -> Problem {
        Output.lost("\(operation) to standard output", code)
    }
}
