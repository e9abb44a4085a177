import ATProto
import Authorization
import Engine
import EventLog
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: leaving")
struct UnenrollTests {
    private static let unenroll = "zone.stratos.enrollment.unenroll"
    private static let target = "/xrpc/\(unenroll)"
    private static let json = "application/json"

    private func status(_ service: Service, _ did: String, as caller: String? = nil) async throws -> Value {
        try await service.get("zone.stratos.enrollment.status", [("did", did)], as: caller).json
    }

    @Test("both forms of the request are taken: an empty object, and nothing at all", arguments: 0..<4)
    func forms(form: Int) async throws {
        let service = try await Service()
        try await service.write(Service.postRecord("a text to be erased", in: "general"), at: "3lq2222222222")
        let answer =
            switch form {
            case 0: try await service.call(Self.unenroll, [:], as: Service.alice)
            case 1: try await service.ask(.post, Self.target, as: Service.alice)
            case 2: try await service.ask(.post, Self.target, as: Service.alice, body: [])
            default: try await service.ask(.post, Self.target, as: Service.alice, type: Self.json, body: [])
            }
        #expect(answer.status == 200 && answer.text == #"{"success":true}"#, "\(answer.text)")
        let left: Value = ["did": .string(Service.alice), "enrolled": false, "active": false]
        #expect(try await status(service, Service.alice) == left)
        #expect(try await status(service, Service.alice, as: Service.bob) == left)
        let stranger: Value = ["did": "did:plc:nobody", "enrolled": false, "active": false]
        #expect(try await status(service, "did:plc:nobody") == stranger, "as of somebody who never came")
        expect(try await service.call(Self.unenroll, [:], as: Service.alice), 401, "AuthenticationRequired")
        // The event says who asked, and that the content goes.
        let alice = try DID(Service.alice)
        let head = try await service.store.head(of: alice).sequence
        let body = try #require(try await service.store.events(of: alice, after: head - 1, limit: 1).first?.body)
        guard case .accountLeave(let leave) = try EventBody(kind: .accountLeave, bytes: body) else { return }
        #expect(leave.content == .erase && leave.provenance.by == Agent(did: alice, credential: .dev))
        expect(
            try await service.get(
                "com.atproto.repo.getRecord", [("repo", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")],
                as: Service.bob), 400, "RecordNotFound")
    }

    @Test("other bodies are refused, and nobody leaves by them; nor does anybody without a credential, or for another")
    func refused() async throws {
        let service = try await Service()
        for (type, body) in [
            ("text/plain", "{}"), (Self.json, "[]"), (Self.json, "null"), (Self.json, "{"), ("text/plain", ""), (nil, "{}"),
        ] {
            let answer = try await service.ask(.post, Self.target, as: Service.alice, type: type, body: Array(body.utf8))
            expect(answer, 400, "InvalidRequest")
        }
        expect(try await service.ask(.get, Self.target, as: Service.alice), 400, "InvalidRequest")
        expect(try await service.ask(.post, Self.target), 401, "AuthenticationRequired")
        expect(try await service.ask(.post, Self.target, as: "did:plc:nobody"), 401, "AuthenticationRequired")
        #expect(try await status(service, Service.alice)["enrolled"] == true)
        // Other procedures need a body as before.
        expect(try await service.ask(.post, "/xrpc/com.atproto.repo.createRecord", as: Service.alice), 400, "InvalidRequest")
    }

    @Test("an administrator ends a membership, erased or kept, with a reason that stands in the log")
    func administrator() async throws {
        var settings = Service.Settings()
        settings.administrators = Administrators(password: "password")
        let service = try await Service(settings)
        let call = { (input: Value) in
            try await service.call(
                "zone.stratos.admin.unenroll", input, headers: [.authorization: "Basic " + "aW5lczpwYXNzd29yZA=="])
        }
        let kept = try await call(["did": .string(Service.alice), "keepContent": true, "reason": "asked by letter"])
        #expect(try kept.json == ["did": .string(Service.alice), "unenrolled": true, "content": "kept"])
        let erased = try await call(["did": .string(Service.bob)])
        #expect(try erased.json == ["did": .string(Service.bob), "unenrolled": true, "content": "erase"])
        let alice = try DID(Service.alice)
        let body = try #require(try await service.store.events(of: alice, after: 1, limit: 1).first?.body)
        guard case .accountLeave(let leave) = try EventBody(kind: .accountLeave, bytes: body) else { return }
        let ines = try Agent(administrator: "ines")
        #expect(leave.reason == "asked by letter" && leave.provenance.by == ines)
        // What was kept can be erased, once; then there is nothing left to end.
        #expect(try await call(["did": .string(Service.alice)])["content"] == "erase")
        expect(try await call(["did": .string(Service.alice)]), 404, "NotFound", "user \(Service.alice) is not enrolled")
        expect(try await call(["did": "did:plc:nobody"]), 404, "NotFound")
        expect(try await call(["did": "nobody"]), 400, "InvalidRequest")
        expect(
            try await call(["did": .string(Service.mallory), "reason": .string(String(repeating: "a", count: 2001))]), 400, "InvalidRequest"
        )
        expect(
            try await service.call("zone.stratos.admin.unenroll", ["did": .string(Service.mallory)], as: Service.mallory), 401,
            "AuthRequired")
        #expect(try await status(service, Service.mallory)["enrolled"] == true)
    }
}
