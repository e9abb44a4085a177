import ATProto
import Authorization
import Keys
import Simulation
import Testing

/// Resolution against real servers on this machine that do what hostile and broken ones do.
@Suite(.timeLimit(.minutes(1))) struct HostileServerTests {
    private let alice: DID
    private let clock = TestClock()

    /// The document of somebody else.
    private static let other = "{\"id\":\"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\"}"

    init() throws { alice = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz") }

    private func resolver(_ client: OutboundClient, plc: RawServer, timeout: Duration = .seconds(3)) -> IdentityResolver {
        IdentityResolver(
            outbound: client.outbound, plcURL: plc.origin, allowsHTTP: true, now: clock.now, txt: { _ in [] },
            limits: ResolutionLimits(requestTimeout: timeout))
    }

    private func client(_ filter: AddressFilter = .any) -> OutboundClient { OutboundClient(filter: filter, userAgent: "test") }

    private func error(_ resolver: IdentityResolver, _ did: DID) async -> IdentityError? {
        do throws(IdentityError) {
            _ = try await resolver.document(of: did)
            return nil
        } catch {
            return error
        }
    }

    @Test("a directory that misbehaves gives an error in its time, and visits nobody else", arguments: HostileBehaviour.allCases)
    func directory(behaviour: HostileBehaviour) async throws {
        let inner = try RawServer(body: "{\"id\":\"\(alice)\"}")
        let plc = try RawServer { [alice] connection in
            behaviour.answer(connection, document: "{\"id\":\"\(alice)\"}", other: Self.other, inner: inner.origin)
        }
        let client = client()
        let start = ContinuousClock.now
        let error = await error(resolver(client, plc: plc, timeout: behaviour.isSlow ? .milliseconds(300) : .seconds(3)), alice)
        switch error {
        case .unreachable: #expect(behaviour.isUnreachable)
        case .malformed: #expect(!behaviour.isUnreachable)
        default: Issue.record("\(behaviour): \(String(describing: error))")
        }
        // Far from what a busy machine takes for one answer, and far below what the server would take to end by itself.
        #expect(ContinuousClock.now - start < .seconds(30))
        #expect(inner.connectionCount == 0)
        #expect(plc.requests.count == 1)
    }

    @Test("a directory that comes back is used again, and one that goes away is not missed at once")
    func flapping() async throws {
        let answers = Counter()
        let plc = try RawServer { [alice] connection in
            answers.add()
            answers.value.isMultiple(of: 2)
                ? connection.respond(body: [UInt8]("{\"id\":\"\(alice)\"}".utf8)) : connection.respond(status: 503, body: [])
        }
        let client = client()
        let resolver = resolver(client, plc: plc)
        #expect(await error(resolver, alice) == .unreachable("the server answered with status 503"))
        #expect(await error(resolver, alice) != nil)
        #expect(answers.value == 1)
        clock.advance(seconds: 5)
        #expect(await error(resolver, alice) == nil)
        clock.advance(seconds: 300)
        #expect(await error(resolver, alice) == nil)
        #expect(answers.value == 3)
    }

    @Test("a did:web of this machine is read over plain HTTP in development, and where the filter is public it is refused")
    func webOfThisMachine() async throws {
        let server = try RawServer { connection in
            connection.respond(body: [UInt8]("{\"id\":\"did:web:\(connection.header("Host")!.replacing(":", with: "%3A"))\"}".utf8))
        }
        let did = try DID("did:web:localhost%3A\(server.port)")
        let open = client()
        #expect(await error(resolver(open, plc: server), did) == nil)
        let shut = client(.publicOnly)
        #expect(await error(resolver(shut, plc: server), did) == .unreachable("the host has no address that may be connected to"))
        #expect(server.connectionCount == 1)
    }

    @Test("fifty callers for one DID are one request, and each gets the document")
    func singleFlight() async throws {
        let gate = Gate()
        let plc = try RawServer { [alice] connection in
            gate.wait()
            connection.respond(body: [UInt8]("{\"id\":\"\(alice)\"}".utf8))
        }
        let client = client()
        let resolver = resolver(client, plc: plc)
        await withTaskGroup(of: IdentityError?.self) { group in
            for _ in 0..<50 { group.addTask { [alice] in await error(resolver, alice) } }
            while plc.connectionCount == 0 { await Task.yield() }
            gate.open()
            for await error in group { #expect(error == nil) }
        }
        #expect(plc.requests.count == 1)
    }

    @Test("a token's key is found over real servers, and a server that sends the chain elsewhere is not followed")
    func issuers() async throws {
        let key = PrivateKey.generate(.p256).publicKey
        let set = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\(key.jwk.x)\",\"y\":\"\(key.jwk.y)\",\"kid\":\"a\"}]}"
        let keys = try RawServer { connection in
            connection.path == "/moved"
                ? connection.respond(status: 301, headers: "Location: /jwks\r\n", body: []) : connection.respond(body: [UInt8](set.utf8))
        }
        for path in ["/jwks", "/moved"] {
            let host = try RawServer { [alice] connection in
                let origin = "http://\(connection.header("Host")!)"
                let body =
                    switch connection.path {
                    case "/.well-known/oauth-protected-resource": "{\"resource\":\"\(origin)\",\"authorization_servers\":[\"\(origin)\"]}"
                    case "/.well-known/oauth-authorization-server": "{\"issuer\":\"\(origin)\",\"jwks_uri\":\"\(keys.origin)\(path)\"}"
                    default:
                        "{\"id\":\"\(alice)\",\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":\"\(origin)\"}]}"
                    }
                connection.respond(body: [UInt8](body.utf8))
            }
            let client = client()
            let issuers = TokenIssuers(
                resolver: resolver(client, plc: host), outbound: client.outbound, allowsHTTP: true, now: clock.now)
            if path == "/jwks" {
                #expect(try await issuers.key(issuer: host.origin, subject: alice, keyID: "a", algorithm: "ES256").key == key)
                #expect(
                    try await issuers.key(issuer: host.origin, subject: alice, keyID: "a", algorithm: "ES256").pds.description
                        == host.origin)
            } else {
                await #expect(throws: IssuerError.unreachable("the server answered with status 301")) {
                    try await issuers.key(issuer: host.origin, subject: alice, keyID: "a", algorithm: "ES256")
                }
            }
        }
    }
}
