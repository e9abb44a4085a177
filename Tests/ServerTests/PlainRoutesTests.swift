import ATProto
import Foundation
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: health, identity and the plain routes")
struct PlainRoutesTests {
    @Test("health and ready say that the log and the actors' files work", arguments: ["/health", "/ready"])
    func healthy(path: String) async throws {
        let service = try await Service()
        let answer = try await service.ask(.get, path)
        #expect(answer.status == 200)
        #expect(try answer.json == ["status": "ok", "components": ["db": "ok", "projections": "ok"], "version": "test"])
        #expect(answer[header: .accessControlAllowOrigin] == "*")
        let head = try await service.ask(.head, path)
        #expect(head.status == 200)
        #expect(head.body.isEmpty)
        #expect(head[header: .contentLength] == "\(answer.body.count)")
    }

    @Test("a log that does not answer makes both 503", arguments: ["/health", "/ready"])
    func noLog(path: String) async throws {
        let service = try await Service()
        service.close()
        let answer = try await service.ask(.get, path)
        #expect(answer.status == 503)
        #expect(answer["status"] == "error")
        #expect(answer["components"]?["db"] == "error")
    }

    @Test("actors' files that cannot be made make both 503, and 200 again once they can", arguments: ["/health", "/ready"])
    func noFiles(path: String) async throws {
        let service = try await Service()
        let actors = service.directory.file("actors"), aside = service.directory.file("aside")
        try FileManager.default.moveItem(atPath: actors, toPath: aside)
        try service.directory.write([], to: "actors")
        let answer = try await service.ask(.get, path)
        #expect(answer.status == 503)
        #expect(answer["components"] == ["db": "ok", "projections": "error"])
        try FileManager.default.removeItem(atPath: actors)
        try FileManager.default.moveItem(atPath: aside, toPath: actors)
        #expect(try await service.ask(.get, path).status == 200)
    }

    @Test("while the rows are dropped or rebuilt, methods answer 503 with Retry-After, ready is false, and health is well")
    func maintenance() async throws {
        let service = try await Service()
        let target = Service.target("com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post)])
        try await service.whileGateIsClosed {
            let answer = try await service.ask(.get, target, as: Service.alice)
            expect(answer, 503, "ServiceUnavailable", "The service is rebuilding; try again shortly")
            #expect(answer[header: .retryAfter] == "5")
            let ready = try await service.ask(.get, "/ready")
            #expect(ready.status == 503)
            #expect(ready["status"] == "error")
            #expect(ready["components"] == ["db": "ok", "projections": "ok"])
            #expect(try await service.ask(.get, "/health").status == 200)
            #expect(try await service.ask(.get, "/.well-known/did.json").status == 200)
        }
        #expect(try await service.ask(.get, target, as: Service.alice).status == 200)
        #expect(try await service.ask(.get, "/ready").status == 200)
    }

    @Test("the DID document has the key under the fragment of the settings and under #atproto, and both service entries")
    func identity() async throws {
        for (fragment, methods, services) in [
            ("atproto_pns", ["atproto_pns", "atproto"], ["stratos", "atproto_pns"]), ("atproto", ["atproto"], ["stratos", "atproto"]),
            ("stratos", ["stratos", "atproto"], ["stratos"]),
        ] {
            let service = try await Service(Service.Settings(fragment: fragment))
            let answer = try await service.ask(.get, "/.well-known/did.json")
            #expect(answer.status == 200)
            #expect(answer["id"]?.stringValue == Service.did)
            #expect(answer["@context"] == ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"])
            let keys = try #require(answer["verificationMethod"]?.arrayValue)
            #expect(keys.map { $0["id"]?.stringValue } == methods.map { "\(Service.did)#\($0)" })
            #expect(keys.allSatisfy { $0["type"] == "Multikey" && $0["controller"]?.stringValue == Service.did })
            #expect(keys.allSatisfy { $0["publicKeyMultibase"]?.stringValue?.hasPrefix("zQ3sh") == true })
            let entries = try #require(answer["service"]?.arrayValue)
            #expect(entries.map { $0["id"]?.stringValue } == services.map { "#\($0)" })
            #expect(entries.allSatisfy { $0["serviceEndpoint"] == "https://stratos.example.com" && $0["type"] == "StratosService" })
        }
    }

    @Test("crawlers are told to stay out, and the root says what this is")
    func texts() async throws {
        let service = try await Service()
        let robots = try await service.ask(.get, "/robots.txt")
        #expect(robots.status == 200)
        #expect(robots[header: .contentType] == "text/plain; charset=utf-8")
        #expect(robots.text.split(separator: "\n").suffix(2) == ["User-agent: *", "Disallow: /"])
        let root = try await service.ask(.get, "/")
        #expect(root.status == 200)
        #expect(root.text.contains("This is Stratos, a private permissioned data service for AT Protocol"))
        #expect(root.text.contains("/xrpc/"))
        #expect(root.text.contains("https://atproto.com"))
        expect(try await service.ask(.get, "/nothing"), 404, "NotFound", "Not Found")
        expect(try await service.ask(.post, "/health"), 404, "NotFound", "Not Found")
    }
}
