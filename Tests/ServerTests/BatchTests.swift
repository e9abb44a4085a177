import ATProto
import Commands
import Testing

@Suite("HTTP: applyWrites")
struct BatchTests {
    private func batch(_ writes: [Value], repo: String = Service.alice, _ more: ValueMap = [:]) -> Value {
        var input: ValueMap = ["repo": .string(repo), "writes": .array(writes)]
        for (key, value) in more { input[key] = value }
        return .map(input)
    }

    /// One item in each dialect: the official one, and the reference's own.
    private func item(_ action: String, _ rkey: String?, _ text: String?, official: Bool) -> Value {
        var item: ValueMap = ["collection": .string(Service.post)]
        if let rkey { item["rkey"] = .string(rkey) }
        if official { item["$type"] = .string("com.atproto.repo.applyWrites#\(action)") } else { item["action"] = .string(action) }
        if let text { item[official ? "value" : "record"] = Service.postRecord(text, in: "general") }
        return .map(item)
    }

    @Test("both dialects of items write the same: one commit, results in order", arguments: [true, false])
    func dialects(official: Bool) async throws {
        let service = try await Service()
        try await service.write(Service.postRecord("old", in: "general"), at: "3lq2222222222")
        try await service.write(Service.postRecord("gone", in: "general"), at: "3lq2222222223")
        let head = try await service.events(of: Service.alice)
        let answer = try await service.call(
            "com.atproto.repo.applyWrites",
            batch([
                item("create", nil, "new", official: official), item("update", "3lq2222222222", "newer", official: official),
                item("delete", "3lq2222222223", nil, official: official),
            ]), as: Service.alice)
        #expect(answer.status == 200, "\(answer.text)")
        let results = try #require(answer["results"]?.arrayValue)
        #expect(results.count == 3)
        #expect(results[0]["uri"]?.stringValue?.hasPrefix("at://\(Service.alice)/\(Service.post)/") == true)
        #expect(results[1]["uri"]?.stringValue == "at://\(Service.alice)/\(Service.post)/3lq2222222222")
        #expect(results[1]["cid"]?.stringValue != nil)
        #expect(results[2] == [:])
        #expect(answer["commit"]?["cid"]?.stringValue != nil)
        #expect(try await service.events(of: Service.alice) == head + 1)
        let list = try await service.get(
            "com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post), ("reverse", "true")], as: Service.alice)
        #expect(list["records"]?.arrayValue?.compactMap { $0["value"]?["text"]?.stringValue } == ["newer", "new"])
    }

    @Test("one item that is refused refuses all of them", arguments: [true, false])
    func allOrNone(official: Bool) async throws {
        let service = try await Service()
        let good = item("create", "3lq2222222222", "good", official: official)
        let cases: [(Value, String)] = [
            (item("delete", "3lq222222222z", nil, official: official), "RecordNotFound"),
            (item("update", "3lq222222222z", "x", official: official), "RecordNotFound"),
            (item("create", "3lq2222222222", "again", official: official), "InvalidRequest"),
            (item("update", nil, "no key", official: official), "InvalidRequest"),
            (item("delete", nil, nil, official: official), "InvalidRequest"),
            (item("create", "3lq2222222223", nil, official: official), "InvalidRequest"),
            (item("explode", "3lq2222222223", "x", official: official), "InvalidRequest"),
            ([:], "InvalidRequest"), (7, "InvalidRequest"),
        ]
        for (bad, error) in cases {
            let answer = try await service.call("com.atproto.repo.applyWrites", batch([good, bad]), as: Service.alice)
            expect(answer, 400, error)
        }
        #expect(try await service.events(of: Service.alice) == 1)
    }

    @Test("a batch holds 1 to 200 writes, for the caller's own repo, upon the commit that swapCommit names")
    func bounds() async throws {
        let service = try await Service()
        func ask(_ count: Int, repo: String = Service.alice, as caller: String? = Service.alice, _ more: ValueMap = [:]) async throws
            -> Answer
        {
            let writes = (0..<count).map { item("create", nil, "\($0)", official: true) }
            return try await service.call("com.atproto.repo.applyWrites", batch(writes, repo: repo, more), as: caller)
        }
        expect(try await ask(0), 400, "InvalidRequest")
        expect(try await ask(201), 400, "InvalidRequest")
        expect(try await ask(1, as: Service.bob), 401, "AuthenticationRequired", "Cannot write to another user's repo")
        expect(try await ask(1, as: nil), 401, "AuthenticationRequired")
        expect(try await ask(1, ["swapCommit": .string(CID(hashing: [0x60]).description)]), 400, "InvalidSwap")
        let full = try await ask(200)
        #expect(full.status == 200)
        #expect(full["results"]?.arrayValue?.count == 200)
        #expect(try await ask(1, ["swapCommit": #require(full["commit"]?["cid"])]).status == 200)
    }

}
