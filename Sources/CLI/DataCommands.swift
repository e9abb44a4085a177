import ATProto
import ArgumentParser
import Engine
import EventLog
import Glibc
import Logging
import SQLiteStore

/// What every command on a data directory takes.
struct DataOptions: ParsableArguments {
    @Option(help: "The data directory; without it STRATOS_DATA_DIR, else ./data.")
    var dataDir: String?

    @Flag(help: "Results as one JSON object a line on standard output; errors as {error, message}.")
    var json = false

    func settings() throws(Problem) -> Settings {
        var environment = ProcessEnvironment.all
        if let dataDir { environment["STRATOS_DATA_DIR"] = dataDir }
        do { return try Settings(environment: environment) } catch {
            throw Problem(status: .usage, error: "InvalidSetting", message: error.description)
        }
    }

    /// Runs a command: in the server where one runs on the directory, else in this process.
    func run(_ command: OperatorCommand, output path: String? = nil) async throws {
        try await ResultPrinter.reporting(json: json, path: path) { try await perform(command, $0) }
    }

    private func perform(_ command: OperatorCommand, _ printer: ResultPrinter) async throws {
        let settings = try settings()
        if var client = try ControlClient(path: absolute(settings.dataDirectory) + "/stratos.sock") {
            return try client.perform(command) { try printer.take($0) }
        }
        var logger = Logger(label: "stratos", factory: { StreamLogHandler.standardError(label: $0) })
        logger.logLevel = .warning
        let directory: DataDirectory
        do {
            directory = try await DataDirectory.open(settings, purpose: command.appends ? .change : .read, json: json, logger: logger)
        } catch let problem as Problem {
            // What keeps a log from being opened is what `verify` was asked for.
            guard case .verify = command, let finding = problem.finding else { throw problem }
            try printer.take(.object(["ok": false, "events": 0, "problems": [finding.value]]))
            throw OperatorFailure(exitCode: Problem.Status.refused.rawValue, name: "ProblemsFound", message: "1 problem was found")
        }
        defer { directory.close() }
        let engine = directory.engine
        guard command.isEndless else {
            return try await engine.perform(command, open: ImportSource.file) { try printer.take($0) }
        }
        // The one of the two that ends first ends the other.
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await engine.perform(command, open: ImportSource.file) { try printer.take($0) } }
            group.addTask { while !Output.isReaderGone() { try await Task.sleep(for: .milliseconds(200)) } }
            try await group.next()
            group.cancelAll()
        }
    }
}

extension OperatorCommand {
    /// Whether it goes on until nobody reads what it says any more. It may say nothing for long, so that this has to be looked for.
    var isEndless: Bool { if case .logTail(count: _, follow: true) = self { true } else { false } }
}

extension ImportSource {
    @Sendable static func file(_ path: String) throws -> ImportSource {
        let file = try InputFile(path: path)
        return ImportSource(size: file.count) { offset, count in try file.read(at: offset, count: count) }
    }
}

/// Every path that leaves the program is absolute: the server has another working directory.
private func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let current = getcwd(nil, 0) else { return path }
    defer { free(current) }
    return String(cString: current) + "/" + path
}

func parsed<Parsed>(_ text: String, _ what: String, _ parse: (String) throws -> Parsed) throws -> Parsed {
    do { return try parse(text) } catch { throw ValidationError("\(text) is not \(what): \(error)") }
}

struct EnrollCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "enroll", abstract: "Make somebody a member, with a key and a repo.",
        discussion: "Whom an operator or an administrator enrolls is enrolled, whatever STRATOS_ENROLLMENT_MODE and its lists say.")

    @Argument(help: "The DID to enroll.") var did: String
    @Option(help: "A boundary to grant, bare or qualified; may be given again. None: the service's default.") var boundary: [String] = []
    @Option(help: "The user's PDS.") var pds: String?
    @OptionGroup var options: DataOptions

    func run() async throws {
        try await options.run(.enroll(did: try parsed(did, "a DID") { try DID($0) }, boundaries: boundary, pds: pds))
    }
}

