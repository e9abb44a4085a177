import ATProto
package import EventLog
import Keys

/// A proof of possession (RFC 9449): that whoever sends a token holds the key that the token is bound to, made for this
/// request alone.
package struct DPoPProof: Sendable {
    package let header: ProofHeader
    /// What makes the proof single-use: digest of thumbprint and `jti`.
    package let use: SingleUse

    /// RFC 7638 thumbprint of the key, 43 characters: what the token's `cnf.jkt` must be.
    package var thumbprint: String { header.thumbprint }

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
    /// - Parameter headers: those that were parsed before.
    /// - Returns: the proof, and the nonce that it carries.
    package static func check(
        _ text: String, _ expected: Expectation, headers: ProofHeaders
    ) throws(TokenError) -> (proof: DPoPProof, nonce: String?) {
        let (token, header) = try parse(text, headers)
        guard token.isSigned(by: header.key) else { throw .badSignature }
        guard token.text("htm") == expected.method else { throw .mismatched("DPoP htm mismatch") }
        guard let address = token.text("htu"), isSame(address, expected.url) else { throw .mismatched("DPoP htu mismatch") }
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
        let use = SingleUse(issuer: header.thumbprint, identifier: identifier, expires: issued + ageMax + 2 * clockTolerance)
        return (DPoPProof(header: header, use: use), token.text("nonce"))
    }

    private static func parse(_ text: String, _ headers: ProofHeaders) throws(TokenError) -> (JSONWebToken, ProofHeader) {
        var known: ProofHeader?
        var part: ArraySlice<UInt8> = []
        let token = try JSONWebToken(text) { bytes in
            part = bytes
            known = headers.find(bytes)
            return known?.value
        }
        let header = if let known { known } else { try ProofHeader(token.header, text: part) }
        return (token, header)
    }

    /// Whether two texts are one address. Most proofs carry the very text.
    private static func isSame(_ left: String, _ right: String) -> Bool {
        if left.utf8.elementsEqual(right.utf8) { return true }
        guard let left = normalized(left), let right = normalized(right) else { return false }
        return left == right
    }

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
