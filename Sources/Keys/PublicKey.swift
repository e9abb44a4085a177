import CSecp256k1
import Crypto

/// A public key that is on its curve; parsed once, so that checking many signatures is cheap. Copies share it.
public struct PublicKey: Hashable, Sendable, CustomStringConvertible {
    private let storage: Storage

    public var curve: Curve { storage.curve }

    /// SEC 1 compressed form, 33 bytes.
    public var compressed: [UInt8] { storage.compressed }

    /// - Parameter compressed: 33 bytes, the first 2 or 3.
    public init(curve: Curve, compressed: [UInt8]) throws(KeysError) {
        guard compressed.count == 33 else { throw .invalidPoint(curve) }
        try self.init(curve: curve, sec1: compressed)
    }

    /// Also takes the uncompressed form (65 bytes, the first 4), which old DID documents hold. The hybrid form is refused.
    public init(curve: Curve, sec1 point: [UInt8]) throws(KeysError) {
        switch (point.count, point.first) {
        case (33, 2), (33, 3), (65, 4): storage = try Storage(curve: curve, point: point)
        default: throw .invalidPoint(curve)
        }
    }

    init(k256 key: secp256k1_pubkey) {
        storage = Storage(k256: key)
    }

    /// - Parameter signature: r ‖ s, 64 bytes; anything else, DER too, is false.
    /// - Parameter allowHighS: accepts s > n/2, which the AT Protocol forbids but JWTs of others may carry.
    /// - Returns: whether it signs SHA-256(message).
    public func verifies(_ signature: [UInt8], of message: [UInt8], allowHighS: Bool = false) -> Bool {
        guard signature.count == 64, allowHighS || curve.hasLowS(signature) else { return false }
        let digest = SHA256.hash(data: message)
        switch storage.parsed {
        case .p256(let key):
            guard let parsed = try? P256.Signing.ECDSASignature(rawRepresentation: signature) else { return false }
            return key.isValidSignature(parsed, for: digest)
        case .k256(let key):
            return Secp256k1.verifies(signature, ofDigest: Array(digest), with: key, allowHighS: allowHighS)
        }
    }

    public static func == (left: PublicKey, right: PublicKey) -> Bool {
        left.storage === right.storage || (left.curve == right.curve && left.compressed == right.compressed)
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(curve)
        hasher.combine(compressed)
    }

    /// x ‖ y, 64 bytes.
    var coordinates: [UInt8] {
        switch storage.parsed {
        case .p256(let key): Array(key.rawRepresentation)
        case .k256(let key): Array(Secp256k1.serialize(key, compressed: false).dropFirst())
        }
    }
}

extension PublicKey {
    private enum Parsed: Sendable {
        case p256(P256.Signing.PublicKey)
        case k256(secp256k1_pubkey)
    }

    private final class Storage: Sendable {
        let curve: Curve
        let compressed: [UInt8]
        let parsed: Parsed

        /// - Parameter point: SEC 1 form, 33 or 65 bytes.
        init(curve: Curve, point: [UInt8]) throws(KeysError) {
            self.curve = curve
            switch curve {
            case .p256:
                let key: P256.Signing.PublicKey
                do {
                    key =
                        point.count == 33
                        ? try P256.Signing.PublicKey(compressedRepresentation: point)
                        : try P256.Signing.PublicKey(x963Representation: point)
                } catch {
                    throw .invalidPoint(curve)
                }
                parsed = .p256(key)
                compressed = Array(key.compressedRepresentation)
            case .k256:
                guard let key = Secp256k1.parse(point) else { throw .invalidPoint(curve) }
                parsed = .k256(key)
                compressed = Secp256k1.serialize(key, compressed: true)
            }
        }

        init(k256 key: secp256k1_pubkey) {
            curve = .k256
            parsed = .k256(key)
            compressed = Secp256k1.serialize(key, compressed: true)
        }
    }
}
