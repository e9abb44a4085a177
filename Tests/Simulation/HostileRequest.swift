/// A request over HTTP that must be refused, with the answer that it must get.
package struct HostileRequest: Sendable {
    package let name: String
    package let target: String
    package var verb = "POST"
    package var type: String? = "application/json"
    /// Whether the body is sent in chunks, without its length.
    package var isChunked = false
    package var body: [UInt8] = []
    package var status = 400
    package var error = "InvalidRequest"

    /// The member who asks.
    package static let actor = "did:plc:alicealicealicealicealic"
    /// A collection without a lexicon: a record may be anything there.
    package static let thing = "zone.stratos.test.thing"
    private static let post = "zone.stratos.feed.post"

    /// The same of another member, where its body begins with the repo that it is for.
    package func by(_ member: String) -> HostileRequest {
        let start = Array("{\"repo\":\"\(Self.actor)\"".utf8)
        guard body.starts(with: start) else { return self }
        var request = self
        request.body.replaceSubrange(..<start.count, with: "{\"repo\":\"\(member)\"".utf8)
        return request
    }

    private static let create = "/xrpc/com.atproto.repo.createRecord"

    private static func create(_ name: String, _ json: String, _ error: String = "InvalidRequest", status: Int = 400) -> HostileRequest {
        HostileRequest(name: name, target: create, body: Array(json.utf8), status: status, error: error)
    }

    /// A create of a record in a collection without a lexicon, around the text of its fields.
    private static func record(
        _ name: String, _ fields: String, rkey: String? = nil, collection: String = HostileRequest.thing, _ error: String = "InvalidRequest"
    ) -> HostileRequest {
        let key = rkey.map { ",\"rkey\":\"\($0)\"" } ?? ""
        return create(name, "{\"repo\":\"\(actor)\",\"collection\":\"\(collection)\"\(key),\"record\":{\(fields)}}", error)
    }

    package static var json: [HostileRequest] {
        let start = "{\"repo\":\"\(actor)\",\"collection\":\"\(thing)\",\"record\":"
        var requests = [
            create("nothing but a space", " "), create("no value", "{\"repo\":"), create("a list", "[]"), create("a text", "\"x\""),
            create("a number", "1"), create("null", "null"), create("two values", "{}{}"), create("a comment", "{/**/}"),
            create("a comma at the end", "{\"repo\":\"x\",}"), create("single quotes", "{'repo':'x'}"),
            create("NaN", start + "{\"a\":NaN}}"),
            create("a byte order mark", "\u{FEFF}{}"), create("nothing in it", "{}"), create("a record in text", start + "\"x\"}"),
            create("a record that is a list", start + "[]}"), create("no record", start + "null}"),
            record("a key twice", "\"a\":1,\"a\":1"), record("a key twice, once with an escape", "\"a\":1,\"\\u0061\":1"),
            record("half a surrogate pair", "\"a\":\"\\ud800\""), record("a control character", "\"a\":\"\u{01}\""),
            record("an unknown escape", "\"a\":\"\\x\""), record("a fraction", "\"a\":1.5"), record("a small fraction", "\"a\":1e-3"),
            record("2^53", "\"a\":9007199254740992"), record("−2^53", "\"a\":-9007199254740992"), record("a huge number", "\"a\":1e400"),
            record("a number of a thousand digits", "\"a\":1" + String(repeating: "0", count: 1000)), record("a zero before", "\"a\":01"),
            record("plus one", "\"a\":+1"), record("minus alone", "\"a\":-"),
            record("a link that is none", "\"a\":{\"$link\":\"x\"}"), record("a link with more", "\"a\":{\"$link\":\"x\",\"b\":1}"),
            record("bytes that are none", "\"a\":{\"$bytes\":\"%\"}"), record("an empty type", "\"$type\":\"\""),
            record("a type that is a number", "\"$type\":1"),
            record("another type", "\"$type\":\"zone.stratos.feed.post\"", "InvalidRecord"),
            record("a blob that is none", "\"a\":{\"$type\":\"blob\"}"),
            record("32 levels and one", "\"a\":" + nested(32, "[", "]")),
            record("a hundred thousand levels", "\"a\":" + nested(100_000, "[", "]")),
            record("a hundred thousand objects in each other", "\"a\":" + nested(100_000, "{\"a\":", "}", core: "1")),
            record("levels without end", "\"a\":" + String(repeating: "[", count: 1_000_000)),
            record("a collection that is none", "\"a\":1", collection: "thing"),
            record("a collection of one part", "\"a\":1", collection: "zone"),
            record("a collection with a slash", "\"a\":1", collection: "zone.stratos.a/b"),
            record("an empty collection", "\"a\":1", collection: ""),
            record("a collection of 318 bytes", "\"a\":1", collection: "zone.stratos." + String(repeating: "a", count: 305)),
            record("another's collection", "\"a\":1", collection: "app.bsky.feed.post", "InvalidCollection"),
            record("an empty key", "\"a\":1", rkey: ""), record("a dot for a key", "\"a\":1", rkey: "."),
            record("two dots for a key", "\"a\":1", rkey: ".."),
            record("a slash in a key", "\"a\":1", rkey: "a/b"), record("a space in a key", "\"a\":1", rkey: "a b"),
            record("a NUL in a key", "\"a\":1", rkey: "a\\u0000"),
            record("a key of 513 bytes", "\"a\":1", rkey: String(repeating: "a", count: 513)),
            record("a key with an accent", "\"a\":1", rkey: "é"),
        ]
        let sequences: [[UInt8]] = [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82]]
        for bytes in sequences {
            var body = Array((start + "{\"a\":\"").utf8)
            body += bytes
            body += Array("\"}}".utf8)
            requests.append(HostileRequest(name: "no UTF-8: \(bytes)", target: create, body: body))
        }
        return requests
    }

    private static func nested(_ count: Int, _ open: String, _ close: String, core: String = "") -> String {
        String(repeating: open, count: count) + core + String(repeating: close, count: count)
    }

    /// Bodies that are large, each at a limit and one beyond, or made to take much memory.
    package static var large: [HostileRequest] {
        let start = "{\"repo\":\"\(actor)\",\"collection\":\"\(thing)\",\"validate\":false,\"record\":"
        func padded(_ count: Int) -> [UInt8] { Array(start.utf8) + [UInt8](repeating: 0x20, count: count - start.utf8.count - 1) + [0x7D] }
        func filled(_ item: String) -> [UInt8] {
            let head = start + "{\"a\":["
            let count = ((2 << 20) - head.utf8.count - 100) / (item.utf8.count + 1)
            let items: [String] = Array(repeating: item, count: count)
            return Array("\(head)\(items.joined(separator: ","))]}}".utf8)
        }
        func list(_ item: String, _ count: Int) -> String {
            let items: [String] = Array(repeating: item, count: count)
            return "[" + items.joined(separator: ",") + "]"
        }
        func request(_ name: String, _ body: [UInt8], isChunked: Bool = false, isTooLarge: Bool = false) -> HostileRequest {
            HostileRequest(
                name: name, target: create, isChunked: isChunked, body: body, status: isTooLarge ? 413 : 400,
                error: isTooLarge ? "PayloadTooLarge" : "InvalidRequest")
        }
        var requests: [HostileRequest] = [
            request("2 MiB of spaces", padded(2 << 20)), request("a byte more than 2 MiB", padded((2 << 20) + 1), isTooLarge: true),
            request("a byte more than 2 MiB in chunks", padded((2 << 20) + 1), isChunked: true, isTooLarge: true),
            request("8 MiB in chunks", padded(8 << 20), isChunked: true, isTooLarge: true),
            request("8 MiB", padded(8 << 20), isTooLarge: true), request("a list of a million numbers", filled("0")),
            request("lists of a hundred thousand numbers", filled(list("0", 100_000))),
            request("half a million lists", filled(list("[0]", 100_000))),
        ]
        let keys = (0..<130_000).map { "\"\($0)\":0" }.joined(separator: ",")
        // Just within what the decoder takes; a lexicon is insisted on, so that they are refused after all else was done with them.
        let insisting = start.replacing("false", with: "true")
        let objects = list("{\"a\":0}", 60_000)
        for (name, fields) in [("an object of 130,000 keys", keys), ("60,000 objects", "\"a\":\(objects)")] {
            requests.append(
                HostileRequest(name: name, target: create, body: Array("\(insisting){\(fields)}}".utf8), error: "InvalidRecord"))
        }
        let large = "{\"a\":\"" + String(repeating: "x", count: 1_000_000 - 10) + "\"}"
        requests.append(HostileRequest(name: "a record above 1,000,000 bytes", target: create, body: Array((start + large + "}").utf8)))
        let part =
            "{\"action\":\"create\",\"collection\":\"\(thing)\",\"record\":{\"a\":\"" + String(repeating: "x", count: 680_000)
            + "\"}}"
        requests.append(
            HostileRequest(
                name: "a commit above 2,000,000 bytes", target: "/xrpc/com.atproto.repo.applyWrites",
                body: Array("{\"repo\":\"\(actor)\",\"validate\":false,\"writes\":[\(part),\(part),\(part)]}".utf8)))
        return requests
    }

    package static var queries: [HostileRequest] {
        func get(_ name: String, _ target: String, status: Int = 400, _ error: String = "InvalidRequest") -> HostileRequest {
            HostileRequest(name: name, target: "/xrpc/\(target)", verb: "GET", type: nil, status: status, error: error)
        }
        let read = "com.atproto.repo.getRecord?collection=\(post)&rkey=3lq2222222222&repo="
        let did =
            "did:web:" + String(repeating: "a", count: 63) + "." + String(repeating: "b", count: 63) + "."
            + String(repeating: "c", count: 125)
        precondition(did.utf8.count == 261)
        return [
            get("a DID of 261 bytes", read + did, "RecordNotFound"),
            get("a DID of 2,049 bytes", read + "did:web:" + String(repeating: "a", count: 2041)),
            get("a DID that is none", read + "did:"), get("a handle", read + "alice.example", "RecordNotFound"),
            get("neither DID nor handle", read + "x"), get("a repo with a NUL", read + "did:web:a%00"),
            get("a query that is no UTF-8", read + "%ff"), get("an unfinished percent", read + "%f"),
            get("a collection that is none", "com.atproto.repo.listRecords?repo=\(actor)&collection=x"),
            get(
                "a limit beyond 2^63",
                "com.atproto.repo.listRecords?repo=\(actor)&collection=\(post)&limit=9223372036854775808"),
            get("a revision that is none", "zone.stratos.sync.getRepo?did=\(actor)&since=x"),
            get("1,500 parameters", "com.atproto.repo.getRecord?" + Array(repeating: "repo=x", count: 1500).joined(separator: "&")),
            get("a method that is none", "x"), get("a method that is not there", "com.example.none", status: 501, "MethodNotImplemented"),
        ]
    }

    package static func repos(seed: UInt64) throws -> [HostileRequest] {
        try HostileRepo.all(seed: seed).filter { !$0.refusal.isEmpty && $0.refusal != "InvalidSignature" && !$0.car.isEmpty }.map { repo in
            HostileRequest(
                name: repo.name, target: "/xrpc/zone.stratos.repo.importRepo", type: "application/vnd.ipld.car", body: repo.car,
                error: "InvalidCar")
        }
    }
}
