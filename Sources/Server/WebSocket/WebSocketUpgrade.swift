import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOWebSocket

/// A connection that speaks HTTP/1.1 as every other does, or becomes a WebSocket with its first request, where that asks for a stream.
///
/// What NIO has for this looks at the first request of a connection and at no other, and loses a request whose upgrade it refuses:
/// so `UpgradeGate` in front of it decides, and what gets past the gate with its `Upgrade` header is upgraded.
struct UpgradableChannel: ServerChildChannel, HTTPChannelHandler {
    enum Spoken: Sendable {
        case http(NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>)
        case webSocket(WebSocketConnection, HTTPRequestHead)
    }

    struct Value: ServerChildChannelValue {
        let channel: any Channel
        let spoken: EventLoopFuture<Spoken>
    }

    let responder: HTTPChannelHandler.Responder
    let limits: ServingLimits
    let streams: StreamServer

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let (limits, streams) = (limits, streams)
            let upgrader = NIOTypedWebSocketServerUpgrader<Spoken>(
                maxFrameSize: streams.limits.messageBytesMax, enableAutomaticErrorHandling: false,
                shouldUpgrade: { channel, head in channel.eventLoop.makeSucceededFuture(streams.upgradeHeaders(for: head)) },
                upgradePipelineHandler: { channel, head in
                    channel.eventLoop.makeCompletedFuture { .webSocket(try WebSocketConnection.open(channel, streams.limits), head) }
                })
            var configuration = NIOUpgradableHTTPServerPipelineConfiguration<Spoken>(
                upgradeConfiguration: .init(
                    upgraders: [upgrader],
                    notUpgradingCompletionHandler: { channel in
                        channel.eventLoop.makeCompletedFuture { .http(try Self.http(over: channel, limits, logger)) }
                    }))
            // As in the server's own HTTP/1 channel.
            configuration.enablePipelining = false
            configuration.enableErrorHandling = false
            configuration.enableResponseHeaderValidation = false
            configuration.decoderConfiguration = limits.decoder
            let pipeline = channel.pipeline.syncOperations
            let spoken = try pipeline.configureUpgradableHTTPServerPipeline(configuration: configuration)
            let upgradeHandler = try pipeline.handler(type: NIOTypedHTTPServerUpgradeHandler<Spoken>.self)
            try pipeline.addHandler(
                UpgradeGate(patience: limits.patience.head) { streams.isStream($0) }, position: .before(upgradeHandler))
            return Value(channel: channel, spoken: spoken)
        }
    }

    private static func http(
        over channel: any Channel, _ limits: ServingLimits, _ logger: Logger
    ) throws -> NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart> {
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: false))
        try pipeline.addHandler(ConnectionGuard(limits))
        try pipeline.addHandler(HTTPConnectionStateHandler(logger: logger))
        return try NIOAsyncChannel(wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
    }

    func handle(value: Value, logger: Logger) async {
        do {
            switch try await value.spoken.get() {
            case .http(let channel): await handleHTTP(asyncChannel: channel, logger: logger)
            case .webSocket(let connection, let head): await streams.serve(connection, head)
            }
        } catch {
            // Before anything was asked: nobody is owed an answer.
            logger.trace("a connection ended before its first request", metadata: ["error": "\(error)"])
            value.channel.close(mode: .all, promise: nil)
        }
    }
}

extension ServingLimits {
    fileprivate var decoder: NIOHTTPDecoderLimitConfiguration {
        var decoder = NIOHTTPDecoderLimitConfiguration()
        decoder.maxHeaderFieldSize = headerFieldBytesMax
        decoder.maxHeaderListSize = headersBytesMax
        decoder.maxHeaderFieldCount = headerCountMax
        return decoder
    }
}

/// Looks at the first request's head and leaves. A request that is not to be upgraded loses the headers that ask for it, so that it is
/// answered like any other; that is the connection's last answer, since the parser reads no HTTP behind such a request.
///
/// Until then none of the handlers is there that guard an HTTP connection, so this one does: it waits for a head as long as they would,
/// answers what is no HTTP, and closes when the server stops.
final class UpgradeGate: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let patience: Duration
    private let isStream: (HTTPRequestHead) -> Bool
    private var deadline: Scheduled<Void>?
    private var hasRefused = false

    init(patience: Duration, isStream: @escaping (HTTPRequestHead) -> Bool) {
        self.patience = patience
        self.isStream = isStream
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        deadline = context.eventLoop.scheduleTask(in: TimeAmount(patience)) { bound.value.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        deadline?.cancel()
        deadline = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(var head) = unwrapInboundIn(data) else { return context.fireChannelRead(data) }
        if head.headers.contains(name: "upgrade"), !isStream(head) {
            head.headers.remove(name: "upgrade")
            head.headers.replaceOrAdd(name: "connection", value: "close")
        }
        context.fireChannelRead(wrapInboundOut(.head(head)))
        context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard error is HTTPParserError else { return context.close(promise: nil) }
        guard !hasRefused else { return }
        hasRefused = true
        let head = HTTPResponseHead(
            version: .http1_1, status: .badRequest, headers: ["connection": "close", "content-length": "0"])
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        // What the client is still sending would take the answer away if all were closed at once; the deadline ends the rest.
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in bound.value.close(mode: .output, promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case is ChannelShouldQuiesceEvent: return context.close(promise: nil)
        case ChannelEvent.inputClosed where hasRefused: return context.close(promise: nil)
        default: break
        }
        context.fireUserInboundEventTriggered(event)
    }
}
