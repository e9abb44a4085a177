/// A handle: a domain name of two labels or more, whose last begins with a letter; at most 253 bytes.
/// Handles are compared without regard to case: compare `normalized`. `==` compares the text as given. (atproto spec: handle)
public struct Handle: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let description: String

    public init(_ string: String) throws(SyntaxError) {
        try Self.verdict(string.utf8Span.span).check(string, as: .handle)
        description = string
    }

    private init(normalizing handle: Handle) { description = asciiLowercased(handle.description) }

    /// The same handle in small letters.
    public var normalized: Handle { Handle(normalizing: self) }

    public static func < (left: Handle, right: Handle) -> Bool { left.description < right.description }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict {
        guard bytes.count <= 253 else { return .tooLong(bytesMax: 253) }
        return SyntaxVerdict(isWellFormed(bytes, in: 0..<bytes.count))
    }

    static func isWellFormed(_ bytes: Span<UInt8>, in range: Range<Int>) -> Bool {
        guard range.count <= 253 else { return false }
        var (start, labels) = (range.lowerBound, 0)
        while true {
            let end = bytes.firstIndex(of: 0x2E, from: start, to: range.upperBound)
            guard isDomainLabel(bytes, in: start..<end) else { return false }
            labels += 1
            if end == range.upperBound { return labels >= 2 && bytes[start].isLetter }
            start = end + 1
        }
    }
}

/// Who a request or an AT-URI names: an account by its DID, or by its handle.
public enum ATIdentifier: Hashable, Comparable, Sendable, CustomStringConvertible {
    case did(DID)
    case handle(Handle)

    public init(_ string: String) throws(SyntaxError) {
        if string.utf8.starts(with: "did:".utf8) {
            self = .did(try DID(string))
        } else {
            self = .handle(try Handle(string))
        }
    }

    public var did: DID? { if case .did(let did) = self { did } else { nil } }
    public var handle: Handle? { if case .handle(let handle) = self { handle } else { nil } }

    public var description: String {
        switch self {
        case .did(let did): did.description
        case .handle(let handle): handle.description
        }
    }

    public static func < (left: ATIdentifier, right: ATIdentifier) -> Bool { left.description < right.description }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict {
        bytes.count >= 4 && DID.startsWithScheme(bytes, at: 0) ? DID.verdict(bytes) : Handle.verdict(bytes)
    }

    static func isWellFormed(_ bytes: Span<UInt8>, in range: Range<Int>) -> Bool {
        range.count >= 4 && DID.startsWithScheme(bytes, at: range.lowerBound)
            ? range.count <= 2048 && DID.isWellFormed(bytes, in: range) : Handle.isWellFormed(bytes, in: range)
    }
}
