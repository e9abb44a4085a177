import ATProto
import Authorization
import EventLog
import Foundation
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: administrators")
struct AdministratorMethodsTests {
    /// Any characters, colons too.
    private static let password = "a:b c\u{e9}:%\""

    private func service(_ change: (inout Service.Settings) -> Void = { _ in }) async throws -> Service {
        var settings = Service.Settings()
        settings.administrators = Administrators(password: Self.password)
        change(&settings)
        return try await Service(settings)
    }

    private func basic(_ name: String, _ password: String = password) -> HTTPFields {
        [.authorization: "Basic \(Data("\(name):\(password)".utf8).base64EncodedString())"]
    }

    private func call(_ service: Service, _ method: String, _ input: Value, as name: String = "ines") async throws -> Answer {
        try await service.call("zone.stratos.admin.\(method)", input, headers: basic(name))
    }

    private func boundaries(_ names: String...) -> Value { .array(names.map(Service.boundary)) }

    @Test("the password opens by Basic and by Bearer; without it, with another or with none set every method is 401 AuthRequired")
    func password() async throws {
        let service = try await service()
        let target = Service.target("zone.stratos.admin.listEnrollments")
        for right in [basic("ines"), basic(""), [.authorization: "Bearer \(Self.password)"]] {
            #expect(try await service.ask(.get, target, headers: right).status == 200)
        }
        let wrong: [HTTPFields] = [[:], basic("ines", "a"), [.authorization: "Basic !"], [.authorization: "Bearer \(Service.alice)"]]
        for headers in wrong {
            expect(try await service.ask(.get, target, headers: headers), 401, "AuthRequired", "Admin auth required")
        }
        let closed = try await Service()
        expect(try await closed.ask(.get, target, headers: basic("ines")), 401, "AuthRequired", "Admin auth required")
    }

