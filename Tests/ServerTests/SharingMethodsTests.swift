import ATProto
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: hydration and memberships")
struct SharingMethodsTests {
    private func uri(_ rkey: String, of owner: String = Service.alice) -> String { "at://\(owner)/\(Service.post)/\(rkey)" }

    private func service(_ change: (inout Service.Settings) -> Void = { _ in }) async throws -> Service {
        var settings = Service.Settings()
        change(&settings)
        let service = try await Service(settings)
        try await service.write(Service.postRecord("general", in: "general"), at: "3lq2222222222")
        try await service.write(Service.postRecord("writers", in: "writers"), at: "3lq2222222223")
        try await service.write(Service.postRecord("bob's", in: "general"), at: "3lq2222222224", as: Service.bob)
        return service
    }

    private func hydrate(_ service: Service, _ uris: [String], as caller: String?) async throws -> Answer {
        try await service.call("zone.stratos.repo.hydrateRecords", ["uris": .array(uris.map(Value.string))], as: caller)
    }

    private func found(_ answer: Answer) -> [String] {
        (answer["records"]?.arrayValue ?? []).compactMap { $0["uri"]?.stringValue }
    }

    @Test("records come in the order of the request, each as often as it was asked for; what is hidden is not found (I12)")
    func order() async throws {
        let service = try await service()
        let asked = [
            uri("3lq2222222224", of: Service.bob), uri("3lq2222222223"), uri("3lq2222222222"), uri("3lq2222222229"),
            uri("3lq2222222224", of: Service.bob), "at://alice.example/\(Service.post)/3lq2222222222",
        ]
        let alice = try await hydrate(service, asked, as: Service.alice)
        #expect(found(alice) == [asked[0], asked[1], asked[2], asked[4]], "\(alice.text)")
        #expect(alice["notFound"] == .array([asked[3], asked[5]].map(Value.string)) && alice["blocked"] == [])
        let bob = try await hydrate(service, asked, as: Service.bob)
        #expect(found(bob) == [asked[0], asked[2], asked[4]])
        #expect(bob["notFound"] == .array([asked[1], asked[3], asked[5]].map(Value.string)) && bob["blocked"] == [])
        #expect(found(try await hydrate(service, asked, as: nil)).isEmpty)
        #expect(try await hydrate(service, [], as: Service.bob).json == ["records": [], "notFound": [], "blocked": []])
        #expect(try await hydrate(service, [String](repeating: asked[2], count: 100), as: Service.bob).status == 200)
        expect(try await hydrate(service, [String](repeating: asked[2], count: 101), as: Service.bob), 400, "InvalidRequest")
        expect(try await hydrate(service, ["no uri"], as: Service.bob), 400, "InvalidRequest")
    }

    @Test("where the service tells, members learn what is hidden from them, and nobody else does")
    func blocked() async throws {
        let service = try await service { $0.hydrateTellsBlocked = true }
        let asked = [uri("3lq2222222223"), uri("3lq2222222229")]
        let bob = try await hydrate(service, asked, as: Service.bob)
        #expect(bob["blocked"] == .array([.string(asked[0])]) && bob["notFound"] == .array([.string(asked[1])]), "\(bob.text)")
        #expect(try await hydrate(service, asked, as: nil)["notFound"] == .array(asked.map(Value.string)))
        let one = [("uri", asked[0])]
        expect(try await service.get("zone.stratos.repo.hydrateRecord", one, as: Service.bob), 400, "RecordBlocked")
        expect(try await service.get("zone.stratos.repo.hydrateRecord", one), 400, "RecordNotFound")
    }

    @Test("one record, and one version of it; hidden looks like absent (I12)")
    func single() async throws {
        let service = try await service()
        let method = "zone.stratos.repo.hydrateRecord"
        let answer = try await service.get(method, [("uri", uri("3lq2222222222"))], as: Service.bob)
        #expect(answer["value"]?["text"] == "general", "\(answer.text)")
        let cid = try #require(answer["cid"]?.stringValue)
        #expect(try await service.get(method, [("uri", uri("3lq2222222222")), ("cid", cid)], as: Service.bob).status == 200)
        let other = CID(hashing: [1]).description
        expect(try await service.get(method, [("uri", uri("3lq2222222222")), ("cid", other)], as: Service.bob), 400, "RecordNotFound")
        for caller in [Service.bob, Service.mallory, nil] as [String?] {
            let hidden = try await service.get(method, [("uri", uri("3lq2222222223"))], as: caller)
            let absent = try await service.get(method, [("uri", uri("3lq2222222229"))], as: caller)
            #expect(hidden.comparable == absent.comparable)
        }
    }

    @Test("boundaries of others are told where the settings make them public; else a member looks like a stranger")
    func enrollments() async throws {
        let method = "zone.stratos.identity.resolveEnrollments"
        let own: Value = [
            "did": .string(Service.bob), "enrolled": true, "boundaries": .array([Service.boundary("general")]),
        ]
        let closed = try await service()
        #expect(try await closed.get(method, [("did", Service.bob)], as: Service.bob).json == own)
        for caller in [Service.alice, nil] as [String?] {
            let answer = try await closed.get(method, [("did", Service.bob)], as: caller)
            #expect(try answer.json == ["did": .string(Service.bob), "enrolled": false, "boundaries": []])
        }
        let open = try await service { $0.enrollmentsArePublic = true }
        #expect(try await open.get(method, [("did", Service.bob)]).json == own)
        #expect(try await open.get(method, [("did", "did:plc:nobodynobodynobodynobody")])["enrolled"] == false)
        expect(try await open.get(method), 400, "InvalidRequest")
    }

    @Test("the boundaries that the service offers, qualified")
    func domains() async throws {
        let answer = try await service().get("zone.stratos.server.listDomains")
        #expect(try answer.json == ["domains": .array(["general", "writers", "others"].map(Service.boundary))])
    }

    @Test("a proof that names hidden records is given where the settings say so, and only of what may be read (I12)")
    func proofs() async throws {
        let service = try await service { $0.membersGetProofs = true }
        func proof(_ rkey: String, as caller: String?) async throws -> Int {
            try await service.get(
                "com.atproto.sync.getRecord", [("did", Service.alice), ("collection", Service.post), ("rkey", rkey)], as: caller
            ).status
        }
        #expect(try await proof("3lq2222222222", as: Service.bob) == 200)
        #expect(try await proof("3lq2222222223", as: Service.bob) == 400)
        #expect(try await proof("3lq2222222222", as: Service.mallory) == 400)
        #expect(try await proof("3lq2222222222", as: nil) == 400)
    }
}
