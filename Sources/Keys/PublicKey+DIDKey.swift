// Public keys as text: `did:key:z…` and the Multikey of DID documents, both base58btc of a multicodec and the
// compressed point (W3C did:key; AT Protocol specification: cryptography).

extension PublicKey {
    private static let prefix = "did:key:"

    /// Our keys have 57 characters as did:key; what is much longer is not looked at.
    private static let textMax = 100

    /// - Throws: `malformed` when it is not a did:key, `unsupported` when it is one of another kind of key.
    public init(didKey text: String) throws(KeysError) {
        guard text.utf8.count <= Self.textMax else { throw .malformed("a did:key of ours has 57 characters") }
        guard text.utf8.starts(with: Self.prefix.utf8) else { throw .malformed("a did:key begins with did:key:") }
        try self.init(multibase: Self.text(text.utf8.dropFirst(Self.prefix.utf8.count)))
    }

    /// - Parameter text: a Multikey's `publicKeyMultibase`: `z`, then base58btc of multicodec and compressed point.
    public init(multibase text: String) throws(KeysError) {
        let bytes = try Self.base58Bytes(ofMultibase: text, countMax: 64)
        guard bytes.count >= 2 else { throw .malformed("a key begins with its multicodec") }
        guard let curve = Curve(multicodec: bytes[0], bytes[1]) else { throw .unsupported("a kind of key other than P-256 and secp256k1") }
        try self.init(curve: curve, compressed: Array(bytes.dropFirst(2)))
    }

    /// A `publicKeyMultibase` of the verification method types that name the curve and have no multicodec:
    /// `EcdsaSecp256r1VerificationKey2019` and `EcdsaSecp256k1VerificationKey2019`. The point may be uncompressed.
    public init(curve: Curve, multibaseWithoutCodec text: String) throws(KeysError) {
        try self.init(curve: curve, sec1: Self.base58Bytes(ofMultibase: text, countMax: 65))
    }

    public var didKey: String { Self.prefix + multibase }

    public var multibase: String {
        let (first, second) = curve.multicodec
        return "z" + Base58BTC.encode([first, second] + compressed)
    }

    public var description: String { didKey }

    private static func base58Bytes(ofMultibase text: String, countMax: Int) throws(KeysError) -> [UInt8] {
        guard text.utf8.first == UInt8(ascii: "z") else { throw .malformed("multibase other than base58btc") }
        return try Base58BTC.decode(Self.text(text.utf8.dropFirst()), countMax: countMax)
    }

    /// Prefixes are dropped as bytes: as a character, the last one would take a combining mark after it along.
    private static func text(_ bytes: Substring.UTF8View) -> String {
        String(Substring(bytes))
    }
}