    @Test("who guesses is slowed down, and what is right then waits too")
    func throttled() async throws {
        let service = try await service()
        let target = Service.target("zone.stratos.admin.listEnrollments")
        for _ in 0..<10 { #expect(try await service.ask(.get, target, headers: basic("x", "guess")).status == 401) }
        for headers in [basic("x", "guess"), basic("ines")] {
            let answer = try await service.ask(.get, target, headers: headers)
            expect(answer, 429, "RateLimitExceeded")
            #expect(answer[header: .retryAfter] == "6")
        }
        // On every other way a wrong password is counted too, and whoever has none is served.
        expect(try await service.get("zone.stratos.server.listDomains", as: "no password"), 429, "RateLimitExceeded")
        #expect(try await service.get("zone.stratos.server.listDomains", as: Service.alice).status == 200)
    }

    @Test("a boundary that is granted or taken away is in force with the answer, and attested")
    func boundaries() async throws {
        let service = try await service()
        try await service.write(Service.postRecord("for writers", in: "writers"), at: "3lq2222222222")
        let read = [("repo", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")]
        func bobReads() async throws -> Bool { try await service.get("com.atproto.repo.getRecord", read, as: Service.bob).status == 200 }
        #expect(try await !bobReads())
        let one: Value = ["did": .string(Service.bob), "boundary": Service.boundary("writers")]
        let added = try await call(service, "addBoundary", one)
        #expect(try added.json == ["did": .string(Service.bob), "boundaries": boundaries("general", "writers")], "\(added.text)")
        #expect(try await bobReads())
        let events = try await service.events(of: Service.bob)
        #expect(try await call(service, "addBoundary", one).status == 200)
        #expect(try await service.events(of: Service.bob) == events, "what changes nothing is no event")
        #expect(try await call(service, "removeBoundary", one)["boundaries"] == boundaries("general"))
        #expect(try await !bobReads())
        let all: Value = ["did": .string(Service.bob), "boundaries": boundaries("writers")]
        #expect(try await call(service, "setBoundaries", all)["boundaries"] == boundaries("writers"))
        #expect(try await bobReads())
        let member = try #require(try await service.engine.enrollment(of: try DID(Service.bob)))
        #expect(
            member.membership.attestation.verifies(
                did: member.did, boundaries: member.membership.boundaries, actorKey: member.signingKey))
        #expect(try await call(service, "setBoundaries", ["did": .string(Service.bob), "boundaries": []])["boundaries"] == [])
        #expect(try await !bobReads())
        // Every change is an event of the member, by the name that was given.
        let log = try await service.store.events(of: try DID(Service.bob), after: 1, limit: 50)
        let bodies = try log.compactMap { stored -> AccountBoundaries? in
            guard case .accountBoundaries(let body) = try EventBody(kind: try Event(bytes: stored.bytes).kind, bytes: stored.body ?? [])
            else { return nil }
            return body
        }
        #expect(bodies.count == 4)
        #expect(try bodies.allSatisfy { try $0.provenance.by == Agent(administrator: "ines") })
        #expect(bodies.last?.after == .empty)
    }

    @Test("a boundary that is not offered, a name without its service, and somebody who is no member are refused, and change nothing")
    func refusals() async throws {
        let service = try await service()
        let before = try await service.store.statistics().events
        for name in ["did:web:stratos.example.com/none", "did:web:other.example/writers", ""] {
            expect(try await call(service, "addBoundary", ["did": .string(Service.bob), "boundary": .string(name)]), 400, "InvalidRequest")
            let list: Value = ["did": .string(Service.bob), "boundaries": .array([.string(name)])]
            expect(try await call(service, "setBoundaries", list), 400, "InvalidRequest")
        }
        let stranger = "did:plc:nobodynobodynobodynobody"
        for method in ["addBoundary", "removeBoundary"] {
            let input: Value = ["did": .string(stranger), "boundary": Service.boundary("writers")]
            expect(try await call(service, method, input), 404, "NotFound", "user \(stranger) is not enrolled")
        }
        expect(try await call(service, "addBoundary", ["did": .string(Service.bob)]), 400, "InvalidRequest")
        #expect(try await service.store.statistics().events == before)
    }

    @Test("enrolling, and the list of members in pages")
    func enrollments() async throws {
        let service = try await service()
        let did = "did:plc:newnewnewnewnewnewnewnew"
        let answer = try await call(service, "enroll", ["did": .string(did), "boundaries": boundaries("others")])
        #expect(answer["enrolled"] == true && answer["boundaries"] == [["value": Service.boundary("others")]], "\(answer.text)")
        expect(try await call(service, "enroll", ["did": .string(did)]), 400, "AlreadyEnrolled")
        var listed: [String] = []
        var cursor: String?
        repeat {
            let page = try await service.ask(
                .get, Service.target("zone.stratos.admin.listEnrollments", [("limit", "3")] + (cursor.map { [("cursor", $0)] } ?? [])),
                headers: basic("ines"))
            listed += (page["enrollments"]?.arrayValue ?? []).compactMap { $0["did"]?.stringValue }
            cursor = page["cursor"]?.stringValue
        } while cursor != nil
        #expect(listed == [Service.alice, Service.bob, did, Service.mallory].sorted())
    }

    @Test("an administrator reads a record by one way only, and its owner learns who looked, at what, and why")
    func reads() async throws {
        let service = try await service()
        let written = try await service.write(Service.postRecord("secret", in: "writers"), at: "3lq2222222222")
        let uri = try #require(written["uri"])
        let place = [("repo", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")]
        let ordinary = try await service.ask(.get, Service.target("com.atproto.repo.getRecord", place), headers: basic("ines"))
        expect(ordinary, 400, "RecordNotFound")
        let read = try await call(service, "getRecord", ["uri": uri, "reason": "a report of abuse"])
        #expect(read["cid"] == written["cid"] && read["value"]?["text"] == "secret", "\(read.text)")
        let absent = Value.string("at://\(Service.alice)/\(Service.post)/3lq2222222229")
        expect(try await call(service, "getRecord", ["uri": absent, "reason": "the same"], as: ""), 400, "RecordNotFound")
        let nobody = Value.string("at://did:plc:nobodynobodynobodynobody/\(Service.post)/3lq2222222229")
        expect(try await call(service, "getRecord", ["uri": nobody, "reason": "the same"]), 400, "RecordNotFound")
        expect(try await call(service, "getRecord", ["uri": uri, "reason": ""]), 400, "InvalidRequest")

        let list = try await service.get("zone.stratos.audit.listReads", as: Service.alice)
        let reads = try #require(list["reads"]?.arrayValue)
        #expect(reads.map { $0["admin"] } == ["administrator", "ines"] && reads.map { $0["uri"] } == [absent, uri], "\(list.text)")
        #expect(reads.last?["reason"] == "a report of abuse")
        let first = try await service.get("zone.stratos.audit.listReads", [("limit", "1")], as: Service.alice)
        let cursor = try #require(first["cursor"]?.stringValue)
        let second = try await service.get("zone.stratos.audit.listReads", [("limit", "1"), ("cursor", cursor)], as: Service.alice)
        #expect(second["reads"] == .array([reads[1]]) && second["cursor"] == nil)
        #expect(try await service.get("zone.stratos.audit.listReads", as: Service.bob)["reads"] == [])
        expect(try await service.get("zone.stratos.audit.listReads"), 401, "AuthenticationRequired")
        // I8: receipts are a fold like all else.
        let rows = try await service.engine.digest(of: nil)
        _ = try await service.engine.dropProjections()
        #expect(try await service.engine.digest(of: nil).digest == rows.digest)
        #expect(try await service.get("zone.stratos.audit.listReads", as: Service.alice)["reads"] == .array(reads))
    }
}
