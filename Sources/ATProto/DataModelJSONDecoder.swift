/// Reads JSON (RFC 8259) into the data model, by hand: only a parser of our own sees a key that comes twice, tells `1.0` from
/// `1.5` exactly, refuses lone surrogates, and bounds depth and count before it builds.
///
/// The whole input is checked to be UTF-8 first, so strings are copied from it without another check.
struct DataModelJSONDecoder: ~Escapable {
    enum Rules { case dataModel, plain }

    private let input: Span<UInt8>
    private let rules: Rules
    private let limits: DecodingLimits
    /// The whole input is, so each string in it is too.
    private let isASCII: Bool
    private var offset = 0
    /// Items of the containers so far.
    private var total = 0

    @_lifetime(copy input)
    init(_ input: Span<UInt8>, rules: Rules, limits: DecodingLimits) throws(DataModelJSONError) {
        guard input.count <= limits.bytesMax else { throw DataModelJSONError(.tooLong(max: limits.bytesMax), at: limits.bytesMax) }
        do throws(UTF8.ValidationError) {
            isASCII = try UTF8Span(validating: input).isKnownASCII
        } catch {
            throw DataModelJSONError(.invalidUTF8, at: error.byteOffsets.lowerBound)
        }
        self.input = input
        self.rules = rules
        self.limits = limits
    }

    /// The one value of the input, with white space around it.
    @_lifetime(self: copy self)
    mutating func document() throws(DataModelJSONError) -> Value {
        _ = try next()
        let value = try value(depth: 0)
        skipWhitespace()
        guard offset == input.count else { throw DataModelJSONError(.trailingBytes, at: offset) }
        return value
    }

    /// The value that begins at `offset`, where white space has been skipped.
    /// - Parameter depth: the number of containers around the value.
    @_lifetime(self: copy self)
    private mutating func value(depth: Int) throws(DataModelJSONError) -> Value {
        guard offset < input.count else { throw DataModelJSONError(.truncated, at: offset) }
        let byte = input[unchecked: offset]
        switch byte {
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return .array(try array(depth: depth))
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .integer(try integer())
        case UInt8(ascii: "t"):
            try word("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try word("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try word("null")
            return .null
        default: throw DataModelJSONError(.unexpected(byte), at: offset)
        }
    }

    @_lifetime(self: copy self)
    private mutating func word(_ word: StaticString) throws(DataModelJSONError) {
        for index in 0..<word.utf8CodeUnitCount {
            guard offset < input.count else { throw DataModelJSONError(.truncated, at: offset) }
            let byte = input[unchecked: offset]
            guard byte == word.utf8Start[index] else { throw DataModelJSONError(.unexpected(byte), at: offset) }
            offset += 1
        }
    }

    @_lifetime(self: copy self)
    private mutating func skipWhitespace() {
        while offset < input.count {
            switch input[unchecked: offset] {
            case 0x20, 0x09, 0x0A, 0x0D: offset += 1
            default: return
            }
        }
    }

    /// The next byte that is not white space; `offset` is then its place.
    @_lifetime(self: copy self)
    private mutating func next() throws(DataModelJSONError) -> UInt8 {
        skipWhitespace()
        guard offset < input.count else { throw DataModelJSONError(.truncated, at: offset) }
        return input[unchecked: offset]
    }
}

// Containers.
extension DataModelJSONDecoder {
    @_lifetime(self: copy self)
    private mutating func array(depth: Int) throws(DataModelJSONError) -> [Value] {
        guard depth < limits.depthMax else { throw DataModelJSONError(.tooDeep(max: limits.depthMax), at: offset) }
        offset += 1
        var items: [Value] = []
        if try next() == UInt8(ascii: "]") {
            offset += 1
            return items
        }
        while true {
            try countItem(after: items.count)
            items.append(try value(depth: depth + 1))
            guard try separator(or: UInt8(ascii: "]")) else { return items }
        }
    }

