import ATProto
import Authorization
import Keys
import Simulation
import Synchronization
import Testing

/// The whole way from a DID to the key of its tokens' issuer, over real servers, one of which misbehaves for a while.
@Suite(.serialized, .timeLimit(.minutes(1))) struct HostileIssuerTests {
    /// The documents on the way, each by the path that it stands at.
    enum Part: String, CaseIterable, Sendable {
        case directory, protectedResource, authorizationServer, keys

        init(path: String) {
            self =
                switch path {
                case "/.well-known/oauth-protected-resource": .protectedResource
                case "/.well-known/oauth-authorization-server": .authorizationServer
                case "/jwks": .keys
                default: .directory
                }
        }
    }

    /// Everything on one origin, with a part that can be made to misbehave.
    private final class World: Sendable {
        let alice: DID
        let key = PrivateKey.generate(.p256).publicKey
        let clock = TestClock()
        let inner: RawServer
        let host: RawServer
        private let current: Fault
        private let answers: Counter

        init() throws {
            let alice = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
            self.alice = alice
            inner = try RawServer(body: "{}")
            let (key, answers) = (key, Counter())
            self.answers = answers
            let current = Fault()
            self.current = current
            host = try RawServer { connection in
                answers.add()
                let part = Part(path: connection.path)
                let document = Self.document(part, of: alice, key: key, origin: "http://\(connection.header("Host") ?? "")")
                guard let fault = current.value.withLock({ $0 }), fault.part == part else {
                    return connection.respond(body: [UInt8](document.utf8))
                }
                fault.answer(connection, document)
            }
        }

        /// Who misbehaves, and how. The server has it too, which is there before the world is.
        private final class Fault: Sendable {
            let value = Mutex<(part: Part, answer: @Sendable (RawConnection, _ document: String) -> Void)?>(nil)
        }

        var answerCount: Int { answers.value }

        static func document(_ part: Part, of did: DID, key: PublicKey, origin: String) -> String {
            switch part {
            case .directory:
                "{\"id\":\"\(did)\",\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":\"\(origin)\"}]}"
            case .protectedResource: "{\"resource\":\"\(origin)\",\"authorization_servers\":[\"\(origin)\"]}"
            case .authorizationServer: "{\"issuer\":\"\(origin)\",\"jwks_uri\":\"\(origin)/jwks\"}"
            case .keys:
                "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\(key.jwk.x)\",\"y\":\"\(key.jwk.y)\",\"kid\":\"a\"}]}"
            }
        }

        func misbehave(_ part: Part, _ answer: @escaping @Sendable (RawConnection, String) -> Void) {
            current.value.withLock { $0 = (part, answer) }
        }

        func recover() { current.value.withLock { $0 = nil } }

        /// - Parameter slow: what the part that misbehaves is given in place of the usual time. The others are waited for, however busy
        ///   the machine is.
        func issuers(_ client: OutboundClient, slow: Duration? = nil) -> TokenIssuers {
            let outbound = Outbound { [current] request async throws(OutboundError) in
                let part = Part(path: String(request.url.dropFirst("http://".count).drop { $0 != "/" }))
                let isSlow = current.value.withLock { $0?.part == part }
                return try await client.outbound.send(
                    OutboundRequest(
                        url: request.url, accept: request.accept, bytesMax: request.bytesMax,
                        timeout: isSlow ? slow ?? request.timeout : request.timeout))
            }
            let limits = ResolutionLimits(requestTimeout: .seconds(20))
            let resolver = IdentityResolver(
                outbound: outbound, plcURL: host.origin, allowsHTTP: true, now: clock.now, txt: { _ in [] }, limits: limits)
            return TokenIssuers(resolver: resolver, outbound: outbound, allowsHTTP: true, now: clock.now, limits: limits)
        }

        func outcome(_ issuers: TokenIssuers) async -> Result<PublicKey, IssuerError> {
            do throws(IssuerError) {
                return .success(try await issuers.key(issuer: host.origin, subject: alice, keyID: "a", algorithm: "ES256").key)
            } catch {
                return .failure(error)
            }
        }
    }

    @Test(
        "whichever server misbehaves, nobody is believed, it ends in its time, nobody else is visited; and when it recovers, so does the way",
        arguments: Part.allCases, HostileBehaviour.allCases)
    func misbehaves(part: Part, behaviour: HostileBehaviour) async throws {
        let world = try World()
        let inner = world.inner.origin
        // Another's document of the same form: of another DID, another resource, another issuer, without a key.
        let other = World.document(part, of: try DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), key: world.key, origin: inner)
            .replacing("\"kid\":\"a\"", with: "\"kid\":\"b\"")
        world.misbehave(part) { behaviour.answer($0, document: $1, other: other, inner: inner) }
        let client = OutboundClient(filter: .any, userAgent: "test")
        let issuers = world.issuers(client, slow: behaviour.isSlow ? .milliseconds(50) : nil)
        let start = ContinuousClock.now
        guard case .failure = await world.outcome(issuers) else {
            Issue.record("a key was given")
            return
        }
        #expect(ContinuousClock.now - start < .seconds(30))
        #expect(world.inner.connectionCount == 0)
        let asked = world.answerCount
        #expect(asked <= Part.allCases.count + 1, "each server was asked once, and one of them once more where its answer may be old")
        // Whoever comes meanwhile is refused from memory.
        guard case .failure = await world.outcome(issuers) else {
            Issue.record("a key was given")
            return
        }
        #expect(world.answerCount <= asked + 1)
        world.recover()
        world.clock.advance(seconds: 31)
        #expect(await world.outcome(issuers) == .success(world.key))
        // What was known is used on while the server cannot be reached: five minutes are up, an hour is not.
        guard behaviour.isUnreachable else { return }
        world.misbehave(part) { behaviour.answer($0, document: $1, other: other, inner: inner) }
        world.clock.advance(seconds: 301)
        #expect(await world.outcome(issuers) == .success(world.key))
    }

    @Test(
        "a server that comes and goes with every answer is asked at its pace, and nobody notices once it has answered",
        arguments: Part.allCases)
    func flapping(part: Part) async throws {
        let world = try World()
        let answers = Counter()
        world.misbehave(part) { connection, document in
            answers.add()
            answers.value.isMultiple(of: 2)
                ? connection.respond(body: [UInt8](document.utf8)) : connection.respond(status: 503, body: [])
        }
        let client = OutboundClient(filter: .any, userAgent: "test")
        let issuers = world.issuers(client)
        guard case .failure = await world.outcome(issuers) else {
            Issue.record("the first answer was none")
            return
        }
        world.clock.advance(seconds: 31)
        for _ in 0..<11 {
            #expect(await world.outcome(issuers) == .success(world.key))
            world.clock.advance(seconds: 301)
        }
        // Metadata is good for an hour, documents and keys for five minutes.
        #expect(answers.value <= 13)
    }

    @Test(
        "a document that leads to an address of this machine's network is not followed there, in whatever form it is written",
        arguments: [
            "https://169.254.169.254", "https://169.254.0.1:8443", "https://[::ffff:169.254.169.254]", "https://[fe80::1]",
            "https://127.0.0.1",
            "https://10.0.0.1", "https://2852039166", "https://0xa9fea9fe", "https://169.254.43518",
        ])
    func linkLocal(pds: String) async throws {
        let alice = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
        let document =
            "{\"id\":\"\(alice)\",\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":\"\(pds)\"}]}"
        let plc = try RawServer(body: document)
        let directory = OutboundClient(filter: .any, userAgent: "test")
        let client = OutboundClient(filter: .publicOnly, userAgent: "test")
        let clock = TestClock()
        let resolver = IdentityResolver(
            outbound: client.outbound, directory: directory.outbound, plcURL: plc.origin, allowsHTTP: false, now: clock.now,
            txt: { _ in [] })
        let issuers = TokenIssuers(resolver: resolver, outbound: client.outbound, allowsHTTP: false, now: clock.now)
        do throws(IssuerError) {
            _ = try await issuers.key(issuer: pds, subject: alice, keyID: "a", algorithm: "ES256")
            Issue.record("a key was given")
        } catch {
            switch error {
            case .unreachable("the host has no address that may be connected to"), .noPDS, .notTheIssuer: break
            default: Issue.record("\(pds): \(error)")
            }
        }
    }
}
