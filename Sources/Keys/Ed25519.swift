import CP256
import Crypto

/// A public Ed25519 key (RFC 8032), for checkpoints and their witnesses.
public struct Ed25519PublicKey: Hashable, Sendable {
    /// 32 bytes.
    public let rawBytes: [UInt8]
    private let key: Curve25519.Signing.PublicKey

    /// - Parameter rawBytes: 32 bytes. That they are a point shows when a signature is checked: none will verify.
    public init(rawBytes: [UInt8]) throws(KeysError) {
        guard rawBytes.count == 32 else { throw .malformed("an Ed25519 public key has 32 bytes") }
        do { key = try Curve25519.Signing.PublicKey(rawRepresentation: rawBytes) } catch { throw .malformed("not an Ed25519 public key") }
        self.rawBytes = rawBytes
    }

    /// - Parameter signature: 64 bytes; anything else is false.
    public func verifies(_ signature: [UInt8], of message: [UInt8]) -> Bool {
        signature.count == 64 && key.isValidSignature(signature, for: message)
    }

    public static func == (left: Self, right: Self) -> Bool { left.rawBytes == right.rawBytes }

    public func hash(into hasher: inout Hasher) { hasher.combine(rawBytes) }
}

/// A private Ed25519 key; never printed or encoded. swift-crypto keeps the seed in memory that it wipes.
public struct Ed25519PrivateKey: Sendable {
    private let key: Curve25519.Signing.PrivateKey
    public let publicKey: Ed25519PublicKey

    /// - Parameter rawBytes: the seed, 32 bytes. The caller's array is the caller's to wipe.
    public init(rawBytes: [UInt8]) throws(KeysError) {
        guard rawBytes.count == 32 else { throw .malformed("an Ed25519 seed has 32 bytes") }
        do { try self.init(Curve25519.Signing.PrivateKey(rawRepresentation: rawBytes)) } catch { throw .library(operation: "Ed25519 key") }
    }

    /// A new key from the random bytes of the system.
    public static func generate() throws(KeysError) -> Ed25519PrivateKey {
        try Ed25519PrivateKey(Curve25519.Signing.PrivateKey())
    }

    private init(_ key: Curve25519.Signing.PrivateKey) throws(KeysError) {
        self.key = key
        publicKey = try Ed25519PublicKey(rawBytes: Array(key.publicKey.rawRepresentation))
    }

    /// - Returns: 64 bytes, the same for the same message.
    public func sign(_ message: [UInt8]) throws(KeysError) -> [UInt8] {
        do { return Array(try key.signature(for: message)) } catch { throw .library(operation: "Ed25519 signature") }
    }

    /// Lends the seed, for `KeyFile`.
    func withRawBytes<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value {
        withUnsafeTemporaryAllocation(byteCount: 32, alignment: 1) { copy in
            defer { cp256_wipe(copy.baseAddress, copy.count) }
            var seed = key.rawRepresentation
            defer { seed.withUnsafeMutableBytes { cp256_wipe($0.baseAddress, $0.count) } }
            seed.withUnsafeBytes { copy.copyMemory(from: $0) }
            return body(UnsafeRawBufferPointer(copy))
        }
    }
}

extension Ed25519PrivateKey: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "private key of Ed25519 \(Base64URL.encode(publicKey.rawBytes))" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
