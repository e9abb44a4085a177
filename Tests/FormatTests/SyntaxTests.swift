import ATProto
import Simulation
import Testing

/// One published pair of files, and what reads its lines.
private struct SyntaxVectors: CustomTestStringConvertible, Sendable {
    let name: String
    let kind: SyntaxKind
    let read: @Sendable (String) throws -> String
    var testDescription: String { name }

    static let all = [
        SyntaxVectors(name: "did", kind: .did) { try DID($0).description },
        SyntaxVectors(name: "handle", kind: .handle) { try Handle($0).description },
        SyntaxVectors(name: "atidentifier", kind: .atIdentifier) { try ATIdentifier($0).description },
        SyntaxVectors(name: "nsid", kind: .nsid) { try NSID($0).description },
        SyntaxVectors(name: "recordkey", kind: .recordKey) { try RecordKey($0).description },
        SyntaxVectors(name: "aturi", kind: .atURI) { try ATURI($0).description },
        SyntaxVectors(name: "tid", kind: .tid) { try TID($0).description },
        SyntaxVectors(name: "datetime", kind: .datetime) { try Datetime($0).description },
        SyntaxVectors(name: "language", kind: .language) { try LanguageTag($0).description },
        SyntaxVectors(name: "uri", kind: .uri) { try URIString($0).description },
    ]
}

@Suite struct SyntaxTests {
    @Test("every published valid identifier is read, and written as it came", arguments: SyntaxVectors.all)
    fileprivate func valid(vectors: SyntaxVectors) throws {
        let file = "interop/syntax/\(vectors.name)_syntax_valid.txt"
        guard let lines = try TestFiles.publishedLines(file) else { return }
        var passed = 0
        for line in lines {
            do {
                #expect(try vectors.read(line) == line)
                passed += 1
            } catch {
                Issue.record("\(file): \(error)")
            }
        }
        #expect(!lines.isEmpty)
        TestFiles.report(vectors: file, passed: passed, of: lines.count)
    }

    @Test("every published invalid identifier is refused for its shape or length", arguments: SyntaxVectors.all)
    fileprivate func invalid(vectors: SyntaxVectors) throws {
        let file = "interop/syntax/\(vectors.name)_syntax_invalid.txt"
        guard let lines = try TestFiles.publishedLines(file) else { return }
        var passed = 0
        for line in lines {
            do {
                _ = try vectors.read(line)
                Issue.record("\(file): accepted \(line)")
            } catch SyntaxError.meaningless {
                Issue.record("\(file): took the shape of \(line) for right")
            } catch is SyntaxError {
                passed += 1
            }
        }
        #expect(!lines.isEmpty)
        TestFiles.report(vectors: file, passed: passed, of: lines.count)
    }

    @Test(
        "what has the shape but no meaning is refused as such",
        arguments: SyntaxVectors.all.filter { $0.kind == .datetime || $0.kind == .language })
    fileprivate func meaningless(vectors: SyntaxVectors) throws {
        let file = "interop/syntax/\(vectors.name)_parse_invalid.txt"
        guard let lines = try TestFiles.publishedLines(file) else { return }
        var passed = 0
        for line in lines {
            let expected = SyntaxError.meaningless(vectors.kind, text: line)
            #expect(throws: expected) { try vectors.read(line) }
            if (try? vectors.read(line)) == nil { passed += 1 }
        }
        #expect(!lines.isEmpty)
        TestFiles.report(vectors: file, passed: passed, of: lines.count)
    }

    @Test("each kind is read at its longest and refused one byte beyond")
    func lengths() throws {
        func text(_ prefix: String, _ suffix: String = "", bytes: Int) -> String {
            prefix + String(repeating: "o", count: bytes - prefix.utf8.count - suffix.utf8.count) + suffix
        }
        let label = String(repeating: "o", count: 63)
        let domain = [label, label, label].joined(separator: ".")  // 191 bytes
        let cases: [(longest: String, tooLong: String, read: (String) throws -> Void)] = [
            (text("did:web:", bytes: 2048), text("did:web:", bytes: 2049), { _ = try DID($0) }),
            (text(domain + ".", bytes: 253), text(domain + "." + label.prefix(50) + ".", bytes: 254), { _ = try Handle($0) }),
            (
                text(domain + ".", "." + label, bytes: 317), text(domain + "." + label.prefix(50) + ".", "." + label, bytes: 318),
                { _ = try NSID($0) }
            ),
            (text("", bytes: 512), text("", bytes: 513), { _ = try RecordKey($0) }),
            (text("https://", bytes: 8192), text("https://", bytes: 8193), { _ = try URIString($0) }),
        ]
        for (longest, tooLong, read) in cases {
            #expect(throws: Never.self, "\(longest)") { try read(longest) }
            #expect(throws: SyntaxError.self, "\(tooLong)") { try read(tooLong) }
        }
    }

    @Test("a DID, an NSID and an AT-URI give their parts")
    func parts() throws {
        let did = try DID("did:web:localhost%3A1234:path")
        #expect(did.method == "web" && did.identifier == "localhost%3A1234:path")
        let nsid = try NSID("com.EXAMPLE.fooBar")
        #expect(nsid.authority == "example.com" && nsid.name == "fooBar" && nsid.segments == ["com", "EXAMPLE", "fooBar"])
        let uri = try ATURI("at://did:plc:asdf123/com.example.post/self")
        let (collection, recordKey) = (try NSID("com.example.post"), try RecordKey("self"))
        #expect(uri.authority.did?.description == "did:plc:asdf123" && uri.authority.handle == nil)
        #expect(uri.collection == collection && uri.recordKey == recordKey)
        #expect(uri == ATURI(authority: uri.authority, collection: collection, recordKey: recordKey))
        let repo = try ATURI("at://Alice.Example.com")
        #expect(repo.collection == nil && repo.recordKey == nil)
        #expect(repo.authority.handle?.normalized.description == "alice.example.com")
        #expect(try URIString("HTTPS://example.com").scheme == "https")
    }

