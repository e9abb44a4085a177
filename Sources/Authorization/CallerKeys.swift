package import ATProto
package import Keys

/// Where the keys that verify callers come from: documents and servers elsewhere.
package struct CallerKeys: Sendable {
    /// The key in a DID's document; nil where it has none of ours. The flag asks for the document as it is now.
    let signingKey: @Sendable (DID, _ refresh: Bool) async throws(CredentialRefusal) -> PublicKey?
    /// The key of the token's issuer, once that is proven to be the authorization server of its subject's own PDS; and that PDS.
    let issuerKey: @Sendable (AccessToken) async throws(CredentialRefusal) -> (key: PublicKey, pds: WebOrigin)

    package init(
        signingKey: @escaping @Sendable (DID, _ refresh: Bool) async throws(CredentialRefusal) -> PublicKey?,
        issuerKey: @escaping @Sendable (AccessToken) async throws(CredentialRefusal) -> (key: PublicKey, pds: WebOrigin)
    ) {
        self.signingKey = signingKey
        self.issuerKey = issuerKey
    }

    package init(identities: IdentityResolver, issuers: TokenIssuers) {
        self.init(
            signingKey: { did, refresh async throws(CredentialRefusal) in
                do throws(IdentityError) {
                    return try await identities.document(of: did, refresh: refresh).signingKey()
                } catch {
                    throw CredentialRefusal(error)
                }
            },
            issuerKey: { access async throws(CredentialRefusal) in
                do throws(IssuerError) {
                    return try await issuers.key(
                        issuer: access.issuer, subject: access.subject, keyID: access.token.keyID, algorithm: access.algorithm)
                } catch {
                    throw CredentialRefusal(error)
                }
            })
    }
}

extension CredentialRefusal {
    init(_ error: IdentityError) {
        switch error {
        case .notFound, .unsupportedMethod, .malformed: self = .refused(message: "Could not resolve issuer DID", challenge: nil)
        case .unreachable, .overloaded: self = .elsewhere
        }
    }

    init(_ error: IssuerError) {
        switch error {
        case .notTheIssuer: self = .token(.mismatched("Token issuer is not the authorization server of its subject's PDS"))
        case .unknownKey: self = .token(.badSignature)
        case .symmetricAlgorithm: self = .token(.symmetric(algorithm: "a shared secret"))
        case .unsupportedAlgorithm: self = .token(.malformed("Tokens of this algorithm are not accepted here"))
        case .noPDS: self = .token(.mismatched("The token's subject has no PDS"))
        case .subject(let error): self.init(error)
        case .malformed: self = .token(.mismatched("The token's issuer publishes nothing that could verify it"))
        case .unreachable, .overloaded: self = .elsewhere
        }
    }

    private static let elsewhere = CredentialRefusal.unavailable(message: "The caller's identity cannot be checked right now")
}
