import Crypto

/// A public elliptic curve key as JSON Web Key (RFC 7517, RFC 7518 section 6.2, RFC 8812): its members are well-formed;
/// whether the point is on the curve, `PublicKey` finds out.
public struct JWK: Hashable, Sendable {
    public let curve: Curve
    /// Coordinates, base64url of 32 bytes.
    public let x: String
    public let y: String

    public var kty: String { "EC" }
    public var crv: String { curve.jwkName }

    /// - Throws: `unsupported` for another `kty` or `crv`, `malformed` for coordinates that are not 32 bytes in strict base64url.
    public init(kty: String, crv: String, x: String, y: String) throws(KeysError) {
        guard kty == "EC" else { throw .unsupported("a JWK whose kty is not EC") }
        guard let curve = Curve.allCases.first(where: { $0.jwkName == crv }) else {
            throw .unsupported("a JWK whose crv is not P-256 or secp256k1")
        }
        for coordinate in [x, y] {
            guard coordinate.utf8.count == 43 else { throw .malformed("a coordinate of a JWK has 43 characters") }
            _ = try Base64URL.decode(coordinate)
        }
        (self.curve, self.x, self.y) = (curve, x, y)
    }

    init(curve: Curve, coordinates: [UInt8]) {
        self.curve = curve
        x = Base64URL.encode(Array(coordinates[0..<32]))
        y = Base64URL.encode(Array(coordinates[32..<64]))
    }

    /// The required members in the order of their names, with no space: the text that the thumbprint hashes.
    public var json: String {
        // No member needs an escape: the texts are base64url or ours.
        "{\"crv\":\"\(crv)\",\"kty\":\"\(kty)\",\"x\":\"\(x)\",\"y\":\"\(y)\"}"
    }

    /// RFC 7638: base64url of SHA-256 of `json`; 43 characters. DPoP's `jkt`.
    public var thumbprint: String {
        Base64URL.encode(Array(SHA256.hash(data: Array(json.utf8))))
    }
}

extension PublicKey {
    public init(jwk: JWK) throws(KeysError) {
        try self.init(curve: jwk.curve, sec1: [4] + Base64URL.decode(jwk.x) + Base64URL.decode(jwk.y))
    }

    public var jwk: JWK { JWK(curve: curve, coordinates: coordinates) }
}
