/// The name of a record in its collection: 1–512 of `A–Z a–z 0–9 . _ : ~ -`, neither `.` nor `..`; case-sensitive.
/// (atproto spec: record key)
public struct RecordKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let description: String

    public init(_ string: String) throws(SyntaxError) {
        try Self.verdict(string.utf8Span.span).check(string, as: .recordKey)
        description = string
    }

    public init(_ tid: TID) { description = tid.description }

    /// The key of an account's enrollment record for a service: the service's DID with `:` for `%3A` (wire contract, section 3.5).
    /// - Throws: where that is no record key.
    public init(ofEnrollmentAt service: DID) throws(SyntaxError) {
        try self.init(service.description.replacing("%3A", with: ":").replacing("%3a", with: ":"))
    }

    public static func < (left: RecordKey, right: RecordKey) -> Bool { left.description < right.description }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict {
        guard bytes.count <= 512 else { return .tooLong(bytesMax: 512) }
        return SyntaxVerdict(isWellFormed(bytes, in: 0..<bytes.count))
    }

    static func isWellFormed(_ bytes: Span<UInt8>, in range: Range<Int>) -> Bool {
        guard 1...512 ~= range.count else { return false }
        for index in range {
            let byte = bytes[index]
            guard byte.isLetterOrDigit || byte == 0x2E || byte == 0x2D || byte == 0x5F || byte == 0x3A || byte == 0x7E else { return false }
        }
        guard bytes[range.lowerBound] == 0x2E, range.count <= 2 else { return true }
        return range.count == 2 && bytes[range.lowerBound + 1] != 0x2E
    }
}
