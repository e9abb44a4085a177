import ATProto
import Simulation
import Testing

@Suite("DAG-CBOR")
struct DAGCBORTests {
    @Test("the published fixtures have our bytes and CIDs")
    func published() throws {
        let path = "interop/data-model/data-model-fixtures.json"
        guard let file = try TestFiles.published(path) else { return }
        let cases = RawJSON.items(of: file[...]).map(RawJSON.members(of:))
        var passed = 0
        for example in cases {
            let value = try DataModelJSON.decode(Array(try #require(example["json"])))
            let expected = base64(RawJSON.string(example["cbor_base64"]!))
            let bytes = DAGCBOR.encode(value)
            #expect(bytes == expected)
            #expect(try DAGCBOR.decode(expected) == value)
            let cid = CID(hashing: bytes).description
            #expect(cid == RawJSON.string(example["cid"]!))
            if bytes == expected, cid == RawJSON.string(example["cid"]!) { passed += 1 }
        }
        TestFiles.report(vectors: path, passed: passed, of: cases.count)
    }

    @Test("what independent encoders wrote is read and written again, byte for byte")
    func fixtures() throws {
        for line in try TestFiles.fixture("atproto/records.jsonl").split(separator: UInt8(ascii: "\n")) {
            let members = RawJSON.members(of: line)
            let value = try DataModelJSON.decode(Array(members["json"]!))
            let expected = base64(RawJSON.string(members["cbor"]!))
            #expect(DAGCBOR.encode(value) == expected)
            #expect(try DAGCBOR.decode(expected) == value)
            #expect(CID(hashing: expected).description == RawJSON.string(members["cid"]!))
            #expect(try DataModelJSON.decode(DataModelJSON.encode(value)) == value)
        }
    }

    @Test("what the specification forbids is refused")
    func refused() throws {
        for line in try TestFiles.fixture("atproto/refused.jsonl").split(separator: UInt8(ascii: "\n")) {
            let members = RawJSON.members(of: line)
            let bytes = hexadecimal(RawJSON.string(members["cbor"]!))
            #expect((try? DAGCBOR.decode(bytes)) == nil, "\(RawJSON.string(members["why"]!))")
        }
    }

    @Test(
        "a refusal names the reason and the byte",
        arguments: [
            ("82 01 18 17", .notShortest, 2), ("19 00 ff", .notShortest, 0), ("1a 0000ffff", .notShortest, 0), ("78 00", .notShortest, 0),
            ("1b 00000000ffffffff", .notShortest, 0), ("1b 8000000000000000", .integerOutOfRange, 0), ("81 f9 0000", .float, 1),
            ("3b 8000000000000000", .integerOutOfRange, 0), ("81 f7", .simpleValue, 1), ("81 ff", .indefiniteLength, 1),
            ("9f ff", .indefiniteLength, 0), ("81 1c", .reserved, 1), ("62 61 ff", .invalidUTF8, 2), ("a1 01 02", .keyNotString, 1),
            ("a2 61 62 00 61 61 00", .keyOutOfOrder, 4), ("a2 62 61 61 00 61 62 00", .keyOutOfOrder, 5), ("00 00", .trailingBytes, 1),
            ("a2 61 61 00 61 61 00", .duplicateKey, 4), ("c1 00", .tag(1), 0), ("d8 2a 60", .linkNotBytes, 2), ("", .truncated, 0),
            ("81 d8 2a 41 00", .invalidLink, 1), ("81 d8 2a 58 25 00 00", .truncated, 3), ("44 00 00 00", .truncated, 0),
            ("9a 00020001", .tooManyItems(max: 131_072), 0), ("9a 00020000", .truncated, 0), ("a1 61", .truncated, 0),
            ("a1 62 61", .truncated, 1),
            ("82 00", .truncated, 0), ("a1 61 61", .truncated, 3), ("1b 00000001 000000", .truncated, 0),
            ("5b 7fffffffffffffff", .truncated, 0),
        ] as [(String, DAGCBORError.Reason, Int)])
    func reasons(input: String, reason: DAGCBORError.Reason, offset: Int) throws {
        let error = #expect(throws: DAGCBORError.self) { try DAGCBOR.decode(hexadecimal(input)) }
        #expect(error?.reason == reason && error?.offset == offset)
    }

    @Test("any value comes back from its encoding, and every shorter input is refused")
    func roundTrips() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        for _ in 0..<150 {
            let value = generator.value()
            let bytes = DAGCBOR.encode(value)
            #expect(try DAGCBOR.decode(bytes) == value, "seed \(TestFiles.seed)")
            let framed = [0xFF] + bytes + [0xFF]
            let prefix = try DAGCBOR.decodePrefix(framed, at: 1)
            #expect(prefix.value == value && prefix.end == framed.count - 1, "seed \(TestFiles.seed)")
            for _ in 0..<10 {
                let cut = Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &generator)))
                let error = #expect(throws: DAGCBORError.self, "seed \(TestFiles.seed)") { try DAGCBOR.decode(cut) }
                #expect(error?.reason == .truncated, "seed \(TestFiles.seed)")
            }
        }
    }

    @Test("every input of one or two bytes is refused or encodes to itself")
    func exhaustive() {
        for first in UInt8.min...UInt8.max {
            expectOneEncoding([first])
            for second in UInt8.min...UInt8.max { expectOneEncoding([first, second]) }
        }
    }

    @Test("every head of three bytes is refused or encodes to itself", arguments: UInt8.min..<8)
    func exhaustiveHeads(major: UInt8) {
        for argument in UInt16.min...UInt16.max {
            expectOneEncoding([major << 5 | 25, UInt8(argument >> 8), UInt8(truncatingIfNeeded: argument)])
        }
    }

    @Test("a block with bytes changed is refused or encodes to itself")
    func mutations() {
        var generator = SeededGenerator(seed: TestFiles.seed)
        for _ in 0..<100 {
            let bytes = DAGCBOR.encode(.map(generator.map()))
            for _ in 0..<40 {
                var mutated = bytes
                for _ in 0..<Int.random(in: 1...3, using: &generator) {
                    let place = Int.random(in: 0..<mutated.count, using: &generator)
                    switch Int.random(in: 0..<3, using: &generator) {
                    case 0: mutated[place] = UInt8.random(in: 0...255, using: &generator)
                    case 1: mutated[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                    default: mutated.insert(UInt8.random(in: 0...255, using: &generator), at: place)
                    }
                }
                expectOneEncoding(mutated)
            }
        }
    }

    private func expectOneEncoding(_ bytes: [UInt8]) {
        guard let value = try? DAGCBOR.decode(bytes) else { return }
        if DAGCBOR.encode(value) != bytes { Issue.record("\(bytes) decodes but encodes otherwise, seed \(TestFiles.seed)") }
    }
}

