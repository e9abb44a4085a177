import CP256
import CSecp256k1
import Glibc

/// What we use of libsecp256k1, in the one file that imports it.
///
/// libsecp256k1 signs by RFC 6979 and gives low-S by itself, and its verification refuses high-S.
enum Secp256k1 {
    /// One context for the process, blinded with random bytes when it is made.
    ///
    /// `nonisolated(unsafe)`: it is never written again, and the library allows any number of threads to use a context
    /// in the functions that take it as `const`, which are all that are called here.
    private nonisolated(unsafe) static let context: OpaquePointer = {
        guard let context = secp256k1_context_create(UInt32(SECP256K1_CONTEXT_SIGN | SECP256K1_CONTEXT_VERIFY)) else {
            preconditionFailure("libsecp256k1 has no memory for its one context")
        }
        let blinded = withUnsafeTemporaryAllocation(byteCount: 32, alignment: 1) { seed in
            defer { cp256_wipe(seed.baseAddress, seed.count) }
            fillRandom(seed)
            return secp256k1_context_randomize(context, seed.baseAddress!)
        }
        precondition(blinded == 1, "libsecp256k1 refused to blind its context")
        return context
    }()

    /// - Parameter point: SEC 1 form, 33 or 65 bytes.
    /// - Returns: nil when it is not on the curve.
    static func parse(_ point: [UInt8]) -> secp256k1_pubkey? {
        var key = secp256k1_pubkey()
        return secp256k1_ec_pubkey_parse(context, &key, point, point.count) == 1 ? key : nil
    }

    static func serialize(_ key: secp256k1_pubkey, compressed: Bool) -> [UInt8] {
        var key = key
        var count = compressed ? 33 : 65
        let form = UInt32(compressed ? SECP256K1_EC_COMPRESSED : SECP256K1_EC_UNCOMPRESSED)
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, written in
            _ = secp256k1_ec_pubkey_serialize(context, buffer.baseAddress!, &count, &key, form)  // always succeeds
            written = count
        }
    }

    /// - Parameter scalar: 32 bytes.
    /// - Returns: nil when the scalar is not in 1…n−1.
    static func publicKey(of scalar: UnsafePointer<UInt8>) -> secp256k1_pubkey? {
        var key = secp256k1_pubkey()
        return secp256k1_ec_pubkey_create(context, &key, scalar) == 1 ? key : nil
    }

    /// - Returns: r ‖ s, low-S; nil when the library refused.
    static func sign(digest: [UInt8], with scalar: UnsafePointer<UInt8>) -> [UInt8]? {
        precondition(digest.count == 32)
        var signature = secp256k1_ecdsa_signature()
        guard secp256k1_ecdsa_sign(context, &signature, digest, scalar, nil, nil) == 1 else { return nil }
        return [UInt8](unsafeUninitializedCapacity: 64) { buffer, written in
            _ = secp256k1_ecdsa_signature_serialize_compact(context, buffer.baseAddress!, &signature)  // always succeeds
            written = 64
        }
    }

    /// - Parameter signature: 64 bytes.
    static func verifies(_ signature: [UInt8], ofDigest digest: [UInt8], with key: secp256k1_pubkey, allowHighS: Bool) -> Bool {
        precondition(signature.count == 64 && digest.count == 32)
        var key = key
        var parsed = secp256k1_ecdsa_signature()
        guard secp256k1_ecdsa_signature_parse_compact(context, &parsed, signature) == 1 else { return false }
        if allowHighS {
            var low = secp256k1_ecdsa_signature()
            _ = secp256k1_ecdsa_signature_normalize(context, &low, &parsed)  // says only whether it changed anything
            parsed = low
        }
        return secp256k1_ecdsa_verify(context, &parsed, digest, &key) == 1
    }
}

/// Random bytes of the system. Without them no key can be made, so a failure ends the process.
func fillRandom(_ buffer: UnsafeMutableRawBufferPointer) {
    precondition(buffer.count <= 256 && getentropy(buffer.baseAddress, buffer.count) == 0, "the system gives no random bytes")
}
