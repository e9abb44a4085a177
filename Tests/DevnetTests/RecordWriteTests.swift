import ATProto
import Devnet
import HTTPTypes
import Testing

@Suite("Records that clients write")
struct RecordWriteTests {
    /// Writes in a session of the account itself.
    private struct Owner {
        let devnet: Devnet
        let user: DevnetUser
        let session: String

        init(_ devnet: Devnet, handle: String = "alice.test") async throws {
            self.devnet = devnet
            user = try devnet.createAccount(handle: handle)
            let answer = try await HTTPCall.post(
                devnet.pdsURL + "/xrpc/com.atproto.server.createSession", ["identifier": .string(handle), "password": "password"])
            session = try #require(try answer.json["accessJwt"]?.stringValue)
        }

        func call(_ method: String, _ input: Value) async throws -> HTTPCall.Answer {
            try await HTTPCall.post(
                devnet.pdsURL + "/xrpc/com.atproto.repo." + method, input, headers: [.authorization: "Bearer \(session)"])
        }
    }

    private func input(_ changes: ValueMap = [:], record: Value? = ["text": "hello"]) -> Value {
        var input: ValueMap = ["repo": "alice.test", "collection": "com.example.note", "rkey": "a"]
        input["record"] = record
        for (name, value) in changes { input[name] = value == "absent" ? nil : value }
        return .map(input)
    }

    @Test("a record is created, put and deleted; the journal has each write in its order, over HTTP too")
    func journal() async throws {
        try await Devnet.run { devnet in
            let owner = try await Owner(devnet)
            let did = owner.user.did
            let created = try await owner.call("createRecord", input())
            let uri = "at://\(did)/com.example.note/a"
            #expect(try created.json["uri"] == .string(uri), "\(created.text)")
            let same = try await owner.call("putRecord", input())
            #expect(try same.json["cid"] == created.json["cid"])
            let put = try await owner.call("putRecord", input(record: ["text": "other"]))
            #expect(try put.json["cid"] != created.json["cid"])
            #expect(try await owner.call("deleteRecord", input(record: nil)).json == [:])
            #expect(try await owner.call("deleteRecord", input(record: nil)).status == 200)
            let named = try await owner.call("createRecord", input(["rkey": "absent"]))
            let key = try #require(try named.json["uri"]?.stringValue?.split(separator: "/").last)
            #expect(throws: Never.self) { try TID(String(key)) }

            let writes = devnet.writes(of: did)
            #expect(writes.map(\.sequence) == Array(1...6) && devnet.writes() == writes)
            #expect(writes.map(\.action) == [.create, .update, .update, .delete, .delete, .create])
            #expect(writes.map(\.isChange) == [true, false, true, true, false, true])
            #expect(writes.prefix(5).allSatisfy { $0.uri == uri })
            let cids = try [created, same, put, named].map { try $0.json["cid"]?.stringValue }
            #expect(writes.map { $0.cid?.description } == [cids[0], cids[1], cids[2], nil, nil, cids[3]])
            let listed = try #require(try await HTTPCall.get(devnet.pdsURL + "/devnet/writes").json["writes"]?.arrayValue)
            #expect(listed.count == 6 && listed[2]["action"] == "update" && listed[4]["isChange"] == false)
            #expect(listed.map { $0["uri"]?.stringValue } == writes.map(\.uri))
        }
    }

    @Test("a record says its type, or has it added; links and bytes are values of their own")
    func type() async throws {
        try await Devnet.run { devnet in
            let owner = try await Owner(devnet)
            let link = CID(hashing: [1]).description
            let record: Value = ["sig": ["$bytes": "AQI"], "ref": ["$link": .string(link)]]
            #expect(try await owner.call("putRecord", input(record: record)).status == 200)
            let stored = devnet.record(of: owner.user.did, collection: try NSID("com.example.note"), key: try RecordKey("a"))
            #expect(try stored?["$type"] == "com.example.note" && stored?["sig"] == .bytes([1, 2]) && stored?["ref"] == .link(CID(link)))
            let typed = try await owner.call("putRecord", input(["rkey": "b"], record: ["$type": "com.example.note"]))
            #expect(typed.status == 200)
            let wrong = try await owner.call("putRecord", input(record: ["$type": "com.example.other"]))
            try expectRefusal(wrong, 400, "InvalidRequest", "Invalid $type: expected com.example.note, got com.example.other")
        }
    }

