import ATProto
import Authorization
import Foundation
import HTTPTypes
import Synchronization
import Testing

/// Handles, and what accounts publish of themselves: only for those who may be told, and nobody is asked for anybody else.
@Suite("HTTP: handles and describeRepo")
struct AccountTests {
    /// The directory of DIDs and the name servers as tables, and how often they were asked.
    private final class World: Sendable {
        private struct State {
            var documents: [String: String] = [:]
            var handles: [String: String] = [:]
            var asked: [String] = []
            var isDown = false
        }

        private let state = Mutex(State())

        /// What was asked for since the last time.
        func takeAsked() -> [String] {
            state.withLock { state in
                defer { state.asked = [] }
                return state.asked
            }
        }

        func set(_ did: String, document members: String) {
            state.withLock { $0.documents[did] = "{\"id\":\"\(did)\"\(members.isEmpty ? "" : "," + members)}" }
        }
        func set(_ handle: String, to did: String?) { state.withLock { $0.handles["_atproto." + handle] = did } }
        func goDown() { state.withLock { $0.isDown = true } }

        func resolver() -> IdentityResolver {
            let outbound = Outbound { [self] request async throws(OutboundError) in
                let (document, isDown) = state.withLock { state in
                    state.asked.append(request.url)
                    return (state.documents[String(request.url.dropFirst("https://plc.example.com/".count))], state.isDown)
                }
                if isDown { throw .timedOut }
                guard let document else { return OutboundResponse(status: 404, contentType: nil, body: []) }
                return OutboundResponse(status: 200, contentType: "application/json", body: Array(document.utf8))
            }
            return IdentityResolver(
                outbound: outbound, plcURL: "https://plc.example.com", allowsHTTP: true, now: { 1_790_000_000_000_000 },
                txt: { [self] name in
                    state.withLock { state in
                        state.asked.append(name)
                        return state.isDown ? [] : state.handles[name].map { ["did=\($0)"] } ?? []
                    }
                })
        }
    }

    private static let stranger = "did:plc:nobodynobodynobodynobody"

    private func service(_ world: World) async throws -> Service {
        var settings = Service.Settings()
        settings.accounts = Accounts(members: world.resolver(), names: world.resolver())
        settings.administrators = Administrators(password: "password")
        let service = try await Service(settings)
        for handle in ["alice.test", "nobody.test", "claims-alice.test", "stranger.test", "lost.test"] {
            service.watch.keep(handle, as: "a handle")
        }
        try await service.write(Service.postRecord("general", in: "general"), at: "3lq2222222222")
        try await service.write(Service.postRecord("writers", in: "writers"), at: "3lq2222222223")
        return service
    }

    private func document(handle: String) -> String { "\"alsoKnownAs\":[\"at://\(handle)\"],\"more\":[{\"of\":\"it\"}]" }

    private func describe(_ service: Service, _ repo: String = Service.alice, as caller: String? = Service.alice) async throws -> Answer {
        try await service.get("com.atproto.repo.describeRepo", [("repo", repo)], as: caller)
    }

    /// The queries that take a repo by its DID or handle.
    private func queries(_ repo: String, rkey: String = "3lq2222222222") -> [(method: String, parameters: [(String, String)])] {
        [
            ("com.atproto.repo.getRecord", [("repo", repo), ("collection", Service.post), ("rkey", rkey)]),
            ("com.atproto.repo.listRecords", [("repo", repo), ("collection", Service.post)]),
            ("com.atproto.repo.describeRepo", [("repo", repo)]),
        ]
    }

    @Test("to its owner a repo is described with the document as it is published, and with the handle that leads back")
    func described() async throws {
        let world = World()
        world.set(Service.alice, document: document(handle: "alice.test"))
        world.set("alice.test", to: Service.alice)
        let answer = try await describe(try await service(world))
        let expected: Value = [
            "handle": "alice.test", "did": .string(Service.alice), "handleIsCorrect": true, "collections": [.string(Service.post)],
            "didDoc": ["id": .string(Service.alice), "alsoKnownAs": ["at://alice.test"], "more": [["of": "it"]]],
        ]
        #expect(try answer.json == expected, "\(answer.text)")
    }

