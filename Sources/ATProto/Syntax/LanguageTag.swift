/// A language tag of BCP 47, such as `en`, `pt-BR` or `i-navajo`; at most 128 bytes, kept as it was given. The first subtag is two or
/// three small letters, `i`, or `x`; nothing is looked up in the registry, and the order of script, region and variants is not judged.
/// A variant or an extension named twice, in whatever case, is refused. (RFC 5646 §2.2.9; atproto spec: lexicon, format language)
public struct LanguageTag: Hashable, Sendable, CustomStringConvertible {
    public let description: String

    public init(_ string: String) throws(SyntaxError) {
        try Self.verdict(string.utf8Span.span).check(string, as: .language)
        description = string
    }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict {
        guard bytes.count <= 128 else { return .tooLong(bytesMax: 128) }
        let first = bytes.firstIndex(of: 0x2D, from: 0, to: bytes.count)
        guard isPrimary(bytes, to: first) else { return .malformed }
        var verdict = SyntaxVerdict.accepted
        var (start, singletons) = (first + 1, UInt64(0))
        var isPrivate = first == 1 && bytes[0] != 0x69
        // What a singleton announces must follow it: in an extension something of two characters or more.
        var awaits = first == 1
        while start <= bytes.count {
            let end = bytes.firstIndex(of: 0x2D, from: start, to: bytes.count)
            guard isSubtag(bytes, in: start..<end) else { return .malformed }
            if end - start == 1, !isPrivate {
                guard !awaits else { return .malformed }
                let letter = bytes[start].lowercased
                let bit = UInt64(1) << UInt64(letter & 63)
                if singletons & bit != 0 { verdict = .meaningless }
                singletons |= bit
                isPrivate = letter == 0x78
                awaits = true
            } else {
                awaits = false
                if singletons == 0, !isPrivate, isVariant(bytes, in: start..<end), isRepeated(bytes, variant: start..<end, from: first + 1)
                {
                    verdict = .meaningless
                }
            }
            start = end + 1
        }
        return awaits ? .malformed : verdict
    }

    private static func isPrimary(_ bytes: Span<UInt8>, to end: Int) -> Bool {
        if end == 1 { return bytes[0] == 0x69 || bytes[0].lowercased == 0x78 }
        guard end == 2 || end == 3 else { return false }
        for index in 0..<end where !bytes[index].isLowercase { return false }
        return true
    }

    private static func isSubtag(_ bytes: Span<UInt8>, in range: Range<Int>) -> Bool {
        guard 1...8 ~= range.count else { return false }
        for index in range where !bytes[index].isLetterOrDigit { return false }
        return true
    }

    /// Five to eight characters, or four that begin with a digit: nothing else in a tag has that form before the first extension.
    private static func isVariant(_ bytes: Span<UInt8>, in range: Range<Int>) -> Bool {
        range.count >= 5 || range.count == 4 && bytes[range.lowerBound].isDigit
    }

    private static func isRepeated(_ bytes: Span<UInt8>, variant: Range<Int>, from start: Int) -> Bool {
        var earlier = start
        while earlier < variant.lowerBound {
            let end = bytes.firstIndex(of: 0x2D, from: earlier, to: variant.lowerBound)
            if end - earlier == variant.count {
                var index = 0
                while index < variant.count, bytes[earlier + index].lowercased == bytes[variant.lowerBound + index].lowercased {
                    index += 1
                }
                if index == variant.count { return true }
            }
            earlier = end + 1
        }
        return false
    }
}
