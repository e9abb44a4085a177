/// What an identifier's text must look like, for messages and for `SyntaxError`.
public enum SyntaxKind: String, Hashable, Sendable {
    case did = "DID"
    case handle = "handle"
    case atIdentifier = "DID or handle"
    case nsid = "NSID"
    case recordKey = "record key"
    case atURI = "AT-URI"
    case tid = "TID"
    case datetime = "datetime"
    case language = "language tag"
    case uri = "URI"

    /// The shape in words, to end a sentence with.
    public var shape: String {
        switch self {
        case .did: "did:method:identifier, at most 2048 bytes"
        case .handle: "a domain name such as alice.example.com, at most 253 bytes"
        case .atIdentifier: "a DID, or a domain name such as alice.example.com"
        case .nsid: "three or more dotted segments such as com.example.record, at most 317 bytes"
        case .recordKey: "1 to 512 of A-Z a-z 0-9 . _ : ~ - and neither . nor .."
        case .atURI: "at://authority, at://authority/collection or at://authority/collection/record-key, at most 8192 bytes"
        case .tid: "13 characters of 234567a-z, the first one of 234567a-j"
        case .datetime: "a real moment with its offset such as 2026-01-31T12:00:00.000Z, at most 64 bytes"
        case .language: "a BCP 47 tag such as en or pt-BR, at most 128 bytes"
        case .uri: "scheme:rest without spaces, at most 8192 bytes"
        }
    }
}

/// Why a text is not the identifier it was read as. All are the sender's fault: answer with the description.
public enum SyntaxError: Error, Equatable, Sendable, CustomStringConvertible {
    /// More bytes than the kind allows.
    case tooLong(SyntaxKind, bytes: Int, bytesMax: Int)
    /// The text does not have the shape. `text` is at most its first 64 characters.
    case malformed(SyntaxKind, text: String)
    /// The text has the shape and yet means nothing: month zero, or the same language variant twice.
    case meaningless(SyntaxKind, text: String)

    public var description: String {
        switch self {
        case .tooLong(let kind, let bytes, let bytesMax): "a \(kind.rawValue) has at most \(bytesMax) bytes, not \(bytes)"
        case .malformed(let kind, let text): "not a \(kind.rawValue): \"\(text)\"; expected \(kind.shape)"
        case .meaningless(let kind, let text): "no such \(kind.rawValue): \"\(text)\"; expected \(kind.shape)"
        }
    }
}

/// How a byte-wise check of a text ended.
package enum SyntaxVerdict: Hashable, Sendable {
    case accepted, tooLong(bytesMax: Int), malformed, meaningless

    init(_ wellFormed: Bool) { self = wellFormed ? .accepted : .malformed }

    func check(_ string: String, as kind: SyntaxKind) throws(SyntaxError) {
        switch self {
        case .accepted: return
        case .tooLong(let bytesMax): throw .tooLong(kind, bytes: string.utf8.count, bytesMax: bytesMax)
        case .malformed: throw .malformed(kind, text: String(string.prefix(64)))
        case .meaningless: throw .meaningless(kind, text: String(string.prefix(64)))
        }
    }
}

// ASCII classes. A letter is found with its case bit set, so both cases are one range.
extension UInt8 {
    @inline(__always) var isDigit: Bool { self &- 0x30 < 10 }
    @inline(__always) var isLetter: Bool { (self | 0x20) &- 0x61 < 26 }
    @inline(__always) var isLowercase: Bool { self &- 0x61 < 26 }
    @inline(__always) var isLetterOrDigit: Bool { isLetter || isDigit }
    /// The small letter of an ASCII capital, any other byte as it is.
    @inline(__always) var lowercased: UInt8 { self &- 0x41 < 26 ? self | 0x20 : self }
}

/// True when `range` of `bytes` is one label of a domain name: 1–63 letters, digits and, inside, hyphens.
@inline(__always)
func isDomainLabel(_ bytes: Span<UInt8>, in range: Range<Int>) -> Bool {
    guard 1...63 ~= range.count, bytes[range.lowerBound] != 0x2D, bytes[range.upperBound - 1] != 0x2D else { return false }
    for index in range where !(bytes[index].isLetterOrDigit || bytes[index] == 0x2D) { return false }
    return true
}

extension Span<UInt8> {
    /// The first index at or after `start` that holds `byte`, or `end`.
    @inline(__always)
    func firstIndex(of byte: UInt8, from start: Int, to end: Int) -> Int {
        var index = start
        while index < end, self[index] != byte { index += 1 }
        return index
    }
}

/// The ASCII text with small letters for capitals.
func asciiLowercased(_ string: String) -> String {
    string.utf8.contains { $0 &- 0x41 < 26 } ? String(decoding: string.utf8.map(\.lowercased), as: UTF8.self) : string
}
