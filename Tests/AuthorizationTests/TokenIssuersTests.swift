import ATProto
import Authorization
import Keys
import Testing

@Suite struct TokenIssuersTests {
    private let web = FakeWeb()
    private let clock = TestClock()
    private let alice: DID
    private let key = PrivateKey.generate(.p256).publicKey
    private let pds = "https://pds.example.com"
    private let server = "https://auth.example.com"

    init() throws {
        alice = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
        setDocument(pds: pds)
        setResource(pds, server: server)
        setServer(server)
        setKeys([jwk(key)])
    }

    private var documentURL: String { "https://plc.example.com/\(alice)" }
    private var keysURL: String { "https://keys.example.com/jwks?a=b" }

    private func setDocument(pds: String) {
        web.set(
            documentURL,
            "{\"id\":\"\(alice)\",\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":\"\(pds)\"}]}"
        )
    }

    private func setResource(_ pds: String, server: String) {
        web.set("\(pds)/.well-known/oauth-protected-resource", "{\"resource\":\"\(pds)\",\"authorization_servers\":[\"\(server)\"]}")
    }

    private func setServer(_ issuer: String, keys: String = "https://keys.example.com/jwks?a=b") {
        web.set("\(issuer)/.well-known/oauth-authorization-server", "{\"issuer\":\"\(issuer)\",\"jwks_uri\":\"\(keys)\"}")
    }

    private func setKeys(_ keys: [String]) { web.set(keysURL, "{\"keys\":[\(keys.joined(separator: ","))]}") }

    private func jwk(_ key: PublicKey, id: String? = "key-1", more: String = "") -> String {
        let id = id.map { ",\"kid\":\"\($0)\"" } ?? ""
        return "{\"kty\":\"EC\",\"crv\":\"\(key.jwk.crv)\",\"x\":\"\(key.jwk.x)\",\"y\":\"\(key.jwk.y)\"\(id)\(more)}"
    }

    private func issuers(allowsHTTP: Bool = false, limits: ResolutionLimits = ResolutionLimits()) -> TokenIssuers {
        let resolver = IdentityResolver(
            outbound: web.outbound, plcURL: "https://plc.example.com", allowsHTTP: allowsHTTP, now: clock.now, txt: { _ in [] },
            limits: limits)
        return TokenIssuers(resolver: resolver, outbound: web.outbound, allowsHTTP: allowsHTTP, now: clock.now, limits: limits)
    }

    private func error(
        _ issuers: TokenIssuers, issuer: String = "https://auth.example.com", keyID: String? = "key-1", algorithm: String = "ES256"
    ) async -> IssuerError? {
        do throws(IssuerError) {
            _ = try await issuers.key(issuer: issuer, subject: alice, keyID: keyID, algorithm: algorithm)
            return nil
        } catch {
            return error
        }
    }

    private func isMalformed(_ error: IssuerError?) -> Bool {
        if case .malformed = error { true } else { false }
    }

    // MARK: the chain

