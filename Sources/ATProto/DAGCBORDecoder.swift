/// Reads DAG-CBOR strictly from a span.
///
/// It looks before it takes: a claimed length is compared with the bytes that are there before anything is allocated for it, and
/// containers reserve a few places only, so an input costs memory in proportion to its own length. It calls itself once for each
/// container, so `limits.depthMax` bounds the stack too.
struct DAGCBORDecoder: ~Escapable {
    let input: Span<UInt8>
    /// Where reading stops: the end of the input, or what the limit on bytes leaves of it.
    let end: Int
    private let limits: DecodingLimits
    private(set) var offset: Int
    /// Items of the containers so far, those that are still to come included.
    private var total = 0

    /// Places reserved at once in an array or a map; bigger ones grow as their items arrive.
    private static let reservedMax = 32

    @_lifetime(copy input)
    init(_ input: Span<UInt8>, at offset: Int, limits: DecodingLimits) {
        self.input = input
        self.limits = limits
        self.offset = offset
        end = input.count - offset > limits.bytesMax ? offset + limits.bytesMax : input.count
    }

    /// - Parameter depth: the number of containers around the value.
    @_lifetime(self: copy self)
    mutating func value(depth: Int) throws(DAGCBORError) -> Value {
        let start = offset
        guard start < end else { throw ended(at: start) }
        let initial = input[unchecked: start]
        switch initial >> 5 {
        case 0:
            let argument = try argument()
            guard argument <= UInt64(Int64.max) else { throw DAGCBORError(.integerOutOfRange, at: start) }
            return .integer(Int64(bitPattern: argument))
        case 1:
            let argument = try argument()
            guard argument <= UInt64(Int64.max) else { throw DAGCBORError(.integerOutOfRange, at: start) }
            return .integer(~Int64(bitPattern: argument))
        case 2:
            return .bytes(try bytes())
        case 3:
            return .string(try string(range: text()))
        case 4:
            return .array(try array(depth: depth))
        case 5:
            return .map(try map(depth: depth))
        case 6:
            return .link(try link())
        default:
            offset += 1
            switch initial {
            case 0xF4: return .bool(false)
            case 0xF5: return .bool(true)
            case 0xF6: return .null
            case 0xF9, 0xFA, 0xFB: throw DAGCBORError(.float, at: start)
            case 0xFF: throw DAGCBORError(.indefiniteLength, at: start)
            default: throw DAGCBORError(.simpleValue, at: start)
            }
        }
    }

    /// The argument of the head at `offset`, and past it.
    @_lifetime(self: copy self)
    private mutating func argument() throws(DAGCBORError) -> UInt64 {
        let start = offset
        guard start < end else { throw ended(at: start) }
        let minor = input[unchecked: start] & 0x1F
        if minor < 24 {
            offset = start + 1
            return UInt64(minor)
        }
        guard minor < 28 else { throw DAGCBORError(minor == 31 ? .indefiniteLength : .reserved, at: start) }
        let width = 1 << Int(minor - 24)
        guard end - start > width else { throw ended(at: start) }
        let bytes = input.bytes
        let argument: UInt64
        let shortest: Bool
        switch minor {
        case 24:
            argument = UInt64(input[unchecked: start + 1])
            shortest = argument >= 24
        case 25:
            argument = UInt64(bytes.unsafeLoadUnaligned(fromByteOffset: start + 1, as: UInt16.self).bigEndian)
            shortest = argument > 0xFF
        case 26:
            argument = UInt64(bytes.unsafeLoadUnaligned(fromByteOffset: start + 1, as: UInt32.self).bigEndian)
            shortest = argument > 0xFFFF
        default:
            argument = bytes.unsafeLoadUnaligned(fromByteOffset: start + 1, as: UInt64.self).bigEndian
            shortest = argument > 0xFFFF_FFFF
        }
        guard shortest else { throw DAGCBORError(.notShortest, at: start) }
        offset = start + 1 + width
        return argument
    }

    /// The range of a string's contents after its head, which are there; and past them.
    @_lifetime(self: copy self)
    mutating func contents() throws(DAGCBORError) -> Range<Int> {
        let start = offset
        let length = try argument()
        guard length <= UInt64(end - offset) else { throw ended(at: start) }
        let range = offset..<(offset + Int(length))
        offset = range.upperBound
        return range
    }

    @_lifetime(self: copy self)
    private mutating func bytes() throws(DAGCBORError) -> [UInt8] {
        let range = try contents()
        return input.extracting(range).withUnsafeBufferPointer { [UInt8]($0) }
    }

    @_lifetime(self: copy self)
    mutating func text() throws(DAGCBORError) -> Range<Int> { try contents() }

    private func string(range: Range<Int>) throws(DAGCBORError) -> String {
        let text = input.extracting(range)
        if isASCII(text) { return String(copying: UTF8Span(unchecked: text, isKnownASCII: true)) }
        do throws(UTF8.ValidationError) {
            return String(copying: try UTF8Span(validating: text))
        } catch {
            throw DAGCBORError(.invalidUTF8, at: range.lowerBound + error.byteOffsets.lowerBound)
        }
    }