    @_lifetime(self: copy self)
    private mutating func object(depth: Int) throws(DataModelJSONError) -> Value {
        let start = offset
        guard depth < limits.depthMax else { throw DataModelJSONError(.tooDeep(max: limits.depthMax), at: start) }
        offset += 1
        var entries = JSONObjectEntries()
        var marks = JSONMarks()
        if try next() == UInt8(ascii: "}") {
            offset += 1
            return .map(ValueMap())
        }
        while true {
            try countItem(after: entries.count)
            let keyStart = offset
            let key = try key()
            if rules == .dataModel { marks.note(key) }
            let isNew = entries.insert(key, try value(depth: depth + 1))
            guard isNew else { throw DataModelJSONError(.duplicateKey, at: keyStart) }
            guard try separator(or: UInt8(ascii: "}")) else { break }
        }
        let map = ValueMap(canonical: entries.sorted())
        return marks.isEmpty ? .map(map) : try special(map, marks, at: start)
    }

    /// Room for one more item in a container that has `count`.
    @_lifetime(self: copy self)
    private mutating func countItem(after count: Int) throws(DataModelJSONError) {
        guard count < limits.countMax else { throw DataModelJSONError(.tooManyItems(max: limits.countMax), at: offset) }
        total += 1
        guard total <= limits.totalMax else { throw DataModelJSONError(.tooManyItems(max: limits.totalMax), at: offset) }
    }

    /// Past a comma (and the white space after it), or past `end`.
    /// - Returns: whether another item follows.
    @_lifetime(self: copy self)
    private mutating func separator(or end: UInt8) throws(DataModelJSONError) -> Bool {
        let byte = try next()
        guard byte == UInt8(ascii: ",") || byte == end else { throw DataModelJSONError(.unexpected(byte), at: offset) }
        offset += 1
        if byte == end { return false }
        _ = try next()
        return true
    }

    /// A key and its colon; `offset` is then at the value.
    @_lifetime(self: copy self)
    private mutating func key() throws(DataModelJSONError) -> String {
        let start = offset
        let byte = input[unchecked: start]
        guard byte == UInt8(ascii: "\"") else { throw DataModelJSONError(.unexpected(byte), at: start) }
        let key = try string()
        guard key.utf8.count <= limits.keyBytesMax else { throw DataModelJSONError(.keyTooLong(max: limits.keyBytesMax), at: start) }
        let colon = try next()
        guard colon == UInt8(ascii: ":") else { throw DataModelJSONError(.unexpected(colon), at: offset) }
        offset += 1
        _ = try next()
        return key
    }

    /// What an object with one of the special keys means.
    private func special(_ map: ValueMap, _ marks: JSONMarks, at start: Int) throws(DataModelJSONError) -> Value {
        if marks.hasLink {
            guard map.count == 1, case .string(let text) = map.entries[0].value else {
                throw DataModelJSONError(.invalidLink(nil), at: start)
            }
            do throws(CIDError) {
                return .link(try CID(text))
            } catch {
                throw DataModelJSONError(.invalidLink(error), at: start)
            }
        }
        if marks.hasBytes {
            guard map.count == 1, case .string(let text) = map.entries[0].value, let decoded = Base64.decode(text.utf8Span.span) else {
                throw DataModelJSONError(.invalidBytes, at: start)
            }
            return .bytes(decoded)
        }
        if marks.hasType {
            guard case .string(let text)? = map["$type"], !text.isEmpty else { throw DataModelJSONError(.invalidType, at: start) }
            guard text != "blob" || isBlob(map) else { throw DataModelJSONError(.invalidBlob, at: start) }
        }
        return .map(map)
    }

