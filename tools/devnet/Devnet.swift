package import ATProto
package import Keys

/// A PLC directory and a PDS on loopback, as strict as the public ones, so that credentials can be tested against the real thing.
///
/// Everything lives in memory, in a file too where one is asked for, and ends with `stop()`. Tests that need it only for a while
/// use `Devnet.run`.
package final class Devnet: Sendable {
    package let plcURL: String
    /// `http://localhost:PORT`, so that the server can have a did:web with a port.
    package let pdsURL: String
    package let directory: PLCDirectory
    let pds: PDS
    let oauth: OAuthServer
    private let faults: Faults
    let keep: Keep
    private let servers: Servers

    private init(_ parts: Parts, servers: Servers) {
        plcURL = parts.listening.plcURL
        pdsURL = parts.listening.pdsURL
        directory = parts.directory
        pds = parts.pds
        oauth = parts.oauth
        faults = parts.faults
        keep = parts.keep
        self.servers = servers
    }

    /// Both servers listen when this returns.
    /// - Throws: `notListening` when a port is taken, and what is wrong with the data file.
    package static func start(_ configuration: DevnetConfiguration = DevnetConfiguration()) async throws(DevnetError) -> Devnet {
        let parts = try Parts(configuration)
        let (servers, ports) = try await Servers.start(
            plc: plcRoutes(parts.directory, faults: parts.faults, keep: parts.keep),
            pds: pdsRoutes(parts.oauth, faults: parts.faults, keep: parts.keep), at: parts.portsWanted, logger: configuration.logger)
        parts.listening.begins(at: ports)
        do throws(DevnetError) {
            try parts.keep()
        } catch {
            await servers.stop()
            throw error
        }
        return Devnet(parts, servers: servers)
    }

    /// Ends both servers, open connections too, and returns when they have ended.
    package func stop() async { await servers.stop() }

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
}

extension Devnet {
    /// What is there before the servers listen.
    private struct Parts {
        let listening = Listening()
        let faults = Faults()
        let directory: PLCDirectory
        let pds: PDS
        let oauth: OAuthServer
        let keep: Keep
        var portsWanted: Listening.Ports

        init(_ configuration: DevnetConfiguration) throws(DevnetError) {
            let file = configuration.dataFile.map(DevnetFile.init)
            portsWanted = Listening.Ports(plc: configuration.plcPort, pds: configuration.pdsPort)
            if let file, let contents = try file.read() {
                let saved = try SavedFields(contents)
                directory = try PLCDirectory(clock: configuration.clock, saved: try saved.array("logs"))
                pds = try PDS(directory: directory, listening: listening, configuration: configuration, saved: try saved.value("pds"))
                oauth = try OAuthServer(pds: pds, configuration: configuration, saved: contents["oauth"])
                let ports = Listening.Ports(plc: Int(try saved.integer("plcPort")), pds: Int(try saved.integer("pdsPort")))
                guard [0, ports.pds].contains(configuration.pdsPort) else { throw .portMoved(saved: ports.pds) }
                portsWanted.pds = ports.pds
                if portsWanted.plc == 0 { portsWanted.plc = ports.plc }
            } else {
                directory = PLCDirectory(clock: configuration.clock)
                pds = try PDS(directory: directory, listening: listening, configuration: configuration)
                oauth = try OAuthServer(pds: pds, configuration: configuration)
            }
            keep = { [directory, pds, oauth, listening] () throws(DevnetError) in
                try file?.write {
                    [
                        "logs": directory.saved, "pds": pds.saved, "oauth": oauth.saved, "plcPort": .integer(Int64(listening.ports.plc)),
                        "pdsPort": .integer(Int64(listening.ports.pds)),
                    ]
                }
            }
        }
    }
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
        try keep()
        return DevnetUser(account, pds: pds)
    }

    /// The user of an account that was made here, over HTTP or in an earlier run; with a new client key.
    package func user(_ did: DID) -> DevnetUser? { pds.account(did).map { DevnetUser($0, pds: pds) } }

    package func user(_ handle: Handle) -> DevnetUser? { pds.account(handle).map { DevnetUser($0, pds: pds) } }

    /// The account's repo key is another from now on, in the directory too.
    package func replaceRepoKey(of did: DID, with key: PrivateKey = .generate(.k256)) throws {
        try pds.replaceRepoKey(of: did, with: key)
        try keep()
    }

    /// Changes what the directory says of `did`; nil ends the DID with a tombstone.
    package func update(_ did: DID, to content: PLCOperation.Content?) throws {
        try pds.update(did, content)
        try keep()
    }

    /// A public record, as `com.atproto.repo.getRecord` then shows it.
    @discardableResult
    package func setRecord(_ value: Value, of did: DID, collection: NSID, key: RecordKey) throws(DevnetError) -> CID {
        let cid = try pds.setRecord(value, of: did, collection: collection, key: key)
        try keep()
        return cid
    }

    /// The PDS signs access tokens with a new key from now on. Without `keepingOld` its JWKS forgets the earlier ones.
    package func rotateTokenKeys(keepingOld: Bool = true) throws(DevnetError) {
        pds.rotateTokenKeys(keepingOld: keepingOld)
        try keep()
    }

    /// Makes a part fail from now on; nil makes it work again.
    /// - Parameter count: how many requests it lasts for; without it, and for `wrongIssuer`, until it is ended.
    package func setFault(_ fault: DevnetFault?, on part: DevnetPart, count: Int? = nil) { faults.set(fault, on: part, count: count) }

    /// Makes all these parts fail: with `DevnetPart.pds`, the whole server.
    package func setFault(_ fault: DevnetFault?, on parts: [DevnetPart]) {
        for part in parts { faults.set(fault, on: part) }
    }

    /// How many requests a part has had, those that met a fault too.
    package func requests(to part: DevnetPart) -> Int { faults.requests(to: part) }

    package func clearFaults() { faults.clear() }
}
