/// Writes DAG-CBOR into memory of its own, which it frees.
///
/// An array that is appended to asks for each piece whether it is alone and large enough; here every piece asks once for room,
/// and then stores. Items are visited in place, so that they are not copied and counted on the way. `FormatsBenchmark` measures it.
struct DAGCBORWriter: ~Copyable {
    private var bytes: UnsafeMutableRawPointer
    private var capacity: Int
    private var count = 0

    /// The longest head, of one byte and an argument of eight.
    private static let headMax = 9

    init() {
        capacity = 1024
        bytes = .allocate(byteCount: capacity, alignment: 1)
    }

    deinit { bytes.deallocate() }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        body(UnsafeRawBufferPointer(start: bytes, count: count))
    }

    mutating func append(_ value: Value) {
        switch value {
        case .null: append(simple: 0xF6)
        case .bool(let bool): append(simple: bool ? 0xF5 : 0xF4)
        case .integer(let integer):
            makeRoom(for: Self.headMax)
            // The argument of a negative integer n is -1 - n, which is n with every bit turned.
            appendHead(integer < 0 ? .negative : .unsigned, UInt64(bitPattern: integer < 0 ? ~integer : integer))
        case .string(let string): append(string)
        case .bytes(let bytes): bytes.withUnsafeBytes { append(.bytes, $0) }
        case .link(let cid): append(cid)
        case .array(let items):
            makeRoom(for: Self.headMax)
            appendHead(.array, UInt64(items.count))
            items.withUnsafeBufferPointer { items in
                for index in items.indices { append(items[index]) }
            }
        case .map(let map):
            makeRoom(for: Self.headMax)
            appendHead(.map, UInt64(map.entries.count))
            map.entries.withUnsafeBufferPointer { entries in
                for index in entries.indices {
                    append(entries[index].key)
                    append(entries[index].value)
                }
            }
        }
    }

    private mutating func append(simple byte: UInt8) {
        makeRoom(for: 1)
        store(byte)
    }

    private mutating func append(_ string: String) {
        // This way in is inlined, and `utf8Span` is not. Native strings always have contiguous storage.
        let isDone: Void? = string.utf8.withContiguousStorageIfAvailable { append(.string, UnsafeRawBufferPointer($0)) }
        if isDone == nil { string.utf8Span.span.withUnsafeBytes { append(.string, $0) } }
    }

    private mutating func append(_ cid: CID) {
        makeRoom(for: 5 + CID.byteCount)
        // Tag 42, a byte string of 37 bytes, the multibase prefix 00 for "binary".
        store((0xD82A_5825 as UInt32).bigEndian)
        store(0 as UInt8)
        cid.store(at: bytes + count)
        count += CID.byteCount
    }

    private mutating func append(_ major: DAGCBOR.Major, _ contents: UnsafeRawBufferPointer) {
        makeRoom(for: Self.headMax + contents.count)
        appendHead(major, UInt64(contents.count))
        guard let start = contents.baseAddress else { return }
        (bytes + count).copyMemory(from: start, byteCount: contents.count)
        count += contents.count
    }

    /// Room for it has been made.
    @inline(__always)
    private mutating func appendHead(_ major: DAGCBOR.Major, _ argument: UInt64) {
        let major = major.rawValue
        switch argument {
        case 0..<24: store(major | UInt8(truncatingIfNeeded: argument))
        case 24...0xFF:
            store(major | 24)
            store(UInt8(truncatingIfNeeded: argument))
        case 0x100...0xFFFF:
            store(major | 25)
            store(UInt16(truncatingIfNeeded: argument).bigEndian)
        case 0x1_0000...0xFFFF_FFFF:
            store(major | 26)
            store(UInt32(truncatingIfNeeded: argument).bigEndian)
        default:
            store(major | 27)
            store(argument.bigEndian)
        }
    }

    @inline(__always)
    private mutating func store<Word: FixedWidthInteger>(_ word: Word) {
        bytes.storeBytes(of: word, toByteOffset: count, as: Word.self)
        count += MemoryLayout<Word>.size
    }

    @inline(__always)
    private mutating func makeRoom(for more: Int) {
        if capacity - count < more { grow(by: more) }
    }

    private mutating func grow(by more: Int) {
        capacity = max(2 * capacity, count + more)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 1)
        larger.copyMemory(from: bytes, byteCount: count)
        bytes.deallocate()
        bytes = larger
    }
}
