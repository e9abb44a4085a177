import Crypto

/// A content identifier of the AT Protocol's data model: version 1, `raw` or `dag-cbor`, SHA-256.
///
/// Its binary form is always the 36 bytes `01 codec 12 20 digest`, its text form the 59 characters `b` + base32. The digest is
/// stored inline, so a CID is a value without a heap allocation. CIDs are ordered as their binary forms are.
///
/// Source: atproto.com/specs/data-model, "Link and CID formats". For the wider syntax of the lexicon format `cid` see
/// ``isSyntacticallyValid(_:)``.
public struct CID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public enum Codec: UInt8, Sendable {
        case raw = 0x55
        case dagCBOR = 0x71
    }

    /// The length of the binary form in bytes.
    public static let byteCount = 36
    /// The length of the text form in characters.
    public static let characterCount = 59

    public let codec: Codec
    /// The digest as four big-endian words, so that comparing words compares bytes.
    let words: (UInt64, UInt64, UInt64, UInt64)

    /// - Parameter digest: the 32 bytes of a SHA-256.
    public init(codec: Codec, digest: Span<UInt8>) {
        precondition(digest.count == 32, "a SHA-256 digest has 32 bytes")
        self.init(codec: codec, digestAt: 0, in: digest.bytes)
    }

    /// - Parameter digest: the 32 bytes of a SHA-256.
    public init(codec: Codec, digest: [UInt8]) {
        self.init(codec: codec, digest: digest.span)
    }

    /// The CID of a block: hashes `bytes`.
    public init(hashing bytes: [UInt8], codec: Codec = .dagCBOR) {
        self = bytes.withUnsafeBytes { CID(hashing: $0, codec: codec) }
    }

    /// The CID of a block: hashes `bytes`.
    public init(hashing bytes: RawSpan, codec: Codec = .dagCBOR) {
        self = bytes.withUnsafeBytes { CID(hashing: $0, codec: codec) }
    }

    /// The CID of a block: hashes `bytes`.
    public init(hashing bytes: UnsafeRawBufferPointer, codec: Codec = .dagCBOR) {
        var hash = SHA256()
        hash.update(bufferPointer: bytes)
        self = hash.finalize().withUnsafeBytes { CID(codec: codec, digestAt: 0, in: $0.bytes) }
    }

    /// Reads exactly the 36 bytes of the binary form.
    public init(bytes: [UInt8]) throws(CIDError) {
        try self.init(bytes: bytes.span.bytes)
    }

    /// Reads exactly the 36 bytes of the binary form.
    public init(bytes: RawSpan) throws(CIDError) {
        guard bytes.byteCount == Self.byteCount else { throw .length(bytes.byteCount) }
        let head = bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt32.self).bigEndian
        switch head {
        case 0x0155_1220: self.init(codec: .raw, digestAt: 4, in: bytes)
        case 0x0171_1220: self.init(codec: .dagCBOR, digestAt: 4, in: bytes)
        default: throw Self.headError(head)
        }
    }

    /// Reads exactly the text form: `b` and 58 characters of lower-case base32.
    public init(_ string: String) throws(CIDError) {
        let text = string.utf8Span.span
        guard text.count == Self.characterCount else { throw .textLength(text.count) }
        guard text[0] == UInt8(ascii: "b") else { throw .multibase }
        var binary = InlineArray<36, UInt8>(repeating: 0)
        // Seven groups of eight characters are five bytes each; the last two characters are a byte and two unused bits.
        for group in 0..<7 {
            let bits = try Self.bits(of: text, from: 1 + 8 * group, count: 8)
            for place in 0..<5 { binary[5 * group + place] = UInt8(truncatingIfNeeded: bits >> UInt64(32 - 8 * place)) }
        }
        let last = try Self.bits(of: text, from: 57, count: 2)
        guard last & 3 == 0 else { throw .base32(offset: 58) }
        binary[35] = UInt8(truncatingIfNeeded: last >> 2)
        try self.init(bytes: binary.span.bytes)
    }

    private static func bits(of text: Span<UInt8>, from start: Int, count: Int) throws(CIDError) -> UInt64 {
        var bits: UInt64 = 0
        for offset in start..<(start + count) {
            guard let value = Base32.digit(text[offset]) else { throw .base32(offset: offset) }
            bits = bits << 5 | UInt64(value)
        }
        return bits
    }

    private init(codec: Codec, digestAt offset: Int, in bytes: RawSpan) {
        self.codec = codec
        words = (
            bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self).bigEndian,
            bytes.unsafeLoadUnaligned(fromByteOffset: offset + 8, as: UInt64.self).bigEndian,
            bytes.unsafeLoadUnaligned(fromByteOffset: offset + 16, as: UInt64.self).bigEndian,
            bytes.unsafeLoadUnaligned(fromByteOffset: offset + 24, as: UInt64.self).bigEndian
        )
    }

    private static func headError(_ head: UInt32) -> CIDError {
        if head >> 24 != 1 { return .version(UInt8(truncatingIfNeeded: head >> 24)) }
        let codec = UInt8(truncatingIfNeeded: head >> 16)
        if Codec(rawValue: codec) == nil { return .codec(codec) }
        return .hash(UInt16(truncatingIfNeeded: head))
    }

    /// The 32 bytes of the SHA-256.
    public var digest: [UInt8] {
        withDigest { [UInt8]($0) }
    }

    /// The 36 bytes of the binary form.
    public var bytes: [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(Self.byteCount)
        append(to: &output)
        return output
    }

    /// Appends the 36 bytes of the binary form.
    public func append(to output: inout [UInt8]) {
        var head = (0x0100_1220 | UInt32(codec.rawValue) << 16).bigEndian
        withUnsafeBytes(of: &head) { output.append(contentsOf: $0) }
        withDigest { output.append(contentsOf: $0) }
    }

    /// Writes the 36 bytes of the binary form to memory that has room for them.
    func store(to output: UnsafeMutableRawPointer) {
        output.storeBytes(of: (0x0100_1220 | UInt32(codec.rawValue) << 16).bigEndian, as: UInt32.self)
        output.storeBytes(of: words.0.bigEndian, toByteOffset: 4, as: UInt64.self)
        output.storeBytes(of: words.1.bigEndian, toByteOffset: 12, as: UInt64.self)
        output.storeBytes(of: words.2.bigEndian, toByteOffset: 20, as: UInt64.self)
        output.storeBytes(of: words.3.bigEndian, toByteOffset: 28, as: UInt64.self)
    }

    /// Stores the 36 bytes of the binary form.
    func store(at pointer: UnsafeMutableRawPointer) {
        pointer.storeBytes(of: (0x0100_1220 | UInt32(codec.rawValue) << 16).bigEndian, as: UInt32.self)
        pointer.storeBytes(of: words.0.bigEndian, toByteOffset: 4, as: UInt64.self)
        pointer.storeBytes(of: words.1.bigEndian, toByteOffset: 12, as: UInt64.self)
        pointer.storeBytes(of: words.2.bigEndian, toByteOffset: 20, as: UInt64.self)
        pointer.storeBytes(of: words.3.bigEndian, toByteOffset: 28, as: UInt64.self)
    }

    /// The text form, `b…`.
    public var description: String {
        Base32.encode(bytes.span, prefix: UInt8(ascii: "b"))
    }

    private func withDigest<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeBytes(of: (words.0.bigEndian, words.1.bigEndian, words.2.bigEndian, words.3.bigEndian), body)
    }

    public static func == (left: CID, right: CID) -> Bool {
        left.words == right.words && left.codec == right.codec
    }

    public static func < (left: CID, right: CID) -> Bool {
        left.codec == right.codec ? left.words < right.words : left.codec.rawValue < right.codec.rawValue
    }

    /// Every word goes in: a stranger may choose the digests that a tree refers to, so no part of one is random enough alone.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3 ^ UInt64(codec.rawValue))
    }
}

extension CID {
    /// Whether `text` has the syntax of the lexicon string format `cid`: 8…256 characters of any multibase alphabet that needs
    /// only letters, digits, `+` and `=`. The old version 0 (`Qm…`) is refused. Says nothing about what the text decodes to.
    public static func isSyntacticallyValid(_ text: String) -> Bool {
        guard (8...256).contains(text.utf8.count), !text.utf8.starts(with: "Qm".utf8) else { return false }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "+"), UInt8(ascii: "="):
                true
            default: false
            }
        }
    }
}

public enum CIDError: Error, Hashable, Sendable {
    /// The binary form has this many bytes instead of 36.
    case length(Int)
    /// The text form has this many UTF-8 bytes instead of 59.
    case textLength(Int)
    /// The text does not begin with `b`.
    case multibase
    /// Not lower-case base32 with unused bits zero; the byte offset in the text.
    case base32(offset: Int)
    /// The first byte; only version 1 is accepted.
    case version(UInt8)
    /// The second byte; only `raw` (0x55) and `dag-cbor` (0x71) are accepted.
    case codec(UInt8)
    /// The hash function and digest length; only SHA-256 (0x1220) is accepted.
    case hash(UInt16)
}
