package import Authorization
package import Engine
package import Hummingbird
package import Logging
import ATProto
import Commands
import HTTPTypes
import NIOCore

/// What the server says of the service, and how it lets callers in.
package struct ServerConfiguration: Sendable {
    package let serviceDID: String
    package let publicURL: String
    package let serviceFragment: String
    /// The service's public key, as a multibase.
    package let publicKeyMultibase: String
    package let version: String
    package let writeRate: WriteRate
    package let imports: ImportStaging
    package let exports: ExportRoom
    /// Whether `hydrateRecords` tells members which records are hidden from them.
    package let hydrateTellsBlocked: Bool
    /// Whether `resolveEnrollments` tells everybody of everybody's boundaries.
    package let enrollmentsArePublic: Bool
    /// Whether a member gets the proof of a record also where it names records that the member may not read.
    package let membersGetProofs: Bool
    /// Who is behind a handle, and what accounts publish of themselves.
    package let accounts: Accounts
    /// Nil: nobody joins over the network.
    package let joining: Joining?
    /// What `/health` and `/ready` ask, each under the name of its component; it throws where that does not work.
    package let probes: [(name: String, probe: @Sendable () async throws -> Void)]
    /// The time by which writes are counted.
    package let now: @Sendable () -> ContinuousClock.Instant

    package init(
        serviceDID: String, publicURL: String, serviceFragment: String, publicKeyMultibase: String, version: String, writeRate: WriteRate,
        imports: ImportStaging, exports: ExportRoom = ExportRoom(), hydrateTellsBlocked: Bool = false, enrollmentsArePublic: Bool = false,
        membersGetProofs: Bool = false, accounts: Accounts = .unknown, joining: Joining? = nil,
        probes: [(name: String, probe: @Sendable () async throws -> Void)],
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        self.serviceDID = serviceDID
        self.publicURL = publicURL
        self.serviceFragment = serviceFragment
        self.publicKeyMultibase = publicKeyMultibase
        self.version = version
        self.writeRate = writeRate
        self.imports = imports
        self.exports = exports
        self.hydrateTellsBlocked = hydrateTellsBlocked
        self.enrollmentsArePublic = enrollmentsArePublic
        self.membersGetProofs = membersGetProofs
        self.accounts = accounts
        self.joining = joining
        self.probes = probes
        self.now = now
    }
}

/// Every route of the service.
package func routes(
    engine: Engine, configuration: ServerConfiguration, authenticator: Authenticator, logger: Logger
) throws -> Router<ConnectionContext> {
    let router = Router(context: ConnectionContext.self, options: .autoGenerateHeadEndpoints)
    router.add(middleware: ExpectContinue())
    router.add(middleware: EdgeMiddleware(logger: logger, nonce: { authenticator.nonce }))
    let authentication = RequestAuthentication(authenticator: authenticator, publicURL: configuration.publicURL)
    let dispatcher = XRPCDispatcher(try methods(engine, configuration), lexicons: engine.lexicons, authentication: authentication)
    for verb in [HTTPRequest.Method.get, .post, .head, .put, .patch, .delete] {
        router.on("/xrpc/:nsid", method: verb) { request, context in
            guard engine.gate.isOpen else { throw XRPCError.unavailable("The service is rebuilding; try again shortly") }
            return try await dispatcher.dispatch(request, on: context.channel, id: context.parameters.get("nsid") ?? "")
        }
    }
    router.on("/**", method: .options) { _, _ in Response(status: .noContent) }
    addPlainRoutes(to: router, engine: engine, configuration: configuration)
    if let joining = configuration.joining {
        OAuthRoutes(
            joining: joining, engine: engine, publicURL: configuration.publicURL, authentication: authentication, now: configuration.now
        ).add(to: router)
    }
    return router
}

/// The NSIDs of all that answers under `/xrpc/`: what the router alone does not tell of itself.
package func methodNames(engine: Engine, configuration: ServerConfiguration) throws -> [String] {
    try methods(engine, configuration).map(\.id.description)
}

private func methods(_ engine: Engine, _ configuration: ServerConfiguration) throws -> [XRPCMethod] {
    let writer = RecordWriter(engine: engine, limiter: WriteRateLimiter(configuration.writeRate), now: configuration.now)
    return try recordMethods(engine, writer: writer, accounts: configuration.accounts)
        + repoMethods(engine, configuration) + sharingMethods(engine, configuration) + administratorMethods(engine) + [streamMethod]
}

/// A stream that is asked for without a WebSocket, or on a connection that has had other requests.
private let streamMethod = XRPCMethod(id: StreamServer.method, kind: .query, access: .open) { _ in
    throw XRPCError(
        .upgradeRequired, "UpgradeRequired", "Streams are served over a WebSocket, by the first request of a connection",
        headers: [.upgrade: "websocket", .connection: "upgrade"])
}

private func addPlainRoutes(to router: Router<ConnectionContext>, engine: Engine, configuration: ServerConfiguration) {
    router.get("/") { _, _ in
        Response.text(
            "This is Stratos, a private permissioned data service for AT Protocol.\nIts methods are under /xrpc/. Protocol: https://atproto.com\n"
        )
    }
    router.get("/robots.txt") { _, _ in Response.text("# nothing here is for crawlers\nUser-agent: *\nDisallow: /\n") }
    let health = Health(configuration.probes, logger: engine.logger, now: configuration.now)
    let version = configuration.version
    router.get("/health") { _, _ in await health.finding().response(version: version, isReady: true) }
    router.get("/ready") { _, _ in await health.finding().response(version: version, isReady: engine.gate.isOpen) }
    router.get("/.well-known/did.json") { _, _ in Response.json(didDocument(configuration)) }
}

/// Both ids of the key and of the service: those that the wire's writers use, and those that its readers look for.
private func didDocument(_ configuration: ServerConfiguration) -> Value {
    let did = configuration.serviceDID
    let fragments = configuration.serviceFragment == "atproto" ? ["atproto"] : [configuration.serviceFragment, "atproto"]
    let methods = fragments.map { fragment -> Value in
        [
            "id": .string("\(did)#\(fragment)"), "type": "Multikey", "controller": .string(did),
            "publicKeyMultibase": .string(configuration.publicKeyMultibase),
        ]
    }
    let names = configuration.serviceFragment == "stratos" ? ["stratos"] : ["stratos", configuration.serviceFragment]
    let services = names.map { fragment -> Value in
        ["id": .string("#\(fragment)"), "type": "StratosService", "serviceEndpoint": .string(configuration.publicURL)]
    }
    return [
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"], "id": .string(did),
        "verificationMethod": .array(methods), "service": .array(services),
    ]
}
