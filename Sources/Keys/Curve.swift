/// The two curves of the AT Protocol (specification: cryptography).
public enum Curve: Hashable, Sendable, CaseIterable {
    /// NIST P-256, secp256r1; `ES256`.
    case p256
    /// secp256k1; `ES256K`.
    case k256

    /// The name in a JWK's `crv`.
    public var jwkName: String {
        switch self {
        case .p256: "P-256"
        case .k256: "secp256k1"
        }
    }

    /// The name in a JWT's `alg`.
    public var algorithm: String {
        switch self {
        case .p256: "ES256"
        case .k256: "ES256K"
        }
    }

    /// The multicodec of a compressed public key, as the two bytes of its varint: p256-pub 0x1200, secp256k1-pub 0xe7.
    var multicodec: (UInt8, UInt8) {
        switch self {
        case .p256: (0x80, 0x24)
        case .k256: (0xe7, 0x01)
        }
    }

    init?(multicodec first: UInt8, _ second: UInt8) {
        guard let curve = Self.allCases.first(where: { $0.multicodec == (first, second) }) else { return nil }
        self = curve
    }

    /// ⌊n/2⌋ for the order n: the largest s that a signature may have.
    private var halfOrder: [4 of UInt64] {
        switch self {
        case .p256: [0x7fff_ffff_8000_0000, 0x7fff_ffff_ffff_ffff, 0xde73_7d56_d38b_cf42, 0x79dc_e561_7e31_92a8]
        case .k256: [0x7fff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff, 0x5d57_6e73_57a4_501d, 0xdfe9_2f46_681b_20a0]
        }
    }

    /// Whether the second half of a 64-byte signature is at most n/2. Looks only at public bytes.
    func hasLowS(_ signature: [UInt8]) -> Bool {
        precondition(signature.count == 64)
        let bound = halfOrder
        for word in 0..<4 {
            var value: UInt64 = 0
            for byte in 0..<8 { value = value << 8 | UInt64(signature[32 + 8 * word + byte]) }
            if value != bound[word] { return value < bound[word] }
        }
        return true
    }
}