    @Test("a refusal names the kind, shows at most 64 characters of the text, and says what was expected")
    func refusals() {
        #expect(throws: SyntaxError.malformed(.nsid, text: "com.example")) { try NSID("com.example") }
        #expect(throws: SyntaxError.tooLong(.recordKey, bytes: 513, bytesMax: 512)) { try RecordKey(String(repeating: "a", count: 513)) }
        let long = "at://" + String(repeating: "é", count: 100)
        #expect(throws: SyntaxError.malformed(.atURI, text: String(long.prefix(64)))) { try ATURI(long) }
        let message = SyntaxError.malformed(.recordKey, text: "..").description
        #expect(message == "not a record key: \"..\"; expected 1 to 512 of A-Z a-z 0-9 . _ : ~ - and neither . nor ..")
    }

    @Test(
        "a datetime is its moment in milliseconds, whatever its offset",
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("1970-01-01T00:00:00.9999Z", 999), ("1970-01-01T01:00:00.5+01:00", 500),
            ("1969-12-31T23:59:59.999Z", -1), ("2000-02-29T00:00:00.12Z", 951_782_400_120),
            ("2024-02-29T12:00:00-11:30", 1_709_249_400_000),
            ("0000-01-01T00:00:00.000Z", -62_167_219_200_000), ("0000-01-01T00:00:00-00:01", -62_167_219_140_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999), ("1985-04-12T23:20:50.12345678901234567890Z", 482_196_050_123),
        ] as [(String, Int64)])
    func milliseconds(text: String, expected: Int64) throws {
        #expect(try Datetime(text).milliseconds == expected)
    }

    @Test(
        "a day, an hour or an offset that does not exist is refused",
        arguments: [
            "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2024-02-30T00:00:00Z", "2024-04-31T00:00:00Z", "2024-12-32T00:00:00Z",
            "2024-01-01T24:00:00Z", "2024-01-01T23:60:00Z", "2016-12-31T23:59:60Z", "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+00:60",
            "0000-01-01T00:00:00+00:01",
        ])
    func noSuchMoment(text: String) {
        #expect(throws: SyntaxError.meaningless(.datetime, text: text)) { try Datetime(text) }
    }

    @Test("a datetime without a sign of its offset, with -00:00 or with 21 digits of fraction has not the shape")
    func malformedDatetimes() {
        for text in [
            "2024-01-01T00:00:00-00:00", "2024-01-01T00:00:00.123456789012345678901Z", "2024-01-01T00:00:00Z ", "2024-01-01T00:00:00.Z", "",
        ] {
            #expect(throws: SyntaxError.malformed(.datetime, text: text)) { try Datetime(text) }
        }
    }

    @Test("every millisecond written is the millisecond read")
    func datetimeRoundTrip() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        let days: [Int64] = [-719_528, -719_163, -1, 0, 59, 11_016, 19_782, 2_932_896]
        let edges = days.flatMap { [$0 * 86_400_000, $0 * 86_400_000 + 86_399_999] }
        let random = (0..<2000).map { _ in Int64.random(in: -62_167_219_200_000...253_402_300_799_999, using: &generator) }
        for milliseconds in edges + random {
            let datetime = try #require(Datetime(milliseconds: milliseconds))
            #expect(datetime.description.utf8.count == 24)
            #expect(try Datetime(datetime.description) == datetime, "seed \(TestFiles.seed)")
        }
        #expect(Datetime(milliseconds: -62_167_219_200_001) == nil && Datetime(milliseconds: 253_402_300_800_000) == nil)
        #expect(Datetime(milliseconds: 1_795_344_036_123)?.description == "2026-11-22T10:40:36.123Z")
    }

    @Test("a language tag needs what its singletons announce; a variant may return behind them")
    func languages() throws {
        for text in ["en-a", "en-a-b-cde", "x", "i", "en-x", "en--us", "abcd", "e1", "en-toolongsubtag"] {
            #expect(throws: SyntaxError.malformed(.language, text: text)) { try LanguageTag(text) }
        }
        for text in ["en-x-a", "x-a-b-a", "en-t-rozaj-u-rozaj", "en-x-rozaj-rozaj", "de-1901-x-1901"] {
            #expect(try LanguageTag(text).description == text)
        }
        #expect(throws: SyntaxError.meaningless(.language, text: "en-u-co-x1-U-ca")) { try LanguageTag("en-u-co-x1-U-ca") }
    }

    @Test("a URI may hold letters of any script, and no white space of any script")
    func uris() throws {
        for text in ["https://uk.wikipedia.org/wiki/Київ", "mailto:a@b", "HTTP://EXAMPLE.COM", "a:b"] {
            #expect(try URIString(text).description == text)
        }
        for text in [
            "https://", "https://a\u{A0}b", "https://a\u{2028}b", "https://a\u{85}b", "a b:c", "1a:b", ":a", "https://a\u{7F}", "é:a",
        ] {
            #expect(throws: SyntaxError.malformed(.uri, text: text)) { try URIString(text) }
        }
    }
}
