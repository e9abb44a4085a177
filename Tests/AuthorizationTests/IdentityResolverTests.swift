import ATProto
import Authorization
import Keys
import Synchronization
import Testing

/// The rules of resolution, on a web and a clock that the test holds. Real servers are `HostileServerTests`'.
@Suite struct IdentityResolverTests {
    private let web = FakeWeb()
    private let clock = TestClock()
    private let dns = FakeDNS()
    private let alice: DID
    private let handle: Handle

    init() throws {
        alice = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
        handle = try Handle("alice.example.com")
    }

    private var aliceURL: String { "https://plc.example.com/\(alice)" }

    private func resolver(allowsHTTP: Bool = false, limits: ResolutionLimits = ResolutionLimits()) -> IdentityResolver {
        IdentityResolver(
            outbound: web.outbound, plcURL: "https://plc.example.com/", allowsHTTP: allowsHTTP, now: clock.now, txt: dns.txt, limits: limits
        )
    }

    private func document(_ did: DID, handle: String = "alice.example.com", key: PublicKey? = nil) -> String {
        let method = key.map {
            "{\"id\":\"#atproto\",\"type\":\"Multikey\",\"controller\":\"\(did)\",\"publicKeyMultibase\":\"\($0.multibase)\"}"
        }
        return "{\"id\":\"\(did)\",\"alsoKnownAs\":[\"at://\(handle)\"],\"verificationMethod\":[\(method ?? "")]}"
    }

    /// What `body` throws; nil when it succeeds.
    private func error(_ body: () async throws -> some Any) async -> IdentityError? {
        do {
            _ = try await body()
            return nil
        } catch let error as IdentityError {
            return error
        } catch {
            Issue.record("an error of another kind: \(error)")
            return nil
        }
    }

    // MARK: documents

