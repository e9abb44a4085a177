public import ATProto
public import Keys

/// An account's own word, in its public repo, on which service keeps its private one: the record `zone.stratos.actor.enrollment`,
/// parsed strictly and not yet believed (`StratosClient.verify`).
public struct Enrollment: Hashable, Sendable {
    public let account: DID
    /// The record's key: the service's DID with `:` for `%3A`; `self` or a TID in records of old.
    public let key: RecordKey
    public let service: ServiceAddress
    /// 0…50, as the record lists them, each 1–253 bytes of visible ASCII.
    public let boundaries: [String]
    /// The P-256 key that signs the account's private commits.
    public let signingKey: PublicKey
    /// The service's signature over the three above: 64 bytes, r and s.
    public let attestation: [UInt8]
    /// The secp256k1 key that made it, as the record says.
    public let attestationKey: PublicKey
    public let createdAt: Datetime

    public static let collection = "zone.stratos.actor.enrollment"
    public static let boundariesMax = 50
    public static let boundaryBytesMax = 253

    /// The service's DID: from the record's key, and where that is none the did:web of the service's host.
    public var serviceDID: DID? {
        if let did = try? DID(key.description) { return Self.resolvable(did) }
        let port = service.origin.port.map { "%3A\($0)" } ?? ""
        return try? DID("did:web:\(service.origin.host)\(port)")
    }

    /// `did:web:host:3100` in a record's key was `did:web:host%3A3100`; a did:web with a path is none that could be resolved.
    private static func resolvable(_ did: DID) -> DID? {
        guard did.method == "web" else { return did }
        let parts = did.identifier.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, UInt16(parts[1]) != nil else { return did }
        return try? DID("did:web:\(parts[0])%3A\(parts[1])")
    }

    /// - Parameters:
    ///   - value: the record.
    ///   - account: whose repo it stands in.
    public init(_ value: Value, of account: DID, key: RecordKey) throws(EnrollmentFault) {
        guard case .map(let fields) = value else { throw .field("record") }
        if let type = fields["$type"], type.stringValue != Self.collection { throw .field("$type") }
        guard let service = fields["service"]?.stringValue.flatMap({ ServiceAddress(namedByStranger: $0) }) else { throw .field("service") }
        guard let createdAt = fields["createdAt"]?.stringValue.flatMap({ try? Datetime($0) }) else { throw .field("createdAt") }
        guard let attestation = fields["attestation"]?.mapValue, let signature = attestation["sig"]?.bytesValue, signature.count == 64
        else { throw .field("attestation") }
        self.account = account
        self.key = key
        self.service = service
        self.createdAt = createdAt
        boundaries = try Self.boundaries(fields["boundaries"])
        signingKey = try Self.key(fields["signingKey"], .p256, "signingKey")
        self.attestation = signature
        attestationKey = try Self.key(attestation["signingKey"], .k256, "attestation.signingKey")
    }

    private static func boundaries(_ value: Value?) throws(EnrollmentFault) -> [String] {
        guard let value else { return [] }
        guard case .array(let items) = value, items.count <= boundariesMax else { throw .field("boundaries") }
        var names: [String] = []
        for item in items {
            guard let name = item["value"]?.stringValue, (1...boundaryBytesMax).contains(name.utf8.count),
                name.utf8.allSatisfy({ 0x21...0x7E ~= $0 })
            else { throw .field("boundaries") }
            names.append(name)
        }
        return names
    }

    private static func key(_ value: Value?, _ curve: Curve, _ field: String) throws(EnrollmentFault) -> PublicKey {
        guard let key = value?.stringValue.flatMap({ try? PublicKey(didKey: $0) }), key.curve == curve else { throw .field(field) }
        return key
    }
}

/// Why a record is no enrollment.
public enum EnrollmentFault: Error, Hashable, Sendable {
    /// The named field is missing, or is not what the lexicon and the protocol make of it.
    case field(String)
}

extension EnrollmentFault: CustomStringConvertible {
    public var description: String {
        switch self {
        case .field(let name): "its \(name) is missing or wrong"
        }
    }
}

/// The enrollment records of an account.
public struct EnrollmentList: Hashable, Sendable {
    /// A record of the collection that is none.
    public struct Malformed: Hashable, Sendable {
        public let key: RecordKey
        public let fault: EnrollmentFault
    }

    /// In the order in which the PDS lists them; not yet believed.
    public let valid: [Enrollment]
    public let malformed: [Malformed]

    /// The one for a service, by the origin of its URL.
    public subscript(service: ServiceAddress) -> Enrollment? { valid.first { $0.service == service } }
}