    @Test("a handle that does not lead back is not correct, and what cannot be asked is left out", arguments: 0..<5)
    func incorrect(case number: Int) async throws {
        let world = World()
        let service = try await service(world)
        var handle = "alice.test"
        switch number {
        case 0:
            world.set(Service.alice, document: document(handle: "alice.test"))
            world.set("alice.test", to: Service.bob)
        case 1: world.set(Service.alice, document: document(handle: "alice.test"))
        case 2:
            world.set(Service.alice, document: "")
            handle = Service.alice
        case 3: handle = Service.alice
        default:
            world.goDown()
            handle = Service.alice
        }
        let answer = try await describe(service)
        #expect(answer["handleIsCorrect"] == false && answer["handle"]?.stringValue == handle, "\(answer.text)")
        #expect(answer["didDoc"]?["id"]?.stringValue == Service.alice && answer["collections"] == [.string(Service.post)])
        if number == 2 { #expect(world.takeAsked() == ["https://plc.example.com/\(Service.alice)"], "no handle, no look for one") }
    }

    @Test("who may not see a description makes the service ask nobody, and learns nothing")
    func notDescribed() async throws {
        let world = World()
        world.set(Service.alice, document: document(handle: "alice.test"))
        let service = try await service(world)
        for caller in [Service.bob, Service.mallory, nil] as [String?] {
            let hidden = try await describe(service, as: caller)
            expect(hidden, 400, "RepoNotFound")
            #expect(hidden.comparable == (try await describe(service, Self.stranger, as: caller)).comparable)
        }
        #expect(world.takeAsked().isEmpty)
    }

    @Test("a handle names a repo to members, in any case of letters, and is answered as its DID is")
    func byHandle() async throws {
        let world = World()
        world.set(Service.alice, document: document(handle: "alice.test"))
        world.set("alice.test", to: Service.alice)
        let service = try await service(world)
        for caller in [Service.alice, Service.bob] {
            for (byHandle, byDID) in zip(queries("Alice.TEST"), queries(Service.alice)) {
                let answer = try await service.get(byHandle.method, byHandle.parameters, as: caller)
                let expected = try await service.get(byDID.method, byDID.parameters, as: caller)
                #expect(answer.comparable == expected.comparable, "\(byHandle.method) as \(caller): \(answer.text)")
                #expect(answer.status == (caller == Service.bob && byHandle.method.hasSuffix("describeRepo") ? 400 : 200))
            }
        }
        let written = try await service.call(
            "com.atproto.repo.createRecord",
            ["repo": "alice.test", "collection": .string(Service.post), "record": Service.postRecord("x", in: "general")], as: Service.alice
        )
        expect(written, 401, "AuthenticationRequired", "Cannot create record for another user")
    }

    @Test(
        "a handle of nobody, of somebody who is not here, of hidden records, or of an account that does not know it: all like no repo (I12)"
    )
    func denied() async throws {
        let world = World()
        world.set(Service.alice, document: document(handle: "alice.test"))
        world.set("alice.test", to: Service.alice)
        world.set("claims-alice.test", to: Service.alice)
        world.set(Self.stranger, document: document(handle: "stranger.test"))
        world.set("stranger.test", to: Self.stranger)
        world.set("lost.test", to: "did:plc:lostlostlostlostlostlost")
        let service = try await service(world)
        for caller in [Service.mallory, Service.bob] {
            let handles =
                ["nobody.test", "claims-alice.test", "stranger.test", "lost.test"] + (caller == Service.mallory ? ["alice.test"] : [])
            for handle in handles {
                for (query, unknown) in zip(queries(handle), queries(Self.stranger)) {
                    let answer = try await service.get(query.method, query.parameters, as: caller)
                    let absent = try await service.get(unknown.method, unknown.parameters, as: caller)
                    #expect(answer.comparable == absent.comparable, "\(query.method) of \(handle): \(answer.text)")
                }
            }
        }
        // One record of hers is hidden from Bob, by her handle too.
        let hidden = queries("alice.test", rkey: "3lq2222222223")[0]
        expect(try await service.get(hidden.method, hidden.parameters, as: Service.bob), 400, "RecordNotFound")
    }

    @Test("nobody is asked for strangers and administrators: to them every handle is an unknown repo")
    func strangers() async throws {
        let world = World()
        world.set(Service.alice, document: document(handle: "alice.test"))
        world.set("alice.test", to: Service.alice)
        let service = try await service(world)
        let administrator: HTTPFields = [.authorization: "Basic \(Data("ines:password".utf8).base64EncodedString())"]
        for headers in [[:], administrator] {
            for handle in ["alice.test", "nobody.test"] {
                for (query, unknown) in zip(queries(handle), queries(Self.stranger)) {
                    let answer = try await service.ask(.get, Service.target(query.method, query.parameters), headers: headers)
                    let absent = try await service.ask(.get, Service.target(unknown.method, unknown.parameters), headers: headers)
                    #expect(answer.comparable == absent.comparable, "\(query.method): \(answer.text)")
                }
            }
        }
        #expect(world.takeAsked().isEmpty)
        #expect(try await service.get("com.atproto.repo.getRecord", queries("alice.test")[0].parameters, as: Service.bob).status == 200)
        #expect(!world.takeAsked().isEmpty, "for a member they are")
    }

    @Test("whether an account was here lately does not show in what is asked when its handle is")
    func separateMemories() async throws {
        let world = World()
        world.set(Service.alice, document: document(handle: "alice.test"))
        world.set("alice.test", to: Service.alice)
        let service = try await service(world)
        _ = try await describe(service)
        _ = world.takeAsked()
        _ = try await service.get("com.atproto.repo.listRecords", queries("alice.test")[1].parameters, as: Service.mallory)
        #expect(world.takeAsked() == ["_atproto.alice.test", "https://plc.example.com/\(Service.alice)"])
    }
}
