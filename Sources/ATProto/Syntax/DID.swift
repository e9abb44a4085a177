/// A decentralised identifier: `did:method:identifier`, at most 2048 bytes, case-sensitive and kept as it was given.
/// Only the syntax is checked here; which methods are served is the resolver's business. (atproto spec: DID)
public struct DID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let description: String

    public init(_ string: String) throws(SyntaxError) {
        try Self.verdict(string.utf8Span.span).check(string, as: .did)
        description = string
    }

    /// What stands between the first two colons: `plc`, `web`.
    public var method: String {
        String(description.utf8.dropFirst(4).prefix { $0 != 0x3A }) ?? ""
    }

    /// What follows the second colon; it may hold more colons and percent signs.
    public var identifier: String {
        String(description.utf8.dropFirst(5 + method.utf8.count)) ?? ""
    }

    public static func < (left: DID, right: DID) -> Bool { left.description < right.description }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict {
        guard bytes.count <= 2048 else { return .tooLong(bytesMax: 2048) }
        return SyntaxVerdict(isWellFormed(bytes, in: 0..<bytes.count))
    }

    /// `did:` small letters `:` then letters, digits and `. _ : % -`, whose last is neither a colon nor a percent sign.
    static func isWellFormed(_ bytes: Span<UInt8>, in range: Range<Int>) -> Bool {
        let (start, end) = (range.lowerBound, range.upperBound)
        guard range.count >= 7, startsWithScheme(bytes, at: start) else { return false }
        let colon = bytes.firstIndex(of: 0x3A, from: start + 4, to: end)
        guard colon > start + 4, colon + 1 < end else { return false }
        for index in start + 4..<colon where !bytes[index].isLowercase { return false }
        for index in colon + 1..<end {
            let byte = bytes[index]
            guard byte.isLetterOrDigit || byte == 0x2E || byte == 0x5F || byte == 0x3A || byte == 0x25 || byte == 0x2D else { return false }
        }
        return bytes[end - 1] != 0x3A && bytes[end - 1] != 0x25
    }

    /// True when the bytes at `start` are `did:`; at least four must be there.
    static func startsWithScheme(_ bytes: Span<UInt8>, at start: Int) -> Bool {
        bytes[start] == 0x64 && bytes[start + 1] == 0x69 && bytes[start + 2] == 0x64 && bytes[start + 3] == 0x3A
    }
}