@Suite("DAG-CBOR: bounds")
struct DAGCBORBoundTests {
    private func reason(_ bytes: [UInt8], _ limits: DecodingLimits = .standard) -> DAGCBORError.Reason? {
        do throws(DAGCBORError) {
            _ = try DAGCBOR.decode(bytes, limits: limits)
            return nil
        } catch {
            return error.reason
        }
    }

    @Test("containers nest 32 deep and no deeper, arrays and maps alike")
    func depth() {
        func nested(_ count: Int, _ container: [UInt8]) -> [UInt8] { (0..<count).flatMap { _ in container } + [0] }
        for container: [UInt8] in [[0x81], [0xA1, 0x60]] {
            #expect(reason(nested(32, container)) == nil)
            #expect(reason(nested(33, container)) == .tooDeep(max: 32))
            #expect(reason(nested(100_000, container)) == .tooDeep(max: 32))
        }
        #expect(reason([0], DecodingLimits(bytesMax: 1, depthMax: 0)) == nil)
        #expect(reason([0x80], DecodingLimits(bytesMax: 1, depthMax: 0)) == .tooDeep(max: 0))
    }

    @Test("an array has 131,072 items and no more")
    func count() {
        func array(_ count: Int) -> [UInt8] { DAGCBOR.encode(.array([Value](repeating: .null, count: count))) }
        #expect(reason(array(131_072)) == nil)
        #expect(reason(array(131_073)) == .tooManyItems(max: 131_072))
        let limits = DecodingLimits(bytesMax: 100, countMax: 2)
        #expect(reason(DAGCBOR.encode(["a": 1, "b": 2]), limits) == nil)
        #expect(reason(DAGCBOR.encode(["a": 1, "b": 2, "c": 3]), limits) == .tooManyItems(max: 2))
    }

    @Test("all containers together have 131,072 items and no more, whether they are decoded or only checked")
    func total() {
        func lists(_ counts: [Int]) -> [UInt8] {
            DAGCBOR.encode(.array(counts.map { .array([Value](repeating: 0, count: $0)) }))
        }
        let exact = lists([65_536, 65_534]), above = lists([65_536, 65_535])
        #expect(reason(exact) == nil)
        #expect(reason(above) == .tooManyItems(max: 131_072))
        #expect(throws: Never.self) { try DAGCBOR.validate(exact) }
        #expect(throws: DAGCBORError.self) { try DAGCBOR.validate(above) }
        let limits = DecodingLimits(bytesMax: 100, totalMax: 4)
        #expect(reason(DAGCBOR.encode(["a": [1, 2], "b": 3]), limits) == nil)
        #expect(reason(DAGCBOR.encode(["a": [1, 2], "b": [3]]), limits) == .tooManyItems(max: 4))
    }

