import ArgumentParser
import Engine
import ServiceLifecycle

struct ReactorsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reactors",
        abstract: "Show what is still to be done on members' own servers, and how far the log was read for it.")

    @OptionGroup var options: DataOptions

    func run() async throws { try await options.run(.reactors) }
}

/// The reactors while the server runs.
struct ReactorService: Service {
    let reactors: Reactors

    func run() async throws { await cancelWhenGracefulShutdown { await reactors.run() } }
}
