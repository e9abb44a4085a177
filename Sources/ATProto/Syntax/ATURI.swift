/// The address of a repo, a collection or a record, in the restricted form that records use: `at://authority[/collection[/key]]`,
/// no query, no fragment, no trailing slash, at most 8192 bytes. Kept as it was given. (atproto spec: AT-URI, restricted)
public struct ATURI: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let authority: ATIdentifier
    public let collection: NSID?
    /// Present only beside a collection.
    public let recordKey: RecordKey?

    public init(authority: ATIdentifier, collection: NSID? = nil) {
        self.authority = authority
        self.collection = collection
        recordKey = nil
    }

    public init(authority: ATIdentifier, collection: NSID, recordKey: RecordKey) {
        self.authority = authority
        self.collection = collection
        self.recordKey = recordKey
    }

    public init(_ string: String) throws(SyntaxError) {
        try Self.verdict(string.utf8Span.span).check(string, as: .atURI)
        // Each part was checked in place; its own initialiser cuts it out.
        let parts = string.utf8.dropFirst(5).split(separator: 0x2F, omittingEmptySubsequences: false).map { String($0) ?? "" }
        authority = try ATIdentifier(parts[0])
        collection = parts.count > 1 ? try NSID(parts[1]) : nil
        recordKey = parts.count > 2 ? try RecordKey(parts[2]) : nil
    }

    public var description: String {
        var text = "at://" + authority.description
        if let collection { text += "/" + collection.description }
        if let recordKey { text += "/" + recordKey.description }
        return text
    }

    public static func < (left: ATURI, right: ATURI) -> Bool { left.description < right.description }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict {
        guard bytes.count <= 8192 else { return .tooLong(bytesMax: 8192) }
        return SyntaxVerdict(isWellFormed(bytes))
    }

    static func isWellFormed(_ bytes: Span<UInt8>) -> Bool {
        guard bytes.count > 5, bytes[0] == 0x61, bytes[1] == 0x74, bytes[2] == 0x3A, bytes[3] == 0x2F, bytes[4] == 0x2F else {
            return false
        }
        let authorityEnd = bytes.firstIndex(of: 0x2F, from: 5, to: bytes.count)
        guard ATIdentifier.isWellFormed(bytes, in: 5..<authorityEnd) else { return false }
        if authorityEnd == bytes.count { return true }
        let collectionEnd = bytes.firstIndex(of: 0x2F, from: authorityEnd + 1, to: bytes.count)
        guard NSID.isWellFormed(bytes, in: authorityEnd + 1..<collectionEnd) else { return false }
        return collectionEnd == bytes.count || RecordKey.isWellFormed(bytes, in: collectionEnd + 1..<bytes.count)
    }
}
