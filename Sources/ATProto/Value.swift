/// A value of the AT Protocol's data model, the common ground of DAG-CBOR and data-model JSON.
///
/// Two values are equal when their DAG-CBOR is: strings are compared by their UTF-8 bytes and not, as Swift's own `==` does, by
/// canonical equivalence. Source: atproto.com/specs/data-model.
public enum Value: Hashable, Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    case string(String)
    case bytes([UInt8])
    case link(CID)
    case array([Value])
    case map(ValueMap)

    public static func == (left: Value, right: Value) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let left), .bool(let right)): left == right
        case (.integer(let left), .integer(let right)): left == right
        case (.string(let left), .string(let right)): CanonicalOrder.areEqual(left, right)
        case (.bytes(let left), .bytes(let right)): left == right
        case (.link(let left), .link(let right)): left == right
        case (.array(let left), .array(let right)): left == right
        case (.map(let left), .map(let right)): left == right
        default: false
        }
    }

    public func hash(into hasher: inout Hasher) {
        switch self {
        case .null: hasher.combine(0 as UInt8)
        case .bool(let bool): hasher.combine(bool)
        case .integer(let integer): hasher.combine(integer)
        case .string(let string): CanonicalOrder.hash(string, into: &hasher)
        case .bytes(let bytes): hasher.combine(bytes)
        case .link(let link): hasher.combine(link)
        case .array(let array): hasher.combine(array)
        case .map(let map): hasher.combine(map)
        }
    }
}

extension Value {
    /// The entry of a map; nil for a missing key and for a value that is no map.
    public subscript(key: String) -> Value? {
        if case .map(let map) = self { map[key] } else { nil }
    }

    public var isNull: Bool {
        if case .null = self { true } else { false }
    }

    public var boolValue: Bool? {
        if case .bool(let bool) = self { bool } else { nil }
    }

    public var integerValue: Int64? {
        if case .integer(let integer) = self { integer } else { nil }
    }

    public var stringValue: String? {
        if case .string(let string) = self { string } else { nil }
    }

    public var bytesValue: [UInt8]? {
        if case .bytes(let bytes) = self { bytes } else { nil }
    }

    public var linkValue: CID? {
        if case .link(let link) = self { link } else { nil }
    }

    public var arrayValue: [Value]? {
        if case .array(let array) = self { array } else { nil }
    }

    public var mapValue: ValueMap? {
        if case .map(let map) = self { map } else { nil }
    }
}

extension Value: ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral, ExpressibleByStringLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral
{
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
    public init(stringLiteral value: String) { self = .string(value) }
    public init(arrayLiteral elements: Value...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, Value)...) { self = .map(ValueMap(unsorted: elements)) }
}

/// A map of the data model. Its entries are always in DAG-CBOR's order, shorter keys first and then by bytes, each key once.
///
/// Lookup is a binary search. Setting a key that sorts last appends; any other place moves the entries after it.
public struct ValueMap: Sendable, RandomAccessCollection, ExpressibleByDictionaryLiteral {
    public typealias Element = (key: String, value: Value)

    /// A structure, since the runtime destroys arrays of tuples slowly.
    struct Entry {
        let key: String
        var value: Value
    }

    private(set) var entries: [Entry]

    public init() { entries = [] }

    /// The keys of a literal are different, as those of Swift's dictionaries are.
    public init(dictionaryLiteral elements: (String, Value)...) { self.init(unsorted: elements) }

    init(unsorted elements: [(String, Value)]) {
        self.init(canonical: elements.map { Entry(key: $0.0, value: $0.1) })
        guard !isCanonical else { return }
        entries.sort { CanonicalOrder.compare($0.key, $1.key) < 0 }
        precondition(isCanonical, "each key of a map occurs once")
    }

    /// Takes entries that a decoder has already found, or put, in canonical order.
    init(canonical entries: [Entry]) { self.entries = entries }

    var isCanonical: Bool {
        entries.indices.dropFirst().allSatisfy { CanonicalOrder.compare(entries[$0 - 1].key, entries[$0].key) < 0 }
    }

    public var startIndex: Int { 0 }
    public var endIndex: Int { entries.count }
    public subscript(position: Int) -> Element { (entries[position].key, entries[position].value) }

    /// nil is a missing key; `.null` is a present one.
    public subscript(key: String) -> Value? {
        get {
            let place = place(of: key)
            return place.found ? entries[place.index].value : nil
        }
        set {
            let place = place(of: key)
            switch (newValue, place.found) {
            case (let value?, true): entries[place.index].value = value
            case (let value?, false): entries.insert(Entry(key: key, value: value), at: place.index)
            case (nil, true): entries.remove(at: place.index)
            case (nil, false): break
            }
        }
    }

    /// Removes the entry of `key` and returns its value; nil when there was none.
    @discardableResult
    public mutating func remove(_ key: String) -> Value? {
        let place = place(of: key)
        return place.found ? entries.remove(at: place.index).value : nil
    }

    /// Where `key` is, or where it would be put.
    private func place(of key: String) -> (index: Int, found: Bool) {
        if let last = entries.last, CanonicalOrder.compare(last.key, key) < 0 { return (entries.count, false) }
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            let order = CanonicalOrder.compare(entries[middle].key, key)
            if order == 0 { return (middle, true) }
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        return (low, false)
    }
}

extension ValueMap: Hashable {
    public static func == (left: ValueMap, right: ValueMap) -> Bool {
        left.entries.count == right.entries.count
            && zip(left.entries, right.entries).allSatisfy { CanonicalOrder.areEqual($0.key, $1.key) && $0.value == $1.value }
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(entries.count)
        for entry in entries {
            CanonicalOrder.hash(entry.key, into: &hasher)
            hasher.combine(entry.value)
        }
    }
}

/// DAG-CBOR's order of map keys, on UTF-8 bytes: the shorter first, equal lengths by bytes.
enum CanonicalOrder {
    /// Negative, zero or positive as `left` sorts before, with or after `right`.
    static func compare(_ left: String, _ right: String) -> Int {
        let count = left.utf8.count
        guard count == right.utf8.count else { return count - right.utf8.count }
        // This way in is inlined, and `utf8Span` is not. Native strings always have contiguous storage.
        let order = left.utf8.withContiguousStorageIfAvailable { left in
            right.utf8.withContiguousStorageIfAvailable { right in compare(left, right) }
        }
        guard let order, let order else {
            return left.utf8Span.span.withUnsafeBufferPointer { left in
                right.utf8Span.span.withUnsafeBufferPointer { right in compare(left, right) }
            }
        }
        return order
    }

    private static func compare(_ left: UnsafeBufferPointer<UInt8>, _ right: UnsafeBufferPointer<UInt8>) -> Int {
        for index in 0..<left.count where left[index] != right[index] { return Int(left[index]) - Int(right[index]) }
        return 0
    }

    static func areEqual(_ left: String, _ right: String) -> Bool { compare(left, right) == 0 }

    /// By bytes too: `String` hashes canonical equivalents alike, so a stranger could send a hundred thousand different keys with
    /// one hash.
    static func hash(_ text: String, into hasher: inout Hasher) {
        text.utf8Span.span.withUnsafeBytes { hasher.combine(bytes: $0) }
        hasher.combine(0xFF as UInt8)
    }
}