    /// Most strings are, and this sees it faster than the library's validation of the same bytes.
    func isASCII(_ text: Span<UInt8>) -> Bool {
        let bytes = text.bytes
        var marks: UInt64 = 0
        var offset = 0
        while text.count - offset >= 8 {
            marks |= bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self)
            offset += 8
        }
        while offset < text.count {
            marks |= UInt64(text[unchecked: offset])
            offset += 1
        }
        return marks & 0x8080_8080_8080_8080 == 0
    }

    @_lifetime(self: copy self)
    private mutating func array(depth: Int) throws(DAGCBORError) -> [Value] {
        let count = try count(depth: depth, bytesEach: 1)
        var items: [Value] = []
        items.reserveCapacity(min(count, Self.reservedMax))
        for _ in 0..<count { items.append(try value(depth: depth + 1)) }
        return items
    }

    @_lifetime(self: copy self)
    private mutating func map(depth: Int) throws(DAGCBORError) -> ValueMap {
        let count = try count(depth: depth, bytesEach: 2)
        var entries: [ValueMap.Entry] = []
        entries.reserveCapacity(min(count, Self.reservedMax))
        var previous: Range<Int>? = nil
        for _ in 0..<count {
            let range = try key(after: previous)
            let key = try string(range: range)
            entries.append(ValueMap.Entry(key: key, value: try value(depth: depth + 1)))
            previous = range
        }
        return ValueMap(canonical: entries)
    }

    /// The number of items in a container, each of which takes at least `bytesEach` of the bytes that follow.
    @_lifetime(self: copy self)
    mutating func count(depth: Int, bytesEach: Int) throws(DAGCBORError) -> Int {
        let start = offset
        guard depth < limits.depthMax else { throw DAGCBORError(.tooDeep(max: limits.depthMax), at: start) }
        let count = try argument()
        guard count <= UInt64(limits.countMax) else { throw DAGCBORError(.tooManyItems(max: limits.countMax), at: start) }
        guard count <= UInt64((end - offset) / bytesEach) else { throw ended(at: start) }
        total += Int(count)
        guard total <= limits.totalMax else { throw DAGCBORError(.tooManyItems(max: limits.totalMax), at: start) }
        return Int(count)
    }

    /// The range of a map key's contents.
    /// - Parameter previous: that of the key before it in the same map.
    @_lifetime(self: copy self)
    mutating func key(after previous: Range<Int>?) throws(DAGCBORError) -> Range<Int> {
        let start = offset
        guard start < end else { throw ended(at: start) }
        guard input[unchecked: start] >> 5 == 3 else { throw DAGCBORError(.keyNotString, at: start) }
        let range = try contents()
        guard range.count <= limits.keyBytesMax else { throw DAGCBORError(.keyTooLong(max: limits.keyBytesMax), at: start) }
        guard let previous else { return range }
        let order = compare(previous, range)
        guard order < 0 else { throw DAGCBORError(order == 0 ? .duplicateKey : .keyOutOfOrder, at: start) }
        return range
    }

    private func compare(_ left: Range<Int>, _ right: Range<Int>) -> Int {
        guard left.count == right.count else { return left.count - right.count }
        for index in 0..<left.count {
            let left = input[unchecked: left.lowerBound + index]
            let right = input[unchecked: right.lowerBound + index]
            if left != right { return Int(left) - Int(right) }
        }
        return 0
    }

    @_lifetime(self: copy self)
    private mutating func link() throws(DAGCBORError) -> CID {
        let start = offset
        let tag = try argument()
        guard tag == 42 else { throw DAGCBORError(.tag(tag), at: start) }
        guard offset < end else { throw ended(at: start) }
        guard input[unchecked: offset] >> 5 == 2 else { throw DAGCBORError(.linkNotBytes, at: offset) }
        let range = try contents()
        guard range.count == 1 + CID.byteCount, input[unchecked: range.lowerBound] == 0 else {
            throw DAGCBORError(.invalidLink, at: start)
        }
        do throws(CIDError) {
            return try CID(bytes: input.extracting(range.dropFirst()).bytes)
        } catch {
            throw DAGCBORError(.invalidCID(error), at: start)
        }
    }

    func ended(at offset: Int) -> DAGCBORError {
        DAGCBORError(end < input.count ? .tooLong(max: limits.bytesMax) : .truncated, at: offset)
    }
}

/// Why an input is not DAG-CBOR, and where.
public struct DAGCBORError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Reason: Hashable, Sendable {
        /// The input ends inside the item, or claims more than is left.
        case truncated
        /// A whole value is followed by more.
        case trailingBytes
        case tooLong(max: Int)
        case tooDeep(max: Int)
        case tooManyItems(max: Int)
        case keyTooLong(max: Int)
        /// An integer, a length or a tag has a shorter form.
        case notShortest
        case indefiniteLength
        /// An additional information of 28…30, which RFC 8949 does not define.
        case reserved
        case float
        /// Undefined, or a simple value other than false, true and null.
        case simpleValue
        /// Beyond `Int64`.
        case integerOutOfRange
        case invalidUTF8
        case keyNotString
        case keyOutOfOrder
        case duplicateKey
        /// A tag other than 42.
        case tag(UInt64)
        /// Tag 42 on something other than a byte string.
        case linkNotBytes
        /// A link that is not 00 and the 36 bytes of a CID.
        case invalidLink
        case invalidCID(CIDError)
    }

    public let reason: Reason
    /// The byte offset of the item in question, or of the first bad byte of a string.
    public let offset: Int

    init(_ reason: Reason, at offset: Int) {
        self.reason = reason
        self.offset = offset
    }

    public var description: String { "DAG-CBOR: \(reason) at byte \(offset)" }
}
