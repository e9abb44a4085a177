/// Base32 of RFC 4648 in lower case without padding, the text form of a CID after its `b`.
public enum Base32 {
    static let alphabet: StaticString = "abcdefghijklmnopqrstuvwxyz234567"

    public static func encode(_ bytes: [UInt8]) -> String {
        encode(bytes.span, prefix: nil)
    }

    /// Accepts exactly what `encode` gives: lower case, a possible length, unused bits zero.
    public static func decode(_ text: String) throws(Base32Error) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(text.utf8.count * 5 / 8)
        var accumulator: UInt32 = 0
        var bits = 0
        var offset = 0
        for character in text.utf8 {
            guard let value = digit(character) else { throw .character(offset: offset) }
            accumulator = accumulator << 5 | UInt32(value)
            bits += 5
            if bits >= 8 {
                bits -= 8
                output.append(UInt8(truncatingIfNeeded: accumulator >> UInt32(bits)))
            }
            offset += 1
        }
        guard bits < 5 else { throw .length(offset) }
        guard accumulator & (1 << UInt32(bits) - 1) == 0 else { throw .unusedBits }
        return output
    }

    /// The text of `bytes`, with `prefix` (an ASCII character) before it.
    static func encode(_ bytes: Span<UInt8>, prefix: UInt8?) -> String {
        let capacity = (bytes.count * 8 + 4) / 5 + (prefix == nil ? 0 : 1)
        return String(unsafeUninitializedCapacity: capacity) { output in
            var count = 0
            if let prefix {
                output.initializeElement(at: 0, to: prefix)
                count = 1
            }
            var accumulator: UInt32 = 0
            var bits = 0
            for index in bytes.indices {
                accumulator = accumulator << 8 | UInt32(bytes[index])
                bits += 8
                while bits >= 5 {
                    bits -= 5
                    output.initializeElement(at: count, to: character(accumulator >> UInt32(bits)))
                    count += 1
                }
            }
            if bits > 0 {
                output.initializeElement(at: count, to: character(accumulator << UInt32(5 - bits)))
                count += 1
            }
            return count
        }
    }

    private static func character(_ value: UInt32) -> UInt8 {
        alphabet.utf8Start[Int(value & 31)]
    }

    /// The five bits that `character` stands for.
    static func digit(_ character: UInt8) -> UInt8? {
        switch character {
        case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a")
        case UInt8(ascii: "2")...UInt8(ascii: "7"): character - UInt8(ascii: "2") + 26
        default: nil
        }
    }
}

public enum Base32Error: Error, Hashable, Sendable {
    /// A character outside the lower-case alphabet, at this byte offset.
    case character(offset: Int)
    /// No number of bytes has a text of this many characters.
    case length(Int)
    /// The bits after the last whole byte are not zero.
    case unusedBits
}
