import ATProto
import Simulation
import Testing

@Suite struct LexiconVectorTests {
    private static let catalog = ["permission-set", "procedure", "query", "record", "subscription"]

    /// The catalog refers to one definition that it does not hold.
    private static let missing = """
        {"lexicon": 1, "id": "app.bsky.actor.defs", "defs": {"preferences": {"type": "array", "items": {"type": "unknown"}}}}
        """

    /// The published catalog, loaded as one set; nil where it is not at hand.
    private func catalog() throws -> Lexicons? {
        var documents = [[UInt8](Self.missing.utf8)]
        for name in Self.catalog {
            guard let bytes = try TestFiles.published("interop/lexicon/catalog/\(name).json") else { return nil }
            documents.append(bytes)
        }
        return try Lexicons(documents: documents)
    }

    /// The cases of a published file: their names, and their JSON under `member` as it stands there.
    private func cases(_ file: String, member: String) throws -> [(name: String, rkey: String?, json: [UInt8])]? {
        guard let bytes = try TestFiles.published(file) else { return nil }
        return try #require(DataModelJSON.decodePlain(bytes).arrayValue).map { item in
            let value = try #require(item[member])
            return (try #require(item["name"]?.stringValue), item["rkey"]?.stringValue, DataModelJSON.encode(value))
        }
    }

    @Test("every document of the published catalog loads")
    func catalogLoads() throws {
        guard let lexicons = try catalog() else { return }
        for name in Self.catalog {
            let id = try NSID("example.lexicon." + name.filter { $0 != "-" })
            #expect(lexicons.ids.contains(id))
            TestFiles.report(vectors: "interop/lexicon/catalog/\(name).json", passed: lexicons.ids.contains(id) ? 1 : 0, of: 1)
        }
        #expect(lexicons.method(try NSID("example.lexicon.query"))?.errors == ["DemoError", "AnotherDemoError"])
    }

    @Test("every published valid lexicon loads, every invalid one is refused", arguments: [("valid", true), ("invalid", false)])
    func lexicons(name: String, isValid: Bool) throws {
        let file = "interop/lexicon/lexicon-\(name).json"
        guard let cases = try cases(file, member: "lexicon") else { return }
        var passed = 0
        for (name, _, json) in cases {
            let result = Result { () throws(LexiconError) in try Lexicons(documents: [json]) }
            if case .success = result { passed += isValid ? 1 : 0 } else { passed += isValid ? 0 : 1 }
            if isValid {
                #expect(throws: Never.self, "\(name)") { try result.get() }
            } else {
                #expect(throws: LexiconError.self, "\(name)") { try result.get() }
            }
        }
        TestFiles.report(vectors: file, passed: passed, of: cases.count)
    }

    @Test("every published valid record passes, every invalid one is refused", arguments: [("valid", true), ("invalid", false)])
    func records(name: String, isValid: Bool) throws {
        let file = "interop/lexicon/record-data-\(name).json"
        guard let lexicons = try catalog(), let cases = try cases(file, member: "data") else { return }
        let collection = try NSID("example.lexicon.record")
        var passed = 0
        for (name, rkey, json) in cases {
            let key = try rkey.map { text in try RecordKey(text) }
            do {
                try lexicons.validate(record: DataModelJSON.decode(json), collection: collection, rkey: key)
                if isValid { passed += 1 } else { Issue.record("\(file): accepted \(name)") }
            } catch {
                if isValid { Issue.record("\(file): \(name): \(error)") } else { passed += 1 }
            }
        }
        TestFiles.report(vectors: file, passed: passed, of: cases.count)
    }

    @Test("the published invalid records break the rule that their name says, and not another")
    func reasons() throws {
        guard let lexicons = try catalog(), let cases = try cases("interop/lexicon/record-data-invalid.json", member: "data") else {
            return
        }
        let expected = [
            "missing required field": "Record must have the property \"integer\"",
            "invalid array element": "Record/array/0 must be an integer, not a boolean",
            "object nested wrong data type": "Record/object/a must be an integer, not a string",
            "invalid non-nullable string field": "Record/string must be a string, not null",
            "string too long (graphemes)": "Record/graphemeString must not be longer than 20 graphemes (has 23)",
            "string too short (graphemes)": "Record/graphemeString must not be shorter than 10 graphemes (has 2)",
            "array too short": "Record/lenArray must not have fewer than 2 elements (has 1)",
            "blob too large": "Record/sizeBlob/size must not be larger than 20 bytes (has 12345)",
            "blob wrong type": "Record/acceptBlob/mimeType must be of type image/*",
            "open union missing $type": "Record/union must have a \"$type\"",
            "out of closed union": "Record/closedUnion/$type must have a \"$type\" of example.lexicon.record#demoObject",
            "wrong const value": "Record/constInteger must be 42",
            "integer not in enum": "Record/enumInteger must be one of 4, 9, 16, 25",
            "out of integer range": "Record/rangeInteger must not be greater than 20",
            "invalid string format recordkey":
                "Record/formats/recordkey must be a record key: 1 to 512 of A-Z a-z 0-9 . _ : ~ - and neither . nor ..",
        ]
        var met: Set<String> = []
        for (name, rkey, json) in cases {
            guard let text = expected[name], let rkey else { continue }
            met.insert(name)
            do {
                try lexicons.validate(
                    record: DataModelJSON.decode(json), collection: NSID("example.lexicon.record"), rkey: RecordKey(rkey))
                Issue.record("accepted \(name)")
            } catch {
                #expect("\(error)" == text, "\(name)")
            }
        }
        #expect(met.count == expected.count)
    }
}
