/// JSON as the AT Protocol's data model maps to it: links are `{"$link": "b…"}`, byte strings `{"$bytes": "base64"}`, and all
/// numbers are integers.
///
/// The encoder writes no space, the canonical key order of DAG-CBOR, and base64 without padding, so equal values give equal
/// text. Source: atproto.com/specs/data-model, "JSON representation".
public enum DataModelJSON {
    /// The largest magnitude of an integer in JSON: 2^53 − 1, the last that every JSON reader keeps exactly.
    public static let integerMax: Int64 = 1 << 53 - 1

    /// Decodes an object of the data model, the whole input.
    ///
    /// Refused are: anything at the top but an object; a key twice in one object, also when spelled with different escapes;
    /// lone surrogates; numbers with a fraction (`123.0` and `1.23e2` are 123) or beyond ±(2^53 − 1); malformed `$link`,
    /// `$bytes` and `$type`; objects of type `blob` that are not a blob reference.
    public static func decode(_ bytes: [UInt8], limits: DecodingLimits = .json) throws(DataModelJSONError) -> Value {
        try decode(bytes.span, limits: limits)
    }

    /// Decodes an object of the data model, the whole input. See the overload for arrays.
    public static func decode(_ bytes: Span<UInt8>, limits: DecodingLimits = .json) throws(DataModelJSONError) -> Value {
        var decoder = try DataModelJSONDecoder(bytes, rules: .dataModel, limits: limits)
        let value = try decoder.document()
        guard case .map = value else { throw DataModelJSONError(.notObject, at: 0) }
        return value
    }

    /// Decodes JSON that is not a record, such as a DID document, a token's claims or a lexicon: any value at the top, and
    /// `$link`, `$bytes`, `$type` are keys like others. All else is as strict as `decode`, numbers too.
    package static func decodePlain(_ bytes: [UInt8], limits: DecodingLimits = .json) throws(DataModelJSONError) -> Value {
        var decoder = try DataModelJSONDecoder(bytes.span, rules: .plain, limits: limits)
        return try decoder.document()
    }

    public static func encode(_ value: Value) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(512)
        encode(value, into: &output)
        return output
    }

    /// Appends the JSON of `value`. A value that no JSON decodes to (a map `{"$link": 1}`, an integer beyond 2^53 − 1) is
    /// written as it stands.
    public static func encode(_ value: Value, into output: inout [UInt8]) {
        switch value {
        case .null: append("null", to: &output)
        case .bool(let bool): append(bool ? "true" : "false", to: &output)
        case .integer(let integer): append(contentsOf: String(integer), to: &output)
        case .string(let string): append(string: string, to: &output)
        case .bytes(let bytes):
            append("{\"$bytes\":\"", to: &output)
            Base64.encode(bytes, into: &output)
            append("\"}", to: &output)
        case .link(let cid):
            append("{\"$link\":\"", to: &output)
            append(contentsOf: cid.description, to: &output)
            append("\"}", to: &output)
        case .array(let items): append(array: items, to: &output)
        case .map(let map): append(map: map, to: &output)
        }
    }

    /// Appends `string` in quotes. Only what JSON demands is escaped: quotes, backslashes and control characters.
    package static func append(string: String, to output: inout [UInt8]) {
        output.append(quote)
        let text = string.utf8Span.span
        var start = 0
        while true {
            let stop = JSONText.firstSpecial(in: text, from: start, to: text.count)
            text.extracting(start..<stop).withUnsafeBufferPointer { output.append(contentsOf: $0) }
            guard stop < text.count else { break }
            append(escaped: text[stop], to: &output)
            start = stop + 1
        }
        output.append(quote)
    }

    private static let quote = UInt8(ascii: "\"")

    private static func append(array items: [Value], to output: inout [UInt8]) {
        output.append(UInt8(ascii: "["))
        var isFirst = true
        for item in items {
            if !isFirst { output.append(UInt8(ascii: ",")) }
            isFirst = false
            encode(item, into: &output)
        }
        output.append(UInt8(ascii: "]"))
    }

    private static func append(map: ValueMap, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "{"))
        var isFirst = true
        for (key, value) in map {
            if !isFirst { output.append(UInt8(ascii: ",")) }
            isFirst = false
            append(string: key, to: &output)
            output.append(UInt8(ascii: ":"))
            encode(value, into: &output)
        }
        output.append(UInt8(ascii: "}"))
    }

    private static func append(escaped byte: UInt8, to output: inout [UInt8]) {
        switch byte {
        case quote: append("\\\"", to: &output)
        case UInt8(ascii: "\\"): append("\\\\", to: &output)
        case 0x08: append("\\b", to: &output)
        case 0x09: append("\\t", to: &output)
        case 0x0A: append("\\n", to: &output)
        case 0x0C: append("\\f", to: &output)
        case 0x0D: append("\\r", to: &output)
        default:
            append(byte < 0x10 ? "\\u000" : "\\u001", to: &output)
            append(contentsOf: String(byte & 0x0F, radix: 16), to: &output)
        }
    }

    private static func append(_ text: StaticString, to output: inout [UInt8]) {
        output.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    private static func append(contentsOf text: String, to output: inout [UInt8]) {
        if text.utf8.withContiguousStorageIfAvailable({ output.append(contentsOf: $0) }) == nil {
            output.append(contentsOf: text.utf8)
        }
    }
}

/// Why an input is not data-model JSON, and where.
public struct DataModelJSONError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Reason: Hashable, Sendable {
        /// The input ends inside a value.
        case truncated
        /// A byte that JSON does not allow in this place.
        case unexpected(UInt8)
        /// A whole value is followed by more than white space.
        case trailingBytes
        case tooLong(max: Int)
        case tooDeep(max: Int)
        case tooManyItems(max: Int)
        case keyTooLong(max: Int)
        case invalidUTF8
        /// A control character that is not escaped in a string.
        case controlCharacter
        case invalidEscape
        /// Half of a surrogate pair, which no UTF-8 can hold.
        case loneSurrogate
        case duplicateKey
        case fraction
        /// Beyond ±(2^53 − 1).
        case integerOutOfRange
        case notObject
        /// An object with `$link` that is not `{"$link": CID}`; nil when not the CID's text is at fault.
        case invalidLink(CIDError?)
        /// An object with `$bytes` that is not `{"$bytes": base64}`.
        case invalidBytes
        /// A `$type` that is not a string, or an empty one.
        case invalidType
        /// `$type` is `blob`, but the rest is not `ref` (a link), `mimeType` (not empty) and `size` (above zero), or more.
        case invalidBlob
    }

    public let reason: Reason
    /// The byte offset of the value, key or byte in question.
    public let offset: Int

    init(_ reason: Reason, at offset: Int) {
        self.reason = reason
        self.offset = offset
    }

    public var description: String { "JSON: \(reason) at byte \(offset)" }
}
