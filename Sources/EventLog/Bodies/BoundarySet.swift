import ATProto

/// Boundaries as the log writes them: visible ASCII of 1–253 bytes each, every one once, in order of their bytes.
/// (That is also the order of UTF-16 code units, in which an attestation lists them.)
package struct BoundarySet: Hashable, Sendable, RandomAccessCollection {
    private let names: [String]

    package static let empty = BoundarySet(sorted: [])
    package static let countMax = 256
    package static let nameBytesMax = 253

    private init(sorted names: [String]) { self.names = names }

    /// Sorts, and keeps each once.
    /// - Throws: `malformed` for a name that is empty, longer than 253 bytes or not visible ASCII; for more than 256 names.
    package init(_ names: some Sequence<String>) throws(EventLogError) {
        var sorted: [String] = []
        for name in names.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) where name != sorted.last {
            guard BoundarySet.isName(name) else { throw .malformed("boundary: visible ASCII of 1 to \(BoundarySet.nameBytesMax) bytes") }
            sorted.append(name)
        }
        guard sorted.count <= BoundarySet.countMax else { throw .malformed("boundaries: at most \(BoundarySet.countMax)") }
        self.init(sorted: sorted)
    }

    /// Reads what `encoded()` wrote, and nothing else.
    init(_ value: Value, in place: String) throws(EventLogError) {
        guard case .array(let array) = value, array.count <= BoundarySet.countMax else {
            throw .malformed("\(place): an array of at most \(BoundarySet.countMax)")
        }
        var names: [String] = []
        for item in array {
            guard case .string(let name) = item, BoundarySet.isName(name) else {
                throw .malformed("\(place): visible ASCII of 1 to \(BoundarySet.nameBytesMax) bytes")
            }
            guard names.last.map({ $0.utf8.lexicographicallyPrecedes(name.utf8) }) ?? true else {
                throw .malformed("\(place): in order of their bytes, each once")
            }
            names.append(name)
        }
        self.init(sorted: names)
    }

    func encoded() -> Value { .array(names.map(Value.string)) }

    private static func isName(_ name: String) -> Bool {
        (1...nameBytesMax).contains(name.utf8.count) && name.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }

    package var startIndex: Int { 0 }
    package var endIndex: Int { names.count }
    package subscript(position: Int) -> String { names[position] }
}

extension FieldReader {
    mutating func boundaries(_ field: String) throws(EventLogError) -> BoundarySet {
        try BoundarySet(try required(field), in: field)
    }

    mutating func optionalBoundaries(_ field: String) throws(EventLogError) -> BoundarySet? {
        guard let value = optional(field) else { return nil }
        return try BoundarySet(value, in: field)
    }
}
