import ATProto
import Keys
import Testing

/// A token taken apart, for tests alone: it shares no code with the devnet's writer but base64url, JSON and signatures.
struct ReadJWT {
    let header: Value
    let claims: Value
    let signature: [UInt8]
    private let signingInput: [UInt8]

    init(_ text: String) throws {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        try #require(parts.count == 3, "\(text)")
        header = try DataModelJSON.decodePlain(try Base64URL.decode(String(parts[0])))
        claims = try DataModelJSON.decodePlain(try Base64URL.decode(String(parts[1])))
        signature = try Base64URL.decode(String(parts[2]))
        signingInput = Array("\(parts[0]).\(parts[1])".utf8)
    }

    func verifies(with key: PublicKey) -> Bool { key.verifies(signature, of: signingInput) }

    /// The key of a JWKS that the header names.
    func key(in jwks: Value) throws -> PublicKey? {
        let entry = jwks["keys"]?.arrayValue?.first { $0["kid"] == header["kid"] }
        return try entry.map(Self.key(ofJWK:))
    }

    static func key(ofJWK jwk: Value) throws -> PublicKey {
        func member(_ name: String) throws -> String { try #require(jwk[name]?.stringValue, "\(name)") }
        return try PublicKey(jwk: try JWK(kty: member("kty"), crv: member("crv"), x: member("x"), y: member("y")))
    }
}