    @Test("a did:plc is asked of the directory, with the limits of a document, and cached")
    func plc() async throws {
        web.set(aliceURL, document(alice), type: "application/did+ld+json")
        let resolver = resolver()
        #expect(try await resolver.document(of: alice).handle == handle)
        #expect(try await resolver.document(of: alice).did == alice)
        #expect(
            web.requests == [
                OutboundRequest(
                    url: aliceURL, accept: "application/did+ld+json, application/json", bytesMax: 65_536, timeout: .seconds(3))
            ])
    }

    @Test("the directory's own way out is used for it, and for nothing else")
    func directory() async throws {
        let directory = FakeWeb()
        directory.set(aliceURL, document(alice))
        let bob = try DID("did:web:bob.example.com")
        web.set("https://bob.example.com/.well-known/did.json", document(bob))
        let resolver = IdentityResolver(
            outbound: web.outbound, directory: directory.outbound, plcURL: "https://plc.example.com", allowsHTTP: false, now: clock.now,
            txt: dns.txt)
        _ = try await resolver.document(of: alice)
        _ = try await resolver.document(of: bob)
        #expect(directory.requests.map(\.url) == [aliceURL])
        #expect(web.requests.map(\.url) == ["https://bob.example.com/.well-known/did.json"])
    }

    @Test(
        "a did:web is a host name, and its document stands at the well-known place",
        arguments: [
            ("did:web:bob.example.com", "https://bob.example.com"), ("did:web:BOB.example.com", "https://bob.example.com"),
            ("did:web:localhost", "http://localhost"), ("did:web:localhost%3A2583", "http://localhost:2583"),
            ("did:web:bob.test", "https://bob.test"),
        ])
    func webHosts(did: String, origin: String) async throws {
        let did = try DID(did)
        web.set("\(origin)/.well-known/did.json", document(did))
        #expect(try await resolver(allowsHTTP: true).document(of: did).did == did)
    }

    @Test(
        "what is no host name of the public is not asked for",
        arguments: [
            "did:web:bob.example.com:user", "did:web:bob.example.com%3A443", "did:web:bob.example.com%2Fuser", "did:web:bob",
            "did:web:127.0.0.1",
            "did:web:localhost", "did:web:localhost%3A2583", "did:web:bob.localhost", "did:web:bob.test", "did:web:bob.local",
            "did:web:bob.internal", "did:web:1.0.0.127.in-addr.arpa", "did:web:bob.onion", "did:web:bob.example.",
            "did:web:bob_x.example.com",
            "did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF", "did:ethr:0x00",
        ])
    func unsupported(text: String) async throws {
        let did = try DID(text)
        #expect(await error { try await resolver().document(of: did) } == .unsupportedMethod)
        #expect(web.requests.isEmpty)
    }

    @Test(
        "in development localhost takes a port, and only that",
        arguments: [
            "did:web:localhost%3A", "did:web:localhost%3A0", "did:web:localhost%3A80%3A80", "did:web:localhost%3A80a",
            "did:web:localhost:80", "did:web:localhost%3a80", "did:web:localhostx",
        ])
    func localhostForms(text: String) async throws {
        // The syntax of DIDs refuses some of these by itself.
        guard let did = try? DID(text) else { return }
        #expect(
            await error { try await resolver(allowsHTTP: true).document(of: did) } == .unsupportedMethod)
        #expect(web.requests.isEmpty)
    }

    @Test(
        "a did:plc of another shape is not put into a URL",
        arguments: [
            "did:plc:abc", "did:plc:ewvi7nxzyoun6zhxrhs64oiz2", "did:plc:ewvi7nxzyoun6zhxrhs64oi1", "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ",
            "did:plc:..%2F..%2F..%2F..%2F..aaaaa",
        ])
    func plcShape(text: String) async throws {
        let did = try DID(text)
        guard case .malformed = await error({ try await resolver().document(of: did) }) else {
            Issue.record("\(text) was taken for a did:plc")
            return
        }
        #expect(web.requests.isEmpty)
    }

    @Test(
        "each status has its meaning, and none but 200 is an answer",
        arguments: [201, 204, 206, 301, 302, 307, 400, 403, 404, 410, 429, 500, 503])
    func statuses(status: Int) async {
        web.set(aliceURL, document(alice), status: status)
        let error = await error { try await resolver().document(of: alice) }
        #expect(error == ([404, 410].contains(status) ? .notFound : .unreachable("the server answered with status \(status)")))
    }

    @Test(
        "a document must say that it is JSON",
        arguments: [
            ("application/json", true), ("Application/JSON; charset=utf-8", true), ("application/did+ld+json", true),
            ("application/did+json ;a=b", true),
            ("text/html", false), ("text/plain", false), ("application/jsonp", false), ("application/octet-stream", false),
            ("text/json", false),
            ("application/json, text/html", false), ("json", false), ("", false), (nil, false),
        ])
    func contentTypes(type: String?, isTaken: Bool) async {
        web.set(aliceURL, document(alice), type: type)
        let error = await error { try await resolver().document(of: alice) }
        #expect(error == (isTaken ? nil : .malformed("what should be JSON has another content type")))
    }

    @Test("each failure on the way out has its meaning")
    func outboundErrors() async {
        let meanings: [(OutboundError, IdentityError)] = [
            (.timedOut, .unreachable("no answer in time")), (.unreachable("x"), .unreachable("x")), (.overloaded, .overloaded),
            (.refusedAddress, .unreachable("the host has no address that may be connected to")),
            (.tooLarge(max: 65_536), .malformed("more than 65536 bytes")), (.invalidURL, .malformed("not a URL that can be fetched")),
            (.closed, .unreachable("the service is stopping")),
        ]
        for (outbound, meaning) in meanings {
            web.set(aliceURL, .failure(outbound))
            #expect(await error { try await resolver().document(of: alice) } == meaning)
        }
    }

    @Test("a new key is seen within five minutes, by a refresh within seconds, and an outage shorter than an hour is not noticed")
    func rotation() async throws {
        let (old, new) = (PrivateKey.generate(.k256).publicKey, PrivateKey.generate(.k256).publicKey)
        let resolver = resolver()
        web.set(aliceURL, document(alice, key: old))
        #expect(try await resolver.document(of: alice).signingKey() == old)
        web.set(aliceURL, document(alice, key: new))
        #expect(try await resolver.document(of: alice, refresh: true).signingKey() == old, "asked again at once")
        clock.advance(seconds: 10)
        #expect(try await resolver.document(of: alice).signingKey() == old)
        #expect(try await resolver.document(of: alice, refresh: true).signingKey() == new)
        web.set(aliceURL, .failure(.unreachable("down")))
        for _ in 0..<7 {
            clock.advance(seconds: 500)
            #expect(try await resolver.document(of: alice).signingKey() == new)
        }
        clock.advance(seconds: 100)
        #expect(await error { try await resolver.document(of: alice) } == .unreachable("down"))
        web.set(aliceURL, document(alice, key: old))
        #expect(await error { try await resolver.document(of: alice) } == .unreachable("down"))
        clock.advance(seconds: 5)
        #expect(try await resolver.document(of: alice).signingKey() == old, "it is back")
    }

    @Test("strangers who ask for many DIDs do not fill the memory")
    func bounded() async throws {
        let resolver = resolver(limits: ResolutionLimits(answersMax: 10, cacheBytesMax: 1 << 20))
        let dids = try (0..<30).map { number in try DID("did:web:a\(number).example.com") }
        for did in dids { web.set("https://\(did.identifier)/.well-known/did.json", document(did)) }
        for did in dids { _ = try await resolver.document(of: did) }
        for did in dids.reversed() { _ = try await resolver.document(of: did) }
        // Of thirty the last five at least were still there, and no more than ten.
        #expect(50...55 ~= web.requests.count)
    }

    // MARK: handles

    @Test("a handle is asked of DNS first, and where it answers nobody else is asked")
    func dnsFirst() async throws {
        dns.set("_atproto.alice.example.com", ["v=spf1", "did=\(alice)", "DID=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
        let resolver = resolver()
        #expect(try await resolver.did(of: try Handle("Alice.EXAMPLE.com")) == alice)
        #expect(try await resolver.did(of: handle) == alice)
        #expect(web.requests.isEmpty)
        #expect(dns.count == 1)
    }

    @Test("where DNS has no record, or no answer, the well-known line counts", arguments: [true, false])
    func wellKnown(dnsAnswers: Bool) async throws {
        if !dnsAnswers { dns.fail() }
        web.set("https://alice.example.com/.well-known/atproto-did", " \(alice)\r\n", type: "text/plain")
        #expect(try await resolver().did(of: handle) == alice)
        #expect(web.requests.map(\.bytesMax) == [2048])
        #expect(web.requests.map(\.timeout) == [.seconds(3)])
    }

    @Test("a handle that nobody knows is not found, but without DNS nobody can say so")
    func noHandle() async {
        #expect(await error { try await resolver().did(of: handle) } == .notFound)
        dns.fail()
        guard case .unreachable = await error({ try await resolver().did(of: handle) }) else {
            Issue.record("half an answer was taken for a whole one")
            return
        }
    }

    @Test("two DIDs for one handle are none, even if the well-known line would decide")
    func severalRecords() async {
        dns.set("_atproto.alice.example.com", ["did=\(alice)", "did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
        web.set("https://alice.example.com/.well-known/atproto-did", alice.description)
        guard case .malformed = await error({ try await resolver().did(of: handle) }) else {
            Issue.record("one of two was chosen")
            return
        }
        #expect(web.requests.isEmpty)
    }

    @Test(
        "what is no DID is refused, in DNS and in the line",
        arguments: [
            "", "did=", "alice", "did:plc:", "did:plc:abc did:plc:def", "did:plc:abc\ndid:plc:def", "\u{FEFF}did:plc:abc", "<html>",
        ])
    func noDID(text: String) async {
        web.set("https://alice.example.com/.well-known/atproto-did", text)
        guard case .malformed = await error({ try await resolver().did(of: handle) }) else {
            Issue.record("\(text.debugDescription) in the line")
            return
        }
        dns.set("_atproto.alice.example.com", ["did=" + text])
        guard case .malformed = await error({ try await resolver().did(of: handle) }) else {
            Issue.record("\(text.debugDescription) in DNS")
            return
        }
    }

    @Test(
        "a name that stands for something else on every network is nobody's handle",
        arguments: ["local", "arpa", "internal", "localhost", "onion", "invalid", "example", "alt", "test", "TEST"])
    func reserved(last: String) async throws {
        let handle = try Handle("alice.\(last)")
        dns.set("_atproto.alice.\(last)", ["did=\(alice)"])
        #expect(await error { try await resolver().did(of: handle) } == .notFound)
        #expect(web.requests.isEmpty && dns.count == 0)
    }

    @Test("in development names below test may be handles")
    func testHandles() async throws {
        dns.set("_atproto.alice.test", ["did=\(alice)"])
        #expect(try await resolver(allowsHTTP: true).did(of: try Handle("alice.test")) == alice)
    }

    @Test("a handle is an account's when the document names it and it names the document's DID, whichever way one comes")
    func accounts() async throws {
        func expect(_ isCorrect: Bool, _ why: Comment, sourceLocation: SourceLocation = #_sourceLocation) async {
            let account = await resolver().account(alice)
            #expect(account?.handleIsCorrect == isCorrect, why, sourceLocation: sourceLocation)
            #expect(account?.document["id"]?.stringValue == alice.description, why, sourceLocation: sourceLocation)
            #expect(await resolver().account(named: handle) == (isCorrect ? alice : nil), why, sourceLocation: sourceLocation)
        }
        #expect(await resolver().account(alice) == nil, "there is no document")
        web.set(aliceURL, document(alice))
        await expect(false, "the handle names nobody")
        dns.set("_atproto.alice.example.com", ["did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"])
        await expect(false, "the handle names somebody else")
        dns.set("_atproto.alice.example.com", ["did=\(alice)"])
        await expect(true, "each names the other")
        #expect(await resolver().account(named: try Handle("ALICE.example.com")) == alice, "in any case of letters")
        web.set(aliceURL, document(alice, handle: "other.example.com"))
        await expect(false, "the document names another handle")
        web.set(aliceURL, "{\"id\":\"\(alice)\",\"x\":{\"$link\":1}}")
        let before = dns.count
        let account = await resolver().account(alice)
        #expect(account?.handle == nil && account?.document["x"] == ["$link": 1], "every member comes along")
        #expect(dns.count == before, "without a handle nobody is asked for one")
    }

    @Test("one question takes no longer than its chain may, however many servers it leads to")
    func chain() async {
        let clock = clock
        let slow = Outbound { request async throws(OutboundError) in
            #expect(request.timeout <= .seconds(1))
            clock.advance(seconds: 1.5)
            throw .timedOut
        }
        let limits = ResolutionLimits(requestTimeout: .seconds(1), chainTimeout: .seconds(1))
        let resolver = IdentityResolver(
            outbound: slow, plcURL: "https://plc.example.com", allowsHTTP: false, now: clock.now,
            txt: { _ in
                clock.advance(seconds: 1.5)
                return []
            }, limits: limits)
        #expect(
            await error { try await resolver.did(of: handle) }
                == .unreachable("the servers that had to be asked took too long together"))
    }
}

/// TXT records by name; a name that is not there has none.
final class FakeDNS: Sendable {
    private struct Down: Error {}

    private struct State {
        var records: [String: [String]] = [:]
        var isDown = false
        var count = 0
    }

    private let state = Mutex(State())

    var txt: @Sendable (String) async throws -> [String] {
        { [self] name in
            try state.withLock { state in
                state.count += 1
                if state.isDown { throw Down() }
                return state.records[name] ?? []
            }
        }
    }

    func set(_ name: String, _ records: [String]) { state.withLock { $0.records[name] = records } }
    func fail() { state.withLock { $0.isDown = true } }
    var count: Int { state.withLock { $0.count } }
}
