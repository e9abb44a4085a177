import ArgumentParser
import Glibc

/// The program. Exit codes: 0 fine, 1 problems found or refused by a rule, 2 usage or settings, 3 could not: files, lock, server.
struct Stratos: AsyncParsableCommand {
    static let version = "0.1.0-dev"

    static let configuration = CommandConfiguration(
        commandName: "stratos", abstract: "Private, boundary-scoped records for AT Protocol, kept as a signed log of events.",
        version: version,
        subcommands: [
            ServeCommand.self, DemoCommand.self, EnrollCommand.self, UnenrollCommand.self, EnrollmentsCommand.self, AccountCommand.self,
            BoundariesCommand.self, AuditCommand.self, ImportCommand.self, ExportCommand.self, FollowCommand.self, GetCommand.self,
            UsageCommand.self, DigestCommand.self, RebuildCommand.self, ProjectionsCommand.self, VerifyCommand.self, LogCommand.self,
            ReactorsCommand.self, RepoCommand.self,
            KeygenCommand.self, ConfigCommand.self,
        ])
}

@main
enum Program {
    static func main() async {
        signal(SIGPIPE, SIG_IGN)
        Descriptors.raise()
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
        let json = CommandLine.arguments.contains("--json")
        guard code == .validationFailure else {
            Output.end(Problem(status: .inputOutput, error: "Failed", message: "\(error)"), asJSON: json)
        }
        guard json else {
            Output.note(Stratos.fullMessage(for: error))
            exit(Problem.Status.usage.rawValue)
        }
        Output.end(Problem(status: .usage, error: "InvalidArguments", message: Stratos.message(for: error)), asJSON: true)
    }
}

/// The files and sockets that this process may have open.
enum Descriptors {
    /// As many as are asked for where the system lets us.
    private static let wanted: rlim_t = 16_384

    /// Takes what the system gives beyond the usual 1,024: each open actor costs three, each connection one.
    static func raise() {
        var limit = current()
        guard limit.rlim_cur < wanted else { return }
        limit.rlim_cur = min(wanted, limit.rlim_max)
        // best effort: what is had is shared out below.
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Actors whose files may be open at a time: three descriptors each, at most half of all.
    static var actorFilesMax: Int { max(4, min(512, available / 6)) }
    /// Connections at a time: at most a quarter of all, for a server that cannot accept ends.
    static var connectionsMax: Int { max(8, min(4096, available / 4)) }

    private static var available: Int { Int(min(current().rlim_cur, wanted)) }

    private static func current() -> rlimit {
        var limit = rlimit()
        return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 ? limit : rlimit(rlim_cur: 1024, rlim_max: 1024)
    }
}
