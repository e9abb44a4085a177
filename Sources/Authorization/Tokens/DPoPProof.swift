import ATProto
package import EventLog
import Keys

/// A proof of possession (RFC 9449): that whoever sends a token holds the key that the token is bound to, made for this
/// request alone.
package struct DPoPProof: Sendable {
    /// RFC 7638 thumbprint of the key, 43 characters: what the token's `cnf.jkt` must be.
    package let thumbprint: String
    /// What makes the proof single-use: digest of thumbprint and `jti`.
    package let use: SingleUse

    /// What the proof must have been made for.
    package struct Expectation: Sendable {
        /// `GET`, `POST`.
        package let method: String
        /// Scheme, host, port where it is not the scheme's own, and path: no query, no fragment.
        package let url: String
        package let accessToken: String
        /// Seconds since 1970.
        package let now: Int64

        package init(method: String, url: String, accessToken: String, now: Int64) {
            self.method = method
            self.url = url
            self.accessToken = accessToken
            self.now = now
        }
    }

    /// How old a proof may be, beyond what clocks may differ by. Its nonce bounds it anyway.
    static let ageMax: Int64 = 10
    static let clockTolerance: Int64 = 180
    static let identifierBytesMax = 256

    /// Checks everything of a proof but its nonce, which is the caller's to judge once the proof is sound.
    /// - Returns: the proof, and the nonce that it carries.
    package static func check(_ text: String, _ expected: Expectation) throws(TokenError) -> (proof: DPoPProof, nonce: String?) {
        let token = try JSONWebToken(text)
        guard token.type == "dpop+jwt" else { throw .malformed("a DPoP proof has the type dpop+jwt") }
        let jwk = try jwk(of: token)
        guard token.isSigned(by: try key(jwk)) else { throw .badSignature }
        guard token.text("htm") == expected.method else { throw .mismatched("DPoP htm mismatch") }
        guard token.text("htu").flatMap(normalized) == normalized(expected.url) else { throw .mismatched("DPoP htu mismatch") }
        guard let issued = token.seconds("iat") else { throw .malformed("a DPoP proof has an iat") }
        guard issued <= expected.now + clockTolerance, issued >= expected.now - ageMax - clockTolerance else {
            throw .expired("DPoP proof iat is not now")
        }
        guard let identifier = token.text("jti"), (1...identifierBytesMax).contains(identifier.utf8.count) else {
            throw .malformed("a DPoP proof has a jti of 1 to \(identifierBytesMax) bytes")
        }
        guard token.text("ath") == Base64URL.encode(CID(hashing: Array(expected.accessToken.utf8), codec: .raw).digest) else {
            throw .mismatched("DPoP ath mismatch")
        }
        let thumbprint = jwk.thumbprint
        let use = SingleUse(issuer: thumbprint, identifier: identifier, expires: issued + ageMax + 2 * clockTolerance)
        return (DPoPProof(thumbprint: thumbprint, use: use), token.text("nonce"))
    }

    /// The public key in the header. A private one beside it would mean that the client gave its key away.
    private static func jwk(of token: JSONWebToken) throws(TokenError) -> JWK {
        guard let jwk = token.header["jwk"], case .map = jwk else { throw .malformed("a DPoP proof carries its key as jwk") }
        guard jwk["d"] == nil, jwk["k"] == nil else { throw .malformed("a DPoP proof carries a public key, never a private one") }
        do throws(KeysError) {
            return try JWK(
                kty: jwk["kty"]?.stringValue ?? "", crv: jwk["crv"]?.stringValue ?? "", x: jwk["x"]?.stringValue ?? "",
                y: jwk["y"]?.stringValue ?? "")
        } catch {
            throw badKey
        }
    }

    private static func key(_ jwk: JWK) throws(TokenError) -> PublicKey {
        do { return try PublicKey(jwk: jwk) } catch { throw badKey }
    }

    private static let badKey = TokenError.malformed("the key of a DPoP proof must be one of P-256 or secp256k1")

    /// Scheme and host in small letters, the scheme's own port left out, query and fragment dropped (RFC 9449, section 4.3);
    /// nil for what is no http URL or carries credentials.
    static func normalized(_ url: String) -> String? {
        let bytes = Array(url.utf8)
        guard bytes.count <= 8192, bytes.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
        let address = bytes.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        let scheme = lowercased(address.prefix { $0 != UInt8(ascii: ":") })
        guard scheme == "https" || scheme == "http", address.dropFirst(scheme.utf8.count).starts(with: "://".utf8) else { return nil }
        let rest = address.dropFirst(scheme.utf8.count + 3)
        let authority = rest.prefix { $0 != UInt8(ascii: "/") }
        guard !authority.isEmpty, !authority.contains(UInt8(ascii: "@")) else { return nil }
        var host = lowercased(authority)
        let ownPort = scheme == "https" ? ":443" : ":80"
        if host.hasSuffix(ownPort) { host.removeLast(ownPort.count) }
        let path = rest[authority.endIndex...]
        return "\(scheme)://\(host)\(path.isEmpty ? "/" : String(decoding: path, as: UTF8.self))"
    }

    private static func lowercased(_ text: ArraySlice<UInt8>) -> String {
        String(decoding: text.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
    }
}