struct ImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Import a repo, as a CAR file, into the empty repo of a member.")

    @Argument(help: "The member's DID.") var did: String
    @Argument(help: "The CAR file.") var file: String
    @Flag(help: "Take records of any collection, for their owner alone.") var allowForeignCollections = false
    @Flag(help: "Make records with another service's boundaries their owner's alone.") var dropForeignBoundaries = false
    @Option(help: "The did:key that must have signed the file's commit.") var verifyKey: String?
    @OptionGroup var options: DataOptions

    func run() async throws {
        let choices = ImportOptions(
            allowsForeignCollections: allowForeignCollections, dropsForeignBoundaries: dropForeignBoundaries, verifyingKey: verifyKey)
        try await options.run(
            .importRepo(did: try parsed(did, "a DID") { try DID($0) }, path: absolute(file), options: choices))
    }
}

struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "export", abstract: "Write a member's repo as a CAR file.")

    @Argument(help: "The member's DID.") var did: String
    @Option(help: "The file to write; without it, standard output.") var output: String?
    @OptionGroup var options: DataOptions

    func run() async throws {
        try await options.run(.export(did: try parsed(did, "a DID") { try DID($0) }), output: output ?? "-")
    }
}

struct GetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "get", abstract: "Show one record.")

    @Argument(help: "at://DID/collection/rkey") var uri: String
    @OptionGroup var options: DataOptions

    func run() async throws { try await options.run(.get(uri: try parsed(uri, "an AT-URI") { try ATURI($0) })) }
}

struct UsageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "usage", abstract: "Show how many records and bytes members have.")

    @Argument(help: "One member's DID; without it, all.") var did: String?
    @OptionGroup var options: DataOptions

    func run() async throws {
        try await options.run(.usage(did: try did.map { text in try parsed(text, "a DID") { try DID($0) } }))
    }
}

struct DigestCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "digest", abstract: "Digest the projections: equal wherever they are folded from the same log.")

    @Option(help: "One member's DID; without it, all.") var actor: String?
    @Option(help: "Fold the log in memory up to this position instead.") var until: UInt64?
    @OptionGroup var options: DataOptions

    func run() async throws {
        try await options.run(.digest(actor: try actor.map { text in try parsed(text, "a DID") { try DID($0) } }, until: until))
    }
}

struct RebuildCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rebuild", abstract: "Drop the projections and fold them from the log again.")

    @Option(help: "One member's DID; without it, all.") var actor: String?
    @OptionGroup var options: DataOptions

    func run() async throws {
        try await options.run(.rebuild(actor: try actor.map { text in try parsed(text, "a DID") { try DID($0) } }))
    }
}

struct ProjectionsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "projections", abstract: "Work on the projections.", subcommands: [Drop.self])

    struct Drop: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Delete all projections; the next touch folds them again.")
        @OptionGroup var options: DataOptions

        func run() async throws { try await options.run(.dropProjections) }
    }
}

struct VerifyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Check the log against its invariants: hashes, chains, positions, signatures.")

    @Option(help: "One member's DID; without it, the whole log.") var actor: String?
    @Flag(help: "Leave signatures out.") var noSignatures = false
    @OptionGroup var options: DataOptions

    func run() async throws {
        try await options.run(
            .verify(actor: try actor.map { text in try parsed(text, "a DID") { try DID($0) } }, signatures: !noSignatures))
    }
}

struct LogCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Look into the log.", subcommands: [Show.self, Tail.self, Stats.self])

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The events of one member.")
        @Argument(help: "The member's DID.") var did: String
        @Option(help: "Only events behind this number.") var after: UInt64 = 0
        @Option(help: "At most so many.") var limit: Int = 100
        @OptionGroup var options: DataOptions

        func validate() throws {
            guard limit > 0 else { throw ValidationError("--limit \(limit) is not a count of events: 1 or more") }
        }

        func run() async throws {
            try await options.run(.logShow(did: try parsed(did, "a DID") { try DID($0) }, after: after, limit: limit))
        }
    }

    struct Tail: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "The last events of all.")
        @Option(name: .customShort("n"), help: "So many.") var count: Int = 20
        @Flag(help: "Go on as events are appended.") var follow = false
        @OptionGroup var options: DataOptions

        func validate() throws {
            guard count >= 0 else { throw ValidationError("-n \(count) is not a count of events: 0 or more") }
        }

        func run() async throws { try await options.run(.logTail(count: count, follow: follow)) }
    }

    struct Stats: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "How much the log holds.")
        @OptionGroup var options: DataOptions

        func run() async throws { try await options.run(.logStatistics) }
    }
}
