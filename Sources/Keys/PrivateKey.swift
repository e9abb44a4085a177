import CP256
import Crypto

/// A private signing key. It is never printed or encoded, and its bytes are wiped when the last reference goes.
///
/// `@unchecked Sendable`: the memory behind the pointers is written only in `init` and `deinit`, and the C functions
/// that read it may be called from many threads at once.
public final class PrivateKey: @unchecked Sendable {
    public let publicKey: PublicKey
    private let secret: Secret

    private enum Secret {
        case p256(OpaquePointer)
        /// 32 bytes from `cp256_secret_allocate`.
        case k256(UnsafeMutablePointer<UInt8>)
    }

    public var curve: Curve { publicKey.curve }

    /// - Parameter rawBytes: the scalar, 32 bytes big-endian. The caller's array is the caller's to wipe.
    /// - Throws: `invalidScalar` unless it is in 1…n−1.
    public convenience init(curve: Curve, rawBytes: [UInt8]) throws(KeysError) {
        guard rawBytes.count == 32 else { throw .invalidScalar(curve) }
        let outcome = rawBytes.withUnsafeBufferPointer { bytes in
            Result { () throws(KeysError) in try Self.secret(curve: curve, scalar: bytes.baseAddress!) }
        }
        try self.init(outcome.get())
    }

    /// - Parameter scalar: 32 bytes, which the caller wipes.
    package convenience init(curve: Curve, scalar: UnsafePointer<UInt8>) throws(KeysError) {
        try self.init(Self.secret(curve: curve, scalar: scalar))
    }

    private init(_ parts: (secret: Secret, publicKey: PublicKey)) {
        (secret, publicKey) = parts
    }

    deinit { Self.wipe(secret) }

    /// A new key from the random bytes of the system.
    public static func generate(_ curve: Curve) -> PrivateKey {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { scalar in
            defer { cp256_wipe(scalar.baseAddress, scalar.count) }
            while true {
                fillRandom(UnsafeMutableRawBufferPointer(scalar))
                do {
                    return try PrivateKey(curve: curve, scalar: UnsafePointer(scalar.baseAddress!))
                } catch KeysError.invalidScalar {
                    continue  // once in 2^32 for P-256, never seen for secp256k1
                } catch {
                    preconditionFailure("no memory for a private key")
                }
            }
        }
    }

    /// Signs SHA-256(message): r ‖ s, 64 bytes, low-S, deterministic (RFC 6979).
    /// - Throws: `library` when the C library refused, for want of memory.
    public func sign(_ message: [UInt8]) throws(KeysError) -> [UInt8] {
        let digest = Array(SHA256.hash(data: message))
        switch secret {
        case .p256(let key):
            var signature = [UInt8](repeating: 0, count: 64)
            guard cp256_sign(key, digest, &signature) == 1 else { throw .library(operation: "P-256 signature") }
            return signature
        case .k256(let scalar):
            guard let signature = Secp256k1.sign(digest: digest, with: scalar) else { throw .library(operation: "secp256k1 signature") }
            return signature
        }
    }

    /// Lends the 32 bytes, for `KeyFile` and for sealing a key; what is copied from them must be wiped.
    package func withRawBytes<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value {
        // The pointers hold only as long as this object does.
        withExtendedLifetime(self) {
            switch secret {
            case .p256(let key): body(UnsafeRawBufferPointer(start: cp256_key_scalar(key), count: 32))
            case .k256(let scalar): body(UnsafeRawBufferPointer(start: scalar, count: 32))
            }
        }
    }

    private static func secret(curve: Curve, scalar: UnsafePointer<UInt8>) throws(KeysError) -> (Secret, PublicKey) {
        switch curve {
        case .p256: try p256Secret(scalar)
        case .k256: try k256Secret(scalar)
        }
    }

    private static func p256Secret(_ scalar: UnsafePointer<UInt8>) throws(KeysError) -> (Secret, PublicKey) {
        var outOfRange: Int32 = 0
        guard let key = cp256_key_create(scalar, &outOfRange) else {
            throw outOfRange == 1 ? .invalidScalar(.p256) : .library(operation: "P-256 key")
        }
        do throws(KeysError) {
            return (.p256(key), try PublicKey(curve: .p256, compressed: Array(UnsafeBufferPointer(start: cp256_key_point(key), count: 33))))
        } catch {
            cp256_key_destroy(key)
            throw error
        }
    }

    private static func k256Secret(_ scalar: UnsafePointer<UInt8>) throws(KeysError) -> (Secret, PublicKey) {
        guard let key = Secp256k1.publicKey(of: scalar) else { throw .invalidScalar(.k256) }
        guard let kept = cp256_secret_allocate(32) else { throw .library(operation: "secp256k1 key") }
        kept.update(from: scalar, count: 32)
        return (.k256(kept), PublicKey(k256: key))
    }

    private static func wipe(_ secret: Secret) {
        switch secret {
        case .p256(let key): cp256_key_destroy(key)
        case .k256(let scalar): cp256_secret_free(scalar, 32)
        }
    }
}

extension PrivateKey: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Names the public key only.
    public var description: String { "private key of \(publicKey.didKey)" }
    public var debugDescription: String { description }
    /// Shows nothing, to `dump` either.
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
