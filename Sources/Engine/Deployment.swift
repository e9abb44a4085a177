package import ATProto
import Commands
package import EventLog
package import Keys
import Projections

/// What the settings say of the service, as far as they say it. A directory that holds a log needs none of it.
package struct Deployment: Sendable {
    package let serviceDID: DID?
    /// Bare names.
    package let allowedDomains: [String]
    /// Bare names; none: all that are allowed.
    package let autoEnrollDomains: [String]
    /// The settings that a new deployment needs and that are not there.
    package let missing: [String]
    /// The program's version, and SHA-256 of the program: asked for only where a start is appended, since the program is large.
    package let version: String
    package let build: @Sendable () throws -> [UInt8]

    package init(
        serviceDID: DID?, allowedDomains: [String], autoEnrollDomains: [String], missing: [String], version: String,
        build: @autoclosure @escaping @Sendable () throws -> [UInt8]
    ) {
        self.serviceDID = serviceDID
        self.allowedDomains = allowedDomains
        self.autoEnrollDomains = autoEnrollDomains
        self.missing = missing
        self.version = version
        self.build = build
    }

    package static func missing(_ names: [String]) -> OperatorFailure {
        OperatorFailure(exitCode: 2, name: "SettingsMissing", message: "these settings are required: \(names.joined(separator: ", "))")
    }
}

extension Authority {
    /// Takes up the service's authority over a log: the key of the epoch in force, the pinned DID. An empty log gets its event 1
    /// here; with `isStart`, one more `service.start` says that the service runs again.
    /// - Parameter key: the service's key; makes one where there is none, which only an empty log allows.
    /// - Throws: `OperatorFailure` where settings and log do not agree: nothing was appended.
    package static func take(
        over log: any EventStore, deployment: Deployment, isStart: Bool, surroundings: Surroundings,
        key: (_ creates: Bool) throws -> PrivateKey?
    ) async throws -> Authority {
        let history = try await ServiceHistory.read(from: log)
        let service = try service(of: history, deployment: deployment)
        let names = deployment.allowedDomains.isEmpty ? Array(history.boundaries) : deployment.allowedDomains
        guard let key = try key(history.service == nil) else {
            throw OperatorFailure(
                exitCode: 2, name: "ServiceKeyMissing",
                message: "the service's signing_key is not in the data directory; put it back, or give STRATOS_SIGNING_KEY_HEX")
        }
        if let current = history.current, current.key != key.publicKey {
            throw OperatorFailure(
                exitCode: 2, name: "ServiceKeyMismatch",
                message: "the log was signed by \(current.key.didKey), but the service's key is \(key.publicKey.didKey); "
                    + "start with the log's key: this release cannot change it")
        }
        if history.service == nil || isStart {
            try await appendStart(to: log, history: history, service: service, names: names, key: key, deployment: deployment, surroundings)
        }
        let qualify = { (name: String) in BoundaryName.qualified(name, service: service.description) }
        return Authority(
            key: key, keyEpoch: history.current?.number ?? 1,
            terms: ServiceTerms(
                serviceDID: service, allowedBoundaries: names.map(qualify), autoEnrollBoundaries: deployment.autoEnrollDomains.map(qualify))
        )
    }

    private static func service(of history: ServiceHistory, deployment: Deployment) throws(OperatorFailure) -> DID {
        guard let pinned = history.service else {
            guard deployment.missing.isEmpty, let service = deployment.serviceDID else {
                throw Deployment.missing(deployment.missing)
            }
            return service
        }
        if let given = deployment.serviceDID, given != pinned {
            throw OperatorFailure(
                exitCode: 2, name: "ServiceDIDMismatch",
                message: "this log is that of \(pinned), and STRATOS_SERVICE_DID says \(given); "
                    + "start with the log's DID, or with another data directory: this release cannot change it")
        }
        return pinned
    }

    private static func appendStart(
        to log: any EventStore, history: ServiceHistory, service: DID, names: [String], key: PrivateKey, deployment: Deployment,
        _ surroundings: Surroundings
    ) async throws {
        let isFirst = history.service == nil
        let tagKey = history.tagKey ?? surroundings.random(Leaf.tagKeyByteCount)
        let start = ServiceStart(
            provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: Agent(did: service, credential: .system)),
            version: deployment.version, build: try deployment.build(), service: service, key: key.publicKey,
            boundaries: try BoundarySet(names), generation: history.generation, tagKey: isFirst ? tagKey : nil)
        let now = Timestamp(milliseconds: surroundings.now() / 1000)
        let event = try SignedEvent.sign(
            .serviceStart(start), after: history.head, of: service, time: history.head.nextTime(now: now),
            with: SignedEvent.Signing(keyEpoch: history.current?.number ?? 1, key: key, tagKey: tagKey))
        _ = try await log.append(Append(actor: service, after: history.head, events: [event]))
    }
}
