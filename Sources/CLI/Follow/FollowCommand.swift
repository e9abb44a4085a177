import ATProto
import ArgumentParser
import Client
import Glibc
import Logging
import ServiceLifecycle

struct FollowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "follow",
        abstract: "Follow a service's stream: one JSON object a line on standard output, notes on standard error.",
        discussion: """
            With --did, that account's records, one line for each that was created, updated or deleted:
              {"event":"create","seq":…,"did":…,"time":…,"rev":…,"path":"COLLECTION/KEY","uri":"at://…","cid":…,"record":{…}}
            Without, who joins the service, leaves it or gets other boundaries:
              {"event":"enroll","seq":…,"did":…,"time":…,"boundaries":[…],"service":…}

            A lost connection is opened again by itself; a service that was never reached is an error. With --cursor-file a later run goes
            on where this one ended: after Ctrl-C, SIGTERM, or a reader that went away (`| head`), with no line lost and none twice, as far
            as the reader took them; after a kill or a crash, with at most the last second's lines once more.

            Whom the service lets follow: the holder of its sync token, AppViews that it lists, and an account itself. The token, or an
            inter-service JWT, is read from --token-file or STRATOS_FOLLOW_TOKEN.

            Without --service, the account's own enrollment says where to ask, once the service's attestation of it was verified.
            STRATOS_PLC_URL is the directory of DIDs; STRATOS_DEV_MODE=true admits servers on private addresses.

            Exit codes: 0 ended as asked, 1 refused by the service or a verification failed, 2 usage, 3 the service or a file could not
            be used.
            """)

    @Option(help: "The URL of the service.") var service: String?
    @Option(help: "The account whose records to follow.") var did: String?
    @Option(help: "Only records with this boundary.") var domain: String?
    @Option(help: "Where to begin: after this number. Without it, at the beginning. A cursor file that is there already wins.")
    var cursor: UInt64?
    @Option(help: "Where it is kept how far the lines were taken; written each second and at the end.") var cursorFile: String?
    @Option(help: "The file that holds the token. Without it STRATOS_FOLLOW_TOKEN, if that is set.") var tokenFile: String?
    @Flag(
        help: ArgumentHelp(
            "Verify each record and membership against the account's and the service's keys; lines say at which level.",
            discussion: "Proofs are asked for with a JWT for com.atproto.sync.getRecord; a sync token opens streams alone."))
    var verify = false
    @Option(help: "A PEM file of those who may sign certificates, in place of the system's.") var certificateAuthorities: String?

    func run() async throws {
        do { try await follow() } catch let problem as Problem {
            Output.note("error: \(problem.message)")
            throw ExitCode(problem.status.rawValue)
        }
    }

    private func follow() async throws {
        let account = try did.map { try parsed($0, "a DID") { try DID($0) } }
        guard service != nil || account != nil else {
            throw ValidationError("name a service with --service, an account with --did, or both")
        }
        if let cursor, cursor > StreamPosition.cursorMax { throw ValidationError("a cursor is at most \(StreamPosition.cursorMax)") }
        let credential = try FollowToken.credential(file: tokenFile)
        let client = StratosClient(try configuration())
        let address = try await address(of: account, client)
        let file = cursorFile.map { CursorFile(path: $0, service: address, account: account) }
        let begin = try file?.read() ?? StreamPosition(cursor: cursor)
        let output = FollowOutput(from: begin, file: file)
        let request = Subscription.Request(
            service: address, account: account, boundary: domain, position: begin, credential: credential,
            backoff: Backoff(waitsForFirst: false))
        let verifier = verify ? FollowVerifier(client: client, service: address, credential: credential) : nil
        try await run(Follower(client: client, request: request, output: output, verifier: verifier))
    }

    /// Until it ends by itself or a signal says to stop.
    private func run(_ follower: Follower) async throws {
        let configuration = ServiceGroupConfiguration(
            services: [.init(service: follower, successTerminationBehavior: .gracefullyShutdownGroup)],
            gracefulShutdownSignals: [.sigterm, .sigint], logger: Logger(label: "lifecycle", factory: { _ in SwiftLogNoOpLogHandler() }))
        try await ServiceGroup(configuration: configuration).run()
    }

    /// The two settings of a service that also say how others are reached.
    private func configuration() throws(Problem) -> ClientConfiguration {
        let environment = ProcessEnvironment.all.filter { ["STRATOS_PLC_URL", "STRATOS_DEV_MODE"].contains($0.key) }
        let settings: Settings
        do { settings = try Settings(environment: environment) } catch {
            throw Problem(status: .usage, error: "InvalidSetting", message: error.description)
        }
        return ClientConfiguration(
            directory: settings.plcURL, reach: settings.isDevelopment ? .everywhere : .publicInternet,
            userAgent: "stratos-follow/\(Stratos.version)", certificateAuthorities: certificateAuthorities)
    }

    private func address(of account: DID?, _ client: StratosClient) async throws -> ServiceAddress {
        if let service {
            guard let address = ServiceAddress(service) else {
                throw ValidationError("\(service) is not the URL of a service: https://host, or http:// on this machine")
            }
            return address
        }
        guard let account else { preconditionFailure("one of the two was given") }
        return try await FollowDiscovery.address(of: account, client)
    }
}

/// The token, from where others do not see it: never from the command line.
enum FollowToken {
    static func credential(file: String?) throws(Problem) -> Credential? {
        let text: String
        if let file {
            let input = try InputFile(path: file)
            guard input.count <= Credential.tokenBytesMax + 2 else { throw problem("\(file) is too long for a token") }
            text = String(decoding: try input.read(at: 0, count: input.count), as: UTF8.self)
        } else {
            guard let variable = ProcessEnvironment.all["STRATOS_FOLLOW_TOKEN"], !variable.isEmpty else { return nil }
            text = variable
        }
        let trimmed = String(text.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
        guard let credential = Credential(trimmed, as: isBearer(trimmed) ? .bearer : .syncToken) else {
            throw problem("a token is visible ASCII, at most \(Credential.tokenBytesMax) bytes")
        }
        return credential
    }

    /// A JWT has three parts; a bare DID is believed by services in development. All else is a sync token.
    private static func isBearer(_ token: String) -> Bool {
        token.hasPrefix("did:") || (token.utf8.count { $0 == UInt8(ascii: ".") } == 2 && !token.contains(" "))
    }

    private static func problem(_ message: String) -> Problem { Problem(status: .usage, error: "InvalidToken", message: message) }
}

/// Which service an account is at, by its own word and the service's.
enum FollowDiscovery {
    static func address(of account: DID, _ client: StratosClient) async throws(Problem) -> ServiceAddress {
        let list: EnrollmentList
        do throws(ClientError) { list = try await client.enrollments(of: account) } catch {
            throw Problem(status: .inputOutput, error: "NotDiscovered", message: "the enrollments of \(account) could not be had: \(error)")
        }
        var found: [ServiceAddress] = []
        for enrollment in list.valid {
            do throws(AttestationFault) {
                try await client.verify(enrollment)
                found.append(enrollment.service)
            } catch {
                Output.note("the enrollment at \(enrollment.service) is not believed: \(error)")
            }
        }
        guard found.count == 1 else {
            throw Problem(
                status: .refused, error: found.isEmpty ? "NotEnrolled" : "SeveralServices",
                message: found.isEmpty
                    ? "no service attests that \(account) is enrolled"
                    : "\(account) is enrolled at several services; name one with --service: \(found.map(\.description).joined(separator: " "))"
            )
        }
        return found[0]
    }
}
