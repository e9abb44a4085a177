import ATProto
import Commands
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: createRecord, putRecord, deleteRecord")
struct WriteMethodsTests {
    private func input(_ record: Value?, at rkey: String? = nil, repo: String = Service.alice, _ more: ValueMap = [:]) -> Value {
        var input: ValueMap = ["repo": .string(repo), "collection": .string(Service.post)]
        if let record { input["record"] = record }
        if let rkey { input["rkey"] = .string(rkey) }
        for (key, value) in more { input[key] = value }
        return .map(input)
    }

    @Test("a create answers with the URI, the CID of the stored block, and the commit, and the record is there")
    func create() async throws {
        let service = try await Service()
        let record = Service.postRecord("first", in: "general")
        let answer = try await service.call("com.atproto.repo.createRecord", input(record, at: "3lq2222222222"), as: Service.alice)
        #expect(answer.status == 200)
        let uri = "at://\(Service.alice)/\(Service.post)/3lq2222222222"
        #expect(answer["uri"]?.stringValue == uri)
        var stored = record
        if case .map(var fields) = record, case .map(var boundary) = fields["boundary"] {
            boundary["$type"] = "zone.stratos.boundary.defs#Domains"
            fields["boundary"] = .map(boundary)
            stored = .map(fields)
        }
        let cid = CID(hashing: DAGCBOR.encode(stored))
        #expect(answer["cid"]?.stringValue == cid.description)
        #expect(answer["commit"]?["cid"]?.stringValue != nil)
        #expect(answer["commit"]?["rev"]?.stringValue.flatMap { try? TID($0) } != nil)
        #expect(try answer.json.mapValue?.map(\.key) == ["cid", "uri", "commit"])
        let read = try await service.get(
            "com.atproto.repo.getRecord", [("repo", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")],
            as: Service.alice)
        #expect(read["value"] == stored)
        #expect(read["cid"]?.stringValue == cid.description)
    }

    @Test("a create without a key gets a fresh TID, and each one another")
    func freshKeys() async throws {
        let service = try await Service()
        var keys: Set<String> = []
        for number in 0..<5 {
            let answer = try await service.write(Service.postRecord("\(number)", in: "general"))
            let uri = try ATURI(#require(answer["uri"]?.stringValue))
            let key = try #require(uri.recordKey).description
            _ = try TID(key)
            keys.insert(key)
        }
        #expect(keys.count == 5)
    }

    @Test("a create where a record stands is refused, and the record stays")
    func createTwice() async throws {
        let service = try await Service()
        try await service.write(Service.postRecord("first", in: "general"), at: "3lq2222222222")
        let head = try await service.events(of: Service.alice)
        let again = try await service.call(
            "com.atproto.repo.createRecord", input(Service.postRecord("second", in: "general"), at: "3lq2222222222"), as: Service.alice)
        expect(again, 400, "InvalidRequest")
        #expect(try await service.events(of: Service.alice) == head)
    }

    @Test("$type is that of the collection: added where it is missing, refused where it is another")
    func types() async throws {
        let service = try await Service()
        guard case .map(var fields) = Service.postRecord("typed", in: "general") else { return }
        fields["$type"] = nil
        let missing = try await service.call("com.atproto.repo.createRecord", input(.map(fields), at: "3lq2222222222"), as: Service.alice)
        #expect(missing.status == 200)
        let read = try await service.get(
            "com.atproto.repo.getRecord", [("repo", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")],
            as: Service.alice)
        #expect(read["value"]?["$type"]?.stringValue == Service.post)
        fields["$type"] = "app.bsky.feed.post"
        let other = try await service.call("com.atproto.repo.createRecord", input(.map(fields)), as: Service.alice)
        expect(other, 400, "InvalidRecord", "$type must be zone.stratos.feed.post")
        fields["$type"] = 7
        expect(try await service.call("com.atproto.repo.createRecord", input(.map(fields)), as: Service.alice), 400, "InvalidRequest")
    }

    @Test("the boundaries of a record must be the service's, allowed, and held by its author, whatever `validate` says")
    func boundaries() async throws {
        let service = try await Service()
        let cases: [(Value?, String)] = [
            (nil, "InvalidRecord"),
            (["values": []], "InvalidRecord"),
            (["values": [["value": "general"]]], "ServiceMismatch"),
            (["values": [["value": "did:web:other.example/general"]]], "InvalidRecord"),
            (["values": [["value": Service.boundary("nowhere")]]], "InvalidRecord"),
            (["values": [["value": Service.boundary("others")]]], "ForbiddenBoundary"),
            (["values": [["value": Service.boundary("general")], ["value": Service.boundary("others")]]], "ForbiddenBoundary"),
        ]
        for validate in [nil, true, false] as [Bool?] {
            for (boundary, error) in cases {
                guard case .map(var fields) = Service.postRecord("bounded", in: "general") else { return }
                fields["boundary"] = boundary
                var more: ValueMap = [:]
                if let validate { more["validate"] = .bool(validate) }
                let answer = try await service.call("com.atproto.repo.createRecord", input(.map(fields), more), as: Service.alice)
                expect(answer, 400, error)
            }
        }
        #expect(try await service.events(of: Service.alice) == 1, "nothing was written")
    }

    private func input(_ record: Value, _ more: ValueMap) -> Value { input(record, at: nil, more) }

    @Test("only the repo's owner writes, only zone.stratos.* is taken, and only members have a repo")
    func whoAndWhat() async throws {
        let service = try await Service()
        let record = Service.postRecord("x", in: "general")
        for (method, words) in [("createRecord", "create"), ("putRecord", "update"), ("deleteRecord", "delete")] {
            let body = input(method == "deleteRecord" ? nil : record, at: "3lq2222222222")
            let bob = try await service.call("com.atproto.repo.\(method)", body, as: Service.bob)
            expect(bob, 401, "AuthenticationRequired", "Cannot \(words) record for another user")
            expect(try await service.call("com.atproto.repo.\(method)", body), 401, "AuthenticationRequired")
            expect(try await service.call("com.atproto.repo.\(method)", body, as: "did:plc:nobody"), 401, "AuthenticationRequired")
            let handle = input(method == "deleteRecord" ? nil : record, at: "3lq2222222222", repo: "alice.example")
            expect(try await service.call("com.atproto.repo.\(method)", handle, as: Service.alice), 401, "AuthenticationRequired")
        }
        guard case .map(var foreign) = input(["text": "x"]) else { return }
        foreign["collection"] = "app.bsky.feed.post"
        expect(
            try await service.call("com.atproto.repo.createRecord", .map(foreign), as: Service.alice), 400, "InvalidCollection",
            "Only zone.stratos.* collections are supported")
        foreign["collection"] = "zone.stratos.actor.enrollment"
        expect(try await service.call("com.atproto.repo.createRecord", .map(foreign), as: Service.alice), 400, "InvalidRecord")
    }

    @Test("lexicons: checked where one is known, insisted on with validate: true, left out with false")
    func validation() async throws {
        let service = try await Service()
        guard case .map(var long) = Service.postRecord(String(repeating: "x", count: 301), in: "general") else { return }
        func create(_ collection: String, _ record: Value, _ validate: Bool?) async throws -> Answer {
            var fields: ValueMap = ["repo": .string(Service.alice), "collection": .string(collection), "record": record]
            if let validate { fields["validate"] = .bool(validate) }
            return try await service.call("com.atproto.repo.createRecord", .map(fields), as: Service.alice)
        }
        expect(try await create(Service.post, .map(long), nil), 400, "InvalidRecord")
        expect(try await create(Service.post, .map(long), true), 400, "InvalidRecord")
        #expect(try await create(Service.post, .map(long), false).status == 200)
        long["text"] = .string(String(repeating: "x", count: 300))
        #expect(try await create(Service.post, .map(long), true).status == 200)
        #expect(try await create(Service.thing, ["size": 1], nil).status == 200, "unset checks known lexicons only")
        expect(try await create(Service.thing, ["size": 1], true), 400, "InvalidRecord")
        #expect(try await create(Service.thing, ["size": 1], false).status == 200)
    }

    @Test("a put creates, then updates, and does nothing where the record stands as asked")
    func put() async throws {
        let service = try await Service()
        let first = input(Service.postRecord("one", in: "general"), at: "3lq2222222222")
        let created = try await service.call("com.atproto.repo.putRecord", first, as: Service.alice)
        #expect(created.status == 200)
        let second = input(Service.postRecord("two", in: "writers"), at: "3lq2222222222")
        let updated = try await service.call("com.atproto.repo.putRecord", second, as: Service.alice)
        #expect(updated.status == 200)
        #expect(updated["cid"] != created["cid"])
        let head = try await service.events(of: Service.alice)
        let same = try await service.call("com.atproto.repo.putRecord", second, as: Service.alice)
        #expect(same.status == 200)
        #expect(same["cid"] == updated["cid"])
        #expect(same["commit"] == updated["commit"], "nothing was committed")
        #expect(try await service.events(of: Service.alice) == head)
    }

    @Test("swaps: swapCommit and swapRecord let a write through only where they name what stands there")
    func swaps() async throws {
        let service = try await Service()
        let created = try await service.write(Service.postRecord("one", in: "general"), at: "3lq2222222222")
        let commit = try #require(created["commit"]?["cid"]), cid = try #require(created["cid"])
        let other = Value.string(CID(hashing: [0x60]).description)
        let next = Service.postRecord("two", in: "general")
        func put(_ more: ValueMap, at rkey: String = "3lq2222222222") async throws -> Answer {
            try await service.call("com.atproto.repo.putRecord", input(next, at: rkey, more), as: Service.alice)
        }
        expect(try await put(["swapCommit": other]), 400, "InvalidSwap")
        expect(try await put(["swapRecord": other]), 400, "InvalidSwap")
        expect(try await put(["swapRecord": .null]), 400, "InvalidSwap")
        expect(try await put(["swapRecord": cid], at: "3lq2222222223"), 400, "InvalidSwap")
        expect(try await put(["swapRecord": "no CID"]), 400, "InvalidRequest")
        let done = try await put(["swapCommit": commit, "swapRecord": cid])
        #expect(done.status == 200)
        #expect(try await put(["swapRecord": .null], at: "3lq2222222223").status == 200)
        func delete(_ more: ValueMap) async throws -> Answer {
            try await service.call("com.atproto.repo.deleteRecord", input(nil, at: "3lq2222222222", more), as: Service.alice)
        }
        expect(try await delete(["swapRecord": cid]), 400, "InvalidSwap")
        expect(try await delete(["swapCommit": commit]), 400, "InvalidSwap")
        #expect(try await delete(["swapRecord": #require(done["cid"])]).status == 200)
    }

    @Test("a delete answers with its commit; of what is not there it answers without one, and commits nothing")
    func delete() async throws {
        let service = try await Service()
        try await service.write(Service.postRecord("one", in: "general"), at: "3lq2222222222")
        let gone = try await service.call("com.atproto.repo.deleteRecord", input(nil, at: "3lq2222222222"), as: Service.alice)
        #expect(gone.status == 200)
        #expect(gone["commit"]?["rev"]?.stringValue != nil)
        let read = try await service.get(
            "com.atproto.repo.getRecord", [("repo", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")],
            as: Service.alice)
        expect(read, 400, "RecordNotFound")
        let head = try await service.events(of: Service.alice)
        let again = try await service.call("com.atproto.repo.deleteRecord", input(nil, at: "3lq2222222222"), as: Service.alice)
        #expect(again.status == 200)
        #expect(again.text == "{}")
        #expect(try await service.events(of: Service.alice) == head)
    }

    @Test("a reply is within its parent's boundaries; a parent that its author may not read is as unknown as one that is not there")
    func replies() async throws {
        let service = try await Service()
        let parent = try await service.write(Service.postRecord("parent", in: "writers"), at: "3lq2222222222")
        func reply(_ uri: Value, in boundary: String, as caller: String) async throws -> Answer {
            guard case .map(var record) = Service.postRecord("reply", in: boundary) else { throw CancellationError() }
            let reference: Value = ["uri": uri, "cid": try #require(parent["cid"])]
            record["reply"] = ["parent": reference, "root": reference]
            return try await service.call("com.atproto.repo.createRecord", input(.map(record), at: nil, repo: caller), as: caller)
        }
        let uri = try #require(parent["uri"])
        expect(try await reply(uri, in: "general", as: Service.alice), 400, "InvalidRecord")
        #expect(try await reply(uri, in: "writers", as: Service.alice).status == 200)
        let unread = try await reply(uri, in: "general", as: Service.bob)
        let unknown = try await reply("at://did:web:nobody.example/zone.stratos.feed.post/3lq2222222222", in: "general", as: Service.bob)
        #expect(unread.status == 200)
        #expect(unknown.status == 200)
        expect(try await reply("at://did:web:x.example/app.bsky.feed.post/1", in: "general", as: Service.bob), 400, "InvalidRecord")
    }

    @Test("a strict service refuses every credential and serves the anonymous")
    func strict() async throws {
        let service = try await Service(Service.Settings(isDevelopment: false))
        let body = input(Service.postRecord("x", in: "general"))
        expect(try await service.call("com.atproto.repo.createRecord", body, as: Service.alice), 401, "AuthenticationRequired")
        expect(try await service.call("com.atproto.repo.createRecord", body), 401, "AuthenticationRequired")
        expect(
            try await service.get("zone.stratos.enrollment.status", [("did", Service.bob)], as: Service.bob), 401, "AuthenticationRequired")
        #expect(try await service.get("zone.stratos.enrollment.status", [("did", Service.bob)]).status == 200)
    }
}
