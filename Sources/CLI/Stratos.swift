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
            guard Stratos.exitCode(for: error) == .validationFailure else { Stratos.exit(withError: error) }
            Output.note(Stratos.fullMessage(for: error))
            exit(Problem.Status.usage.rawValue)
        }
    }
}
