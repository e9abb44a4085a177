@testable import Client
import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import Simulation

/// A stream over TLS, with a certificate of its own making: it answers the handshake and sends one message.
final class TLSStreamServer {
    let port: Int
    /// The PEM file of the certificate, which signed itself.
    let certificate: String
    private let directory: TemporaryDirectory
    private let channel: any Channel

    /// - Parameter name: that the certificate is for.
    /// - Returns: nil, with a printed reason, where there is no `openssl`.
    static func start(name: String, message: [UInt8]) async throws -> TLSStreamServer? {
        guard FileManager.default.isExecutableFile(atPath: openssl) else {
            TestFiles.note("skipped: there is no \(openssl), so no stream over TLS was tried")
            return nil
        }
        return try await TLSStreamServer(name: name, message: message)
    }

    private static let openssl = "/usr/bin/openssl"

    private init(name: String, message: [UInt8]) async throws {
        directory = try TemporaryDirectory()
        certificate = directory.file("certificate.pem")
        let key = directory.file("key.pem")
        let outcome = try await Program(path: Self.openssl).run([
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate,
            "-days", "2", "-subj", "/CN=\(name)", "-addext", "subjectAltName=DNS:\(name)",
        ])
        guard outcome.status == 0 else { throw RawServer.Failure(operation: "openssl", code: outcome.status) }
        let context = try NIOSSLContext(
            configuration: .makeServerConfiguration(
                certificateChain: try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) },
                privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))))
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers([NIOSSLServerHandler(context: context), Answer(message)])
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
    }

    deinit { channel.close(promise: nil) }

    private final class Answer: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let message: [UInt8]
        private var head = ""

        init(_ message: [UInt8]) { self.message = message }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            head += String(buffer: unwrapInboundIn(data))
            guard head.hasSuffix("\r\n\r\n"),
                let line = head.split(separator: "\r\n").first(where: { $0.hasPrefix("Sec-WebSocket-Key: ") })
            else { return }
            let accept = Handshake.accept(String(line.dropFirst("Sec-WebSocket-Key: ".count)))
            let answer = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \(accept)\r\n\r\n"
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: StreamPeer.frame(2, message))), promise: nil)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}
