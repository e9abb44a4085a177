import ATProto

/// What a subscription does next, decided without a socket or a clock: where the stream is, which operations came already, whether a
/// connection that ended is opened again, and after how long.
struct SubscriptionState {
    enum Step: Hashable {
        case reconnect(after: Duration)
        case end(StreamError)
    }

    private(set) var position: StreamPosition
    private let backoff: Backoff
    private let operationsMax: Int
    private var failures = 0
    private var wasReached = false

    init(position: StreamPosition, backoff: Backoff, operationsMax: Int) {
        self.position = position
        self.backoff = backoff
        self.operationsMax = operationsMax
    }

    /// A connection stands.
    mutating func connected() { wasReached = true }

    /// - Returns: what of a message is new, with the position that it leads to.
    mutating func take(_ message: StreamMessage) throws(StreamError) -> StreamEvent {
        failures = 0
        switch message {
        case .commit(let commit): return try take(commit)
        case .enrollment(let enrollment):
            let before = position
            if let sequence = enrollment.sequence {
                guard sequence >= position.cursor ?? 0 else { throw .malformed(.cursorWentBack) }
                position = StreamPosition(cursor: sequence)
            }
            return StreamEvent(message: message, before: before, position: position)
        case .notice: return StreamEvent(message: message, before: position, position: position)
        }
    }

    private mutating func take(_ commit: StreamCommit) throws(StreamError) -> StreamEvent {
        let before = position
        guard commit.sequence >= before.cursor ?? 0 else { throw .malformed(.cursorWentBack) }
        let earlier = before.recent.flatMap { $0.rev == commit.rev ? $0 : nil }
        var fresh = commit
        if let earlier { fresh.operations.removeAll { earlier.paths.contains($0.path) } }
        let paths = (earlier?.paths ?? []).union(fresh.operations.map(\.path))
        guard paths.count <= operationsMax else { throw .commitTooLarge(operationsMax: operationsMax) }
        // Two messages of one commit of which the second has the greater number: that one was the last.
        let isOver = earlier?.gaveCursor == true && commit.sequence > before.cursor ?? 0
        // The number from before the commit, where the stream is already, is not the commit's own.
        let gaveCursor = earlier?.gaveCursor == true || commit.sequence > before.cursor ?? 0
        position = StreamPosition(
            cursor: gaveCursor ? commit.sequence : before.cursor,
            recent: isOver || paths.isEmpty ? nil : .init(rev: commit.rev, paths: paths, gaveCursor: gaveCursor))
        return StreamEvent(message: .commit(fresh), before: before, position: position)
    }

    /// An error frame.
    /// - Returns: what to throw; nil where coming back is what it asks for, and the connection's end follows.
    func refusal(_ name: String, _ message: String?) -> StreamError? {
        Self.passing.contains(name) ? nil : .refused(name: name, message: message)
    }

    /// The server is there and cannot now: a reader that was too slow, too many of them, its own failure.
    private static let passing: Set<String> = ["ConsumerTooSlow", "RateLimitExceeded", "TooManyConnections", "InternalServerError"]

    mutating func connectionEnded(_ end: ConnectionEnd, using generator: inout some RandomNumberGenerator) -> Step {
        failures += 1
        if let error = Self.lasting(end) { return .end(error) }
        if !wasReached, !backoff.waitsForFirst { return .end(.gaveUp(end)) }
        if let max = backoff.failuresMax, failures > max { return .end(.gaveUp(end)) }
        return .reconnect(after: backoff.wait(afterFailures: failures, using: &generator))
    }

    /// What would be the same a second time.
    private static func lasting(_ end: ConnectionEnd) -> StreamError? {
        switch end {
        case .closed, .lost, .silent, .handshakeTimedOut, .unreachable: nil
        case .refusedUpgrade(let status) where status == 429 || status >= 500: nil
        case .refusedAddress, .untrusted, .refusedUpgrade, .handshake, .fault: .unusable(end)
        }
    }
}

/// Why a subscription ended. What passes by itself is waited out instead.
public enum StreamError: Error, Hashable, Sendable {
    /// The service said no: `FutureCursor`, `AuthenticationRequired`, `NotFound`, `InvalidRequest`, or a name of its own.
    case refused(name: String, message: String?)
    /// The server cannot be used, and asking again would not change that.
    case unusable(ConnectionEnd)
    /// It failed more often in a row than was allowed; the last reason.
    case gaveUp(ConnectionEnd)
    case malformed(FrameFault)
    /// A commit in more pieces than are remembered.
    case commitTooLarge(operationsMax: Int)
}

extension StreamError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .refused(let name, let message): "the service refused: \(name)\(message.map { ": \($0)" } ?? "")"
        case .unusable(let end), .gaveUp(let end): "\(end)"
        case .malformed(let fault): "the service sent what is no message of its stream: \(fault)"
        case .commitTooLarge(let operationsMax): "a commit of more than \(operationsMax) operations"
        }
    }
}
