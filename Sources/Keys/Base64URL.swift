/// Base64 with the URL alphabet and no padding (RFC 4648, section 5), as JWK and JWT want it.
///
/// Strict: each text stands for other bytes than every other text that is accepted. Padding, spaces, a lone last
/// character, and bits left over that are not zero are refused.
public enum Base64URL {
    private static let alphabet = [UInt8]("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 0xff, count: 256)
        for (value, character) in alphabet.enumerated() { values[Int(character)] = UInt8(value) }
        return values
    }()

    public static func encode(_ bytes: [UInt8]) -> String {
        let count = (bytes.count * 4 + 2) / 3
        return String(unsafeUninitializedCapacity: count) { text in
            alphabet.withUnsafeBufferPointer { alphabet in
                var written = 0
                var bits: UInt32 = 0
                var bitCount = 0
                for byte in bytes {
                    bits = bits << 8 | UInt32(byte)
                    bitCount += 8
                    while bitCount >= 6 {
                        bitCount -= 6
                        text[written] = alphabet[Int(bits >> UInt32(bitCount) & 63)]
                        written += 1
                    }
                }
                if bitCount > 0 {
                    text[written] = alphabet[Int(bits << UInt32(6 - bitCount) & 63)]
                    written += 1
                }
                return written
            }
        }
    }

    /// Time and memory grow with the length; the caller has bounded it.
    /// - Throws: `malformed` on anything but the one text that `encode` gives.
    public static func decode(_ text: String) throws(KeysError) -> [UInt8] {
        try decode(utf8: text.utf8)
    }

    /// The same from bytes that need not be UTF-8, such as a part of a token.
    public static func decode(utf8 text: some Collection<UInt8>) throws(KeysError) -> [UInt8] {
        // Copied as a whole, as other modules' collections give single elements slowly.
        try decode(Array(text).span)
    }

    private static func decode(_ text: Span<UInt8>) throws(KeysError) -> [UInt8] {
        guard text.count % 4 != 1 else { throw .malformed("base64url text has a lone last character") }
        let values = values
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count * 3 / 4)
        var bits: UInt32 = 0
        var bitCount: UInt32 = 0
        for index in text.indices {
            let value = values[Int(text[index])]
            guard value != 0xff else { throw .malformed("not a base64url character") }
            bits = bits << 6 | UInt32(value)
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> bitCount))
            }
        }
        guard bits & ((1 << bitCount) - 1) == 0 else { throw .malformed("base64url text has bits left over") }
        return bytes
    }
}
