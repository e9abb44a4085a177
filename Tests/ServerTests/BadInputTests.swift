import ATProto
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: bad input")
struct BadInputTests {
    private func send(_ requests: [HostileRequest], to service: Service) async throws {
        for request in requests {
            let answer = try await service.ask(
                request.verb == "GET" ? .get : .post, request.target, as: Service.alice, type: request.type,
                headers: request.isChunked ? [.transferEncoding: "chunked"] : [:], body: request.verb == "GET" ? nil : request.body)
            #expect(answer.status == request.status, "\(request.name): \(answer.text.prefix(200))")
            #expect(answer["error"]?.stringValue == request.error, "\(request.name): \(answer.text.prefix(200))")
            #expect(answer.body.count < 1000, "\(request.name): an error is short")
        }
        #expect(try await service.events(of: Service.alice) == 1, "nothing was written")
    }

    @Test("JSON that is malformed, ambiguous, too deep or not of the data model is refused with its reason")
    func json() async throws {
        try await send(HostileRequest.json, to: Service())
    }

    @Test("bodies, records and commits beyond their limits are refused", .timeLimit(.minutes(1)))
    func large() async throws {
        try await send(HostileRequest.large, to: Service())
    }

    @Test("parameters that are not what the lexicon says are refused")
    func queries() async throws {
        try await send(HostileRequest.queries, to: Service())
    }

    @Test("what is just within the limits is taken: 123.0 is 123, 2^53 − 1, 31 levels, a record of 1,000,000 bytes, a key of 512")
    func within() async throws {
        let service = try await Service()
        let start = "{\"repo\":\"\(Service.alice)\",\"collection\":\"\(Service.thing)\",\"validate\":false,"
        func create(_ rest: String) async throws -> Answer {
            try await service.ask(
                .post, "/xrpc/com.atproto.repo.createRecord", as: Service.alice, type: "application/json",
                body: Array((start + rest + "}").utf8))
        }
        #expect(
            try await create("\"rkey\":\"n\",\"record\":{\"a\":123.0,\"b\":1.23e2,\"c\":9007199254740991,\"d\":-9007199254740991}").status
                == 200)
        let read = try await service.get(
            "com.atproto.repo.getRecord", [("repo", Service.alice), ("collection", Service.thing), ("rkey", "n")], as: Service.alice)
        #expect(read["value"]?["a"] == 123)
        #expect(read["value"]?["b"] == 123)
        #expect(read.text.contains("\"a\":123,\"b\":123,\"c\":9007199254740991,\"d\":-9007199254740991"))
        let deep = String(repeating: "[", count: 30) + String(repeating: "]", count: 30)
        #expect(try await create("\"record\":{\"a\":\(deep)}").status == 200)
        #expect(try await create("\"rkey\":\"\(String(repeating: "k", count: 512))\",\"record\":{}").status == 200)
        let frame = DAGCBOR.encode(["$type": .string(Service.thing), "a": .string(String(repeating: "x", count: 70_000))]).count - 70_000
        let exact = String(repeating: "x", count: 1_000_000 - frame)
        #expect(try await create("\"record\":{\"a\":\"\(exact)\"}").status == 200)
        let above = try await create("\"record\":{\"a\":\"\(exact)x\"}")
        expect(above, 400, "InvalidRequest", "a record has at most 1000000 bytes, this one has 1000001")
    }
}
