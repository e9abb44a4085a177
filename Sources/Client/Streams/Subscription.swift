public import ATProto
import Authorization

/// A stream of a service, followed through lost connections: each operation once, in order, with the position to save after it.
///
/// Ends by throwing a `StreamError`, and with nil when its task is cancelled. A reader that is slow slows the server; one that is too
/// slow is cut off by it, and comes back by itself.
public struct Subscription: AsyncSequence, Sendable {
    public typealias Element = StreamEvent
    public typealias Failure = StreamError

    /// What to follow.
    public struct Request: Sendable {
        public var service: ServiceAddress
        /// Whose commits; nil for the service's own stream of who joins and leaves.
        public var account: DID?
        /// Only what has this boundary, by its qualified name.
        public var boundary: String?
        public var position: StreamPosition
        public var credential: Credential?
        public var limits: StreamLimits
        public var backoff: Backoff

        public init(
            service: ServiceAddress, account: DID? = nil, boundary: String? = nil, position: StreamPosition = .start,
            credential: Credential? = nil, limits: StreamLimits = StreamLimits(), backoff: Backoff = Backoff()
        ) {
            self.service = service
            self.account = account
            self.boundary = boundary
            self.position = position
            self.credential = credential
            self.limits = limits
            self.backoff = backoff
        }
    }

    /// What a subscription needs of the world; a test gives its own.
    public struct Surroundings: Sendable {
        public var sleep: @Sendable (Duration) async throws -> Void
        /// 64 random bits.
        public var random: @Sendable () -> UInt64
        /// Told of each connection that ended and is opened again, with the wait before.
        public var interrupted: @Sendable (ConnectionEnd, Duration) -> Void

        public init(
            sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) },
            random: @escaping @Sendable () -> UInt64 = { .random(in: .min ... .max) },
            interrupted: @escaping @Sendable (ConnectionEnd, Duration) -> Void = { _, _ in }
        ) {
            self.sleep = sleep
            self.random = random
            self.interrupted = interrupted
        }
    }

    static let nsid = "zone.stratos.sync.subscribeRecords"

    let request: Request
    let surroundings: Surroundings
    let configuration: ClientConfiguration

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(run: Run(self)) }

    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let run: Run

        public mutating func next() async throws(StreamError) -> StreamEvent? { try await next(isolation: nil) }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws(StreamError) -> StreamEvent? {
            if run.ready.isEmpty { try await run.fill(isolation: actor) }
            return run.ready.isEmpty ? nil : run.ready.removeFirst()
        }

        /// All that has come already, at least one; nil when the task is cancelled.
        package mutating func nextBatch(isolation actor: isolated (any Actor)? = #isolation) async throws(StreamError) -> [StreamEvent]? {
            if run.ready.isEmpty { try await run.fill(isolation: actor) }
            defer { run.ready = [] }
            return run.ready.isEmpty ? nil : Array(run.ready)
        }
    }
}

extension StratosClient {
    /// Follows a stream of a service. Nothing is asked before the first event is waited for.
    public func subscribe(_ request: Subscription.Request, surroundings: Subscription.Surroundings = .init()) -> Subscription {
        Subscription(request: request, surroundings: surroundings, configuration: configuration)
    }
}

/// One reading of a subscription. Whoever iterates owns it; when it is let go, so is the connection.
private final class Run {
    var ready: ArraySlice<StreamEvent> = []
    private let subscription: Subscription
    private var state: SubscriptionState
    private var generator: Generator
    private var connection: WebSocketConnection?
    /// Where a batch was bad after good messages, these are handed over first.
    private var failure: StreamError?

    private struct Generator: RandomNumberGenerator {
        let random: @Sendable () -> UInt64
        mutating func next() -> UInt64 { random() }
    }

    init(_ subscription: Subscription) {
        self.subscription = subscription
        let request = subscription.request
        state = SubscriptionState(
            position: request.position, backoff: request.backoff, operationsMax: request.limits.commitOperationsMax)
        generator = Generator(random: subscription.surroundings.random)
    }

    deinit { connection?.close() }

    /// Waits until something is ready, or the task is cancelled.
    func fill(isolation actor: isolated (any Actor)?) async throws(StreamError) {
        while ready.isEmpty {
            if let failure { throw failure }
            if Task.isCancelled {
                connection?.close()
                connection = nil
                return
            }
            do throws(ConnectionEnd) {
                let connection = try await connected(isolation: actor)
                switch await connection.next() {
                case .messages(let messages): take(messages)
                case .ended(let end): throw end
                }
            } catch {
                connection = nil
                if Task.isCancelled { return }
                try await wait(after: error, isolation: actor)
            }
        }
    }

    private func take(_ messages: [[UInt8]]) {
        var events: [StreamEvent] = []
        do throws(StreamError) {
            for message in messages { if let event = try event(message) { events.append(event) } }
        } catch {
            failure = error
            connection?.close()
            connection = nil
        }
        ready = events[...]
    }

    private func event(_ bytes: [UInt8]) throws(StreamError) -> StreamEvent? {
        let frame: StreamFrame
        do throws(FrameFault) { frame = try StreamFrame.decode(bytes, limits: subscription.request.limits) } catch {
            throw .malformed(error)
        }
        switch frame {
        case .message(let message): return try state.take(message)
        case .error(let name, let message):
            if let refusal = state.refusal(name, message) { throw refusal }
            return nil
        case .unknown: return nil
        }
    }

    private func wait(after end: ConnectionEnd, isolation actor: isolated (any Actor)?) async throws(StreamError) {
        switch state.connectionEnded(end, using: &generator) {
        case .end(let error):
            failure = error
            throw error
        case .reconnect(let delay):
            subscription.surroundings.interrupted(end, delay)
            // best effort: a sleep that is cut short is followed by the look at whether the task was cancelled.
            try? await subscription.surroundings.sleep(delay)
        }
    }

    private func connected(isolation actor: isolated (any Actor)?) async throws(ConnectionEnd) -> WebSocketConnection {
        if let connection { return connection }
        let opened = try await WebSocketConnection.open(target, limits: subscription.request.limits)
        connection = opened
        state.connected()
        return opened
    }

    private var target: WebSocketConnection.Target {
        let request = subscription.request
        var parameters: [(name: String, value: String)] = []
        if let account = request.account { parameters.append(("did", account.description)) }
        if let cursor = state.position.cursor { parameters.append(("cursor", String(cursor))) }
        if let boundary = request.boundary { parameters.append(("domain", boundary)) }
        var headers: [(name: String, value: String)] = [("User-Agent", subscription.configuration.userAgent)]
        if let credential = request.credential {
            if let authorization = credential.authorization {
                headers.append(("Authorization", authorization))
            } else {
                parameters.append(("syncToken", credential.token))
            }
        }
        return WebSocketConnection.Target(
            address: request.service, target: request.service.target(Subscription.nsid, parameters), headers: headers,
            filter: request.service.isNamedByStranger ? subscription.configuration.reach.filter : .any,
            certificateAuthorities: subscription.configuration.certificateAuthorities)
    }
}
