import Authorization
import Glibc
import NIOCore
import NIOPosix
import NIOSSL

/// One WebSocket to a server, open until somebody closes it.
final class WebSocketConnection: Sendable {
    /// Where to, and what to say there.
    struct Target: Sendable {
        let address: ServiceAddress
        /// Path and query.
        let target: String
        let headers: [(name: String, value: String)]
        /// Which addresses may be connected to.
        let filter: AddressFilter
        let certificateAuthorities: String?
    }

    private static let addressesMax = 4

    private let channel: any Channel
    private let inbox: NIOLoopBound<MessageInbox>

    private init(channel: any Channel, inbox: NIOLoopBound<MessageInbox>) {
        self.channel = channel
        self.inbox = inbox
    }

    deinit { channel.close(promise: nil) }

    /// Connects to the addresses of the host in turn, each judged by the filter after the name was looked up.
    static func open(_ target: Target, limits: StreamLimits) async throws(ConnectionEnd) -> WebSocketConnection {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let deadline = NIODeadline.now() + TimeAmount(limits.handshakeWithin)
        let origin = target.address.origin
        let addresses = try await lookUp(origin, on: loop, until: deadline)
        let admitted = addresses.filter { address in
            guard let (bytes, port) = endpoint(address) else { return false }
            return target.filter.admits(bytes, port: port)
        }
        guard !admitted.isEmpty else { throw .refusedAddress }
        var reason = ConnectionEnd.unreachable
        for address in admitted.prefix(addressesMax) {
            do throws(ConnectionEnd) {
                return try await open(target, at: address, on: loop, limits: limits, until: deadline)
            } catch .unreachable {
                reason = .unreachable
            }
        }
        throw reason
    }

    private static func open(
        _ target: Target, at address: SocketAddress, on loop: any EventLoop, limits: StreamLimits, until deadline: NIODeadline
    ) async throws(ConnectionEnd) -> WebSocketConnection {
        let opened = loop.makePromise(of: NIOLoopBound<MessageInbox>.self)
        let host = target.address.origin.host
        let port = target.address.origin.port.map { ":\($0)" } ?? ""
        let handshake = Handshake(nonce: (0..<16).map { _ in UInt8.random(in: 0...255) })
        let request = handshake.request(host: host + port, target: target.target, headers: target.headers)
        let secure: NIOSSLContext?
        do { secure = target.address.origin.isSecure ? try context(target.certificateAuthorities) : nil } catch {
            opened.fail(ConnectionEnd.untrusted)
            throw .untrusted
        }
        let connected = ClientBootstrap(group: loop)
            .connectTimeout(max(.milliseconds(1), deadline - .now()))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let secure {
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: secure, serverHostname: isAddress(host) ? nil : host))
                    }
                    try channel.pipeline.syncOperations.addHandler(
                        HandshakeHandler(handshake, request: request, limits: limits, deadline: deadline, opened: opened))
                }
            }
            .connect(to: address)
        connected.whenFailure { _ in opened.fail(ConnectionEnd.unreachable) }
        do {
            let inbox = try await value(of: opened)
            return WebSocketConnection(channel: try await connected.get(), inbox: inbox)
        } catch {
            connected.whenSuccess { $0.close(promise: nil) }
            throw error as? ConnectionEnd ?? .unreachable
        }
    }

    /// A caller that is cancelled waits no longer, whatever becomes of the promise.
    private static func value<Value: Sendable>(of promise: EventLoopPromise<Value>) async throws -> Value {
        try await withTaskCancellationHandler {
            try await promise.futureResult.get()
        } onCancel: {
            promise.fail(ConnectionEnd.lost)
        }
    }

    /// What came next; waits for it. A caller that is cancelled ends the connection.
    func next() async -> MessageInbox.Received {
        await withTaskCancellationHandler {
            let loop = channel.eventLoop
            // The future fails with its event loop alone, and that one lives as long as the process.
            return (try? await loop.flatSubmit { [inbox] in inbox.value.next(on: loop) }.get()) ?? .ended(.lost)
        } onCancel: {
            close()
        }
    }

    func close() { channel.eventLoop.execute { [inbox] in inbox.value.close() } }

    private static func context(_ authorities: String?) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        configuration.certificateVerification = .fullVerification
        if let authorities { configuration.trustRoots = .file(authorities) }
        return try NIOSSLContext(configuration: configuration)
    }
}

/// Names and addresses.
extension WebSocketConnection {
    /// The system's answer for a host; `getaddrinfo` blocks and cannot be stopped, so it runs on a thread that is left to it.
    private static func lookUp(
        _ origin: WebOrigin, on loop: any EventLoop, until deadline: NIODeadline
    ) async throws(ConnectionEnd) -> [SocketAddress] {
        let found = loop.makePromise(of: [SocketAddress].self)
        let timer = loop.scheduleTask(deadline: deadline) { found.fail(ConnectionEnd.handshakeTimedOut) }
        let host = origin.host.hasPrefix("[") ? String(origin.host.dropFirst().dropLast()) : origin.host
        let port = Int(origin.port ?? (origin.isSecure ? 443 : 80))
        NIOThreadPool.singleton.runIfActive(eventLoop: loop) { try resolve(host, port: port) }.cascade(to: found)
        defer { timer.cancel() }
        do { return try await value(of: found) } catch { throw error as? ConnectionEnd ?? .unreachable }
    }

    private static func resolve(_ host: String, port: Int) throws(ConnectionEnd) -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &list) == 0 else { throw .unreachable }
        defer { freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var entry = list
        while let current = entry {
            defer { entry = current.pointee.ai_next }
            guard let raw = UnsafeRawPointer(current.pointee.ai_addr) else { continue }
            switch current.pointee.ai_family {
            case AF_INET: addresses.append(SocketAddress(raw.loadUnaligned(as: sockaddr_in.self)))
            case AF_INET6: addresses.append(SocketAddress(raw.loadUnaligned(as: sockaddr_in6.self)))
            default: continue
            }
        }
        guard !addresses.isEmpty else { throw .unreachable }
        return addresses
    }

    /// As `AddressFilter` judges it.
    private static func endpoint(_ address: SocketAddress) -> (bytes: [UInt8], port: UInt16)? {
        switch address {
        case .v4(let address):
            (withUnsafeBytes(of: address.address.sin_addr) { Array($0) }, UInt16(bigEndian: address.address.sin_port))
        case .v6(let address):
            (withUnsafeBytes(of: address.address.sin6_addr) { Array($0) }, UInt16(bigEndian: address.address.sin6_port))
        case .unixDomainSocket: nil
        }
    }

    /// TLS takes no address for a name; then the certificate must carry the address.
    private static func isAddress(_ host: String) -> Bool {
        if host.hasPrefix("[") { return true }
        var address = in_addr()
        return inet_pton(AF_INET, host, &address) == 1
    }
}

extension TimeAmount {
    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        self = .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }
}