    private func isBlob(_ map: ValueMap) -> Bool {
        guard map.count == 4, case .link? = map["ref"], case .string(let mimeType)? = map["mimeType"],
            case .integer(let size)? = map["size"]
        else { return false }
        return !mimeType.isEmpty && size > 0
    }
}

// Strings.
extension DataModelJSONDecoder {
    /// The string whose opening quote is at `offset`.
    @_lifetime(self: copy self)
    private mutating func string() throws(DataModelJSONError) -> String {
        let start = offset + 1
        let stop = JSONText.firstSpecial(in: input, from: start, to: input.count)
        guard stop < input.count else { throw DataModelJSONError(.truncated, at: stop) }
        guard input[unchecked: stop] == UInt8(ascii: "\"") else { return try escapedString(from: start, firstSpecial: stop) }
        offset = stop + 1
        return String(copying: UTF8Span(unchecked: input.extracting(start..<stop), isKnownASCII: isASCII))
    }

    /// The rest of a string that holds an escape, or ends at a control character.
    @_lifetime(self: copy self)
    private mutating func escapedString(from start: Int, firstSpecial: Int) throws(DataModelJSONError) -> String {
        var text: [UInt8] = []
        offset = start
        var stop = firstSpecial
        while true {
            input.extracting(offset..<stop).withUnsafeBufferPointer { text.append(contentsOf: $0) }
            guard stop < input.count else { throw DataModelJSONError(.truncated, at: stop) }
            offset = stop
            switch input[unchecked: stop] {
            case UInt8(ascii: "\""):
                offset += 1
                return String(copying: UTF8Span(unchecked: text.span))
            case UInt8(ascii: "\\"): try appendEscape(to: &text)
            default: throw DataModelJSONError(.controlCharacter, at: stop)
            }
            stop = JSONText.firstSpecial(in: input, from: offset, to: input.count)
        }
    }

    /// Appends what the escape at `offset` stands for, and goes past it.
    @_lifetime(self: copy self)
    private mutating func appendEscape(to text: inout [UInt8]) throws(DataModelJSONError) {
        let start = offset
        guard start + 1 < input.count else { throw DataModelJSONError(.truncated, at: input.count) }
        offset += 2
        switch input[unchecked: start + 1] {
        case UInt8(ascii: "\""): text.append(UInt8(ascii: "\""))
        case UInt8(ascii: "\\"): text.append(UInt8(ascii: "\\"))
        case UInt8(ascii: "/"): text.append(UInt8(ascii: "/"))
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"): text.append(contentsOf: String(try scalar(escapedAt: start)).utf8)
        default: throw DataModelJSONError(.invalidEscape, at: start)
        }
    }

    /// The scalar of the `\uXXXX`, or of the pair of them, at `start`; `offset` is behind the `u`.
    @_lifetime(self: copy self)
    private mutating func scalar(escapedAt start: Int) throws(DataModelJSONError) -> Unicode.Scalar {
        let first = try hexadecimal(escapedAt: start)
        if let scalar = Unicode.Scalar(first) { return scalar }
        let second = offset
        guard first < 0xDC00, second + 1 < input.count, input[unchecked: second] == UInt8(ascii: "\\"),
            input[unchecked: second + 1] == UInt8(ascii: "u")
        else { throw DataModelJSONError(.loneSurrogate, at: start) }
        offset += 2
        let low = try hexadecimal(escapedAt: second)
        guard low & 0xFC00 == 0xDC00, let scalar = Unicode.Scalar(0x10000 + (first & 0x3FF) << 10 + low & 0x3FF) else {
            throw DataModelJSONError(.loneSurrogate, at: start)
        }
        return scalar
    }

    @_lifetime(self: copy self)
    private mutating func hexadecimal(escapedAt start: Int) throws(DataModelJSONError) -> UInt32 {
        guard offset + 4 <= input.count else { throw DataModelJSONError(.truncated, at: input.count) }
        var value: UInt32 = 0
        for index in offset..<(offset + 4) {
            guard let digit = hexadecimalDigit(input[unchecked: index]) else { throw DataModelJSONError(.invalidEscape, at: start) }
            value = value << 4 | digit
        }
        offset += 4
        return value
    }

    private func hexadecimalDigit(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte - UInt8(ascii: "A") + 10)
        default: nil
        }
    }
}

