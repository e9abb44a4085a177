import ATProto
import Simulation
import Testing

@Suite struct LexiconTests {
    private let lexicons = Lexicons.embedded
    private let post: NSID
    private let listRecords: NSID

    init() throws {
        post = try NSID("zone.stratos.feed.post")
        listRecords = try NSID("com.atproto.repo.listRecords")
    }

    private func load(_ defs: String..., id: String = "com.example.test") throws -> Lexicons {
        try Lexicons(documents: ["{\"lexicon\": 1, \"id\": \"\(id)\", \"defs\": {\(defs.joined(separator: ", "))}}"].map { Array($0.utf8) })
    }

    /// What the validator says of a post that holds `members` beside the least that it must, or nil.
    private func problem(_ members: ValueMap) -> String? {
        var record: ValueMap = ["$type": "zone.stratos.feed.post", "createdAt": "2026-01-31T12:00:00.000Z"]
        for (key, value) in members { record[key] = value.isNull ? nil : value }
        return problem(record: .map(record), rkey: nil)
    }

    private func problem(record: Value, rkey: RecordKey?) -> String? {
        do {
            try lexicons.validate(record: record, collection: post, rkey: rkey)
            return nil
        } catch {
            return "\(error)"
        }
    }

    private func domains(_ count: Int, bytes: Int = 20) -> Value {
        let value = Value.string(String(repeating: "a", count: bytes))
        return ["$type": "zone.stratos.boundary.defs#Domains", "values": .array(Array(repeating: ["value": value], count: count))]
    }

    private func image(_ mimeType: String, size: Int64) -> Value {
        let blob: Value = [
            "$type": "blob", "ref": .link(CID(hashing: [1], codec: .raw)), "mimeType": .string(mimeType), "size": .integer(size),
        ]
        return ["image": blob, "alt": ""]
    }

    private func images(_ images: Value...) -> Value { ["$type": "app.bsky.embed.images", "images": .array(images)] }

    // Records

    @Test("a post keeps the limits of its lexicon, at each limit and one beyond")
    func limits() {
        let cases: [(ValueMap, String?)] = [
            ([:], nil),
            (["createdAt": .null], "Record must have the property \"createdAt\""),
            (["createdAt": "2026-02-30T12:00:00Z"], "Record/createdAt must be a datetime: \(SyntaxKind.datetime.shape)"),
            (["text": .string(String(repeating: "a", count: 300))], nil),
            (["text": .string(String(repeating: "a", count: 301))], "Record/text must not be longer than 300 graphemes (has 301)"),
            (["text": .string(String(repeating: "👩🏽‍🚀", count: 200))], nil),
            (["text": .string(String(repeating: "a", count: 3001))], "Record/text must not be longer than 3000 bytes (has 3001)"),
            (["text": 7], "Record/text must be a string, not an integer"),
            (["boundary": domains(10, bytes: 253)], nil),
            (["boundary": domains(11)], "Record/boundary/values must not have more than 10 elements (has 11)"),
            (["boundary": domains(1, bytes: 254)], "Record/boundary/values/0/value must not be longer than 253 bytes (has 254)"),
            (["boundary": ["values": []]], "Record/boundary must have a \"$type\""),
            (["boundary": ["$type": "com.example.later", "any": 1]], nil),
            (["langs": ["en", "pt-BR", "x-a"]], nil),
            (["langs": ["en", "en", "en", "en"]], "Record/langs must not have more than 3 elements (has 4)"),
            (["langs": ["en", "EN"]], "Record/langs/1 must be a language tag: \(SyntaxKind.language.shape)"),
            (["tags": .array(Array(repeating: "tag", count: 9))], "Record/tags must not have more than 8 elements (has 9)"),
            (["embed": images(image("image/png", size: 2_000_000), image("IMAGE/JPEG; q=1", size: 1))], nil),
            (
                ["embed": images(image("image/png", size: 2_000_001))],
                "Record/embed/images/0/image/size must not be larger than 2000000 bytes (has 2000001)"
            ),
            (["embed": images(image("text/html", size: 1))], "Record/embed/images/0/image/mimeType must be of type image/*"),
            (
                ["embed": images(["image": ["$type": "blob"], "alt": ""])],
                "Record/embed/images/0/image must be a blob {\"$type\": \"blob\", \"ref\": link, \"mimeType\": text, \"size\": bytes}, not an object"
            ),
            (
                ["reply": ["root": ["uri": "at://did:plc:a/b.c.d/e", "cid": "bafyreiaaaaaaa"]]],
                "Record/reply must have the property \"parent\""
            ),
            (
                ["facets": [["index": ["byteStart": 0, "byteEnd": -1], "features": []]]],
                "Record/facets/0/index/byteEnd must not be less than 0"
            ),
            (["labels": ["$type": "com.atproto.label.defs#selfLabels", "values": [["val": "porn"]]], "unknown": ["more": [1]]], nil),
        ]
        for (members, expected) in cases { #expect(problem(members) == expected) }
    }

    @Test("a record must be an object of its collection's type, under a key of the kind that the lexicon names")
    func recordIdentity() throws {
        let record: Value = ["$type": "zone.stratos.feed.post", "createdAt": "2026-01-31T12:00:00Z"]
        #expect(problem(record: record, rkey: try RecordKey("3kznmn7xqxl22")) == nil)
        #expect(problem(record: record, rkey: try RecordKey("self")) == "Record key must be a TID: \(SyntaxKind.tid.shape)")
        #expect(problem(record: ["createdAt": "2026-01-31T12:00:00Z"], rkey: nil) == "Record/$type must be \"zone.stratos.feed.post\"")
        #expect(problem(record: ["$type": "zone.stratos.feed.posts"], rkey: nil) == "Record/$type must be \"zone.stratos.feed.post\"")
        #expect(problem(record: [record], rkey: nil) == "Record must be an object")
        let other = try NSID("zone.stratos.feed.like")
        #expect(!lexicons.definesRecord(other) && lexicons.definesRecord(post))
        #expect(throws: LexiconError.notDefined(other, as: "record")) {
            try lexicons.validate(record: record, collection: other, rkey: nil)
        }
    }

