package import ATProto

/// Where a record stands in its repo: the MST key `collection/recordKey`.
package struct RecordPath: Hashable, Sendable, CustomStringConvertible {
    package let collection: NSID
    package let recordKey: RecordKey

    package static let bytesMax = 317 + 1 + 512

    package init(collection: NSID, recordKey: RecordKey) {
        self.collection = collection
        self.recordKey = recordKey
    }

    /// Nil unless the text is an NSID and a record key with one slash between them.
    package init?(_ text: String) {
        guard let slash = text.utf8.firstIndex(of: UInt8(ascii: "/")),
            let collection = try? NSID(String(text[..<slash])),
            let recordKey = try? RecordKey(String(text[text.utf8.index(after: slash)...]))
        else { return nil }
        self.init(collection: collection, recordKey: recordKey)
    }

    package var description: String { "\(collection)/\(recordKey)" }

    package func uri(of owner: DID) -> ATURI { ATURI(authority: .did(owner), collection: collection, recordKey: recordKey) }
}

extension ATURI {
    /// Whose record this names, and where it is in the repo; nil unless it names a DID, a collection and a record key.
    package var place: (owner: DID, path: RecordPath)? {
        guard case .did(let owner) = authority, let collection, let recordKey else { return nil }
        return (owner, RecordPath(collection: collection, recordKey: recordKey))
    }
}
