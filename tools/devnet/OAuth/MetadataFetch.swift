import ATProto
import NIOCore
import NIOHTTP1
import NIOPosix

/// Fetches a client's metadata document: one GET over a connection of its own, no redirects.
enum MetadataFetch {
    private static let bytesMax = 1 << 16
    private static let patience = Duration.seconds(5)

    /// - Parameter url: on loopback.
    /// - Throws: `invalid_client_metadata` when there is no such document.
    static func get(_ url: WebURL) async throws -> Value {
        do {
            let (head, bytes) = try await withThrowingTaskGroup(of: (HTTPResponseHead, [UInt8]).self) { group in
                group.addTask { try await exchange(url) }
                group.addTask {
                    try await Task.sleep(for: patience)
                    throw OAuthRefusal.invalidClientMetadata("Failed to fetch client information: no answer within \(patience)")
                }
                defer { group.cancelAll() }
                guard let first = try await group.next() else { preconditionFailure("there are two tasks") }
                return first
            }
            guard head.status == .ok else { throw failed("status \(head.status.code)") }
            guard head.headers.first(name: "content-type")?.split(separator: ";").first == "application/json" else {
                throw failed("the content type must be application/json")
            }
            return try DataModelJSON.decodePlain(bytes)
        } catch let refusal as OAuthRefusal {
            throw refusal
        } catch {
            throw failed("\(error)")
        }
    }

    private static func failed(_ reason: String) -> OAuthRefusal {
        .invalidClientMetadata("Failed to fetch client information: \(reason)")
    }

    private static func exchange(_ url: WebURL) async throws -> (HTTPResponseHead, [UInt8]) {
        let host = url.host == "[::1]" ? "::1" : url.host
        let port = url.port ?? 80
        let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connectTimeout(.seconds(5))
            .connect(host: host, port: port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    return try NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>(wrappingChannelSynchronously: channel)
                }
            }
        return try await channel.executeThenClose { inbound, outbound in
            let target = url.path + (url.query.map { "?\($0)" } ?? "")
            let headers: HTTPHeaders = ["Host": "\(url.host):\(port)", "Accept": "application/json", "Connection": "close"]
            try await outbound.write(.head(HTTPRequestHead(version: .http1_1, method: .GET, uri: target, headers: headers)))
            try await outbound.write(.end(nil))
            var head: HTTPResponseHead?
            var bytes: [UInt8] = []
            reading: for try await part in inbound {
                switch part {
                case .head(let received): head = received
                case .body(let buffer):
                    bytes += buffer.readableBytesView
                    guard bytes.count <= bytesMax else { throw failed("more than \(bytesMax) bytes") }
                case .end: break reading
                }
            }
            guard let head else { throw failed("the connection was closed") }
            return (head, bytes)
        }
    }
}
