import ATProto
import ArgumentParser
import Authorization
import Glibc
import NIOPosix

/// `stratos demo`: the whole of it on one machine, from joining to leaving a trace, each step with its request and its answer.
struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo", abstract: "Show everything at work on this machine: two people join, write, read, and are refused.",
        discussion: "Starts a directory of identities and a PDS beside the service (stratos-devnet), goes through the steps, and stays "
            + "up until Ctrl-C. It takes no settings from the environment. Never expose it: in development mode anybody can act as anybody."
    )

    @Option(help: "Where everything is kept; a second run goes on with it.")
    var dataDir = "./data/demo"

    @Option(help: "The service's port; another port is another service, with data of its own.")
    var port = 3100

    func validate() throws {
        guard (1...65535).contains(port) else { throw ValidationError("--port \(port) is not a port: 1…65535") }
    }

    func run() async throws {
        try await ResultPrinter.reporting(json: false) { _ in try await play() }
    }

    private func play() async throws {
        let directory = try Self.makeDirectory(dataDir)
        let names = ["alice", "bob"]
        let devnet = try ChildProgram(
            beside: "stratos-devnet",
            arguments: ["--until-input-ends", "--data", directory + "/devnet.json"] + names.flatMap { ["--account", $0 + ".test"] },
            log: directory + "/devnet.log")
        defer { devnet.stop() }
        let client = OutboundClient(filter: .any, userAgent: "Stratos/\(Stratos.version) (demo)")
        defer { client.close() }
        let world = try DemoWorld(
            directory: directory, url: "http://localhost:\(port)", devnet: devnet, names: names, outbound: client.outbound)
        let settings: Settings
        do { settings = try Settings(environment: environment(directory, plcURL: world.plcURL)) } catch {
            throw Problem(status: .usage, error: "InvalidSetting", message: error.description)
        }
        async let telling: Void = tell(world)
        try await ServeCommand.serve(settings, json: false)
        try await telling
    }

    /// The service ends with the story only where that fails: otherwise a person reads now, and ends it with Ctrl-C.
    private func tell(_ world: DemoWorld) async throws {
        do {
            var story = DemoStory(world: world, service: "did:web:localhost%3A\(port)")
            try await story.tell()
        } catch {
            kill(getpid(), SIGTERM)
            throw error
        }
    }

    private func environment(_ directory: String, plcURL: String) -> [String: String] {
        [
            "STRATOS_SERVICE_DID": "did:web:localhost%3A\(port)", "STRATOS_PUBLIC_URL": "http://localhost:\(port)",
            "STRATOS_PORT": String(port), "STRATOS_DATA_DIR": directory, "STRATOS_DEV_MODE": "true", "STRATOS_PLC_URL": plcURL,
            "STRATOS_ENROLLMENT_MODE": "open", "STRATOS_ALLOWED_DOMAINS": "general,writers", "STRATOS_AUTO_ENROLL_DOMAINS": "general",
            "STRATOS_OAUTH_CLIENT_NAME": "Stratos demo", "STRATOS_LOG_LEVEL": "error",
        ]
    }

    /// Absolute, and there.
    private static func makeDirectory(_ path: String) throws -> String {
        var made = ""
        for part in path.split(separator: "/", omittingEmptySubsequences: false) {
            made += (made.isEmpty && !path.hasPrefix("/") ? "" : "/") + part
            made = made.replacing("//", with: "/")
            guard !part.isEmpty, part != "." else { continue }
            guard mkdir(made, 0o700) == 0 || errno == EEXIST else {
                throw Problem(
                    status: .inputOutput, error: "InputOutput", message: "cannot make \(made): \(String(cString: strerror(errno)))")
            }
        }
        guard let absolute = realpath(path, nil) else {
            throw Problem(status: .inputOutput, error: "InputOutput", message: "cannot find \(path): \(String(cString: strerror(errno)))")
        }
        defer { free(absolute) }
        return String(cString: absolute)
    }
}
