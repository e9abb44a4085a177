public import ATProto
import Authorization
import Commands
import EventLog
public import Keys

/// Why an enrollment record proves no membership.
public enum AttestationFault: Error, Hashable, Sendable {
    /// The record names a service whose DID cannot be made out, or whose document could not be had.
    case unknownService(ClientError)
    /// The service's document has no key `#atproto` or `#atproto_pns`.
    case noServiceKey
    /// The record was attested with a key that is not, or no longer, in the service's document.
    case otherKey
    /// The key is the service's, and the signature is over something else: another account, other boundaries or another key.
    case badSignature
    /// A boundary of another service, or of none: attested by a service that has no say in it.
    case foreignBoundary(String)
    /// The service's document gives another URL than the record: a token for the service would go to somebody else.
    case otherAddress
}

extension StratosClient {
    /// Verifies that the service attests an enrollment: its document names the key, the key signed (account, boundaries, signing key),
    /// the boundaries are the service's, and the service answers where the record says.
    ///
    /// An attestation has no age and cannot be revoked: what it says held once. Whether it still does, the service's stream says.
    public func verify(_ enrollment: Enrollment) async throws(AttestationFault) {
        let service = try await serviceDocument(of: enrollment)
        let keys = Self.keys(of: service)
        guard !keys.isEmpty else { throw .noServiceKey }
        guard keys.contains(enrollment.attestationKey) else { throw .otherKey }
        let boundaries: BoundarySet
        // A name twice was never attested: the set that is signed has each once.
        do throws(EventLogError) { boundaries = try BoundarySet(enrollment.boundaries) } catch { throw .badSignature }
        let attestation = Attestation(signature: enrollment.attestation, signingKey: enrollment.attestationKey)
        guard boundaries.count == enrollment.boundaries.count,
            attestation.verifies(did: enrollment.account, boundaries: boundaries, actorKey: enrollment.signingKey)
        else { throw .badSignature }
        for name in enrollment.boundaries where BoundaryName.service(of: name) != service.did.description {
            throw .foreignBoundary(name)
        }
        guard Self.addresses(of: service).contains(enrollment.service) else { throw .otherAddress }
    }

    /// The keys that a service's document gives for its signatures: `#atproto` and `#atproto_pns`, as far as they are there.
    public func serviceKeys(of service: DID) async throws(ClientError) -> [PublicKey] {
        do throws(IdentityError) { return Self.keys(of: try await identities.document(of: service)) } catch { throw ClientError(error) }
    }

    private func serviceDocument(of enrollment: Enrollment) async throws(AttestationFault) -> DIDDocument {
        guard let did = enrollment.serviceDID else { throw .unknownService(.unsupportedDID) }
        do throws(IdentityError) {
            let document = try await identities.document(of: did)
            // A key that is missing may be a new one.
            if Self.keys(of: document).contains(enrollment.attestationKey) { return document }
            return try await identities.document(of: did, refresh: true)
        } catch {
            throw .unknownService(ClientError(error))
        }
    }

    private static func keys(of service: DIDDocument) -> [PublicKey] {
        var keys: [PublicKey] = []
        for fragment in ["atproto", "atproto_pns"] {
            if let key = service.key(fragment: fragment), !keys.contains(key) { keys.append(key) }
        }
        return keys
    }

    private static func addresses(of service: DIDDocument) -> [ServiceAddress] {
        ["stratos", "atproto_pns"].compactMap { service.service(fragment: $0)?.endpoint }.compactMap { ServiceAddress(namedByStranger: $0) }
    }
}

extension AttestationFault: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unknownService(let error): "the service is not known: \(error)"
        case .noServiceKey: "the service's document has no key that attests"
        case .otherKey: "attested with a key that is not in the service's document"
        case .badSignature: "the attestation is not over this account, these boundaries and this key"
        case .foreignBoundary(let name): "the boundary \(name) is none of this service's"
        case .otherAddress: "the service's document gives another URL than the record"
        }
    }
}