    @Test("a key has 8192 bytes and no more")
    func keys() {
        func map(_ count: Int) -> [UInt8] { DAGCBOR.encode([String(repeating: "k", count: count): 1]) }
        #expect(reason(map(8192)) == nil)
        #expect(reason(map(8193)) == .keyTooLong(max: 8192))
    }

    @Test("an input has as many bytes as the limit says and no more, also before a prefix ends")
    func bytes() throws {
        func text(_ count: Int) -> [UInt8] { DAGCBOR.encode(.bytes([UInt8](repeating: 0, count: count))) }
        #expect(reason(text(97), DecodingLimits(bytesMax: 99)) == nil)
        #expect(reason(text(98), DecodingLimits(bytesMax: 99)) == .tooLong(max: 99))
        #expect(reason([0x00, 0x00], DecodingLimits(bytesMax: 1)) == .tooLong(max: 1))
        #expect(reason(text(999_995), .record) == nil)
        #expect(reason(text(999_996), .record) == .tooLong(max: 1_000_000))
        let framed = [0xFF] + text(97) + [0xFF]
        #expect(try DAGCBOR.decodePrefix(framed, at: 1, limits: DecodingLimits(bytesMax: 99)).end == 100)
        #expect(throws: DAGCBORError.self) { try DAGCBOR.decodePrefix(framed, at: 1, limits: DecodingLimits(bytesMax: 98)) }
    }

    @Test("integers reach the ends of Int64")
    func integers() throws {
        for (value, bytes) in [
            (Int64.max, "1b 7fffffffffffffff"), (Int64.min, "3b 7fffffffffffffff"), (-1, "20"), (-24, "37"), (-25, "38 18"),
            (-256, "38 ff"),
            (-257, "39 0100"), (23, "17"), (24, "18 18"), (65536, "1a 00010000"), (1 << 32, "1b 0000000100000000"),
        ] {
            #expect(DAGCBOR.encode(.integer(value)) == hexadecimal(bytes))
            #expect(try DAGCBOR.decode(hexadecimal(bytes)) == .integer(value))
        }
    }
}

@Suite("The value model")
struct ValueTests {
    @Test("map keys are sorted by length and then by bytes, and found again")
    func order() throws {
        var map: ValueMap = ["b": 1, "aa": 2, "a": 3, "é": 4, "": 5]
        #expect(map.map(\.key) == ["", "a", "b", "aa", "é"])
        map["c"] = 6
        map["a"] = nil
        #expect(map.map(\.key) == ["", "b", "c", "aa", "é"])
        #expect(map.remove("b") == 1 && map.remove("b") == nil && map["c"] == 6 && map["a"] == nil)
        map["c"] = .null
        #expect(map["c"] == .null)
        #expect(Value.map(map)["aa"]?.integerValue == 2)
    }

    @Test("a map built in any order equals the one built in order")
    func building() {
        var generator = SeededGenerator(seed: TestFiles.seed)
        for _ in 0..<50 {
            let map = generator.map()
            var shuffled = ValueMap()
            for (key, value) in map.shuffled(using: &generator) { shuffled[key] = value }
            #expect(shuffled == map && shuffled.hashValue == map.hashValue, "seed \(TestFiles.seed)")
        }
    }

    @Test("strings that are canonically equivalent are different values and different keys")
    func equivalence() throws {
        let (composed, decomposed): (Value, Value) = ("\u{E9}", "e\u{301}")
        #expect(composed != decomposed)
        var map: ValueMap = ["\u{E9}": 1]
        map["e\u{301}"] = 2
        #expect(map.count == 2 && map["\u{E9}"] == 1)
        #expect(try DAGCBOR.decode(DAGCBOR.encode(.map(map))) == .map(map))
        #expect(try DataModelJSON.decode(DataModelJSON.encode(.map(map))) == .map(map))
    }
}

/// The bytes of `text`; spaces in it are skipped.
func hexadecimal(_ text: String) -> [UInt8] {
    let digits = text.filter { $0 != " " }.map { UInt8($0.hexDigitValue!) }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

func base64(_ text: String) -> [UInt8] { Base64.decode(text.utf8Span.span)! }
