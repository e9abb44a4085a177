import ArgumentParser
import Authorization
import Commands
import Engine
import EventLog
import Glibc
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import Server
import ServiceLifecycle

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve the repos over HTTP, until told to stop. Settings come from the environment.")

    @OptionGroup var options: DataOptions

    func run() async throws {
        try await ResultPrinter.reporting(json: options.json) { _ in try await Self.serve(try options.settings(), json: options.json) }
    }

    /// Until a signal says to stop.
    static func serve(_ settings: Settings, json: Bool) async throws {
        Allocator.limitArenas()
        guard settings.missing.isEmpty, let publicURL = settings.publicURL else { throw Deployment.missing(settings.missing) }
        var logger = Logger(label: "stratos", factory: { StreamLogHandler.standardError(label: $0) })
        logger.logLevel = settings.logLevel
        let directory = try await DataDirectory.open(settings, purpose: .serve, json: json, logger: logger)
        defer { directory.close() }
        guard let authority = directory.authority else { preconditionFailure("a served directory is opened with authority") }
        warn(of: settings, logger)
        say(settings.enrollmentTerms, logger)
        let engine = directory.engine
        let people = try ServiceFile.open(in: directory.path)
        defer { people.close() }
        let identity = CallerIdentity(
            settings, publicURL: publicURL, authority: authority, engine: engine,
            storage: OAuthStorage(people, now: Surroundings.ofThisMachine.now))
        defer { identity.close() }
        if identity.oauth.identity.ignoresSecret {
            logger.warning("STRATOS_OAUTH_CLIENT_SECRET has no effect: a service on this machine is a public client")
        }
        let terms = settings.enrollmentTerms
        guard let reactorStore = directory.reactorStore else { preconditionFailure("a served directory has the reactors' rows") }
        let reactors = Reactors(
            engine: engine, store: reactorStore, pds: identity.sessions.records,
            revoke: { [sessions = identity.sessions] account, before async throws(PDSError) in
                try await sessions.revoke(account, givenBefore: before.milliseconds * 1000)
            },
            publicRecords: PublicRecords(
                url: publicURL, service: authority.terms.serviceDID, fragment: settings.serviceFragment),
            pace: settings.isDevelopment ? .nearby : ReactorPace(), surroundings: .ofThisMachine, logger: logger)
        engine.onAppend { reactors.wake($0.actor) }
        let joining = Joining(
            client: identity.oauth, sessions: identity.sessions, admits: { terms.admits($0, pds: $1) },
            onSession: { reactors.reconcile($0) })
        let configuration = ServerConfiguration(
            serviceDID: authority.terms.serviceDID.description, publicURL: publicURL, serviceFragment: settings.serviceFragment,
            publicKeyMultibase: authority.key.publicKey.multibase, version: Stratos.version, writeRate: settings.writeRate,
            imports: ImportStaging(directory: directory.path, bytesMax: settings.importBytesMax),
            hydrateTellsBlocked: settings.hydrateTellsBlocked, enrollmentsArePublic: settings.enrollmentsArePublic,
            membersGetProofs: settings.membersGetProofs, accounts: identity.accounts, joining: joining,
            probes: directory.probes)
        let router = try routes(engine: engine, configuration: configuration, authenticator: identity.authenticator, logger: logger)
        let service = authority.terms.serviceDID
        let streams = StreamServer(
            streams: Streams(engine: engine, service: service, serviceURL: publicURL, retentionDays: settings.retentionDays),
            service: service, publicURL: publicURL, authenticator: identity.authenticator, syncToken: settings.syncToken,
            lexicons: engine.lexicons, limits: settings.streamLimits, logger: logger)
        let socket = ControlSocket(path: directory.path + "/stratos.sock", logger: logger) { command, emit in
            try await engine.perform(command, open: ImportSource.file, emit: emit)
        }
        let limits = ServingLimits(connectionsMax: Descriptors.connectionsMax)
        let application = Application(
            router: router, server: .http1(limits, streams: streams),
            configuration: .init(
                address: .hostname(settings.isDevelopment ? "127.0.0.1" : "0.0.0.0", port: settings.port), serverName: nil,
                availableConnectionsDelegate: .maximum(limits.connectionsMax, logger: logger)),
            services: [
                socket, RetiredBoundaries(engine: engine, logger: logger), directory.housekeeping(logger),
                ReactorService(reactors: reactors),
            ], logger: logger)
        try await run(application, limits, port: settings.port)
    }

    /// Until a signal says to stop; then what was begun is answered, for so long as `limits` say.
    private static func run(_ application: some Service, _ limits: ServingLimits, port: Int) async throws {
        var configuration = ServiceGroupConfiguration(
            services: [.init(service: application)], gracefulShutdownSignals: [.sigterm, .sigint],
            logger: Logger(label: "lifecycle", factory: { _ in SwiftLogNoOpLogHandler() }))
        configuration.maximumGracefulShutdownDuration = limits.shutdown
        do {
            try await ServiceGroup(configuration: configuration).run()
        } catch let error as IOError {
            throw Problem(
                status: .inputOutput, error: "ServeFailed",
                message: error.errnoCode == EADDRINUSE
                    ? "port \(port) is in use: stop what listens there, or set another STRATOS_PORT"
                    : "cannot serve on port \(port): \(error)")
        }
    }

    private static func say(_ terms: EnrollmentTerms, _ logger: Logger) {
        logger.info(
            "who may come in of their own accord",
            metadata: [
                "mode": .string(terms.mode.rawValue), "dids": .stringConvertible(terms.dids.count),
                "servers": .stringConvertible(terms.pdsOrigins.count),
            ])
        if terms == EnrollmentTerms(mode: .allowlist) {
            logger.warning("nobody may come in of their own accord: STRATOS_ENROLLMENT_MODE is allowlist, and no list is given")
        }
    }

    private static func warn(of settings: Settings, _ logger: Logger) {
        if settings.isDevelopment {
            logger.warning("DEVELOPMENT MODE: anybody is whoever they say they are; never let this be reached from outside")
        }
        for name in settings.unused { logger.warning("a setting has no effect in this release", metadata: ["name": .string(name)]) }
        for name in settings.unknown { logger.warning("a setting is not known to this release", metadata: ["name": .string(name)]) }
    }
}

/// Says, once after the start, who still holds boundaries that the settings no longer name: they keep reading, and write no more.
private struct RetiredBoundaries: Service {
    let engine: Engine
    let logger: Logger

    func run() async throws {
        do {
            for (name, members) in try await engine.retiredBoundaries() where members > 0 {
                logger.warning(
                    "a boundary that is no longer in STRATOS_ALLOWED_DOMAINS is still held",
                    metadata: ["boundary": .string(name), "members": .stringConvertible(members)])
            }
        } catch {
            logger.error("the holders of retired boundaries could not be counted", metadata: ["error": "\(error)"])
        }
        // A service that ends takes the others with it.
        try await gracefulShutdown()
    }
}
