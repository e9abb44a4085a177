import NIOCore
import NIOWebSocket

/// The messages of one connection, handed over when somebody asks and no sooner: nothing is read from the socket while nobody waits,
/// so a slow consumer slows its server and fills no memory here.
///
/// Lives on its event loop. What is buffered is at most what one turn of reading brings, and the pieces of one message.
final class MessageInbox: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    enum Received: Sendable {
        /// At least one, in order.
        case messages([[UInt8]])
        /// Nothing comes any more; said again to whoever asks again.
        case ended(ConnectionEnd)
    }

    private let limits: StreamLimits
    private var assembler: MessageAssembler
    private var context: ChannelHandlerContext?
    private var received: [[UInt8]] = []
    private var end: ConnectionEnd?
    private var waiting: EventLoopPromise<Received>?
    private var watch: Scheduled<Void>?
    private var hasPinged = false
    private var isReading = false

    init(limits: StreamLimits) {
        self.limits = limits
        assembler = MessageAssembler(bytesMax: limits.messageBytesMax, fragmentsMax: limits.fragmentsMax)
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    /// The next messages. One caller at a time.
    func next(on loop: any EventLoop) -> EventLoopFuture<Received> {
        precondition(waiting == nil, "one caller waits at a time")
        if !received.isEmpty {
            defer { received = [] }
            return loop.makeSucceededFuture(.messages(received))
        }
        if let end { return loop.makeSucceededFuture(.ended(end)) }
        let promise = loop.makePromise(of: Received.self)
        waiting = promise
        watchSilence()
        read()
        return promise.futureResult
    }

    /// Ends the connection as the protocol asks: a close frame, then the socket.
    func close() {
        end = end ?? .closed(code: nil)
        if let context { send(.connectionClose, [0x03, 0xE8], context) }
        context?.close(promise: nil)
        deliver()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var frame = unwrapInboundIn(data)
        guard end == nil else { return }
        heard()
        let payload = frame.data.readBytes(length: frame.data.readableBytes) ?? []
        let reserved = frame.rsv1 || frame.rsv2 || frame.rsv3
        do throws(WebSocketFault) {
            switch try assembler.take(
                .init(
                    opcode: UInt8(webSocketOpcode: frame.opcode), isFinal: frame.fin, isMasked: frame.maskKey != nil,
                    hasReservedBits: reserved, payload: payload))
            {
            case .nothing: break
            case .message(let bytes): received.append(bytes)
            // What a server that reads nothing is sent would pile up here: it gets no pongs.
            case .ping(let bytes): if context.channel.isWritable { send(.pong, bytes, context) }
            case .close(let code):
                send(.connectionClose, Array(payload.prefix(2)), context)
                finish(.closed(code: code))
            }
        } catch {
            fail(error, context)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        if received.isEmpty, end == nil { if waiting != nil { read() } } else { deliver() }
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish(.lost)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error as? NIOWebSocketError {
        case .invalidFrameLength: fail(.messageTooLarge(bytesMax: limits.messageBytesMax), context)
        case .fragmentedControlFrame, .multiByteControlFrameLength: fail(.invalidControl, context)
        case nil: finish(.lost)
        }
    }

    private func fail(_ fault: WebSocketFault, _ context: ChannelHandlerContext) {
        let code: UInt16 =
            switch fault {
            case .messageTooLarge: 1009
            case .text: 1003
            default: 1002
            }
        if end == nil { send(.connectionClose, [UInt8(code >> 8), UInt8(code & 0xFF)], context) }
        finish(.fault(fault))
    }

    /// The first end is the one that counts. What came before it is still handed over.
    private func finish(_ reason: ConnectionEnd) {
        end = end ?? reason
        context?.close(promise: nil)
        deliver()
    }

    private func deliver() {
        guard let promise = waiting, !received.isEmpty || end != nil else { return }
        watch?.cancel()
        waiting = nil
        if !received.isEmpty {
            let messages = received
            received = []
            promise.succeed(.messages(messages))
        } else if let end {
            promise.succeed(.ended(end))
        }
    }

    private func read() {
        guard !isReading else { return }
        isReading = true
        context?.read()
    }

    private func send(_ opcode: WebSocketOpcode, _ bytes: [UInt8], _ context: ChannelHandlerContext) {
        let frame = WebSocketFrame(fin: true, opcode: opcode, maskKey: .random(), data: ByteBuffer(bytes: bytes))
        context.writeAndFlush(wrapOutboundOut(frame), promise: nil)
    }
}

/// Silence counts only while somebody waits: before, nobody listened.
extension MessageInbox {
    private func heard() {
        hasPinged = false
        guard waiting != nil else { return }
        watchSilence()
    }

    private func watchSilence() {
        watch?.cancel()
        guard let context else { return }
        let after = hasPinged ? limits.pongWithin : limits.pingAfter
        let inbox = NIOLoopBound(self, eventLoop: context.eventLoop)
        watch = context.eventLoop.scheduleTask(in: TimeAmount(after)) { inbox.value.silenceLasted() }
    }

    private func silenceLasted() {
        guard waiting != nil, end == nil, let context else { return }
        if hasPinged { return finish(.silent) }
        hasPinged = true
        send(.ping, [], context)
        watchSilence()
    }
}
