package import HummingbirdCore
import NIOCore
import NIOHTTPTypes

/// What one client may cost this server in time, memory and descriptors. The values are the service's own; tests make them small.
package struct ServingLimits: Sendable {
    /// Connections at a time; further ones wait unaccepted.
    package var connectionsMax: Int
    /// How long a client may keep the server waiting.
    package var patience: ConnectionPatience
    /// Bytes of a request line's target, of one header field, and of all of them. Beyond: 400, and the connection ends.
    package var headerFieldBytesMax = 16 << 10
    package var headersBytesMax = 32 << 10
    package var headerCountMax = 100
    /// Bytes that are taken from a socket at once. Some ten of these are read ahead of a slow handler, for each connection.
    package var readBytesMax = 16 << 10
    /// How long requests in flight may take to end after a signal to stop.
    package var shutdown: Duration = .seconds(30)

    package init(connectionsMax: Int = 4096, patience: ConnectionPatience = ConnectionPatience()) {
        self.connectionsMax = connectionsMax
        self.patience = patience
    }
}

/// How long a client may keep the server waiting before its connection is closed.
package struct ConnectionPatience: Sendable {
    /// For a whole request head: from the connection, or from the end of the answer before.
    package var head: Duration = .seconds(30)
    /// For a body, waiting times added up: so long, and longer by the time that its bytes take at `bodyBytesPerSecond`.
    package var body: Duration = .seconds(30)
    package var bodyBytesPerSecond = 8 << 10
    /// For an answer to be taken in, from when the socket is full until half of what is buffered is gone.
    package var answer: Duration = .seconds(60)
    /// Bytes of a body that nobody wants any more, as it was answered before its end.
    package var unwantedBytesMax = 4 << 20
    /// How often a connection is looked at.
    package var interval: Duration = .seconds(5)

    package init() {}
}

extension HTTPServerBuilder {
    /// HTTP/1.1 within these limits, and WebSockets for streams.
    package static func http1(_ limits: ServingLimits, streams: StreamServer) -> HTTPServerBuilder {
        HTTPServerBuilder { responder in UpgradableChannel(responder: responder, limits: limits, streams: streams) }
    }

    /// HTTP/1.1 within these limits.
    package static func http1(_ limits: ServingLimits) -> HTTPServerBuilder {
        .http1(
            configuration: .init(
                additionalChannelHandlers: [ConnectionGuard(limits)],
                httpDecoderConfiguration: .init(
                    maxHeaderFieldSize: limits.headerFieldBytesMax, maxHeaderListSize: limits.headersBytesMax,
                    maxHeaderFieldCount: limits.headerCountMax)))
    }
}

/// Closes the connection of a client that keeps the server waiting, what is too long being `ConnectionWatch`'s decision, or that was
/// refused before it sent a body.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let limits: ServingLimits
    private var watch: ConnectionWatch
    private var invitation = BodyInvitation()
    /// Whether the answer that is being written is the last.
    private var isLastAnswer = false
    /// Whether that has been written: what still comes is not read.
    private var hasAnsweredLast = false
    private var looking: RepeatedTask?

    init(_ limits: ServingLimits) {
        self.limits = limits
        watch = ConnectionWatch(limits.patience, now: .now())
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let allocator = AdaptiveRecvByteBufferAllocator(
            minimum: 1024, initial: min(2048, limits.readBytesMax), maximum: limits.readBytesMax)
        // best effort: a channel of a test has no such option, and none is needed there.
        try? context.channel.syncOptions?.setOption(.recvAllocator, value: allocator)
        let interval = TimeAmount(limits.patience.interval)
        let bound = NIOLoopBound((guard: self, context: context), eventLoop: context.eventLoop)
        looking = context.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in
            let (connectionGuard, context) = bound.value
            if connectionGuard.watch.isExpired(at: .now()) { context.close(promise: nil) }
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        looking?.cancel()
        looking = nil
    }

    func read(context: ChannelHandlerContext) {
        watch.wantsBytes(at: .now())
        context.read()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        if hasAnsweredLast { return dropUnread(part, context: context) }
        switch part {
        case .head(let head):
            watch.headCame(at: .now())
            invitation.headCame(asksBeforeBody: head.asksBeforeBody)
        case .body(let buffer):
            watch.bodyCame(buffer.readableBytes, at: .now())
            invitation.bodyCame()
        case .end: watch.bodyEnded(at: .now())
        }
        if watch.hasTakenEnough { return context.close(promise: nil) }
        context.fireChannelRead(data)
    }

    /// What comes behind the last answer may only end.
    private func dropUnread(_ part: HTTPRequestPart, context: ChannelHandlerContext) {
        guard case .body(let buffer) = part else { return }
        watch.bodyCame(buffer.readableBytes, at: .now())
        if watch.hasTakenEnough { context.close(promise: nil) }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        watch.writabilityChanged(to: context.channel.isWritable, at: .now())
        context.fireChannelWritabilityChanged()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(var head):
            guard invitation.answerBegins(isInterim: head.status.kind == .informational) else { break }
            isLastAnswer = true
            head.headerFields[.connection] = "close"
            return context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .body: break
        case .end:
            watch.answerEnded(at: .now())
            invitation.answerEnded()
            if isLastAnswer { return writeLast(data, context: context, promise: promise) }
        }
        context.write(data, promise: promise)
    }

    /// Ends the answers, and waits for the client to end the connection, as long as it may wait with a head: a client that is still
    /// sending would lose the answer if the connection were closed at once.
    private func writeLast(_ end: NIOAny, context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
        hasAnsweredLast = true
        let written = promise ?? context.eventLoop.makePromise()
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        written.futureResult.whenComplete { _ in bound.value.close(mode: .output, promise: nil) }
        context.writeAndFlush(end, promise: written)
    }
}
