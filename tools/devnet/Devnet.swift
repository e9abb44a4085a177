package import ATProto
import HTTPTypes
import Hummingbird
package import Keys
import Logging
import NIOCore
import ServiceLifecycle

/// A PLC directory and a PDS on loopback, as strict as the public ones, so that credentials can be tested against the real thing.
///
/// Everything lives in memory and ends with `stop()`. Tests that only need it for a while use `Devnet.run`.
package final class Devnet: Sendable {
    package let plcURL: String
    /// `http://localhost:PORT`, so that the server can have a did:web with a port.
    package let pdsURL: String
    package let directory: PLCDirectory
    let pds: PDS
    private let faults: Faults
    private let group: ServiceGroup
    private let running: Task<Void, any Error>

    private init(
        plcURL: String, pdsURL: String, directory: PLCDirectory, pds: PDS, faults: Faults, group: ServiceGroup,
        running: Task<Void, any Error>
    ) {
        self.plcURL = plcURL
        self.pdsURL = pdsURL
        self.directory = directory
        self.pds = pds
        self.faults = faults
        self.group = group
        self.running = running
    }

    /// A devnet that was dropped without `stop()` ends too, only not in order.
    deinit { running.cancel() }

    /// Both servers listen when this returns.
    /// - Throws: `notListening` when a port is taken.
    package static func start(_ configuration: DevnetConfiguration = DevnetConfiguration()) async throws(DevnetError) -> Devnet {
        let faults = Faults()
        let directory = PLCDirectory(clock: configuration.clock)
        let pds = try PDS(directory: directory, configuration: configuration)
        let (ports, opened) = AsyncStream<(server: Server, port: Int)>.makeStream()
        let logger = configuration.logger
        func application(_ server: Server, port: Int, _ router: Router<BasicRequestContext>) -> some ApplicationProtocol {
            Application(
                router: router, configuration: .init(address: .hostname("127.0.0.1", port: port), serverName: nil),
                onServerRunning: { channel in
                    guard let port = channel.localAddress?.port else { preconditionFailure("a listening socket has a port") }
                    opened.yield((server, port))
                }, logger: logger)
        }
        let group = ServiceGroup(
            configuration: .init(
                services: [
                    application(.plc, port: configuration.plcPort, plcRoutes(directory, faults: faults)),
                    application(.pds, port: configuration.pdsPort, pdsRoutes(pds, faults: faults)),
                ].map { ServiceGroupConfiguration.ServiceConfiguration(service: $0) }, logger: logger))
        // Owned by the devnet: `stop()` waits for its end, `deinit` cancels it.
        let running = Task {
            defer { opened.finish() }
            try await group.run()
        }
        var urls: [Server: String] = [:]
        for await (server, port) in ports {
            urls[server] = "http://localhost:\(port)"
            if urls.count == Server.allCases.count { break }
        }
        guard let plcURL = urls[.plc], let pdsURL = urls[.pds] else {
            let ending = await running.result
            throw .notListening("\(ending)")
        }
        pds.listens(at: pdsURL)
        return Devnet(plcURL: plcURL, pdsURL: pdsURL, directory: directory, pds: pds, faults: faults, group: group, running: running)
    }

    /// Ends both servers, open connections too, and returns when they have ended.
    package func stop() async {
        await group.triggerGracefulShutdown()
        _ = await running.result
    }

    /// Gives a devnet to `body` and stops it afterwards, whatever comes.
    package static func run<Result>(
        _ configuration: DevnetConfiguration = DevnetConfiguration(), _ body: (Devnet) async throws -> Result
    ) async throws -> Result {
        let devnet = try await start(configuration)
        do {
            let result = try await body(devnet)
            await devnet.stop()
            return result
        } catch {
            await devnet.stop()
            throw error
        }
    }

    private enum Server: Hashable, CaseIterable { case plc, pds }
}

extension Devnet {
    /// The DID of the PDS, `did:web:localhost%3APORT`.
    package var pdsDID: String { pds.serviceDID }

    /// Signs for every DID that this PDS made.
    package var rotationKey: PrivateKey { pds.rotationKey }

    /// - Parameter handle: `NAME.test`.
    /// - Parameter repoKey: without it a new secp256k1 key.
    package func createAccount(handle: String, password: String = "password", repoKey: PrivateKey? = nil) throws -> DevnetUser {
        let account = try pds.createAccount(
            handle: try Handle(handle), password: password, repoKey: repoKey ?? PrivateKey.generate(.k256))
        return DevnetUser(account, pds: pds)
    }

    /// The user of an account that was made here or over HTTP; with a new client key.
    package func user(_ did: DID) -> DevnetUser? { pds.account(did).map { DevnetUser($0, pds: pds) } }

    /// The account's repo key is another from now on, in the directory too.
    package func replaceRepoKey(of did: DID, with key: PrivateKey = .generate(.k256)) throws { try pds.replaceRepoKey(of: did, with: key) }

    /// Changes what the directory says of `did`; nil ends the DID with a tombstone.
    package func update(_ did: DID, to content: PLCOperation.Content?) throws { try pds.update(did, content) }

    /// A public record, as `com.atproto.repo.getRecord` then shows it.
    @discardableResult
    package func setRecord(_ value: Value, of did: DID, collection: NSID, key: RecordKey) throws(DevnetError) -> CID {
        try pds.setRecord(value, of: did, collection: collection, key: key)
    }

    /// The PDS signs access tokens with a new key from now on. Without `keepingOld` its JWKS forgets the earlier ones.
    package func rotateTokenKeys(keepingOld: Bool = true) { pds.rotateTokenKeys(keepingOld: keepingOld) }

    /// Makes a part fail from now on; nil makes it work again.
    package func setFault(_ fault: DevnetFault?, on part: DevnetPart) { faults[part] = fault }

    package func clearFaults() { faults.clear() }
}
