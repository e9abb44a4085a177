import ATProto
import Simulation
import Testing

@Suite("Data-model JSON")
struct DataModelJSONTests {
    @Test("the published valid and invalid data are told apart", arguments: [true, false])
    func published(isValid: Bool) throws {
        let path = "interop/data-model/data-model-\(isValid ? "valid" : "invalid").json"
        guard let file = try TestFiles.published(path) else { return }
        let cases = RawJSON.items(of: file[...]).map(RawJSON.members(of:))
        var passed = 0
        for example in cases {
            let accepted = (try? DataModelJSON.decode(Array(try #require(example["json"])))) != nil
            if accepted == isValid { passed += 1 } else { Issue.record("\(RawJSON.string(example["note"]!))") }
        }
        TestFiles.report(vectors: path, passed: passed, of: cases.count)
    }

    @Test("any map comes back from its JSON, which is the same each time")
    func roundTrips() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        for _ in 0..<100 {
            let value = Value.map(generator.map())
            let text = DataModelJSON.encode(value)
            let decoded = try DataModelJSON.decode(text)
            #expect(decoded == value && DataModelJSON.encode(decoded) == text, "seed \(TestFiles.seed)")
            #expect(throws: DataModelJSONError.self) { try DataModelJSON.decode(Array(text.dropLast())) }
        }
    }

    @Test("text with bytes changed is refused or says the same when written and read again")
    func mutations() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        let interesting = Array("{}[]\",:\\u0dD8eE+-.\u{0}\u{80}".utf8)
        for _ in 0..<60 {
            let text = DataModelJSON.encode(.map(generator.map()))
            for _ in 0..<40 {
                var mutated = text
                let place = Int.random(in: 0..<mutated.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: mutated[place] = interesting.randomElement(using: &generator)!
                case 1: mutated.insert(interesting.randomElement(using: &generator)!, at: place)
                default: mutated.remove(at: place)
                }
                guard let value = try? DataModelJSON.decode(mutated) else { continue }
                #expect(try DataModelJSON.decode(DataModelJSON.encode(value)) == value, "seed \(TestFiles.seed)")
            }
        }
    }

    @Test(
        "a number is an integer however it is written",
        arguments: [
            ("0", 0), ("-0", 0), ("-0.0", 0), ("0e99999999999999999999", 0), ("0.000e-5", 0), ("123", 123), ("123.0", 123), ("1.23e2", 123),
            ("1.23E+2", 123), ("12300e-2", 123), ("1230.0e-1", 123), ("-1e3", -1000), ("9007199254740991", 9_007_199_254_740_991),
            ("-9007199254740991", -9_007_199_254_740_991), ("9007199254740991.000", 9_007_199_254_740_991),
            ("0.0000000000000000000001e22", 1),
            ("9.007199254740991e15", 9_007_199_254_740_991), ("100000000000000000000000000000e-29", 1),
        ] as [(String, Int64)])
    func integers(text: String, expected: Int64) throws {
        #expect(try DataModelJSON.decode(Array("{\"a\":\(text)}".utf8))["a"] == .integer(expected))
    }

    @Test(
        "an escape stands for its character",
        arguments: [
            (#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{C}\n\r\t"), (#"\u0041\u00e9\u2F58"#, "Aé⽘"), (#"\uD83D\uDE00"#, "😀"),
            (#"\u0000"#, "\u{0}"),
            (#"a\ud800\udc00b"#, "a\u{10000}b"), (#"\udbff\udfff"#, "\u{10FFFF}"), (#"1234567\n12345678"#, "1234567\n12345678"),
            (#"plain é😀 text without any escape"#, "plain é😀 text without any escape"), ("\u{7F}", "\u{7F}"),
        ])
    func escapes(text: String, expected: String) throws {
        let value = try DataModelJSON.decode(Array("{\"\(text)\":\"\(text)\"}".utf8))
        #expect(value == .map([expected: .string(expected)]))
        #expect(try DataModelJSON.decode(DataModelJSON.encode(value)) == value)
    }

    @Test("the writer is compact, sorts keys, escapes what it must and pads nothing")
    func writing() {
        let value: Value = [
            "bb": "\"\\\u{8}\u{9}\n\u{C}\r\u{1}\u{1F}/é", "a": [.null, true, false, -5, []], "c": .bytes([1]), "d": .bytes([]),
            "e": .link(CID(hashing: [0xA0])), "f": [:],
        ]
        let expected =
            #"{"a":[null,true,false,-5,[]],"c":{"$bytes":"AQ"},"d":{"$bytes":""},"e":{"$link":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"},"f":{},"bb":"\"\\\b\t\n\f\r\u0001\u001f/é"}"#
        #expect(String(decoding: DataModelJSON.encode(value), as: UTF8.self) == expected)
    }

    @Test("white space goes anywhere between tokens")
    func whitespace() throws {
        let text = " \t\r\n{ \"a\" : [ 1 , 2 ] , \"b\" : { } , \"c\" : [ ] } \n"
        #expect(try DataModelJSON.decode(Array(text.utf8)) == ["a": [1, 2], "b": [:], "c": []])
    }

    @Test("bytes are read with padding and without, whatever the spare bits of the last character")
    func padding() throws {
        for (text, bytes) in [
            ("", []), ("AQ", [1]), ("AQ==", [1]), ("AQI", [1, 2]), ("AQI=", [1, 2]), ("AQID", [1, 2, 3]), ("+/+/", [251, 255, 191]),
            ("AR", [1]), ("123", [0xD7, 0x6D]),
        ] as [(String, [UInt8])] {
            #expect(try DataModelJSON.decode(Array("{\"a\":{\"$bytes\":\"\(text)\"}}".utf8))["a"] == .bytes(bytes))
        }
        for text in ["A", "AQ=", "AQ===", "AQI==", "AQID=", "A-__", "A Q=", "=", "====", "AQ==AQ=="] {
            #expect((try? DataModelJSON.decode(Array("{\"a\":{\"$bytes\":\"\(text)\"}}".utf8))) == nil, "\(text)")
        }
    }

    @Test("plain JSON may be anything at the top, and gives $ no meaning")
    func plain() throws {
        #expect(try DataModelJSON.decodePlain(Array(" [1] ".utf8)) == [1])
        #expect(try DataModelJSON.decodePlain(Array("\"a\"".utf8)) == "a")
        #expect(try DataModelJSON.decodePlain(Array(#"{"$type":1,"$link":2,"$bytes":3}"#.utf8)) == ["$type": 1, "$link": 2, "$bytes": 3])
        #expect(throws: DataModelJSONError.self) { try DataModelJSON.decodePlain(Array(#"{"a":1,"a":1}"#.utf8)) }
    }
}

@Suite("Data-model JSON: refusals and bounds")
struct DataModelJSONRefusalTests {
    private static let raw = "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"
    private static let link = #"{"$link":"bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"}"#
    private static let cbor = #"{"$link":"bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"}"#

    private func refusal(_ text: String, _ limits: DecodingLimits = .json) -> DataModelJSONError? { refusal(Array(text.utf8), limits) }

    private func refusal(_ bytes: [UInt8], _ limits: DecodingLimits = .json) -> DataModelJSONError? {
        do throws(DataModelJSONError) {
            _ = try DataModelJSON.decode(bytes, limits: limits)
            return nil
        } catch {
            return error
        }
    }

    @Test(
        "a refusal names the reason and the byte",
        arguments: [
            ("", .truncated, 0), ("  ", .truncated, 2), ("{", .truncated, 1), (#"{"a"#, .truncated, 3), (#"{"a":"#, .truncated, 5),
            (#"{"a":tru"#, .truncated, 8), (#"{"a":1"#, .truncated, 6), (#"{"a":"\u12"#, .truncated, 10), (#"{"a":"\"#, .truncated, 7),
            ("[]", .notObject, 0), (link, .notObject, 0), ("{} x", .trailingBytes, 3), ("{}{}", .trailingBytes, 2),
            (#"{"a":1,}"#, .unexpected(0x7D), 7), (#"{"a":[1,]}"#, .unexpected(0x5D), 8), (#"{,}"#, .unexpected(0x2C), 1),
            (#"{a:1}"#, .unexpected(0x61), 1), (#"{"a" 1}"#, .unexpected(0x31), 5), (#"{"a":trux}"#, .unexpected(0x78), 8),
            (#"{"a":'b'}"#, .unexpected(0x27), 5), (#"{"a":[1 2]}"#, .unexpected(0x32), 8), ("\u{FEFF}{}", .unexpected(0xEF), 0),
            (#"{"a":01}"#, .unexpected(0x31), 6), (#"{"a":-}"#, .unexpected(0x7D), 6), (#"{"a":1.}"#, .unexpected(0x7D), 7),
            (#"{"a":1e}"#, .unexpected(0x7D), 7), (#"{"a":+1}"#, .unexpected(0x2B), 5), (#"{"a":.5}"#, .unexpected(0x2E), 5),
            (#"{"a":NaN}"#, .unexpected(0x4E), 5), (#"{"a":1x}"#, .unexpected(0x78), 6), (#"{"a":-01}"#, .unexpected(0x31), 7),
            (#"{"a":1.5}"#, .fraction, 5), (#"{"a":1e-1}"#, .fraction, 5), (#"{"a":123456789012345678901234567890.5}"#, .fraction, 5),
            (#"{"a":1e-99999999999999999999}"#, .fraction, 5), (#"{"a":9007199254740992}"#, .integerOutOfRange, 5),
            (#"{"a":-9007199254740992}"#, .integerOutOfRange, 5), (#"{"a":1e400}"#, .integerOutOfRange, 5),
            (#"{"a":1e99999999999999999999}"#, .integerOutOfRange, 5), (#"{"a":18446744073709551616}"#, .integerOutOfRange, 5),
            (#"{"a":18446744073709551617}"#, .integerOutOfRange, 5), (#"{"a":99999999999999999999999}"#, .integerOutOfRange, 5),
            (#"{"a":"\ud800"}"#, .loneSurrogate, 6), (#"{"a":"\udc00"}"#, .loneSurrogate, 6), (#"{"a":"\ud800\u0041"}"#, .loneSurrogate, 6),
            (#"{"a":"\ud800x"}"#, .loneSurrogate, 6), (#"{"a":"\udbff\ud800"}"#, .loneSurrogate, 6), (#"{"a":"\x41"}"#, .invalidEscape, 6),
            (#"{"a":"\u00g0"}"#, .invalidEscape, 6), ("{\"a\":\"b\n\"}", .controlCharacter, 7), ("{\"\u{1F}\":1}", .controlCharacter, 2),
            (#"{"a":1,"a":2}"#, .duplicateKey, 7), (#"{"x":{"a":1,"b":2,"\u0061":2}}"#, .duplicateKey, 18),
            (#"{"b":1,"a":2,"b":2}"#, .duplicateKey, 13), (#"{"x":{"$link":"\#(raw)","$link":"\#(raw)"}}"#, .duplicateKey, 76),
            (#"{"a":{"$link":"."}}"#, .invalidLink(.textLength(1)), 5), (#"{"a":{"$link":1}}"#, .invalidLink(nil), 5),
            (#"{"a":{"$link":"\#(raw)","b":1}}"#, .invalidLink(nil), 5), (#"{"a":{"$bytes":1}}"#, .invalidBytes, 5),
            (#"{"a":{"$bytes":"AQ","$type":"b"}}"#, .invalidBytes, 5), (#"{"a":{"$bytes":"A"}}"#, .invalidBytes, 5),
            (#"{"$type":""}"#, .invalidType, 0), (#"{"a":[{"$type":null}]}"#, .invalidType, 6), (#"{"$type":{}}"#, .invalidType, 0),
        ] as [(String, DataModelJSONError.Reason, Int)])
    func reasons(text: String, reason: DataModelJSONError.Reason, offset: Int) {
        #expect(refusal(text)?.reason == reason && refusal(text)?.offset == offset, "\(String(describing: refusal(text)))")
    }

    @Test("bytes that are not UTF-8 are refused where they stand")
    func utf8() {
        for bad: [UInt8] in [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xC3]] {
            let error = refusal(Array("{\"a\":\"é".utf8) + bad + Array("\"}".utf8))
            #expect(error == refusal(Array("{\"a\":\"é".utf8) + bad + Array("\"}  ".utf8)))
            #expect(error?.reason == .invalidUTF8 && error?.offset == 8)
        }
    }

    @Test("a blob has a link, of either codec as the published records do, a MIME type, a size above zero, and nothing else")
    func blobs() {
        func blob(_ members: String) -> String { #"{"b":{"$type":"blob",\#(members)}}"# }
        let (link, mime, size) = ("\"ref\":\(Self.link)", #""mimeType":"image/png""#, #""size":1"#)
        #expect(refusal(blob("\(link),\(mime),\(size)")) == nil)
        #expect(refusal(blob("\"ref\":\(Self.cbor),\(mime),\(size)")) == nil)
        for members in [
            "\(mime),\(size)", "\(link),\(size)", "\(link),\(mime)", "\(link),\(mime),\(size),\"x\":1", "\(link),\(mime),\"size\":0",
            "\(link),\(mime),\"size\":-1", "\(link),\(mime),\"size\":\"1\"", "\(link),\"mimeType\":\"\",\(size)",
            "\(link),\"mimeType\":1,\(size)",
            "\"ref\":\"\(Self.raw)\",\(mime),\(size)", "\"ref\":null,\(mime),\(size)",
        ] {
            #expect(refusal(blob(members))?.reason == .invalidBlob, "\(members)")
        }
    }

    @Test("containers nest 32 deep and no deeper")
    func depth() {
        func nested(_ open: String, _ close: String, _ count: Int) -> String {
            "{\"a\":" + String(repeating: open, count: count) + "1" + String(repeating: close, count: count) + "}"
        }
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            #expect(refusal(nested(open, close, 31)) == nil)
            #expect(refusal(nested(open, close, 32))?.reason == .tooDeep(max: 32))
        }
        #expect(refusal("{\"a\":" + String(repeating: "[", count: 1_000_000))?.reason == .tooDeep(max: 32))
    }

    @Test("size, count and key length are tried on both sides")
    func bounds() {
        let text = #"{"a":[1,2],"bb":3}"#
        #expect(refusal(text, DecodingLimits(bytesMax: text.utf8.count, countMax: 2, keyBytesMax: 2)) == nil)
        #expect(refusal(text, DecodingLimits(bytesMax: text.utf8.count - 1))?.reason == .tooLong(max: text.utf8.count - 1))
        #expect(refusal(text, DecodingLimits(bytesMax: 100, countMax: 1))?.reason == .tooManyItems(max: 1))
        let nested = "{\"a\":[1,2],\"b\":[3]}"
        #expect(refusal(nested, DecodingLimits(bytesMax: 100, totalMax: 5)) == nil)
        #expect(refusal(nested, DecodingLimits(bytesMax: 100, totalMax: 4))?.reason == .tooManyItems(max: 4))
        #expect(refusal(text, DecodingLimits(bytesMax: 100, keyBytesMax: 1))?.reason == .keyTooLong(max: 1))
        func padded(_ count: Int) -> [UInt8] { Array("{}".utf8) + [UInt8](repeating: 0x20, count: count - 2) }
        #expect(refusal(padded(2 << 20)) == nil)
        #expect(refusal(padded(2 << 20 + 1))?.reason == .tooLong(max: 2 << 20))
    }

    @Test("many keys in any order are sorted, and a repeated one is found, in little time")
    func manyKeys() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        for count in [31, 32, 33, 34, 5000] {
            let keys = (0..<count).map { "k\($0)" }.shuffled(using: &generator)
            let members = keys.map { "\"\($0)\":1" }
            let map = try #require(try DataModelJSON.decode(Array("{\(members.joined(separator: ","))}".utf8)).mapValue)
            #expect(map.count == count && keys.allSatisfy { map[$0] == 1 }, "seed \(TestFiles.seed)")
            #expect(DAGCBOR.encode(.map(map)) == DAGCBOR.encode(try DAGCBOR.decode(DAGCBOR.encode(.map(map)))))
            let repeated = (members + [members[Int.random(in: 0..<count, using: &generator)]]).joined(separator: ",")
            let error = refusal("{\(repeated)}")
            #expect(
                error?.reason == .duplicateKey && error?.offset == members.joined(separator: ",").utf8.count + 2, "seed \(TestFiles.seed)")
        }
    }

    @Test("many keys that Swift would call equal are told apart, and hashed apart")
    func equivalentKeys() throws {
        let keys = (0..<8192).reversed().map { number in
            (0..<13).map { number >> $0 & 1 == 0 ? "\u{212B}" : "A\u{30A}" }.joined()
        }
        #expect(Set(keys).count == 1 && Set(keys.map { Value.string($0).hashValue }).count > 8000)
        let text = "{" + keys.map { "\"\($0)\":1" }.joined(separator: ",") + "}"
        #expect(try DataModelJSON.decode(Array(text.utf8)).mapValue?.count == keys.count)
    }
}
