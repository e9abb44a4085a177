/// A namespaced identifier: a reversed domain name and a name, `com.example.fooBar`; at most 317 bytes, 63 a segment. Kept as it was given; the name is case-sensitive. (atproto spec: NSID)
public struct NSID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let description: String

    public init(_ string: String) throws(SyntaxError) {
        try Self.verdict(string.utf8Span.span).check(string, as: .nsid)
        description = string
    }

    /// The domain name that rules the identifier, in its usual order and small letters: `example.com` of `com.example.fooBar`.
    public var authority: String { asciiLowercased(segments.dropLast().reversed().joined(separator: ".")) }

    /// The last segment.
    public var name: String { segments.last ?? "" }

    /// All segments in the order of the text; three or more.
    public var segments: [String] { description.split(separator: ".").map(String.init) }

    public static func < (left: NSID, right: NSID) -> Bool { left.description < right.description }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict {
        guard bytes.count <= 317 else { return .tooLong(bytesMax: 317) }
        return SyntaxVerdict(isWellFormed(bytes, in: 0..<bytes.count))
    }

    /// Domain labels, of which the first begins with a letter, then a name of letters and digits that begins with a letter.
    static func isWellFormed(_ bytes: Span<UInt8>, in range: Range<Int>) -> Bool {
        var (start, segments) = (range.lowerBound, 0)
        while true {
            let end = bytes.firstIndex(of: 0x2E, from: start, to: range.upperBound)
            guard isDomainLabel(bytes, in: start..<end) else { return false }
            if segments == 0, !bytes[start].isLetter { return false }
            segments += 1
            if end == range.upperBound { break }
            start = end + 1
        }
        guard segments >= 3, range.count <= 317, bytes[start].isLetter else { return false }
        for index in start..<range.upperBound where bytes[index] == 0x2D { return false }
        return true
    }
}
