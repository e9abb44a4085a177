import ATProto
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
        TagKey(tagKey).tag(sequence).withUnsafeBytes { leaf.append(contentsOf: $0) }
        leaf.append(contentsOf: eventDigest)
        return leaf
    }

    /// A tag key made ready once for many tags: HMAC's two hashes, each with its padded key already taken in (RFC 2104).
    struct TagKey: Sendable {
        private var inner = SHA256()
        private var outer = SHA256()

        init(_ bytes: [UInt8]) {
            precondition(bytes.count == tagKeyByteCount, "a tag key has 32 bytes")
            let padding = [UInt8](repeating: 0, count: SHA256.blockByteCount - bytes.count)
            inner.update(data: (bytes + padding).map { $0 ^ 0x36 })
            outer.update(data: (bytes + padding).map { $0 ^ 0x5C })
        }

        func tag(_ sequence: UInt64) -> SHA256Digest {
            var (inner, outer) = (inner, outer)
            withUnsafeBytes(of: sequence.bigEndian) { inner.update(bufferPointer: $0) }
            inner.finalize().withUnsafeBytes { outer.update(bufferPointer: $0) }
            return outer.finalize()
        }
    }

    /// Whether `leaf` is that of the event; with no tag key (erased, or not yet known) only the open part is compared.
    static func matches(_ leaf: [UInt8], tagKey: TagKey?, sequence: UInt64, event: CID) -> Bool {
        guard leaf.count == byteCount, leaf[0] == version,
            CID(codec: event.codec, digest: leaf.span.extracting(33..<byteCount)) == event
        else { return false }
        guard let tagKey else { return true }
        return tagKey.tag(sequence).withUnsafeBytes { tag in
            leaf.withUnsafeBytes { $0[1..<33].elementsEqual(tag) }
        }
    }
}
