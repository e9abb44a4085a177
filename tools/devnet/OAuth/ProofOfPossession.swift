import ATProto
import Crypto
import HTTPTypes
import Hummingbird
import Keys

extension HTTPField.Name {
    /// RFC 9449.
    static var dpop: HTTPField.Name { known("DPoP") }
    static var dpopNonce: HTTPField.Name { known("DPoP-Nonce") }

    private static func known(_ name: String) -> HTTPField.Name {
        guard let name = HTTPField.Name(name) else { preconditionFailure("\(name) is a token") }
        return name
    }
}

/// DPoP proofs (RFC 9449, section 4.3) by the rules of the public server.
extension OAuthServer {
    private static let ageMax: Int64 = 10
    private static let clockTolerance: Int64 = 180

    /// The thumbprint of the key that a request proves; nil for a request without a proof.
    /// - Parameter accessToken: the token beside it; without one there must be no `ath`.
    func provenKey(of request: Request, accessToken: String? = nil) throws(OAuthRefusal) -> String? {
        let proofs = request.headers[values: .dpop]
        guard let text = proofs.first else { return nil }
        guard proofs.count == 1, !text.isEmpty else { throw .invalidProof("DPoP header must contain a single proof") }
        guard let proof = ReceivedJWT(text), proof.header["typ"]?.stringValue == "dpop+jwt", let jwk = JWK(proof.header["jwk"]),
            let key = try? PublicKey(jwk: jwk), proof.isSigned(by: key)
        else { throw .invalidProof("Failed to verify DPoP proof") }
        try checkTimes(of: proof)
        guard let identifier = proof.claims["jti"]?.stringValue, !identifier.isEmpty else { throw .invalidProof("DPoP \"jti\" missing") }
        guard proof.claims["htm"]?.stringValue == request.method.rawValue else { throw .invalidProof("DPoP \"htm\" mismatch") }
        guard let stated = proof.claims["htu"]?.stringValue.flatMap(WebURL.init), let own = WebURL(pds.url + request.uri.path),
            stated.scheme == own.scheme, stated.host == own.host, stated.port == own.port, stated.path == own.path
        else { throw .invalidProof("DPoP \"htu\" mismatch") }
        guard let nonce = proof.claims["nonce"]?.stringValue, !nonce.isEmpty else { throw .useNonce() }
        guard recognizes(nonce: nonce) else { throw .useNonce("DPoP \"nonce\" mismatch") }
        if let accessToken {
            let hash = Base64URL.encode(Array(SHA256.hash(data: Array(accessToken.utf8))))
            guard proof.claims["ath"]?.stringValue == hash else { throw .invalidProof("DPoP \"ath\" mismatch") }
        } else if proof.claims["ath"] != nil {
            throw .invalidProof("DPoP \"ath\" claim not allowed")
        }
        guard useOnce("dpop \(identifier)", expires: pds.now + Self.ageMax + 2 * Self.clockTolerance) else {
            throw .invalidProof("DPoP proof replayed")
        }
        return jwk.thumbprint
    }

    private func checkTimes(of proof: ReceivedJWT) throws(OAuthRefusal) {
        let now = pds.now
        guard let issued = proof.claims["iat"]?.integerValue else { throw .invalidProof("DPoP \"iat\" missing") }
        guard issued <= now + Self.clockTolerance else { throw .invalidProof("DPoP \"iat\" is in the future") }
        guard issued >= now - Self.ageMax - Self.clockTolerance else { throw .invalidProof("DPoP proof is too old") }
        if let expiry = proof.claims["exp"] {
            guard let expiry = expiry.integerValue, expiry > now - Self.clockTolerance else {
                throw .invalidProof("DPoP proof has expired")
            }
        }
    }
}
