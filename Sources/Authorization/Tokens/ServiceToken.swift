package import ATProto
package import EventLog

/// An inter-service token (AT Protocol: XRPC, inter-service authentication): signed by the key in its issuer's DID document, for one
/// method of one service.
package struct ServiceToken: Sendable {
    package let token: JSONWebToken
    package let issuer: DID
    /// Nil where it carries no `jti`, which no procedure accepts.
    package let use: SingleUse?

    /// Seconds.
    static let lifetimeMax: Int64 = 3600
    static let clockTolerance: Int64 = 30

    /// Checks all that needs no key.
    /// - Parameters:
    ///   - service: our DID; `aud` may name one of its services (`#fragment`) too.
    ///   - method: the NSID that is called: `lxm` must name it.
    package static func check(_ text: some StringProtocol, service: DID, method: String, now: Int64) throws(TokenError) -> ServiceToken {
        let token = try JSONWebToken(text)
        // Tokens of other kinds, which somebody might be made to sign, are none of this kind.
        guard token.type == nil || token.type == "jwt" else { throw .malformed("this is not an inter-service token") }
        guard let algorithm = token.algorithm else { throw .malformed("Invalid JWT encoding") }
        guard !algorithm.uppercased().hasPrefix("HS") else { throw .symmetric(algorithm: String(algorithm.prefix(16))) }
        guard let issuer = token.text("iss").flatMap({ try? DID($0) }) else { throw .malformed("Missing iss claim") }
        guard let audience = token.text("aud") else { throw .malformed("Missing aud claim") }
        guard names(service, in: audience) else { throw .mismatched("Invalid aud claim") }
        guard token.text("lxm") == method else { throw .mismatched("Invalid lxm claim: this token must name \(method)") }
        guard let expires = token.seconds("exp") else { throw .malformed("Missing exp claim") }
        guard now <= expires + clockTolerance else { throw .expired("Token expired") }
        let issued = token.seconds("iat") ?? now
        guard issued <= now + clockTolerance, (token.seconds("nbf") ?? now) <= now + clockTolerance else {
            throw .expired("Token is not valid yet")
        }
        guard expires - min(issued, now) <= lifetimeMax + clockTolerance else { throw .mismatched("Token lives longer than an hour") }
        return ServiceToken(token: token, issuer: issuer, use: try use(of: token, issuer: issuer, expires: expires))
    }

    private static func use(of token: JSONWebToken, issuer: DID, expires: Int64) throws(TokenError) -> SingleUse? {
        guard let claim = token.claims["jti"] else { return nil }
        guard let identifier = claim.stringValue, (1...DPoPProof.identifierBytesMax).contains(identifier.utf8.count) else {
            throw .malformed("a jti is a text of 1 to \(DPoPProof.identifierBytesMax) bytes")
        }
        return SingleUse(issuer: issuer.description, identifier: identifier, expires: expires + clockTolerance)
    }

    private static func names(_ service: DID, in audience: String) -> Bool {
        guard audience.hasPrefix(service.description) else { return false }
        let rest = audience.dropFirst(service.description.count)
        return rest.isEmpty || (rest.first == "#" && (2...65).contains(rest.count))
    }
}