    @Test("record keys may be any, an NSID, or one literal")
    func recordKeys() throws {
        for (key, good, bad) in [("any", "x", nil), ("nsid", "com.example.a", "a"), ("literal:self", "self", "else")]
            as [(String, String, String?)]
        {
            let lexicons = try load(#""main": {"type": "record", "key": "\#(key)", "record": {"type": "object"}}"#)
            let id = try NSID("com.example.test")
            let record: Value = ["$type": "com.example.test"]
            try lexicons.validate(record: record, collection: id, rkey: RecordKey(good))
            if let bad {
                #expect(throws: LexiconError.self) { try lexicons.validate(record: record, collection: id, rkey: RecordKey(bad)) }
            }
        }
    }

    @Test("types that a client may leave out are added, where only one can be meant; what is there stays")
    func addingTypes() throws {
        let bare: Value = [
            "createdAt": "2026-01-31T12:00:00Z", "boundary": ["values": []], "labels": ["values": []], "embed": ["images": []],
        ]
        let full = lexicons.addingTypes(to: bare, collection: post)
        #expect(full["$type"] == "zone.stratos.feed.post" && full["boundary"]?["$type"] == "zone.stratos.boundary.defs#Domains")
        #expect(full["labels"]?["$type"] == "com.atproto.label.defs#selfLabels" && full["embed"]?["$type"] == nil)
        #expect(lexicons.addingTypes(to: full, collection: post) == full)
        let wrong: Value = ["$type": "a", "boundary": ["$type": "b"]]
        #expect(lexicons.addingTypes(to: wrong, collection: post) == wrong)
        #expect(lexicons.addingTypes(to: ["a": 1], collection: try NSID("com.example.other")) == ["$type": "com.example.other", "a": 1])
        #expect(lexicons.addingTypes(to: 1, collection: post) == 1)
    }

    // Methods

    @Test("parameters get their types, and the defaults of the lexicon")
    func coercion() throws {
        let parameters = try lexicons.coerceParameters(
            of: listRecords, from: [("repo", "did:plc:a"), ("collection", "a.b.c"), ("reverse", "false"), ("later", "1")])
        #expect(Value.map(parameters) == ["repo": "did:plc:a", "collection": "a.b.c", "limit": 50, "reverse": false])
        let lexicons = try load(
            """
            "main": {"type": "query", "parameters": {"type": "params", "properties": {"n": {"type": "array", "items":
            {"type": "integer"}, "maxLength": 2}, "b": {"type": "boolean", "default": true}, "s": {"type": "string",
            "default": "x", "enum": ["x", "y"]}}}}
            """
        )
        let id = try NSID("com.example.test")
        #expect(
            Value.map(try lexicons.coerceParameters(of: id, from: [("n", "-1"), ("n", "9007199254740991")])) == [
                "n": [-1, 9_007_199_254_740_991], "b": true, "s": "x",
            ])
        #expect(throws: LexiconError.invalid(.parameters, path: "/n/1", problem: "must be an integer in decimal digits")) {
            try lexicons.coerceParameters(of: id, from: [("n", "1"), ("n", "9007199254740992")])
        }
        #expect(throws: LexiconError.invalid(.parameters, path: "/n", problem: "must not have more than 2 elements (has 3)")) {
            try lexicons.coerceParameters(of: id, from: [("n", "1"), ("n", "2"), ("n", "3")])
        }
    }

    @Test(
        "a parameter of the wrong type, out of range, given twice or missing is refused by its name",
        arguments: [
            ("limit", ["0"], "Params/limit must not be less than 1"), ("limit", ["101"], "Params/limit must not be greater than 100"),
            ("limit", [""], "Params/limit must be an integer in decimal digits"),
            ("limit", ["+5"], "Params/limit must be an integer in decimal digits"),
            ("limit", ["5.0"], "Params/limit must be an integer in decimal digits"),
            ("limit", ["1e1"], "Params/limit must be an integer in decimal digits"),
            ("limit", ["5", "5"], "Params/limit must be given once, not 2 times"),
            ("reverse", ["1"], "Params/reverse must be true or false"),
            ("reverse", ["True"], "Params/reverse must be true or false"), ("repo", [], "Params must have the property \"repo\""),
            ("repo", ["did:plc:"], "Params/repo must be a DID or handle: \(SyntaxKind.atIdentifier.shape)"),
        ] as [(String, [String], String)])
    func coercionRefusals(name: String, texts: [String], expected: String) throws {
        let others = [("repo", "a.example"), ("collection", "a.b.c"), ("limit", "7")].filter { $0.0 != name }
        do {
            _ = try lexicons.coerceParameters(of: listRecords, from: others + texts.map { (name, $0) })
            Issue.record("accepted \(name) \(texts)")
        } catch {
            #expect("\(error)" == expected)
        }
    }

    @Test("inputs, outputs and messages are held against their schema; a body without one passes")
    func bodies() throws {
        let putRecord = try NSID("com.atproto.repo.putRecord")
        let input: Value = ["repo": "a.example", "collection": "a.b.c", "rkey": "k", "record": [:], "swapRecord": .null]
        try lexicons.validate(input: input, of: putRecord)
        #expect(throws: LexiconError.invalid(.input, path: "/swapCommit", problem: "must be a string, not null")) {
            guard var members = input.mapValue else { return }
            members["swapCommit"] = .null
            try lexicons.validate(input: .map(members), of: putRecord)
        }
        let applyWrites = try NSID("com.atproto.repo.applyWrites")
        #expect(throws: LexiconError.self) {
            try lexicons.validate(
                input: ["repo": "a.example", "writes": [["$type": "com.atproto.repo.applyWrites#upsert"]]], of: applyWrites)
        }
        try lexicons.validate(
            input: [
                "repo": "a.example", "writes": [["$type": "com.atproto.repo.applyWrites#delete", "collection": "a.b.c", "rkey": "k"]],
            ], of: applyWrites)
        #expect(throws: LexiconError.invalid(.output, path: "", problem: "must have the property \"domains\"")) {
            try lexicons.validate(output: [:], of: NSID("zone.stratos.server.listDomains"))
        }
        let importRepo = try NSID("zone.stratos.repo.importRepo")
        try lexicons.validate(input: .bytes([1]), of: importRepo)
        let method = try #require(lexicons.method(importRepo))
        #expect(
            method.kind == .procedure && method.inputEncoding == "application/vnd.ipld.car" && method.outputEncoding == "application/json")
        #expect(method.errors == ["InvalidCar", "RepoAlreadyExists"] && lexicons.method(post) == nil)
        let stream = try NSID("zone.stratos.sync.subscribeRecords")
        try lexicons.validate(message: ["name": "OutdatedCursor"], named: "#info", of: stream)
        #expect(throws: LexiconError.invalid(.message, path: "", problem: "must have the property \"name\"")) {
            try lexicons.validate(message: [:], named: "#info", of: stream)
        }
        #expect(throws: LexiconError.self) { try lexicons.validate(message: [:], named: "#other", of: stream) }
    }

    // Documents

    @Test(
        "a document that cannot be used is refused with the place and the reason",
        arguments: [
            (
                ##""a": {"type": "array", "items": {"type": "ref", "ref": "#b"}}"##,
                "/defs/a/items/ref refers to com.example.test#b, which no document defines"
            ),
            (
                ##""a": {"type": "array", "items": {"type": "ref", "ref": "com.example.other"}}"##,
                "/defs/a/items/ref refers to com.example.other, which no document defines"
            ),
            (
                ##""main": {"type": "query"}, "a": {"type": "array", "items": {"type": "ref", "ref": "#main"}}"##,
                "/defs/a/items/ref must not refer to a query"
            ),
            (
                ##""s": {"type": "string"}, "a": {"type": "array", "items": {"type": "union", "refs": ["#s"]}}"##,
                "/defs/a/items/refs must name objects or records, which can hold a $type; com.example.test#s is a string"
            ),
            (
                ##""a": {"type": "array", "items": {"type": "union", "refs": [], "closed": true}}"##,
                "/defs/a/items/refs must not be empty when the union is closed"
            ),
            (
                ##""a": {"type": "array"}"##,
                "/defs/a/items/type must be the type of a schema"
            ),
            (
                ##""a": {"type": "string", "format": "email"}"##,
                "/defs/a/format must be one of at-identifier, at-uri, cid, datetime, did, handle, language, nsid, record-key, tid, uri"
            ),
            (
                ##""a": {"type": "string", "minLength": 3, "maxLength": 2}"##,
                "/defs/a/minLength must be between 0 and maxLength"
            ),
            (
                ##""a": {"type": "integer", "minimum": 3, "default": 2}"##,
                "/defs/a/default must not be less than 3"
            ),
            (
                ##""a": {"type": "object", "required": ["x"], "properties": {}}"##,
                "/defs/a/required names \"x\", which is no property"
            ),
            (
                ##""a": {"type": "object", "properties": {"x/y~": {"type": "float"}}}"##,
                "/defs/a/properties/x~1y~0/type must be the type of a schema, not \"float\""
            ),
            (
                ##""a": {"type": "blob", "accept": ["image"]}"##,
                "/defs/a/accept must hold media types, such as image/png, image/* or */*"
            ),
            (
                ##""main": {"type": "record", "key": "literal:/", "record": {"type": "object"}}"##,
                "/defs/main/key must be any, tid, nsid or literal: and a record key"
            ),
            (
                ##""main": {"type": "query", "parameters": {"type": "params", "properties": {"o": {"type": "object"}}}}"##,
                "/defs/main/parameters/properties/o must be a boolean, an integer, a string, or an array of one of them"
            ),
            (
                ##""main": {"type": "procedure", "input": {"schema": {"type": "object"}}}"##,
                "/defs/main/input/encoding must be a media type"
            ),
        ])
    func badDocuments(definitions: String, expected: String) {
        do {
            _ = try load(definitions)
            Issue.record("loaded \(definitions)")
        } catch {
            #expect("\(error)" == "lexicon com.example.test at " + expected)
        }
    }

    @Test("what is no lexicon at all, or is there twice, is refused")
    func notALexicon() {
        let document = #"{"lexicon": 1, "id": "com.example.test", "defs": {"a": {"type": "token"}}}"#
        for documents in [
            [""], ["[]"], ["{\"lexicon\": 2}"], [#"{"lexicon": 1, "id": "com.example.test", "defs": {}}"#], [document, document],
        ] {
            #expect(throws: LexiconError.self) { try Lexicons(documents: documents.map { Array($0.utf8) }) }
        }
    }

    @Test("definitions may lead back to themselves; a value that nests beyond the bound is refused, and inside unknown nothing is walked")
    func recursion() throws {
        let lexicons = try load(
            """
            "main": {"type": "record", "key": "any", "record": {"type": "object", "properties": {"next": {"type":
            "ref", "ref": "#main"}, "any": {"type": "unknown"}, "list": {"type": "ref", "ref": "#list"}}}}
            """,
            """
            "list": {"type": "array", "items": {"type": "ref", "ref": "#list"}}
            """)
        func nested(_ depth: Int) -> Value { (0..<depth).reduce([:]) { inner, _ in ["$type": "com.example.test", "next": inner] } }
        func listed(_ depth: Int) -> Value { (0..<depth).reduce([]) { inner, _ in [inner] } }
        let id = try NSID("com.example.test")
        try lexicons.validate(record: nested(Lexicons.depthMax), collection: id, rkey: nil)
        #expect(throws: LexiconError.self) { try lexicons.validate(record: nested(Lexicons.depthMax + 1), collection: id, rkey: nil) }
        try lexicons.validate(record: ["$type": "com.example.test", "any": nested(1000)], collection: id, rkey: nil)
        #expect(throws: LexiconError.self) {
            try lexicons.validate(record: ["$type": "com.example.test", "list": listed(1000)], collection: id, rkey: nil)
        }
        #expect(throws: LexiconError.invalid(.record, path: "/list/0/0", problem: "must be an array, not an integer")) {
            try lexicons.validate(record: ["$type": "com.example.test", "list": [[1]]], collection: id, rkey: nil)
        }
    }

    @Test("tokens, constants, enums and the main of a union are compared as text; a path is a JSON pointer")
    func rules() throws {
        let lexicons = try load(
            """
            "main": {"type": "record", "key": "any", "record": {"type": "object", "properties": {"t": {"type": "ref",
            "ref": "#token"}, "c": {"type": "string", "const": "é"}, "e": {"type": "string", "enum": ["a"]}, "b":
            {"type": "boolean", "const": true}, "u": {"type": "union", "refs": ["#main"], "closed": true}, "x/y~z":
            {"type": "bytes", "maxLength": 1}, "l": {"type": "cid-link"}}}}
            """,
            """
            "token": {"type": "token"}
            """)
        let id = try NSID("com.example.test")
        func problem(_ key: String, _ value: Value) -> String? {
            var record: ValueMap = ["$type": "com.example.test"]
            record[key] = value
            do {
                try lexicons.validate(record: .map(record), collection: id, rkey: nil)
                return nil
            } catch {
                return "\(error)"
            }
        }
        #expect(problem("t", "com.example.test#token") == nil)
        #expect(problem("t", "com.example.test#other") == "Record/t must be \"com.example.test#token\"")
        #expect(problem("c", "e\u{301}") == "Record/c must be \"é\"", "equal to Swift, not in bytes")
        #expect(problem("c", "é") == nil && problem("e", "a") == nil && problem("e", "b") == "Record/e must be one of \"a\"")
        #expect(problem("b", false) == "Record/b must be true")
        #expect(problem("u", ["$type": "com.example.test"]) == nil && problem("u", ["$type": "com.example.test#main", "b": true]) == nil)
        #expect(problem("u", ["$type": "com.example.test#main", "b": false]) == "Record/u/b must be true")
        #expect(problem("u", ["$type": "com.example.test#token"]) == "Record/u/$type must have a \"$type\" of com.example.test")
        #expect(problem("x/y~z", .bytes([1, 2])) == "Record/x~1y~0z must not have more than 1 bytes (has 2)")
        #expect(problem("l", "bafy") == "Record/l must be a link, {\"$link\": …} in JSON, not a string")
        #expect(problem("l", .link(CID(hashing: []))) == nil)
    }
}
