internal import Crypto

extension PrivateKey {
    /// A P-256 key as other programs keep it: PEM, of PKCS #8 or SEC 1.
    /// - Throws: `malformed` for what is none.
    public convenience init(pem text: String) throws(KeysError) {
        let key: P256.Signing.PrivateKey
        do { key = try P256.Signing.PrivateKey(pemRepresentation: text) } catch { throw .malformed("not a P-256 private key in PEM") }
        try self.init(curve: .p256, rawBytes: Array(key.rawRepresentation))
    }

    /// A private JWK (RFC 7518, section 6.2.2).
    /// - Parameter secret: its `d`, 43 characters of base64url.
    /// - Throws: `malformed` unless the secret is that of the public key beside it.
    public convenience init(jwk: JWK, secret: String) throws(KeysError) {
        try self.init(curve: jwk.curve, rawBytes: Base64URL.decode(secret))
        guard publicKey.jwk == jwk else { throw .malformed("the d of a JWK belongs to another key than its x and y") }
    }
}
