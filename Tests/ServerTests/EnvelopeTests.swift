import ATProto
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: what every answer has, and what every request must be")
struct EnvelopeTests {
    private let traceID = HTTPField.Name("x-trace-id")!

    @Test("every answer has a trace id, the caller's own where it is short and plain, and the CORS headers")
    func headers() async throws {
        let service = try await Service()
        let targets: [(HTTPRequest.Method, String, Int)] = [
            (.get, "/health", 200), (.get, "/nothing", 404), (.get, "/xrpc/com.example.unknown", 501),
            (.get, Service.target("com.atproto.repo.getRecord"), 400), (.post, "/xrpc/com.atproto.repo.createRecord", 401),
        ]
        for (method, target, status) in targets {
            let answer = try await service.ask(method, target)
            #expect(answer.status == status, "\(target)")
            #expect(answer[header: .accessControlAllowOrigin] == "*")
            #expect(answer[header: .accessControlExposeHeaders] == "DPoP-Nonce,WWW-Authenticate,x-trace-id")
            let trace = try #require(answer[header: traceID])
            #expect(trace.count == 16 && trace.allSatisfy(\.isHexDigit))
            #expect(try await service.ask(method, target)[header: traceID] != trace)
        }
        for given in ["mine-1", String(repeating: "x", count: 128)] {
            #expect(try await service.ask(.get, "/health", headers: [traceID: given])[header: traceID] == given)
        }
        for given in ["", "two words", "é", String(repeating: "x", count: 129)] {
            let trace = try #require(try await service.ask(.get, "/health", headers: [traceID: given])[header: traceID])
            #expect(trace != given && trace.count == 16)
        }
    }

    @Test("a preflight is 204 for any path, with the methods, and with the headers that were asked for")
    func preflight() async throws {
        let service = try await Service()
        let asked = HTTPField.Name("Access-Control-Request-Headers")!
        for target in ["/xrpc/com.atproto.repo.createRecord", "/xrpc/com.example.unknown", "/health", "/nothing/here", "/"] {
            let answer = try await service.ask(.options, target, headers: [asked: "authorization,dpop,content-type"])
            #expect(answer.status == 204, "\(target)")
            #expect(answer.body.isEmpty)
            #expect(answer[header: .accessControlAllowOrigin] == "*")
            #expect(answer[header: .accessControlAllowMethods] == "GET,HEAD,PUT,PATCH,POST,DELETE")
            #expect(answer[header: .accessControlAllowHeaders] == "authorization,dpop,content-type")
            #expect(answer[header: .vary] == "Access-Control-Request-Headers")
            #expect(answer[header: HTTPField.Name("Access-Control-Allow-Credentials")!] == nil)
        }
        #expect(try await service.ask(.options, "/health")[header: .accessControlAllowHeaders] == nil)
    }

    @Test("a method that is not there is 501, a path that is none is 400, a wrong verb is 400 and says which is right")
    func methods() async throws {
        let service = try await Service()
        for method in [HTTPRequest.Method.get, .post] {
            for unknown in ["com.example.unknown", "com.atproto.server.describeServer"] {
                expect(try await service.ask(method, "/xrpc/\(unknown)"), 501, "MethodNotImplemented", "Method Not Implemented")
            }
        }
        for path in [
            "/xrpc", "/xrpc/", "/xrpc/x", "/xrpc/com.atproto", "/xrpc/com.atproto.repo.getRecord/more",
            "/xrpc/com%2Eatproto.repo.getRecord", "/xrpc/-a.b.c",
        ] {
            expect(try await service.ask(.get, path), 400, "InvalidRequest", "invalid xrpc path")
        }
        for verb in [HTTPRequest.Method.post, .put, .patch, .delete] {
            expect(
                try await service.ask(verb, "/xrpc/com.atproto.repo.getRecord"), 400, "InvalidRequest",
                "Incorrect HTTP method (\(verb)) expected GET")
        }
        for verb in [HTTPRequest.Method.get, .put, .patch, .delete, .head] {
            let answer = try await service.ask(verb, "/xrpc/com.atproto.repo.createRecord", as: Service.alice)
            #expect(answer.status == 400)
            guard verb != .head else { continue }
            expect(answer, 400, "InvalidRequest", "Incorrect HTTP method (\(verb)) expected POST")
        }
    }

