package import ATProto
import Crypto
package import Keys

/// A JSON Web Token as it is being written: its parts stay open until `text` signs them, so that a test can take a valid one and
/// change exactly one thing.
///
/// Nothing here checks anything. What verifies tokens must not share code with what writes them.
package struct DevnetJWT: Sendable {
    package enum Signer: Sendable {
        /// ES256 or ES256K, as the key's curve has it.
        case key(PrivateKey)
        /// HS256.
        case secret([UInt8])
        /// No signature at all: the third part is empty.
        case none
    }

    /// Changing `alg` here does not change what signs, nor the other way round.
    package var header: ValueMap
    package var claims: ValueMap
    package var signer: Signer
    /// Stand in place of the header's JSON, or the claims', where no `ValueMap` can say it: fractions, a key twice, no JSON at all.
    package var headerBytes: [UInt8]?
    package var claimsBytes: [UInt8]?
    /// Stands in place of the signature.
    package var signatureBytes: [UInt8]?

    package init(header: ValueMap, claims: ValueMap, signer: Signer) {
        self.header = header
        self.claims = claims
        self.signer = signer
    }

    /// What is signed: the first two parts with the point between them.
    package var signingInput: String {
        let header = headerBytes ?? DataModelJSON.encode(.map(header))
        let claims = claimsBytes ?? DataModelJSON.encode(.map(claims))
        return "\(Base64URL.encode(header)).\(Base64URL.encode(claims))"
    }

    /// What the signer makes of `signingInput`, or `signatureBytes`.
    package var signature: [UInt8] {
        get throws(KeysError) {
            if let signatureBytes { return signatureBytes }
            let input = Array(signingInput.utf8)
            switch signer {
            case .key(let key): return try key.sign(input)
            case .secret(let secret): return Array(HMAC<SHA256>.authenticationCode(for: input, using: SymmetricKey(data: secret)))
            case .none: return []
            }
        }
    }

    package var text: String {
        get throws(KeysError) { "\(signingInput).\(Base64URL.encode(try signature))" }
    }
}

extension DevnetJWT {
    /// The required members of a key's JWK, as the header of a DPoP proof carries it.
    package static func jwk(of key: PublicKey) -> Value {
        let jwk = key.jwk
        return ["kty": .string(jwk.kty), "crv": .string(jwk.crv), "x": .string(jwk.x), "y": .string(jwk.y)]
    }
}