    @Test("the key is found from the subject's document over the PDS and the authorization server, each asked once")
    func chain() async throws {
        let issuers = issuers()
        for _ in 0..<3 {
            #expect(try await issuers.key(issuer: server, subject: alice, keyID: "key-1", algorithm: "ES256").key == key)
        }
        #expect(try await issuers.key(issuer: server, subject: alice, keyID: "key-1", algorithm: "ES256").pds.description == pds)
        #expect(
            web.requests.map(\.url) == [
                documentURL, pds + "/.well-known/oauth-protected-resource", server + "/.well-known/oauth-authorization-server", keysURL,
            ])
        #expect(web.requests.allSatisfy { $0.bytesMax == 65_536 && $0.timeout == .seconds(3) })
    }

    @Test(
        "an issuer that the subject's PDS does not name is refused, and is not asked anything",
        arguments: [
            "https://evil.example.com", "https://pds.example.com", "https://auth.example.com/", "https://auth.example.com:443",
            "HTTPS://auth.example.com", "http://auth.example.com", "https://auth.example.com.evil.example",
            "https://auth.example.com@evil.example",
            "auth.example.com", "", "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        ])
    func otherIssuers(issuer: String) async {
        setServer(issuer)
        #expect(await error(issuers(), issuer: issuer) == .notTheIssuer)
        #expect(!web.requests.contains { $0.url.contains("evil") || $0.url.hasPrefix("http:") })
    }

    @Test("an account that has moved is believed at its new server, and no more at its old one")
    func moved() async throws {
        let issuers = issuers()
        #expect(await error(issuers) == nil)
        setDocument(pds: "https://new.example.com")
        setResource("https://new.example.com", server: "https://new.example.com")
        setServer("https://new.example.com")
        #expect(await error(issuers, issuer: "https://new.example.com") == .notTheIssuer, "the document was read a moment ago")
        clock.advance(seconds: 10)
        #expect(await error(issuers, issuer: "https://new.example.com") == nil)
        #expect(await error(issuers) == .notTheIssuer)
    }

    @Test("a PDS that names another server than before is believed when its new one is asked for")
    func changedServer() async throws {
        let issuers = issuers()
        #expect(await error(issuers) == nil)
        setResource(pds, server: "https://new.example.com")
        setServer("https://new.example.com")
        clock.advance(seconds: 29)
        #expect(await error(issuers, issuer: "https://new.example.com") == .notTheIssuer)
        clock.advance(seconds: 1)
        #expect(await error(issuers, issuer: "https://new.example.com") == nil)
    }

    @Test("metadata is read again after an hour, and keys after five minutes")
    func ages() async {
        let issuers = issuers()
        let resource = pds + "/.well-known/oauth-protected-resource"
        #expect(await error(issuers) == nil)
        clock.advance(seconds: 299)
        #expect(await error(issuers) == nil)
        #expect([resource, keysURL].map(web.count) == [1, 1])
        clock.advance(seconds: 1)
        #expect(await error(issuers) == nil)
        #expect([resource, keysURL].map(web.count) == [1, 2])
        clock.advance(seconds: 3299)
        #expect(await error(issuers) == nil)
        #expect([resource, server + "/.well-known/oauth-authorization-server"].map(web.count) == [1, 1])
        clock.advance(seconds: 1)
        #expect(await error(issuers) == nil)
        #expect([resource, server + "/.well-known/oauth-authorization-server"].map(web.count) == [2, 2])
    }

    @Test("a subject without a document or a PDS has no issuer")
    func noPDS() async {
        web.set(documentURL, "{\"id\":\"\(alice)\"}")
        #expect(await error(issuers()) == .noPDS)
        setDocument(pds: "http://pds.example.com")
        #expect(await error(issuers()) == .noPDS)
        web.set(documentURL, "", status: 404)
        #expect(await error(issuers()) == .subject(.notFound))
        web.set(documentURL, .failure(.timedOut))
        #expect(await error(issuers()) == .subject(.unreachable("no answer in time")))
    }

    @Test("servers of this machine do without TLS where that is allowed, and others never")
    func plainHTTP() async {
        let (pds, server) = ("http://localhost:2583", "http://localhost:2584")
        setDocument(pds: pds)
        setResource(pds, server: server)
        setServer(server, keys: "http://127.0.0.1:2585/jwks")
        web.set("http://127.0.0.1:2585/jwks", "{\"keys\":[\(jwk(key))]}")
        #expect(await error(issuers(), issuer: server) == .noPDS)
        #expect(await error(issuers(allowsHTTP: true), issuer: server) == nil)
        setServer(server, keys: "http://keys.example.com/jwks")
        #expect(isMalformed(await error(issuers(allowsHTTP: true), issuer: server)))
        setResource(pds, server: "http://auth.example.com")
        #expect(isMalformed(await error(issuers(allowsHTTP: true), issuer: "http://auth.example.com")))
    }

    @Test(
        "metadata of a PDS that is another's, or names no server or two, is refused",
        arguments: [
            "{}", "[]", "{\"resource\":\"https://pds.example.com\"}",
            "{\"resource\":\"https://pds.example.com\",\"authorization_servers\":[]}",
            "{\"resource\":\"https://other.example.com\",\"authorization_servers\":[\"https://auth.example.com\"]}",
            "{\"authorization_servers\":[\"https://auth.example.com\"]}",
            "{\"resource\":\"https://pds.example.com\",\"authorization_servers\":[\"https://auth.example.com\",\"https://auth.example.com\"]}",
            "{\"resource\":\"https://pds.example.com\",\"authorization_servers\":\"https://auth.example.com\"}",
            "{\"resource\":\"https://pds.example.com\",\"authorization_servers\":[\"https://auth.example.com/\"]}",
            "{\"resource\":\"https://pds.example.com\",\"authorization_servers\":[\"http://auth.example.com\"]}",
            "{\"resource\":\"https://pds.example.com\",\"authorization_servers\":[7]}",
        ])
    func wrongResource(json: String) async {
        web.set(pds + "/.well-known/oauth-protected-resource", json)
        #expect(isMalformed(await error(issuers())))
    }

    @Test(
        "metadata of a server that names another issuer, or keys at no https URL, is refused",
        arguments: [
            "{}", "{\"issuer\":\"https://evil.example.com\",\"jwks_uri\":\"https://keys.example.com/jwks\"}",
            "{\"issuer\":\"https://auth.example.com/\",\"jwks_uri\":\"https://keys.example.com/jwks\"}",
            "{\"issuer\":\"https://auth.example.com\",\"jwks_uri\":\"http://keys.example.com/jwks\"}",
            "{\"issuer\":\"https://auth.example.com\",\"jwks_uri\":\"https://u:p@keys.example.com/jwks\"}",
            "{\"issuer\":\"https://auth.example.com\",\"jwks_uri\":\"file:///etc/passwd\"}",
            "{\"issuer\":\"https://auth.example.com\",\"jwks_uri\":\"https://keys.example.com\\\\@evil.example/\"}",
            "{\"issuer\":\"https://auth.example.com\",\"jwks_uri\":\"https://keys.example.com/ä\"}",
            "{\"issuer\":\"https://auth.example.com\",\"jwks_uri\":\"https://keys.example.com\"}",
            "{\"issuer\":\"https://auth.example.com\",\"jwks_uri\":\"/jwks\"}",
        ])
    func wrongServer(json: String) async {
        web.set(server + "/.well-known/oauth-authorization-server", json)
        #expect(isMalformed(await error(issuers())))
        #expect(web.count(keysURL) == 0)
    }

    @Test("a server without a place for keys publishes none")
    func noKeys() async {
        web.set(server + "/.well-known/oauth-authorization-server", "{\"issuer\":\"\(server)\"}")
        #expect(await error(issuers()) == .unknownKey)
        setServer(server)
        setKeys([])
        #expect(await error(issuers()) == .unknownKey)
    }

    @Test("a token that only its issuer can check is told from one of no algorithm of ours, and nobody is asked")
    func algorithms() async {
        for algorithm in ["HS256", "HS384", "HS512"] { #expect(await error(issuers(), algorithm: algorithm) == .symmetricAlgorithm) }
        for algorithm in ["none", "RS256", "EdDSA", "ES384", "es256", ""] {
            #expect(await error(issuers(), algorithm: algorithm) == .unsupportedAlgorithm)
        }
        #expect(web.requests.isEmpty)
    }

    // MARK: keys

    @Test("of several keys the one is given that has the token's key name and algorithm")
    func severalKeys() async throws {
        let others = [PrivateKey.generate(.p256).publicKey, PrivateKey.generate(.k256).publicKey]
        setKeys([
            jwk(others[0], id: "key-0"), "{\"kty\":\"RSA\",\"kid\":\"key-1\",\"n\":\"AQAB\",\"e\":\"AQAB\"}",
            "{\"kty\":\"oct\",\"kid\":\"key-1\",\"k\":\"AAAA\"}", jwk(others[1], id: "key-1"),
            jwk(key, more: ",\"alg\":\"ES256\",\"use\":\"sig\""),
        ])
        let issuers = issuers()
        #expect(try await issuers.key(issuer: server, subject: alice, keyID: "key-1", algorithm: "ES256").key == key)
        #expect(try await issuers.key(issuer: server, subject: alice, keyID: "key-1", algorithm: "ES256K").key == others[1])
        #expect(try await issuers.key(issuer: server, subject: alice, keyID: nil, algorithm: "ES256K").key == others[1])
        #expect(await error(issuers, keyID: nil) == .unknownKey, "two of the algorithm, and no name")
        #expect(await error(issuers, keyID: "key-0", algorithm: "ES256K") == .unknownKey)
    }

    @Test("two keys of one name and algorithm are none")
    func sameName() async {
        setKeys([jwk(key), jwk(PrivateKey.generate(.p256).publicKey)])
        #expect(await error(issuers()) == .unknownKey)
    }

    @Test(
        "a key that is not for checking signatures, or is a private one, is none",
        arguments: [
            ",\"use\":\"enc\"", ",\"alg\":\"ES256K\"", ",\"alg\":\"ECDH-ES\"", ",\"key_ops\":[\"sign\"]", ",\"key_ops\":\"verify\"",
            ",\"d\":\"AAAA\"", ",\"use\":7",
        ])
    func unusable(more: String) async {
        setKeys([jwk(key, more: more)])
        #expect(await error(issuers()) == .unknownKey)
    }

    @Test("what is no point, or no key set, is no key")
    func malformedKeys() async {
        let x = key.jwk.x
        setKeys(["7", "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\(x)\",\"y\":\"\(x)\",\"kid\":\"key-1\"}"])
        #expect(await error(issuers()) == .unknownKey)
        for json in ["{}", "[]", "{\"keys\":{}}"] {
            web.set(keysURL, json)
            #expect(isMalformed(await error(issuers())), "\(json)")
        }
    }

    @Test("a key name that nobody knows has the keys fetched again, but not more often than every half minute")
    func unknownKeyNames() async throws {
        let issuers = issuers()
        #expect(await error(issuers) == nil)
        let new = PrivateKey.generate(.p256).publicKey
        setKeys([jwk(key), jwk(new, id: "key-2")])
        for _ in 0..<20 { #expect(await error(issuers, keyID: "key-2") == .unknownKey) }
        #expect(web.count(keysURL) == 1)
        clock.advance(seconds: 30)
        #expect(try await issuers.key(issuer: server, subject: alice, keyID: "key-2", algorithm: "ES256").key == new)
        for number in 0..<20 { #expect(await error(issuers, keyID: "made up \(number)") == .unknownKey) }
        #expect(web.count(keysURL) == 2)
    }

    @Test("a key that was taken back is refused within five minutes, and within the hour that the server is away it is not missed")
    func flapping() async {
        let issuers = issuers()
        #expect(await error(issuers) == nil)
        web.set(keysURL, .failure(.unreachable("down")))
        clock.advance(seconds: 301)
        #expect(await error(issuers) == nil)
        clock.advance(seconds: 3300)
        #expect(await error(issuers) == .unreachable("down"))
        setKeys([jwk(key)])
        clock.advance(seconds: 5)
        #expect(await error(issuers) == nil)
        setKeys([])
        clock.advance(seconds: 301)
        #expect(await error(issuers) == .unknownKey)
    }

    @Test("the whole chain has one time limit, and each request gets what is left of it")
    func timeLimit() async {
        let (web, clock) = (web, clock)
        let slow = Outbound { request async throws(OutboundError) in
            let response = try await web.outbound.send(request)
            clock.advance(seconds: 2.9)
            return response
        }
        let resolver = IdentityResolver(
            outbound: slow, plcURL: "https://plc.example.com", allowsHTTP: false, now: clock.now, txt: { _ in [] })
        let issuers = TokenIssuers(resolver: resolver, outbound: slow, allowsHTTP: false, now: clock.now)
        #expect(await error(issuers) == nil)
        #expect(web.requests.map(\.timeout) == [.seconds(3), .seconds(3), .seconds(3), .milliseconds(1300)])
        // What was fetched is kept, so the next caller needs no chain.
        #expect(await error(issuers) == nil)
        #expect(web.requests.count == 4)
    }
}