    @Test("HEAD answers like GET, with the length and without the body, for streamed answers too")
    func head() async throws {
        let service = try await Service()
        for number in 0..<30 { try await service.write(Service.postRecord("\(number)", in: "general")) }
        let repo = ("repo", Service.alice), did = ("did", Service.alice), collection = ("collection", Service.post)
        for target in [
            Service.target("com.atproto.repo.listRecords", [repo, collection]), Service.target("zone.stratos.sync.getRepo", [did]),
            Service.target("com.atproto.sync.getLatestCommit", [did]), Service.target("com.atproto.repo.describeRepo", [repo]),
            Service.target("com.atproto.repo.getRecord", [repo, collection, ("rkey", "nothing")]), "/.well-known/did.json", "/",
            "/robots.txt",
        ] {
            let get = try await service.ask(.get, target, as: Service.alice)
            let head = try await service.ask(.head, target, as: Service.alice)
            #expect(head.status == get.status)
            #expect(head.body.isEmpty)
            #expect(head[header: .contentLength] == "\(get.body.count)", "\(target)")
            #expect(head[header: .contentType] == get[header: .contentType])
        }
    }

    @Test("a query takes no body")
    func queryBodies() async throws {
        let service = try await Service()
        let target = Service.target("com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post)])
        let message = "A request body was provided when none was expected"
        for type in [nil, "application/json"] as [String?] {
            expect(try await service.ask(.get, target, type: type, body: [0x7B, 0x7D]), 400, "InvalidRequest", message)
        }
        expect(try await service.ask(.get, target, headers: [.transferEncoding: "chunked"]), 400, "InvalidRequest", message)
        #expect(try await service.ask(.get, target, headers: [.contentLength: "0"]).status == 200)
        #expect(try await service.ask(.get, target, type: "application/json").status == 200)
    }

    @Test("a procedure takes JSON, says so, and needs a body")
    func procedureBodies() async throws {
        let service = try await Service()
        let target = "/xrpc/com.atproto.repo.deleteRecord"
        let body = DataModelJSON.encode(["repo": .string(Service.alice), "collection": .string(Service.post), "rkey": "3lq2222222222"])
        for type in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"] {
            #expect(try await service.ask(.post, target, as: Service.alice, type: type, body: body).status == 200, "\(type)")
        }
        for (type, shown) in [
            ("text/plain", "text/plain"), ("application/jsonx", "application/jsonx"), ("application/cbor", "application/cbor"),
            ("application/vnd.ipld.car", "application/vnd.ipld.car"), ("", ""), (";", ""),
        ] {
            expect(
                try await service.ask(.post, target, as: Service.alice, type: type, body: body), 400, "InvalidRequest",
                "Wrong request encoding (Content-Type): \(shown)")
        }
        expect(
            try await service.ask(.post, target, as: Service.alice, body: body), 400, "InvalidRequest",
            "Request encoding (Content-Type) required but not provided")
        for empty in [nil, []] as [[UInt8]?] {
            expect(
                try await service.ask(.post, target, as: Service.alice, type: "application/json", body: empty), 400, "InvalidRequest",
                "A request body is expected but none was provided")
        }
        expect(
            try await service.ask(
                .post, target, as: Service.alice, type: "application/json", headers: [.contentEncoding: "gzip"], body: body),
            415, "InvalidRequest")
    }

    @Test("parameters are percent-encoded UTF-8; what is not is refused and never repaired")
    func parameters() async throws {
        let service = try await Service()
        try await service.write(["size": 1], at: "a:b", collection: Service.thing)
        let start = "/xrpc/com.atproto.repo.getRecord?repo=\(Service.alice)&collection=\(Service.thing)&rkey="
        for good in ["a:b", "a%3Ab", "a%3ab", "%61%3A%62"] {
            #expect(try await service.ask(.get, start + good, as: Service.alice).status == 200, "\(good)")
        }
        for bad in ["%", "%a", "%zz", "a%3", "%ff", "%c3", "%ed%a0%80", "%c0%80", "a%3Ab%"] {
            expect(
                try await service.ask(.get, start + bad, as: Service.alice), 400, "InvalidRequest",
                "the query string is not percent-encoded UTF-8")
        }
        for bad in ["a+b", "a%20b", "%00", "a%2Fb", "..", "", "%F0%9F%98%80"] {
            expect(try await service.ask(.get, start + bad, as: Service.alice), 400, "InvalidRequest")
        }
        expect(try await service.ask(.get, start + "a:b&rkey=a:b", as: Service.alice), 400, "InvalidRequest")
        #expect(try await service.ask(.get, start + "a:b&&=&x=%41&y", as: Service.alice).status == 200)
    }

    @Test("an unknown credential is 401, and never read as anonymous")
    func credentials() async throws {
        let service = try await Service()
        let target = Service.target("zone.stratos.enrollment.status", [("did", Service.bob)])
        for credential in [
            "", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "DPoP \(Service.alice)", "Token \(Service.alice)", "Bearer did:plc:nobody",
            "Bearer a.b.c", "Bearer ..",
        ] {
            let answer = try await service.ask(.get, target, headers: [.authorization: credential])
            expect(answer, 401, "AuthenticationRequired")
        }
    }
}
