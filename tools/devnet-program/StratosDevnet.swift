import ATProto
import ArgumentParser
import Devnet
import Foundation
import Glibc
import Keys
import Logging
import ServiceLifecycle

/// A PLC directory and a PDS for tests in any language: prints one JSON line for each server and account, then runs until SIGTERM.
@main
struct StratosDevnet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stratos-devnet", abstract: "A PLC directory and a PDS on loopback, for tests.")

    @Option(help: "Port of the PLC directory; 0 takes a free one.")
    var plcPort = 0

    @Option(help: "Port of the PDS; 0 takes a free one.")
    var pdsPort = 0

    @Option(help: "Keep accounts and keys in this file; accounts that it has already are not made again.")
    var data: String?

    @Option(name: .customLong("account"), help: "Make an account with this handle, NAME.test; may be given several times.")
    var accounts: [String] = []

    @Option(help: "The password of these accounts.")
    var password = "password"

    @Flag(help: "Sign access tokens with a secret, as the stock PDS does, so that nobody else can verify them.")
    var symmetric = false

    @Flag(help: "End when standard input does: with whoever started this, however that ended.")
    var untilInputEnds = false

    @Option(help: "Seconds for which an access token of an OAuth session is good.")
    var tokenLifetime: Int64 = 3600

    func run() async throws {
        var configuration = DevnetConfiguration()
        configuration.plcPort = plcPort
        configuration.pdsPort = pdsPort
        configuration.dataFile = data
        configuration.tokens = symmetric ? .hs256 : .es256
        configuration.accessTokenLifetime = tokenLifetime
        let logger = Logger(label: "stratos-devnet", factory: { StreamLogHandler.standardError(label: $0) })
        configuration.logger = logger
        let devnet = try await Devnet.start(configuration)
        do {
            Self.print(["plc": .string(devnet.plcURL), "pds": .string(devnet.pdsURL), "pdsDID": .string(devnet.pdsDID)])
            for handle in accounts {
                let user = try devnet.user(try Handle(handle)) ?? devnet.createAccount(handle: handle, password: password)
                Self.print([
                    "handle": .string(user.handle.description), "did": .string(user.did.description), "password": .string(user.password),
                ])
            }
        } catch {
            await devnet.stop()
            throw error
        }
        if untilInputEnds { Self.stopWhenInputEnds() }
        let group = ServiceGroup(
            configuration: .init(services: [Held(devnet: devnet)], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }

    /// The end of the input is the same as being told to stop.
    private static func stopWhenInputEnds() {
        Thread.detachNewThread {
            var byte: UInt8 = 0
            while true {
                let count = read(STDIN_FILENO, &byte, 1)
                if count == 0 || (count < 0 && errno != EINTR) { break }
            }
            kill(getpid(), SIGTERM)
        }
    }

    /// A line at a time and at once: the reader waits for it.
    private static func print(_ value: Value) {
        Swift.print(String(decoding: DataModelJSON.encode(value), as: UTF8.self))
        fflush(nil)
    }
}

private struct Held: Service {
    let devnet: Devnet

    func run() async throws {
        try await gracefulShutdown()
        await devnet.stop()
    }
}