// Numbers.
extension DataModelJSONDecoder {
    /// The number at `offset`, which may be written with a fraction or an exponent as long as its value is an integer.
    @_lifetime(self: copy self)
    private mutating func integer() throws(DataModelJSONError) -> Int64 {
        let start = offset
        let isNegative = input[unchecked: start] == UInt8(ascii: "-")
        if isNegative { offset += 1 }
        var decimal = JSONDecimal()
        let leading = offset
        try digits { decimal.append($0) }
        guard input[unchecked: leading] != UInt8(ascii: "0") || offset == leading + 1 else {
            throw DataModelJSONError(.unexpected(input[unchecked: leading + 1]), at: leading + 1)
        }
        if offset < input.count, input[unchecked: offset] == UInt8(ascii: ".") {
            offset += 1
            let first = offset
            try digits { decimal.append($0) }
            decimal.exponent -= offset - first
        }
        if offset < input.count, input[unchecked: offset] | 0x20 == UInt8(ascii: "e") {
            offset += 1
            decimal.exponent += try exponent()
        }
        guard let magnitude = decimal.integer() else { throw DataModelJSONError(.fraction, at: start) }
        guard magnitude <= UInt64(DataModelJSON.integerMax) else { throw DataModelJSONError(.integerOutOfRange, at: start) }
        return isNegative ? -Int64(magnitude) : Int64(magnitude)
    }

    /// One digit or more.
    @_lifetime(self: copy self)
    private mutating func digits(_ body: (UInt8) -> Void) throws(DataModelJSONError) {
        let start = offset
        while offset < input.count {
            let digit = input[unchecked: offset] &- UInt8(ascii: "0")
            guard digit < 10 else { break }
            body(digit)
            offset += 1
        }
        guard offset > start else {
            guard offset < input.count else { throw DataModelJSONError(.truncated, at: offset) }
            throw DataModelJSONError(.unexpected(input[unchecked: offset]), at: offset)
        }
    }

    /// The exponent behind the `e`. One beyond a milliard is cut to it: no input is long enough to bring such a number back.
    @_lifetime(self: copy self)
    private mutating func exponent() throws(DataModelJSONError) -> Int {
        var isNegative = false
        if offset < input.count, input[unchecked: offset] == UInt8(ascii: "-") || input[unchecked: offset] == UInt8(ascii: "+") {
            isNegative = input[unchecked: offset] == UInt8(ascii: "-")
            offset += 1
        }
        var exponent = 0
        try digits { exponent = min(exponent * 10 + Int($0), 1_000_000_000) }
        return isNegative ? -exponent : exponent
    }
}

/// A decimal number on its way to an integer: `significant` × 10^(`zeros` + `exponent`).
private struct JSONDecimal {
    /// The digits up to the last that is not zero.
    private var significant: UInt64 = 0
    /// The zeros after those digits.
    private var zeros = 0
    private var overflows = false
    var exponent = 0

    mutating func append(_ digit: UInt8) {
        if digit == 0 {
            zeros += 1
            return
        }
        overflows = overflows || !multiply(zeros: zeros + 1) || significant > UInt64.max - UInt64(digit)
        zeros = 0
        if !overflows { significant += UInt64(digit) }
    }

    /// The number; nil when it has a fraction. `UInt64.max` stands for all that is beyond `UInt64`.
    consuming func integer() -> UInt64? {
        if significant == 0, !overflows { return 0 }
        let scale = zeros + exponent
        guard scale >= 0 else { return nil }
        return overflows || !multiply(zeros: scale) ? UInt64.max : significant
    }

    /// Multiplies by ten as often; false when the product is beyond `UInt64`.
    private mutating func multiply(zeros count: Int) -> Bool {
        guard significant != 0 else { return true }
        for _ in 0..<count {
            let (product, overflow) = significant.multipliedReportingOverflow(by: 10)
            if overflow { return false }
            significant = product
        }
        return true
    }
}

/// Which keys with a meaning an object has.
private struct JSONMarks {
    private(set) var hasLink = false
    private(set) var hasBytes = false
    private(set) var hasType = false

