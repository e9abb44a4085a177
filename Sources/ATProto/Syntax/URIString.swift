/// A URI of any scheme, kept as it was given: a scheme of at most 80 letters, digits and `+ . -`, a colon, and something that holds no
/// white space and no control character; at most 8192 bytes. Letters beyond ASCII pass, because records hold links as people paste
/// them. (RFC 3986 §3; atproto spec: lexicon, format uri)
public struct URIString: Hashable, Sendable, CustomStringConvertible {
    public let description: String

    public init(_ string: String) throws(SyntaxError) {
        try Self.verdict(string).check(string, as: .uri)
        description = string
    }

    /// Everything before the first colon, in small letters.
    public var scheme: String { asciiLowercased(String(description.utf8.prefix { $0 != 0x3A }) ?? "") }

    package static func verdict(_ string: String) -> SyntaxVerdict {
        let bytes = string.utf8Span.span
        guard bytes.count <= 8192 else { return .tooLong(bytesMax: 8192) }
        let colon = bytes.firstIndex(of: 0x3A, from: 0, to: bytes.count)
        guard 1...80 ~= colon, colon < bytes.count, bytes[0].isLetter else { return .malformed }
        for index in 0..<colon {
            let byte = bytes[index]
            guard byte.isLetterOrDigit || byte == 0x2B || byte == 0x2E || byte == 0x2D else { return .malformed }
        }
        var start = colon + 1
        if start + 1 < bytes.count, bytes[start] == 0x2F, bytes[start + 1] == 0x2F { start += 2 }
        guard start < bytes.count else { return .malformed }
        var isASCII = true
        for index in start..<bytes.count {
            let byte = bytes[index]
            guard byte > 0x20, byte != 0x7F else { return .malformed }
            isASCII = isASCII && byte < 0x80
        }
        return SyntaxVerdict(isASCII || !string.unicodeScalars.contains(where: isBlankOrControl))
    }

    private static func isBlankOrControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.isWhitespace || scalar.properties.generalCategory == .control
    }
}
