import ATProto
import Keys

/// What an access token says beyond what the server itself knows.
package struct DevnetTokenTerms: Sendable {
    /// RFC 7638 thumbprint of the client's DPoP key.
    package var jkt: String
    package var scope = "atproto transition:generic"
    package var clientID = "http://localhost"
    /// Seconds.
    package var lifetime: Int64 = 3600

    package init(jkt: String) { self.jkt = jkt }
}

extension PDS {
    /// A DPoP-bound access token for `did` (RFC 9068, RFC 9449), as the public PDS writes them: `aud` is the server's DID. Signed
    /// with the newest key of the JWKS, or with the server's secret where it is a symmetric one.
    func accessToken(for did: DID, _ terms: DevnetTokenTerms) throws(DevnetError) -> DevnetJWT {
        let now = now
        let claims: ValueMap = [
            "iss": .string(url), "sub": .string(did.description), "aud": .string(serviceDID), "scope": .string(terms.scope),
            "client_id": .string(terms.clientID), "iat": .integer(now), "exp": .integer(now + terms.lifetime),
            "jti": .string("tok-\(try Self.randomHex(16))"), "cnf": ["jkt": .string(terms.jkt)],
        ]
        switch algorithm {
        case .es256:
            guard let key = tokenKeys.last else { preconditionFailure("there is always a token key") }
            let header: ValueMap = ["typ": "at+jwt", "alg": "ES256", "kid": .string(key.publicKey.jwk.thumbprint)]
            return DevnetJWT(header: header, claims: claims, signer: .key(key))
        case .hs256: return DevnetJWT(header: ["typ": "at+jwt", "alg": "HS256"], claims: claims, signer: .secret(secret))
        }
    }

    /// The public keys of the access tokens. A symmetric server has none to show.
    var jwks: Value {
        let keys = algorithm == .hs256 ? [] : tokenKeys
        return [
            "keys": .array(
                keys.map { key in
                    let jwk = key.publicKey.jwk
                    return [
                        "kty": .string(jwk.kty), "crv": .string(jwk.crv), "x": .string(jwk.x), "y": .string(jwk.y),
                        "kid": .string(jwk.thumbprint), "use": "sig", "alg": .string(key.curve.algorithm),
                    ]
                })
        ]
    }

    /// A service-auth token in the form of `com.atproto.server.getServiceAuth`: `account` says to `audience` who it is.
    /// - Parameter method: the one method that it is good for.
    /// - Parameter expiry: seconds since 1970; without it, in a minute.
    func serviceAuth(
        for account: Account, audience: String, method: String?, expiry: Int64? = nil, jti: String? = nil
    ) throws(DevnetError) -> DevnetJWT {
        let now = now
        var claims: ValueMap = [
            "iss": .string(account.did.description), "aud": .string(audience), "iat": .integer(now), "exp": .integer(expiry ?? now + 60),
        ]
        claims["jti"] = .string(try Self.tokenIdentifier(jti))
        if let method { claims["lxm"] = .string(method) }
        return DevnetJWT(
            header: ["typ": "JWT", "alg": .string(account.repoKey.curve.algorithm)], claims: claims, signer: .key(account.repoKey))
    }
}
