/// How a body or a block stands in a store: one byte that says how it is sealed, then the content; and the number of the slot
/// that holds the row's key, nil for content in the clear.
///
/// The prefix and the slot are there from the first day, so that sealing needs no new row format.
package struct SealedRow: Hashable, Sendable {
    /// The first byte of every stored body and block.
    package enum Prefix: UInt8, Sendable {
        /// The content as it is.
        case plain = 0x00
        /// Nonce of 12 bytes, ciphertext, tag of 16 bytes; AES-256-GCM under the key in the row's slot.
        case aes256GCM = 0x01
    }

    /// Which slot of the slot store holds the key; nil exactly when the prefix is `plain`.
    package let slot: Int64?
    /// Prefix and content, as stored.
    package let stored: [UInt8]

    package init(plain content: [UInt8]) {
        slot = nil
        stored = [Prefix.plain.rawValue] + content
    }

    /// - Throws: `malformed` where the prefix is unknown or does not fit the slot.
    package init(stored: [UInt8], slot: Int64?) throws(EventLogError) {
        try SealedRow.check(prefix: stored.first, slot: slot)
        self.stored = stored
        self.slot = slot
    }

    /// The content of a row in the clear.
    package func opened() throws(EventLogError) -> [UInt8] {
        guard stored.first == Prefix.plain.rawValue else { throw .malformed("row: sealed, and its key was not given") }
        return [UInt8](stored.dropFirst())
    }

    /// The content of a stored row in the clear, without copying it twice.
    package static func open(stored: UnsafeRawBufferPointer, slot: Int64?) throws(EventLogError) -> [UInt8] {
        try check(prefix: stored.first, slot: slot)
        guard stored.first == Prefix.plain.rawValue else { throw .malformed("row: sealed, and its key was not given") }
        return [UInt8](stored.dropFirst())
    }

    private static func check(prefix: UInt8?, slot: Int64?) throws(EventLogError) {
        guard let prefix else { throw .malformed("row: empty, its sealing prefix is missing") }
        switch (Prefix(rawValue: prefix), slot) {
        case (.plain, nil), (.aes256GCM, .some): return
        case (.plain, .some): throw .malformed("row: in the clear, yet it names a slot")
        case (.aes256GCM, nil): throw .malformed("row: sealed, yet it names no slot")
        case (nil, _): throw .malformed("row: sealing prefix \(prefix) is not known to this version")
        }
    }
}
