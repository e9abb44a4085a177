import Crypto

/// The key of a record in a repo's tree: `collection/record-key`, 3…1024 bytes. Both halves are one or more of
/// `A–Z a–z 0–9 . _ : ~ -`; that the first is an NSID is the caller's rule, not the tree's.
///
/// Keys are ordered by their bytes. A key carries its ``layer``, so it is hashed once, when it is made.
///
/// Source: atproto.com/specs/repository, "MST Structure".
public struct MSTKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    public static let byteCountMax = 1024

    /// The layer in one byte, then the text: one word and one reference in every entry of every node.
    let storage: [UInt8]

    public init(_ string: String) throws(MSTError) {
        guard let key = MSTKey(sharing: 0, of: nil, suffix: string.utf8Span.span.bytes) else {
            throw .invalidKey(String(string.prefix(64)))
        }
        self = key
    }

    public init(collection: NSID, recordKey: RecordKey) {
        var storage: [UInt8] = [0]
        storage.reserveCapacity(2 + collection.description.utf8.count + recordKey.description.utf8.count)
        storage.append(contentsOf: collection.description.utf8)
        storage.append(Self.slash)
        storage.append(contentsOf: recordKey.description.utf8)
        storage[0] = Self.layer(ofText: storage)
        self.storage = storage
    }

    /// Half the number of leading zero bits of the key's SHA-256: 0…128. One key in four reaches each next layer.
    public var layer: Int { Int(storage[0]) }

    /// The text without its layer.
    public var description: String { String(decoding: storage.dropFirst(), as: UTF8.self) }

    /// What stands before the slash.
    public var collection: String { String(decoding: storage[1..<slashIndex], as: UTF8.self) }

    /// What stands after the slash.
    public var recordKey: String { String(decoding: storage[(slashIndex + 1)...], as: UTF8.self) }

    /// The length of the text in bytes.
    public var byteCount: Int { storage.count - 1 }

    public static func < (left: MSTKey, right: MSTKey) -> Bool { order(left, right) < 0 }

    private var slashIndex: Int { storage.firstIndex(of: Self.slash) ?? storage.count - 1 }
    private static let slash = UInt8(ascii: "/")
}

extension MSTKey {
    /// The first `prefixCount` bytes of `previous` and then `suffix`, as a node writes its keys. Nil when the two together are not
    /// a key.
    /// - Parameter prefixCount: no more than `previous` has.
    init?(sharing prefixCount: Int, of previous: MSTKey?, suffix: RawSpan) {
        let count = prefixCount + suffix.byteCount
        guard count <= Self.byteCountMax else { return nil }
        var storage = [UInt8](unsafeUninitializedCapacity: count + 1) { buffer, initialized in
            buffer[0] = 0
            let text = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[1...])
            if prefixCount > 0, let previous {
                previous.storage.withUnsafeBytes { text.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[1...prefixCount])) }
            }
            suffix.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: text[prefixCount...]).copyMemory(from: $0) }
            initialized = count + 1
        }
        guard Self.isWellFormed(storage) else { return nil }
        storage[0] = Self.layer(ofText: storage)
        self.storage = storage
    }

    /// A place between keys, for searching only: any text, no layer.
    init(bound text: some Sequence<UInt8>) {
        storage = [0] + text
    }

    /// Negative, zero or positive as `left` comes before, is, or comes after `right`.
    static func order(_ left: MSTKey, _ right: MSTKey) -> Int {
        left.storage.withUnsafeBytes { left in
            right.storage.withUnsafeBytes { right in
                let shared = min(left.count, right.count)
                var offset = 1
                while offset + 8 <= shared {
                    let a = left.loadUnaligned(fromByteOffset: offset, as: UInt64.self).bigEndian
                    let b = right.loadUnaligned(fromByteOffset: offset, as: UInt64.self).bigEndian
                    if a != b { return a < b ? -1 : 1 }
                    offset += 8
                }
                while offset < shared {
                    let a = left[offset]
                    let b = right[offset]
                    if a != b { return a < b ? -1 : 1 }
                    offset += 1
                }
                return left.count - right.count
            }
        }
    }

    /// The number of bytes with which both keys begin.
    static func sharedPrefix(_ left: MSTKey, _ right: MSTKey) -> Int {
        left.storage.withUnsafeBytes { left in
            right.storage.withUnsafeBytes { right in
                sharedPrefix(UnsafeRawBufferPointer(rebasing: left[1...]), UnsafeRawBufferPointer(rebasing: right[1...]))
            }
        }
    }

    /// The number of bytes with which both texts begin.
    package static func sharedPrefix(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
        let shared = min(left.count, right.count)
        var offset = 0
        while offset + 8 <= shared {
            let a = left.loadUnaligned(fromByteOffset: offset, as: UInt64.self).littleEndian
            let b = right.loadUnaligned(fromByteOffset: offset, as: UInt64.self).littleEndian
            if a != b { return offset + (a ^ b).trailingZeroBitCount / 8 }
            offset += 8
        }
        while offset < shared, left[offset] == right[offset] { offset += 1 }
        return offset
    }

    /// The layer of any text, a key or not.
    package static func layer(of text: UnsafeRawBufferPointer) -> Int {
        var hash = SHA256()
        hash.update(bufferPointer: text)
        return hash.finalize().withUnsafeBytes { digest in
            var zeros = 0
            for offset in stride(from: 0, to: 32, by: 8) {
                let word = digest.loadUnaligned(fromByteOffset: offset, as: UInt64.self).bigEndian
                zeros += word.leadingZeroBitCount
                if word != 0 { break }
            }
            return zeros / 2
        }
    }

    private static func layer(ofText storage: [UInt8]) -> UInt8 {
        storage.withUnsafeBytes { UInt8(truncatingIfNeeded: layer(of: UnsafeRawBufferPointer(rebasing: $0[1...]))) }
    }

    private static func isWellFormed(_ storage: [UInt8]) -> Bool {
        var slashAt = 0
        storage.withUnsafeBytes { bytes in
            for index in 1..<max(1, bytes.count) {
                let byte = bytes[index]
                if byte == slash, slashAt == 0 {
                    slashAt = index
                } else if !(byte < 64 ? lowSet >> UInt64(byte) & 1 == 1 : byte < 128 && highSet >> UInt64(byte - 64) & 1 == 1) {
                    slashAt = -1
                    break
                }
            }
        }
        return slashAt > 1 && slashAt < storage.count - 1
    }

    /// `-` `.` `0–9` `:` as bits of the bytes below 64.
    private static let lowSet: UInt64 = 0x07FF_6000_0000_0000
    /// `A–Z` `_` `a–z` `~` as bits of the bytes from 64.
    private static let highSet: UInt64 = 0x47FF_FFFE_87FF_FFFE
}
