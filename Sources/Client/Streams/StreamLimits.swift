/// What a stream may cost, and how long it may be silent.
public struct StreamLimits: Hashable, Sendable {
    /// One message. Ours have at most about 2 MB.
    public var messageBytesMax: Int
    /// Frames of one message.
    public var fragmentsMax: Int
    /// Operations in one message.
    public var operationsMax: Int
    /// Operations of one commit over all its messages, of which the paths are remembered until it is whole.
    public var commitOperationsMax: Int
    /// Looking up the name, connecting, TLS and upgrade together.
    public var handshakeWithin: Duration
    /// Silence while somebody waits, after which the server is asked whether it is there.
    public var pingAfter: Duration
    /// Silence after that, which ends the connection.
    public var pongWithin: Duration

    public init(
        messageBytesMax: Int = 4 << 20, fragmentsMax: Int = 1024, operationsMax: Int = 200, commitOperationsMax: Int = 1 << 20,
        handshakeWithin: Duration = .seconds(10), pingAfter: Duration = .seconds(30), pongWithin: Duration = .seconds(15)
    ) {
        self.messageBytesMax = messageBytesMax
        self.fragmentsMax = fragmentsMax
        self.operationsMax = operationsMax
        self.commitOperationsMax = commitOperationsMax
        self.handshakeWithin = handshakeWithin
        self.pingAfter = pingAfter
        self.pongWithin = pongWithin
    }
}

/// How long to wait before a stream is asked for again: exponential, with full jitter, so that a thousand followers of a service that
/// was restarted do not come back at one moment.
public struct Backoff: Hashable, Sendable {
    /// The longest wait after the first failure.
    public var first: Duration
    /// No wait is longer.
    public var longest: Duration
    /// Failures in a row, with no message between them, after which the subscription ends; nil for never.
    public var failuresMax: Int?
    /// Whether a service that was never reached is waited for too; if not, the first failure is the last.
    public var waitsForFirst: Bool

    public init(
        first: Duration = .seconds(1), longest: Duration = .seconds(60), failuresMax: Int? = nil, waitsForFirst: Bool = true
    ) {
        self.first = first
        self.longest = longest
        self.failuresMax = failuresMax
        self.waitsForFirst = waitsForFirst
    }

    /// - Parameter failures: in a row, from 1.
    /// - Returns: anything from nothing to `first` · 2^(failures − 1), or to `longest`.
    func wait(afterFailures failures: Int, using generator: inout some RandomNumberGenerator) -> Duration {
        let doubled = first * (1 << min(max(0, failures - 1), 30))
        let most = min(doubled, longest)
        let nanoseconds = most.components.seconds * 1_000_000_000 + most.components.attoseconds / 1_000_000_000
        return .nanoseconds(Int64.random(in: 0...max(0, nanoseconds), using: &generator))
    }
}
