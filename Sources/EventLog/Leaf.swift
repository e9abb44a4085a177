import Crypto

/// The leaf of an event in the tree of its generation: 65 bytes that only somebody who holds the actor's tag key can link to
/// the actor: `0x01 ‖ HMAC-SHA-256(tagKey, u64be(sequence)) ‖ SHA-256(event bytes)`.
package enum Leaf {
    package static let byteCount = 65
    package static let version: UInt8 = 0x01
    package static let tagKeyByteCount = 32

    /// - Parameters:
    ///   - tagKey: the newest tag key of the actor's log at or before the event, the event's own included.
    ///   - eventDigest: SHA-256 of the event's bytes, the digest of its CID.
    package static func make(tagKey: [UInt8], sequence: UInt64, eventDigest: [UInt8]) -> [UInt8] {
        precondition(tagKey.count == tagKeyByteCount && eventDigest.count == 32, "a tag key and a digest have 32 bytes each")
        var leaf: [UInt8] = []
        leaf.reserveCapacity(byteCount)
        leaf.append(version)
        leaf.append(contentsOf: tag(TagKey(tagKey), sequence))
        leaf.append(contentsOf: eventDigest)
        return leaf
    }

    /// A tag key made ready once for many tags.
    struct TagKey: Sendable {
        fileprivate let key: SymmetricKey
        init(_ bytes: [UInt8]) { key = SymmetricKey(data: bytes) }
    }

    static func tag(_ key: TagKey, _ sequence: UInt64) -> HMAC<SHA256>.MAC {
        withUnsafeBytes(of: sequence.bigEndian) { HMAC<SHA256>.authenticationCode(for: $0, using: key.key) }
    }

    /// Whether `leaf` is that of the event; with no tag key (erased, or not yet known) only the open part is compared.
    static func matches(_ leaf: [UInt8], tagKey: TagKey?, sequence: UInt64, eventDigest: [UInt8]) -> Bool {
        guard leaf.count == byteCount, leaf[0] == version, leaf[33...].elementsEqual(eventDigest) else { return false }
        guard let tagKey else { return true }
        return tag(tagKey, sequence) == leaf[1..<33]
    }
}
