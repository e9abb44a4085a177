import ArgumentParser
import Hummingbird
import Logging
import NIOCore

/// The server below ours with nothing on it: one small JSON, always the same. What HTTP alone costs, in the same run.
struct ConstantServer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "constant-server", shouldDisplay: false)

    @Argument var port: Int

    func run() async throws {
        let body =
            #"{"uri":"at://did:web:bench.example/zone.stratos.feed.post/3lq2222222222","cid":"bafyreib","value":{"text":"constant"}}"#
        let router = Router(context: BasicRequestContext.self)
        router.get("/health") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "application/json; charset=utf-8"],
                body: .init(byteBuffer: ByteBuffer(string: body)))
        }
        var logger = Logger(label: "bench")
        logger.logLevel = .error
        let application = Application(
            router: router, configuration: .init(address: .hostname("127.0.0.1", port: port), serverName: nil), logger: logger)
        do { try await application.runService() } catch is CancellationError {
            // It was told to stop.
        }
    }
}
