import NIOCore
import NIOSSL
import NIOWebSocket

/// Sends the request for a WebSocket when the connection stands, reads the answer, and gives its place to a `MessageInbox`.
final class HandshakeHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let handshake: Handshake
    private let request: [UInt8]
    private let limits: StreamLimits
    private let deadline: NIODeadline
    private let opened: EventLoopPromise<NIOLoopBound<MessageInbox>>
    private var answer: [UInt8] = []
    private var timer: Scheduled<Void>?
    private var isDone = false

    init(
        _ handshake: Handshake, request: [UInt8], limits: StreamLimits, deadline: NIODeadline,
        opened: EventLoopPromise<NIOLoopBound<MessageInbox>>
    ) {
        self.handshake = handshake
        self.request = request
        self.limits = limits
        self.deadline = deadline
        self.opened = opened
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(deadline: deadline) {
            let (handler, context) = bound.value
            handler.fail(.handshakeTimedOut, context)
        }
    }

    func channelActive(context: ChannelHandlerContext) {
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: request)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isDone else { return }
        var buffer = unwrapInboundIn(data)
        answer += buffer.readBytes(length: buffer.readableBytes) ?? []
        guard let end = Handshake.headEnd(in: answer) else {
            if answer.count > Handshake.headBytesMax { fail(.handshake(.notHTTP), context) }
            return
        }
        do throws(HandshakeFault) {
            switch try handshake.judge(Array(answer[..<end])) {
            case .refused(let status): fail(.refusedUpgrade(status: status), context)
            case .accepted: upgrade(context, rest: Array(answer[end...]))
            }
        } catch {
            fail(.handshake(error), context)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(.unreachable, context)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(Self.isDistrust(error) ? .untrusted : .unreachable, context)
    }

    private func upgrade(_ context: ChannelHandlerContext, rest: [UInt8]) {
        isDone = true
        timer?.cancel()
        let inbox = MessageInbox(limits: limits)
        do {
            // From here on the socket is read when the inbox is asked.
            try context.channel.syncOptions?.setOption(.autoRead, value: false)
            let pipeline = context.pipeline.syncOperations
            try pipeline.addHandlers([
                WebSocketFrameEncoder(), ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: limits.messageBytesMax)), inbox,
            ])
        } catch {
            return fail(.lost, context)
        }
        opened.succeed(NIOLoopBound(inbox, eventLoop: context.eventLoop))
        if !rest.isEmpty {
            context.fireChannelRead(wrapInboundOut(ByteBuffer(bytes: rest)))
            context.fireChannelReadComplete()
        }
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }

    private func fail(_ reason: ConnectionEnd, _ context: ChannelHandlerContext) {
        timer?.cancel()
        guard !isDone else { return }
        isDone = true
        opened.fail(reason)
        context.close(promise: nil)
    }

    /// Whether TLS failed because of who the server is. Anything else may pass.
    private static func isDistrust(_ error: any Error) -> Bool {
        if error is NIOSSLExtraError { return true }
        return switch error as? NIOSSLError {
        case .noCertificateToValidate, .unableToValidateCertificate: true
        case .handshakeFailed(let reason): "\(reason)".contains("CERTIFICATE_VERIFY_FAILED")
        default: false
        }
    }
}
