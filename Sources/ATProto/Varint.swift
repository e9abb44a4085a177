/// Unsigned variable-length integers: seven bits a byte, least significant group first, as multiformats and CAR use them.
///
/// Only the shortest form is accepted, and at most nine bytes (63 bits), as the multiformats `unsigned-varint` text demands.
public enum Varint {
    public static let valueMax: UInt64 = 1 << 63 - 1
    /// The length in bytes of the longest accepted form.
    public static let bytesMax = 9

    /// Appends the shortest form of `value`, which is at most `valueMax`.
    public static func encode(_ value: UInt64, into output: inout [UInt8]) {
        precondition(value <= valueMax, "a varint holds at most 63 bits")
        var rest = value
        while rest >= 0x80 {
            output.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        output.append(UInt8(truncatingIfNeeded: rest))
    }

    /// Reads one varint that begins at `offset`.
    /// - Returns: the value and the offset of the byte after it.
    public static func decode(_ bytes: Span<UInt8>, at offset: Int) throws(VarintError) -> (value: UInt64, end: Int) {
        var value: UInt64 = 0
        for index in 0..<bytesMax {
            guard offset + index < bytes.count else { throw .truncated(offset: offset) }
            let byte = bytes[offset + index]
            value |= UInt64(byte & 0x7F) << UInt64(7 * index)
            if byte < 0x80 {
                guard byte != 0 || index == 0 else { throw .notShortest(offset: offset) }
                return (value, offset + index + 1)
            }
        }
        throw .tooLong(offset: offset)
    }

    public static func decode(_ bytes: [UInt8], at offset: Int) throws(VarintError) -> (value: UInt64, end: Int) {
        try decode(bytes.span, at: offset)
    }
}

/// Each case carries the offset of the varint's first byte.
public enum VarintError: Error, Hashable, Sendable {
    /// The bytes end inside the varint: a streaming reader may fetch more and try again.
    case truncated(offset: Int)
    case notShortest(offset: Int)
    case tooLong(offset: Int)
}
