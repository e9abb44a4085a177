import ArgumentParser
import Authorization
import Engine
import EventLog
import Hummingbird
import Logging
import Server
import ServiceLifecycle

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve the repos over HTTP, until told to stop. Settings come from the environment.")

    @OptionGroup var options: DataOptions

    func run() async throws {
        let printer = try ResultPrinter(json: options.json, path: nil)
        do {
            try await serve(try options.settings())
        } catch let failure as OperatorFailure {
            try printer.report(name: failure.name, message: failure.message, status: failure.exitCode)
        } catch let problem as Problem {
            try printer.report(name: problem.error, message: problem.message, status: problem.status.rawValue)
        }
    }

    private func serve(_ settings: Settings) async throws {
        guard settings.missing.isEmpty, let publicURL = settings.publicURL else {
            throw Problem(
                status: .usage, error: "SettingsMissing",
                message: "these settings are required: \(settings.missing.joined(separator: ", "))")
        }
        var logger = Logger(label: "stratos", factory: { StreamLogHandler.standardError(label: $0) })
        logger.logLevel = settings.logLevel
        let directory = try await DataDirectory.open(settings.dataDirectory, settings: settings, purpose: .serve, logger: logger)
        defer { directory.close() }
        guard let authority = directory.authority else { preconditionFailure("a served directory is opened with authority") }
        if settings.isDevelopment {
            logger.warning("DEVELOPMENT MODE: anybody is whoever they say they are; never let this be reached from outside")
        }
        let engine = directory.engine
        let configuration = ServerConfiguration(
            serviceDID: authority.terms.serviceDID.description, publicURL: publicURL, serviceFragment: settings.serviceFragment,
            publicKeyMultibase: authority.key.publicKey.multibase, version: Stratos.version, credential: .dev,
            writeRate: settings.writeRate,
            imports: ImportStaging(directory: directory.path, bytesMax: settings.importBytesMax))
        let router = try routes(
            engine: engine, configuration: configuration,
            authenticate: settings.isDevelopment ? developmentBearer(engine) : refuseEveryCredential(), logger: logger)
        let socket = ControlSocket(path: directory.path + "/stratos.sock", logger: logger) { command, emit in
            try await engine.perform(command, open: ImportSource.file, emit: emit)
        }
        let application = Application(
            router: router,
            configuration: .init(
                address: .hostname(settings.isDevelopment ? "127.0.0.1" : "0.0.0.0", port: settings.port), serverName: nil),
            services: [socket], logger: logger)
        try await application.runService()
    }
}
