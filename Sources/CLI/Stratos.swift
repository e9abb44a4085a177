import ArgumentParser
import Glibc

/// The program. Exit codes: 0 fine, 1 problems found or refused by a rule, 2 usage or settings, 3 could not: files, lock, server.
struct Stratos: AsyncParsableCommand {
    static let version = "0.1.0-dev"

    static let configuration = CommandConfiguration(
        commandName: "stratos", abstract: "Private, boundary-scoped records for AT Protocol, kept as a signed log of events.",
        version: version,
        subcommands: [
            ServeCommand.self, EnrollCommand.self, EnrollmentsCommand.self, BoundariesCommand.self, AuditCommand.self, ImportCommand.self,
            ExportCommand.self, GetCommand.self, UsageCommand.self,
            DigestCommand.self, RebuildCommand.self, ProjectionsCommand.self, VerifyCommand.self, LogCommand.self, RepoCommand.self,
            KeygenCommand.self, ConfigCommand.self,
        ])
}

@main
enum Program {
    static func main() async {
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try Stratos.parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            end(with: error)
        }
    }

    /// Every error has one of the program's own exit codes. What was told already is an `ExitCode`, a request for help is none at all.
    private static func end(with error: any Error) -> Never {
        let code = Stratos.exitCode(for: error)
        guard !(error is ExitCode), code != .success else { Stratos.exit(withError: error) }
        let isUsage = code == .validationFailure
        if CommandLine.arguments.contains("--json") {
            Output.printJSON([
                "error": isUsage ? "InvalidArguments" : "Failed", "message": .string(isUsage ? Stratos.message(for: error) : "\(error)"),
            ])
        } else {
            Output.note(isUsage ? Stratos.fullMessage(for: error) : "error: \(error)")
        }
        exit((isUsage ? Problem.Status.usage : .inputOutput).rawValue)
    }
}
