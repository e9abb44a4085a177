import Engine
import NIOCore
import NIOWebSocket

/// The connection has closed, or is being closed: nothing more is sent over it.
struct WebSocketClosed: Error {}

/// One WebSocket, as a task works with it: messages go out, what comes in is judged on the event loop and comes to nothing.
struct WebSocketConnection: Sendable {
    private let channel: any Channel
    private let handler: NIOLoopBound<WebSocketHandler>

    fileprivate init(_ channel: any Channel, _ handler: WebSocketHandler) {
        self.channel = channel
        self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
    }

    /// Takes over a channel that has become a WebSocket. On its event loop.
    static func open(_ channel: any Channel, _ limits: StreamLimits) throws -> WebSocketConnection {
        let handler = WebSocketHandler(limits, channel.eventLoop)
        try channel.pipeline.syncOperations.addHandler(handler)
        return WebSocketConnection(channel, handler)
    }

    /// Sends messages and returns when the system has taken them all: so whoever sends these alone has no more in memory than these.
    func send(_ messages: [[UInt8]]) async throws {
        try await channel.eventLoop.flatSubmit { handler.value.send(messages) }.get()
    }

    /// Closes from this side, and returns when that is done: bounded by `StreamLimits.closing`.
    /// - Parameter message: the last one.
    func close(_ close: WebSocketClose, after message: [UInt8]? = nil) async {
        // best effort: where the channel has failed, it is closed.
        try? await channel.eventLoop.flatSubmit { [channel] in
            handler.value.close(close, after: message)
            return channel.closeFuture
        }.get()
    }

    /// Calls this once when the connection begins to close, at once where it does already.
    func whenClosing(_ call: @escaping @Sendable () -> Void) {
        channel.eventLoop.execute { handler.value.whenClosing(call) }
    }
}

/// The end of the pipeline of a WebSocket: answers pings, keeps the rules, looks now and then whether somebody is there.
final class WebSocketHandler: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    private let limits: StreamLimits
    private let eventLoop: any EventLoop
    private var rules: WebSocketRules
    private var context: ChannelHandlerContext?
    private var looking: RepeatedTask?
    private var onClosing: (@Sendable () -> Void)?
    private var hasEnded = false

    init(_ limits: StreamLimits, _ eventLoop: any EventLoop) {
        self.limits = limits
        self.eventLoop = eventLoop
        rules = WebSocketRules(limits, now: .now())
    }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        // best effort: a channel of a test has no such options. Clients send next to nothing.
        try? context.channel.syncOptions?.setOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 1024))
        let interval = TimeAmount.nanoseconds(max(10_000_000, min(5_000_000_000, TimeAmount(limits.idle).nanoseconds / 8)))
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        looking = context.eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in bound.value.look() }
    }

    func handlerRemoved(context: ChannelHandlerContext) { end() }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    private func end() {
        hasEnded = true
        looking?.cancel()
        looking = nil
        context = nil
        beginsClosing()
    }

    private func beginsClosing() {
        onClosing?()
        onClosing = nil
    }

    func whenClosing(_ call: @escaping @Sendable () -> Void) {
        if hasEnded || rules.isClosing { return call() }
        onClosing = call
    }

    private func look() {
        guard let context else { return }
        switch rules.due(at: .now()) {
        case .nothing: break
        case .ping: write(.ping, ByteBuffer(), context)
        case .gone, .end: context.close(promise: nil)
        case .tooSlow:
            close(
                WebSocketClose(code: 1008, reason: "ConsumerTooSlow"),
                after: StreamFrames.error("ConsumerTooSlow", "Messages are not taken in as fast as they must be"))
        }
    }

    // MARK: Out

    func send(_ messages: [[UInt8]]) -> EventLoopFuture<Void> {
        guard let last = messages.last else { return eventLoop.makeSucceededVoidFuture() }
        guard let context, !rules.isClosing else { return eventLoop.makeFailedFuture(WebSocketClosed()) }
        rules.writeBegan(at: .now())
        for message in messages.dropLast() { context.write(wrapOutboundOut(Self.frame(message)), promise: nil) }
        let written = context.eventLoop.makePromise(of: Void.self)
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        written.futureResult.whenComplete { _ in bound.value.rules.writeEnded() }
        context.writeAndFlush(wrapOutboundOut(Self.frame(last)), promise: written)
        return written.futureResult
    }

    private static func frame(_ message: [UInt8]) -> WebSocketFrame {
        WebSocketFrame(fin: true, opcode: .binary, data: ByteBuffer(bytes: message))
    }

    private func write(_ opcode: WebSocketOpcode, _ data: ByteBuffer, _ context: ChannelHandlerContext) {
        context.writeAndFlush(wrapOutboundOut(WebSocketFrame(fin: true, opcode: opcode, data: data)), promise: nil)
    }

    /// Sends the close frame, and then waits for the client's own, for a bounded time.
    func close(_ close: WebSocketClose, after message: [UInt8]? = nil) {
        guard let context, !rules.isClosing else { return }
        if let message { context.write(wrapOutboundOut(Self.frame(message)), promise: nil) }
        write(.connectionClose, Self.payload(close.code, close.reason), context)
        rules.closingBegan(at: .now())
        // Nobody is waited for by the slow clock of the other rules.
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: TimeAmount(limits.closing)) { bound.value.look() }
        beginsClosing()
    }

    private static func payload(_ code: UInt16, _ reason: String) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(code)
        buffer.writeBytes(reason.utf8.prefix(123))
        return buffer
    }

    // MARK: In

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        var content = frame.unmaskedData
        var judged = WebSocketRules.Frame(
            opcode: UInt8(webSocketOpcode: frame.opcode), isFinal: frame.fin, hasReservedBits: frame.rsv1 || frame.rsv2 || frame.rsv3,
            isMasked: frame.maskKey != nil, byteCount: frame.length)
        if judged.opcode == 0x8 { judged.code = content.readInteger() }
        switch rules.take(judged, at: .now()) {
        case .ignore: break
        case .pong:
            // Behind what waits to be taken in: a client that does not read is not owed an answer to each ping.
            if context.channel.isWritable { write(.pong, content, context) }
        case .closed(let code):
            if rules.isClosing { return context.close(promise: nil) }
            rules.closingBegan(at: .now())
            beginsClosing()
            let payload = code.map { Self.payload($0, "") } ?? ByteBuffer()
            let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
            context.eventLoop.scheduleTask(in: TimeAmount(limits.closing)) { bound.value.close(promise: nil) }
            context.writeAndFlush(wrapOutboundOut(WebSocketFrame(fin: true, opcode: .connectionClose, data: payload)))
                .whenComplete { _ in bound.value.close(promise: nil) }
        case .refuse(let close): self.close(close)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case NIOWebSocketError.invalidFrameLength: close(.tooLarge)
        case is NIOWebSocketError: close(.broken("control frames are whole and short"))
        default: return context.close(promise: nil)
        }
        // Nothing behind such a frame can be read, the client's own close frame neither.
        context.close(mode: .output, promise: nil)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case is ChannelShouldQuiesceEvent: close(.goingAway)
        // Nobody ends a WebSocket by halves.
        case ChannelEvent.inputClosed: context.close(promise: nil)
        default: context.fireUserInboundEventTriggered(event)
        }
    }
}