    var isEmpty: Bool { !hasLink && !hasBytes && !hasType }

    mutating func note(_ key: String) {
        guard key.utf8.first == UInt8(ascii: "$") else { return }
        switch key {
        case "$link": hasLink = true
        case "$bytes": hasBytes = true
        case "$type": hasType = true
        default: break
        }
    }
}

/// The entries of one object as they arrive: in any order, each key once.
///
/// Few entries are put in their places as they come. From `insertedMax` on, where that would take the square of their number,
/// a set knows the keys and the entries are sorted once at the end.
private struct JSONObjectEntries {
    private static let insertedMax = 32
    /// Places for the entries of a usual object.
    private static let reservedFirst = 8

    private var entries: [ValueMap.Entry] = []
    /// All keys, once the entries are not in order any more.
    private var seen: Set<ExactKey>? = nil

    var count: Int { entries.count }

    /// - Returns: whether the key is new; if not, nothing was done.
    mutating func insert(_ key: String, _ value: Value) -> Bool {
        if seen == nil {
            let isLast = entries.isEmpty || CanonicalOrder.compare(entries[entries.count - 1].key, key) < 0
            if isLast {
                if entries.isEmpty { entries.reserveCapacity(Self.reservedFirst) }
                entries.append(ValueMap.Entry(key: key, value: value))
                return true
            }
            if entries.count < Self.insertedMax { return insertAmongFew(key, value) }
            seen = Set(entries.lazy.map { ExactKey(text: $0.key) })
        }
        guard seen!.insert(ExactKey(text: key)).inserted else { return false }
        entries.append(ValueMap.Entry(key: key, value: value))
        return true
    }

    private mutating func insertAmongFew(_ key: String, _ value: Value) -> Bool {
        var place = entries.count
        while place > 0 {
            let order = CanonicalOrder.compare(entries[place - 1].key, key)
            if order == 0 { return false }
            if order < 0 { break }
            place -= 1
        }
        entries.insert(ValueMap.Entry(key: key, value: value), at: place)
        return true
    }

    consuming func sorted() -> [ValueMap.Entry] {
        if seen != nil { entries.sort { CanonicalOrder.compare($0.key, $1.key) < 0 } }
        // The smallest objects give back what was reserved for them: a text of nothing else would take hundreds of times its size.
        return entries.count <= 2 ? entries.withUnsafeBufferPointer { [ValueMap.Entry]($0) } : entries
    }
}

/// A string that equals another by its bytes, and is hashed by them.
private struct ExactKey: Hashable {
    let text: String

    static func == (left: ExactKey, right: ExactKey) -> Bool { CanonicalOrder.areEqual(left.text, right.text) }

    func hash(into hasher: inout Hasher) { CanonicalOrder.hash(text, into: &hasher) }
}

/// The bytes that end a plain run inside a JSON string.
enum JSONText {
    /// The first quote, backslash or control character in `text[start..<end]`, or `end`. Looks at eight bytes at a time.
    static func firstSpecial(in text: Span<UInt8>, from start: Int, to end: Int) -> Int {
        var offset = start
        let bytes = text.bytes
        while end - offset >= 8 {
            let word = bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self).littleEndian
            // The high bit of a byte in `marks` is set where the byte is special; above the first true mark others may be false.
            let marks = zeros(word ^ 0x2222_2222_2222_2222) | zeros(word ^ 0x5C5C_5C5C_5C5C_5C5C) | below20(word)
            if marks != 0 { return offset + marks.trailingZeroBitCount / 8 }
            offset += 8
        }
        while offset < end {
            let byte = text[unchecked: offset]
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte < 0x20 { break }
            offset += 1
        }
        return offset
    }

    private static func zeros(_ word: UInt64) -> UInt64 {
        (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
    }

    private static func below20(_ word: UInt64) -> UInt64 {
        (word &- 0x2020_2020_2020_2020) & ~word & 0x8080_8080_8080_8080
    }
}
