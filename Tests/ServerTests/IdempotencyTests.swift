import ATProto
import Commands
import EventLog
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: Idempotency-Key")
struct IdempotencyTests {
    private static let name = HTTPField.Name("Idempotency-Key")!

    private func create(
        _ service: Service, _ text: String, key: String, rkey: String? = nil, as caller: String = Service.alice
    ) async throws -> Answer {
        var input: ValueMap = [
            "repo": .string(caller), "collection": .string(Service.post), "record": Service.postRecord(text, in: "general"),
        ]
        if let rkey { input["rkey"] = .string(rkey) }
        return try await service.call("com.atproto.repo.createRecord", .map(input), as: caller, headers: [Self.name: key])
    }

    @Test("a repeated request gets its first answer, byte for byte, and has no second effect, for every kind of write")
    func repeated() async throws {
        let service = try await Service()
        let place: ValueMap = ["repo": .string(Service.alice), "collection": .string(Service.post)]
        var put = place, delete = place
        put["rkey"] = "3lq2222222222"
        put["record"] = Service.postRecord("put", in: "general")
        delete["rkey"] = "3lq2222222222"
        let batch: ValueMap = [
            "repo": .string(Service.alice),
            "writes": .array(
                (0..<3).map { number in
                    [
                        "$type": "com.atproto.repo.applyWrites#create", "collection": .string(Service.post),
                        "value": Service.postRecord("\(number)", in: "general"),
                    ]
                }),
        ]
        var create = place
        create["record"] = Service.postRecord("created", in: "general")
        for (method, input) in [("createRecord", create), ("putRecord", put), ("deleteRecord", delete), ("applyWrites", batch)] {
            let key = "once-\(method.hashValue)"
            let first = try await service.call("com.atproto.repo.\(method)", .map(input), as: Service.alice, headers: [Self.name: key])
            #expect(first.status == 200, "\(method): \(first.text)")
            let head = try await service.events(of: Service.alice)
            for _ in 0..<2 {
                let again = try await service.call(
                    "com.atproto.repo.\(method)", .map(input), as: Service.alice, headers: [Self.name: key])
                #expect(again.comparable == first.comparable, "\(method)")
            }
            #expect(try await service.events(of: Service.alice) == head)
        }
    }

    @Test("the first answer is given also after other writes, after a restart, and once the record is gone")
    func later() async throws {
        let service = try await Service()
        let first = try await create(service, "kept", key: "k", rkey: "3lq2222222222")
        try await service.write(Service.postRecord("other", in: "general"))
        let delete: Value = ["repo": .string(Service.alice), "collection": .string(Service.post), "rkey": "3lq2222222222"]
        #expect(try await service.call("com.atproto.repo.deleteRecord", delete, as: Service.alice).status == 200)
        #expect(try await create(service, "kept", key: "k", rkey: "3lq2222222222").comparable == first.comparable)
        _ = try await service.engine.dropProjections()
        #expect(try await create(service, "kept", key: "k", rkey: "3lq2222222222").comparable == first.comparable)
    }

    @Test("the same key with another input is refused, and both dialects of a batch are one input")
    func otherInput() async throws {
        let service = try await Service()
        #expect(try await create(service, "one", key: "k").status == 200)
        expect(try await create(service, "two", key: "k"), 400, "InvalidRequest", "this idempotency key was used for another input")
        func batch(official: Bool) async throws -> Answer {
            var item: ValueMap = ["collection": .string(Service.post)]
            item[official ? "$type" : "action"] = .string(official ? "com.atproto.repo.applyWrites#create" : "create")
            item[official ? "value" : "record"] = Service.postRecord("x", in: "general")
            return try await service.call(
                "com.atproto.repo.applyWrites", ["repo": .string(Service.alice), "writes": [.map(item)]], as: Service.alice,
                headers: [Self.name: "k"])
        }
        let first = try await batch(official: true)
        #expect(first.status == 200, "another method is another request")
        #expect(try await batch(official: false).comparable == first.comparable)
    }

    @Test("a key is one caller's own")
    func scope() async throws {
        let service = try await Service()
        let alice = try await create(service, "x", key: "k")
        let bob = try await create(service, "x", key: "k", as: Service.bob)
        #expect(alice.status == 200 && bob.status == 200)
        #expect(alice["uri"] != bob["uri"])
    }

    @Test("a key is 1 to 255 visible ASCII characters")
    func form() async throws {
        let service = try await Service()
        for good in ["!", "~", String(repeating: "k", count: 255), "a,b", "{\"x\":1}"] {
            #expect(try await create(service, "x", key: good).status == 200, "\(good)")
        }
        let head = try await service.events(of: Service.alice)
        for bad in ["", " ", "a b", "\u{7F}", "é", "a\tb", String(repeating: "k", count: 256)] {
            expect(try await create(service, "x", key: bad), 400, "InvalidRequest", "idempotency key: visible ASCII of 1 to 255 bytes")
        }
        #expect(try await service.events(of: Service.alice) == head)
    }

    @Test("a key counts for seven days: to the last millisecond, and not after")
    func expiry() async throws {
        let service = try await Service()
        let first = try await create(service, "x", key: "k")
        service.clock.advance(by: .milliseconds(RequestRow.millisecondsMax) - .seconds(1))
        #expect(try await create(service, "x", key: "k")["uri"] == first["uri"])
        service.clock.advance(by: .seconds(2))
        let fresh = try await create(service, "x", key: "k")
        #expect(fresh.status == 200)
        #expect(fresh["uri"] != first["uri"])
    }

    @Test("a refused request leaves its key free")
    func refused() async throws {
        let service = try await Service()
        expect(try await create(service, String(repeating: "x", count: 301), key: "k"), 400, "InvalidRecord")
        #expect(try await create(service, "x", key: "k").status == 200)
    }

    @Test(
        "when an append's outcome stays unknown, the same key settles it: exactly one record, whether it was stored or not",
        arguments: [
            true, false,
        ])
    func unknownOutcome(isStored: Bool) async throws {
        let error = EventLogError.storage(operation: "append", code: 5)
        let fault: FaultyEventStore.Fault = isStored ? .persisted(error) : .refused(error)
        // Three enrollments come before.
        let service = try await Service(Service.Settings(log: { store in FaultyEventStore(store) { $0 == 4 ? fault : nil } }))
        let lost = try await create(service, "x", key: "k")
        expect(lost, 500, "InternalServerError", "Internal Server Error")
        let again = try await create(service, "x", key: "k")
        #expect(again.status == 200)
        #expect(try await create(service, "x", key: "k").comparable == again.comparable)
        let list = try await service.get(
            "com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post)], as: Service.alice)
        #expect(list["records"]?.arrayValue?.count == 1)
    }
}
