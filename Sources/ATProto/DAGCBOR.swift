/// DAG-CBOR as the AT Protocol uses it (DRISL): one encoding for each value, and nothing else is read.
///
/// Integers and lengths are in their shortest form, map keys are strings in canonical order, links are tag 42. There are no
/// floats, no other tags or simple values and no indefinite lengths. Hence `encode(decode(bytes)) == bytes` for all that decodes.
/// Sources: RFC 8949, ipld.io/specs/codecs/dag-cbor, atproto.com/specs/data-model.
public enum DAGCBOR {
    public static func encode(_ value: Value) -> [UInt8] {
        var writer = DAGCBORWriter()
        writer.append(value)
        return writer.withBytes { [UInt8]($0) }
    }

    /// Appends the encoding of `value`. Does not apply ``DecodingLimits``: whoever builds values beyond them cannot read them back.
    public static func encode(_ value: Value, into output: inout [UInt8]) {
        var writer = DAGCBORWriter()
        writer.append(value)
        writer.withBytes { output.append(contentsOf: $0) }
    }

    /// Decodes an input that is one value from its first byte to its last.
    public static func decode(_ bytes: [UInt8], limits: DecodingLimits = .standard) throws(DAGCBORError) -> Value {
        try decode(bytes.span, limits: limits)
    }

    /// Decodes an input that is one value from its first byte to its last.
    public static func decode(_ bytes: Span<UInt8>, limits: DecodingLimits = .standard) throws(DAGCBORError) -> Value {
        let (value, end) = try decodePrefix(bytes, at: 0, limits: limits)
        guard end == bytes.count else {
            throw DAGCBORError(bytes.count > limits.bytesMax ? .tooLong(max: limits.bytesMax) : .trailingBytes, at: end)
        }
        return value
    }

    /// Decodes the value that begins at `offset`, with anything after it: event-stream frames are two values in a row.
    /// - Returns: the value, and the offset of the byte after it.
    public static func decodePrefix(
        _ bytes: [UInt8], at offset: Int, limits: DecodingLimits = .standard
    ) throws(DAGCBORError) -> (value: Value, end: Int) {
        try decodePrefix(bytes.span, at: offset, limits: limits)
    }

    /// Decodes the value that begins at `offset`, with anything after it.
    /// - Returns: the value, and the offset of the byte after it.
    public static func decodePrefix(
        _ bytes: Span<UInt8>, at offset: Int, limits: DecodingLimits = .standard
    ) throws(DAGCBORError) -> (value: Value, end: Int) {
        precondition(offset >= 0 && offset <= bytes.count, "the offset lies within the input")
        var decoder = DAGCBORDecoder(bytes, at: offset, limits: limits)
        let value = try decoder.value(depth: 0)
        return (value, decoder.offset)
    }
}

/// Building blocks for those that write a fixed shape without building a `Value` first: tree nodes, commits, events.
extension DAGCBOR {
    package enum Major: UInt8 {
        case unsigned = 0x00
        case negative = 0x20
        case bytes = 0x40
        case string = 0x60
        case array = 0x80
        case map = 0xA0
        case tag = 0xC0
        case simple = 0xE0
    }

    /// Appends a head with `argument` in its shortest form.
    package static func appendHead(_ major: Major, _ argument: UInt64, to output: inout [UInt8]) {
        let major = major.rawValue
        switch argument {
        case 0..<24: output.append(major | UInt8(truncatingIfNeeded: argument))
        case 24...0xFF:
            output.append(major | 24)
            output.append(UInt8(truncatingIfNeeded: argument))
        case 0x100...0xFFFF:
            output.append(major | 25)
            append(UInt16(truncatingIfNeeded: argument).bigEndian, to: &output)
        case 0x1_0000...0xFFFF_FFFF:
            output.append(major | 26)
            append(UInt32(truncatingIfNeeded: argument).bigEndian, to: &output)
        default:
            output.append(major | 27)
            append(argument.bigEndian, to: &output)
        }
    }

    package static func append(integer: Int64, to output: inout [UInt8]) {
        // The argument of a negative integer n is -1 - n, which is n with every bit turned.
        appendHead(integer < 0 ? .negative : .unsigned, UInt64(bitPattern: integer < 0 ? ~integer : integer), to: &output)
    }

    package static func append(string: String, to output: inout [UInt8]) {
        appendHead(.string, UInt64(string.utf8.count), to: &output)
        if string.utf8.withContiguousStorageIfAvailable({ output.append(contentsOf: $0) }) == nil {
            output.append(contentsOf: string.utf8)
        }
    }

    package static func append(link: CID, to output: inout [UInt8]) {
        // Tag 42, a byte string of 37 bytes, the multibase prefix 00 for "binary".
        append((0xD82A_5825 as UInt32).bigEndian, to: &output)
        output.append(0)
        link.append(to: &output)
    }

    private static func append(_ bigEndian: some FixedWidthInteger, to output: inout [UInt8]) {
        withUnsafeBytes(of: bigEndian) { output.append(contentsOf: $0) }
    }
}
