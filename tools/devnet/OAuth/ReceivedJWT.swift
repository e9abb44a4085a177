import ATProto
import Crypto
import Keys

/// A JSON Web Token that somebody sent, not verified yet.
struct ReceivedJWT: Sendable {
    let header: Value
    let claims: Value
    private let signature: [UInt8]
    private let signingInput: [UInt8]

    /// nil for what is no JWT of three parts with JSON objects in the first two.
    init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, let header = Self.object(parts[0]), let claims = Self.object(parts[1]),
            let signature = try? Base64URL.decode(utf8: parts[2].utf8)
        else { return nil }
        self.header = header
        self.claims = claims
        self.signature = signature
        signingInput = Array("\(parts[0]).\(parts[1])".utf8)
    }

    private static func object(_ part: Substring) -> Value? {
        guard let bytes = try? Base64URL.decode(utf8: part.utf8), let value = try? DataModelJSON.decodePlain(bytes) else { return nil }
        return value.mapValue == nil ? nil : value
    }

    /// JOSE takes both forms of an ECDSA signature, so the high one is accepted.
    func isSigned(by key: PublicKey) -> Bool {
        header["alg"]?.stringValue == key.curve.algorithm && key.verifies(signature, of: signingInput, allowHighS: true)
    }

    func isSigned(withSecret secret: [UInt8]) -> Bool {
        header["alg"]?.stringValue == "HS256"
            && HMAC<SHA256>.isValidAuthenticationCode(signature, authenticating: signingInput, using: SymmetricKey(data: secret))
    }
}

extension JWK {
    /// A public key from JSON; nil for one that is malformed, of another kind, or not public.
    init?(_ value: Value?) {
        guard let value, value["d"] == nil, value["k"] == nil, let kty = value["kty"]?.stringValue, let crv = value["crv"]?.stringValue,
            let x = value["x"]?.stringValue, let y = value["y"]?.stringValue, let jwk = try? JWK(kty: kty, crv: crv, x: x, y: y)
        else { return nil }
        self = jwk
    }
}
