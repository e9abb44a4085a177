package import ATProto
import Keys

/// The access token of a person's own PDS, bound to a key (RFC 9068, RFC 9449): what it claims, before its issuer's signature was
/// looked at.
package struct AccessToken: Sendable {
    package let token: JSONWebToken
    package let subject: DID
    package let issuer: String
    package let audiences: [String]
    package let thumbprint: String
    package let algorithm: String

    static let leeway: Int64 = 30

    /// Checks what needs no key. Nothing is fetched for a token that fails here.
    /// - Parameter proof: of the request that brought the token.
    package static func check(_ token: JSONWebToken, proof: DPoPProof, now: Int64) throws(TokenError) -> AccessToken {
        guard let algorithm = token.algorithm else { throw .malformed("Could not decode access token") }
        guard !algorithm.uppercased().hasPrefix("HS") else { throw .symmetric(algorithm: String(algorithm.prefix(16))) }
        guard Curve.allCases.contains(where: { $0.algorithm == algorithm }) else {
            throw .malformed("Tokens signed with \(algorithm.filter(\.isASCII).prefix(16)) are not accepted here; ES256 and ES256K are")
        }
        guard let expires = token.seconds("exp") else { throw .malformed("Token has no expiry (exp) claim") }
        guard now <= expires + leeway else { throw .expired("Token expired") }
        guard (token.seconds("nbf") ?? now) <= now + leeway, (token.seconds("iat") ?? now) <= now + DPoPProof.clockTolerance else {
            throw .expired("Token is not valid yet")
        }
        guard let subject = token.text("sub").flatMap({ try? DID($0) }) else { throw .malformed("Invalid subject in token") }
        guard let issuer = token.text("iss"), !issuer.isEmpty else { throw .malformed("Token missing issuer (iss) claim") }
        guard let thumbprint = token.claims["cnf"]?["jkt"]?.stringValue else { throw .malformed("Token is not bound to a key (cnf.jkt)") }
        guard thumbprint == proof.thumbprint else { throw .mismatched("DPoP key binding mismatch") }
        let audiences: [String] =
            switch token.claims["aud"] {
            case .string(let audience): [audience]
            case .array(let list): list.compactMap(\.stringValue)
            default: []
            }
        guard !audiences.isEmpty else { throw .malformed("Token missing audience (aud) claim") }
        return AccessToken(
            token: token, subject: subject, issuer: issuer, audiences: audiences, thumbprint: thumbprint, algorithm: algorithm)
    }
}