    @Test("each part of a write that is wrong is refused, by all three methods")
    func refusals() async throws {
        try await Devnet.run { devnet in
            let owner = try await Owner(devnet)
            _ = try devnet.createAccount(handle: "bob.test")
            for method in ["createRecord", "putRecord", "deleteRecord"] {
                for (change, status, name, text) in [
                    (["repo": "bob.test"], 401, "AuthenticationRequired", ""),
                    (["repo": "carol.test"], 400, "InvalidRequest", "Could not find"),
                    (["repo": "absent"], 400, "InvalidRequest", "repo"), (["collection": "note"], 400, "InvalidRequest", "nsid"),
                    (["collection": "absent"], 400, "InvalidRequest", "nsid"), (["rkey": "."], 400, "InvalidRequest", "record key"),
                    (["rkey": "a/b"], 400, "InvalidRequest", "record key"), (["rkey": 1], 400, "InvalidRequest", "record key"),
                    (["swapCommit": .string(CID(hashing: [1]).description)], 400, "InvalidRequest", "commits"),
                ] as [(ValueMap, Int, String, String)] {
                    try expectRefusal(try await owner.call(method, input(change)), status, name, text)
                }
            }
            for method in ["createRecord", "putRecord"] {
                for change in [["record": "absent"], ["record": "text"], ["record": []], ["validate": true]] as [ValueMap] {
                    try expectRefusal(try await owner.call(method, input(change)), 400, "InvalidRequest")
                }
            }
            for method in ["putRecord", "deleteRecord"] {
                try expectRefusal(try await owner.call(method, input(["rkey": "absent"])), 400, "InvalidRequest", "rkey")
            }
            #expect(devnet.writes().isEmpty)
            #expect(try await owner.call("createRecord", input()).status == 200)
            try expectRefusal(try await owner.call("createRecord", input()), 400, "InvalidRequest", "already a record")
            #expect(devnet.writes().count == 1)
        }
    }

    @Test("swapRecord lets a write through only over the record that it names")
    func swap() async throws {
        try await Devnet.run { devnet in
            let owner = try await Owner(devnet)
            let other = Value.string(CID(hashing: [1]).description)
            func put(_ text: String, over swap: Value) async throws -> HTTPCall.Answer {
                try await owner.call("putRecord", input(["swapRecord": swap], record: ["text": .string(text)]))
            }
            try expectRefusal(try await put("one", over: other), 400, "InvalidSwap", "null")
            let first = try await put("one", over: .null)
            #expect(first.status == 200, "\(first.text)")
            let cid = try #require(try first.json["cid"]?.stringValue)
            try expectRefusal(try await put("two", over: .null), 400, "InvalidSwap", cid)
            try expectRefusal(try await put("two", over: other), 400, "InvalidSwap", cid)
            try expectRefusal(try await put("two", over: "no cid"), 400, "InvalidRequest", "swapRecord")
            #expect(try await put("two", over: .string(cid)).status == 200)
            let delete = input(["swapRecord": .string(cid)], record: nil)
            try expectRefusal(try await owner.call("deleteRecord", delete), 400, "InvalidSwap")
            #expect(devnet.writes().map(\.action) == [.create, .update])
        }
    }

    @Test("an OAuth client does what its scopes say and nothing else")
    func scopes() async throws {
        let note = "repo:com.example.note"
        let all: Set<String> = ["createRecord", "putRecord", "deleteRecord"]
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            for (scope, allowed) in [
                ("atproto", []), ("atproto \(note)", all), ("atproto \(note)?action=create", ["createRecord"]),
                ("atproto \(note)?action=update", []), ("atproto \(note)?action=delete", ["deleteRecord"]),
                ("atproto \(note)?action=create&action=update", ["createRecord", "putRecord"]),
                ("atproto \(note)?action=create \(note)?action=update", ["createRecord", "putRecord"]), ("atproto repo:*", all),
                ("atproto repo:com.example.other", []), ("atproto repo?collection=com.example.other&collection=com.example.note", all),
                ("atproto transition:generic", all), ("atproto transition:email", []), ("atproto rpc:com.example.note?aud=*", []),
            ] as [(String, Set<String>)] {
                var flow = OAuthFlow(devnet, user)
                flow.scope = scope
                flow.clientID = "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&scope=" + HTTPCall.escaped(scope)
                let token = try await flow.tokens().access
                for method in ["createRecord", "putRecord", "deleteRecord"] {
                    let answer = try await flow.call("com.atproto.repo.\(method)", input(), token: token)
                    if allowed.contains(method) {
                        #expect(answer.status == 200, "\(scope) \(method): \(answer.text)")
                    } else {
                        try expectRefusal(answer, 403, "ScopeMissingError", "Missing required scope \"\(note)?action=")
                    }
                }
                _ = try await flow.revoke(token)
                let key = try RecordKey("a")
                if devnet.record(of: user.did, collection: try NSID("com.example.note"), key: key) != nil {
                    // So that the next scope finds nothing to stumble over.
                    let owner = try await flow.ownerDeletes(input(record: nil))
                    #expect(owner.status == 200)
                }
            }
        }
    }
}

extension OAuthFlow {
    fileprivate func ownerDeletes(_ input: Value) async throws -> HTTPCall.Answer {
        let session = try await HTTPCall.post(
            devnet.pdsURL + "/xrpc/com.atproto.server.createSession",
            ["identifier": .string(user.handle.description), "password": .string(user.password)])
        let token = try session.json["accessJwt"]?.stringValue ?? ""
        return try await HTTPCall.post(
            devnet.pdsURL + "/xrpc/com.atproto.repo.deleteRecord", input, headers: [.authorization: "Bearer \(token)"])
    }
}
