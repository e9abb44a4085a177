package import ATProto
import Crypto
package import Keys

/// An account of the devnet with a client of its own: makes every credential that such a user can show.
///
/// All come as `DevnetJWT`s whose parts are still open. Take one, change one part, and only that is wrong with it:
/// ```swift
/// var proof = try user.dpopProof(method: "GET", url: url, accessToken: token)
/// proof.claims["htm"] = "POST"
/// ```
package struct DevnetUser: Sendable {
    package let did: DID
    package let handle: Handle
    package let password: String
    /// The client's DPoP key, P-256.
    package var clientKey: PrivateKey
    let pds: PDS

    init(_ account: PDS.Account, pds: PDS) {
        did = account.did
        handle = account.handle
        password = account.password
        clientKey = PrivateKey.generate(.p256)
        self.pds = pds
    }

    /// Signs the repo and service-auth tokens now: `#atproto` of the DID document.
    package var repoKey: PrivateKey { account.repoKey }

    /// A DPoP proof (RFC 9449) of `clientKey`.
    /// - Parameter url: with or without a query, which `htu` leaves out.
    /// - Parameter accessToken: the token that goes beside it; without one the proof has no `ath`, as at a token endpoint.
    /// - Parameter iat: seconds since 1970; without it, now.
    package func dpopProof(
        method: String, url: String, nonce: String? = nil, accessToken: String? = nil, jti: String? = nil, iat: Int64? = nil
    ) throws(DevnetError) -> DevnetJWT {
        var claims: ValueMap = [
            "jti": .string(try PDS.tokenIdentifier(jti)), "htm": .string(method),
            "htu": .string(String(url.prefix { $0 != "?" && $0 != "#" })), "iat": .integer(iat ?? pds.now),
        ]
        if let nonce { claims["nonce"] = .string(nonce) }
        if let accessToken { claims["ath"] = .string(Base64URL.encode(Array(SHA256.hash(data: Array(accessToken.utf8))))) }
        let header: ValueMap = [
            "typ": "dpop+jwt", "alg": .string(clientKey.curve.algorithm), "jwk": DevnetJWT.jwk(of: clientKey.publicKey),
        ]
        return DevnetJWT(header: header, claims: claims, signer: .key(clientKey))
    }

    /// An access token of the PDS, bound to `clientKey`. Others verify it as they do any; the PDS itself takes it for one of a session
    /// that has ended, since nobody consented to it.
    package func accessToken() throws(DevnetError) -> DevnetJWT {
        try accessToken(DevnetTokenTerms(jkt: clientKey.publicKey.jwk.thumbprint))
    }

    package func accessToken(_ terms: DevnetTokenTerms) throws(DevnetError) -> DevnetJWT { try pds.accessToken(for: did, terms) }

    /// A service-auth token as the PDS would make it, without its rules.
    /// - Parameter lifetime: seconds.
    package func serviceAuth(
        audience: String, method: String?, lifetime: Int64 = 60, jti: String? = nil
    ) throws(DevnetError) -> DevnetJWT {
        try pds.serviceAuth(for: account, audience: audience, method: method, expiry: pds.now + lifetime, jti: jti)
    }

    private var account: PDS.Account {
        guard let account = pds.account(did) else { preconditionFailure("accounts of the devnet do not go away") }
        return account
    }
}
