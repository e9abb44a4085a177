import Engine
import Hummingbird
import HummingbirdTesting
import Simulation
import Testing

@testable import Authorization
@testable import Server

/// A service that listens, with its streams.
struct StreamService: Sendable {
    static let method = "zone.stratos.sync.subscribeRecords"
    static let syncToken = "the token of all streams"

    let service: Service
    let server: StreamServer

    init(_ service: Service, _ limits: StreamLimits = StreamLimits()) throws {
        self.service = service
        let streams = Streams(engine: service.engine, service: try .init(Service.did), serviceURL: Service.publicURL, retentionDays: 30)
        server = StreamServer(
            streams: streams, service: try .init(Service.did), publicURL: Service.publicURL, authenticator: service.authenticator,
            syncToken: SyncToken(Self.syncToken), lexicons: service.engine.lexicons, limits: limits, logger: service.engine.logger)
        service.watch.keep(Self.syncToken, as: "the sync token")
    }

    /// Runs a test on a thread, since its calls block.
    func serve(limits: ServingLimits = ServingLimits(), _ test: @escaping @Sendable (UInt16) throws -> Void) async throws {
        let application = Application(
            responder: service.router, server: .http1(limits, streams: server), logger: service.engine.logger)
        try await application.test(.live) { client in
            let port = UInt16(try #require(client.port))
            try await onThread { try test(port) }
        }
    }

    static func target(_ parameters: [(String, String)]) -> String { Service.target(method, parameters) }

    /// Follows an actor with the sync token, or enrollments.
    static func follow(
        _ did: String?, after cursor: Int64? = nil, port: UInt16, more: [(String, String)] = [], receiveBytes: Int32? = nil
    ) throws -> WebSocketClient {
        var parameters = [("syncToken", syncToken)] + more
        if let did { parameters.append(("did", did)) }
        if let cursor { parameters.append(("cursor", String(cursor))) }
        return try WebSocketClient(port: port, target(parameters), receiveBytes: receiveBytes)
    }
}
