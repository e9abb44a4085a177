import ATProto
import Authorization
import Keys
import Simulation
import Testing

@Suite("OAuth: the flow")
struct OAuthFlowTests {
    private let world = OAuthWorld()

    @Test("a flow begins with a pushed request and ends in the session of the account that was asked for")
    func whole() async throws {
        let beginning = try await world.client.begin(
            try OAuthClient.identifier(typed: "@Alice.Example.org"), returnTo: "https://stratos.example.com/app")
        #expect(beginning.location.hasPrefix(FakeAccountServer.issuer + "/authorize?client_id=https%3A%2F%2Fstratos.example.com%2F"))
        #expect(!beginning.location.contains("scope") && !beginning.location.contains("state"), "all else was pushed")
        #expect(beginning.cookie.name.hasPrefix("__Host-") && beginning.cookie.isSecure && beginning.cookie.lifetime == 600)
        let pushed = try #require(world.server.state.withLock { $0.pushed.values.first })
        #expect(pushed["redirect_uri"] == "https://stratos.example.com/oauth/callback")
        #expect(pushed["scope"] == OAuthScope.requested && pushed["login_hint"] == FakeAccountServer.handle)
        let parameters = try world.server.consent(at: beginning.location)
        #expect(world.client.cookieName(ofCallback: parameters) == beginning.cookie.name)
        let ending = try await world.client.end(parameters, cookie: beginning.cookie.value)
        #expect(ending.did.description == FakeAccountServer.alice && ending.pds == FakeAccountServer.pds)
        #expect(ending.handle?.description == FakeAccountServer.handle && ending.returnTo == "https://stratos.example.com/app")
        #expect(world.storage.flowCount == 0)
    }

    @Test("an account is found by its DID too, and then its handle is nobody's business")
    func byDID() async throws {
        let (parameters, cookie) = try await world.flow(of: FakeAccountServer.bob, as: FakeAccountServer.bob)
        let ending = try await world.client.end(parameters, cookie: cookie)
        #expect(ending.did.description == FakeAccountServer.bob && ending.handle == nil)
    }

    // MARK: attacks

    struct Attack: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let refusal: OAuthRefusal
        /// Whether tokens were given that must have been given back.
        var isGivenBack = false
        /// Whether the code must not have been sent anywhere.
        var keepsCode = true
        /// Happens between beginning and callback; returns what the browser brings.
        let happens: @Sendable (OAuthWorld, inout [(String, String)], inout String?) async throws -> Void
    }

    private static func metadata(_ name: String, _ value: Value?)
        -> @Sendable (
            OAuthWorld, inout [(String, String)], inout String?
        ) async throws -> Void
    {
        { world, _, _ in world.server.change { $0.metadata[name] = value } }
    }

    private static func tokens(_ name: String, _ value: Value?)
        -> @Sendable (
            OAuthWorld, inout [(String, String)], inout String?
        ) async throws -> Void
    {
        { world, _, _ in world.server.change { $0.changesTokens = { $0[name] = value } } }
    }

    private static func set(_ name: String, _ value: String?, in parameters: inout [(String, String)]) {
        parameters.removeAll { $0.0 == name }
        if let value { parameters.append((name, value)) }
    }

    static let attacks: [Attack] = [
        Attack(testDescription: "a state that nobody gave", refusal: .unknownState) { _, parameters, _ in
            set("state", Base64URL.encode([UInt8](repeating: 1, count: 32)), in: &parameters)
        },
        Attack(testDescription: "no state", refusal: .unknownState) { _, parameters, _ in set("state", nil, in: &parameters) },
        Attack(testDescription: "a state that was used before", refusal: .unknownState, keepsCode: false) { world, parameters, cookie in
            _ = try await world.client.end(parameters, cookie: cookie)
        },
        Attack(testDescription: "a stolen callback, in a browser without the cookie", refusal: .otherBrowser) { _, _, cookie in
            cookie = nil
        },
        Attack(testDescription: "a stolen callback, in a browser with a flow of its own", refusal: .otherBrowser) { world, _, cookie in
            cookie = try await world.client.begin(try OAuthClient.identifier(typed: FakeAccountServer.bob), returnTo: nil).cookie.value
        },
        Attack(testDescription: "a flow that is ten minutes old", refusal: .expiredState) { world, _, _ in
            world.clock.advance(seconds: 600)
        },
        Attack(testDescription: "no issuer", refusal: .missingIssuer) { _, parameters, _ in set("iss", nil, in: &parameters) },
        Attack(testDescription: "the issuer of another flow: mixed up", refusal: .otherIssuer) { _, parameters, _ in
            set("iss", "https://evil.example.com", in: &parameters)
        },
        Attack(testDescription: "the issuer with a slash at its end", refusal: .otherIssuer) { _, parameters, _ in
            set("iss", FakeAccountServer.issuer + "/", in: &parameters)
        },
        Attack(testDescription: "two issuers", refusal: .malformedCallback) { _, parameters, _ in
            parameters.append(("iss", "https://evil.example.com"))
        },
        Attack(testDescription: "two codes", refusal: .malformedCallback) { _, parameters, _ in parameters.append(("code", "other")) },
        Attack(testDescription: "the person says no", refusal: .notAuthorized(error: "access_denied")) { _, parameters, _ in
            set("code", nil, in: &parameters)
            set("error", "access_denied", in: &parameters)
        },
        Attack(testDescription: "an error of words", refusal: .notAuthorized(error: "other")) { _, parameters, _ in
            set("error", "<script>", in: &parameters)
        },
        Attack(testDescription: "an error, with the issuer of another", refusal: .otherIssuer) { _, parameters, _ in
            set("error", "access_denied", in: &parameters)
            set("iss", "https://evil.example.com", in: &parameters)
        },
        Attack(testDescription: "no code", refusal: .missingCode) { _, parameters, _ in set("code", nil, in: &parameters) },
        Attack(
            testDescription: "PKCE is gone from the metadata since the beginning", refusal: .noPKCE,
            happens: metadata("code_challenge_methods_supported", ["plain"])),
        Attack(
            testDescription: "another token endpoint since the beginning", refusal: .serverChanged,
            happens: metadata("token_endpoint", "https://evil.example.com/token")),
        Attack(
            testDescription: "another revocation endpoint since the beginning", refusal: .serverChanged,
            happens: metadata("revocation_endpoint", nil)),
        Attack(
            testDescription: "the token endpoint is no longer behind TLS",
            refusal: .unfitServer("token_endpoint is not an https URL"),
            happens: metadata("token_endpoint", "http://issuer.example.com/token")),
        Attack(
            testDescription: "the issuer's metadata is another's", refusal: .unfitServer("the metadata of another authorization server"),
            happens: metadata("issuer", "https://evil.example.com")),
        Attack(testDescription: "the PDS names another issuer since the beginning", refusal: .serverChanged) { world, _, _ in
            let other = "https://other.example.com"
            world.server.change { state in
                state.resource["authorization_servers"] = [.string(other)]
                var metadata = state.metadata
                metadata["issuer"] = .string(other)
                let answer = FakeAccountServer.response(200, .map(metadata))
                state.answers[other + "/.well-known/oauth-authorization-server"] = { _ in answer }
            }
        },
        Attack(testDescription: "the account has another PDS since the beginning", refusal: .serverChanged) { world, _, _ in
            let other = "https://pds2.example.com"
            world.clock.advance(seconds: 11)  // As soon as the document may be asked for again.
            world.server.change { state in
                state.pdsOf[FakeAccountServer.alice] = other
                let answer = FakeAccountServer.response(
                    200, ["resource": .string(other), "authorization_servers": [.string(FakeAccountServer.issuer)]])
                state.answers[other + "/.well-known/oauth-protected-resource"] = { _ in answer }
            }
        },
        Attack(
            testDescription: "a code that was given for another verifier", refusal: .codeRefused(error: "invalid_grant"), keepsCode: false
        ) { world, parameters, _ in
            let other = try await world.flow(of: FakeAccountServer.alice)
            set("code", other.parameters.first { $0.0 == "code" }?.1, in: &parameters)
        },
        Attack(testDescription: "a code that nobody gave", refusal: .codeRefused(error: "invalid_grant"), keepsCode: false) {
            _, parameters, _ in set("code", "stolen", in: &parameters)
        },
        Attack(
            testDescription: "tokens of another account", refusal: .otherSubject, isGivenBack: true, keepsCode: false,
            happens: tokens("sub", .string(FakeAccountServer.bob))),
        Attack(
            testDescription: "tokens of nobody", refusal: .otherSubject, isGivenBack: true, keepsCode: false, happens: tokens("sub", nil)),
        Attack(
            testDescription: "tokens that anybody can use", refusal: .notBound, isGivenBack: true, keepsCode: false,
            happens: tokens("token_type", "Bearer")),
        Attack(
            testDescription: "too small a scope", refusal: .scopeTooSmall, isGivenBack: true, keepsCode: false,
            happens: tokens("scope", "atproto repo:zone.stratos.feed.post")),
        Attack(
            testDescription: "no scope", refusal: .scopeTooSmall, isGivenBack: true, keepsCode: false, happens: tokens("scope", nil)),
        Attack(
            testDescription: "no refresh token", refusal: .malformedTokens("refresh_token is no token"), isGivenBack: true,
            keepsCode: false, happens: tokens("refresh_token", nil)),
        Attack(testDescription: "the handle has gone to another account", refusal: .handleMismatch, isGivenBack: true, keepsCode: false) {
            world, _, _ in
            world.clock.advance(seconds: 301)  // Until then the answer from the beginning is fresh.
            world.server.change { $0.handles[FakeAccountServer.handle] = FakeAccountServer.bob }
        },
    ]

    @Test("what is not the flow that this browser began with this account is refused, by its name", arguments: attacks)
    func refused(attack: Attack) async throws {
        let world = OAuthWorld()
        var (parameters, cookie): ([(String, String)], String?) = try await world.flow()
        try await attack.happens(world, &parameters, &cookie)
        let asked = world.server.count(FakeAccountServer.issuer + "/token")
        #expect(try await world.refusal(parameters, cookie) == attack.refusal)
        #expect((world.server.count(FakeAccountServer.issuer + "/token") == asked) == (attack.keepsCode || asked > 0))
        #expect(world.server.state.withLock { $0.revoked.count } == (attack.isGivenBack ? 1 : 0))
        #expect(world.storage.session(of: try DID(FakeAccountServer.alice)) == nil)
    }

    @Test("every refusal has a name of its own")
    func names() {
        let names = Self.attacks.map(\.refusal).reduce(into: Set<OAuthRefusal>()) { $0.insert($1) }
        #expect(Set(names.map(\.name)).count == Set(names.map { String(String(describing: $0).prefix { $0 != "(" }) }).count)
    }

    @Test("whoever steals a state ends nobody's flow")
    func stolen() async throws {
        let (parameters, cookie) = try await world.flow()
        #expect(try await world.refusal(parameters, "stolen") == .otherBrowser)
        #expect(try await world.refusal(parameters, cookie) == nil)
    }

    @Test("a flow lasts 599 seconds, and not 600")
    func lifetime() async throws {
        let (parameters, cookie) = try await world.flow()
        world.clock.advance(seconds: 599)
        #expect(try await world.refusal(parameters, cookie) == nil)
    }

    @Test("of two callbacks at once with one state, one is the flow's")
    func atOnce() async throws {
        let refusals = try await withThrowingTaskGroup(of: OAuthRefusal?.self) { group in
            let (parameters, cookie) = try await world.flow()
            for _ in 0..<8 { group.addTask { [world] in try await world.refusal(parameters, cookie) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(refusals.count { $0 == nil } == 1 && refusals.count { $0 == .unknownState } == 7, "\(refusals)")
    }

    // MARK: beginning

    @Test(
        "a server whose metadata lacks a part of the profile begins no flow",
        arguments: [
            "pushed_authorization_request_endpoint", "authorization_endpoint", "token_endpoint", "require_pushed_authorization_requests",
            "authorization_response_iss_parameter_supported", "client_id_metadata_document_supported", "response_types_supported",
            "grant_types_supported", "scopes_supported", "dpop_signing_alg_values_supported", "token_endpoint_auth_methods_supported",
            "issuer",
        ])
    func unfit(member: String) async throws {
        world.server.change { $0.metadata[member] = nil }
        guard case .unfitServer = try await world.refusalToBegin() else {
            Issue.record("\(member)")
            return
        }
        #expect(world.server.count(FakeAccountServer.issuer + "/par") == 0)
    }

    @Test("a server without PKCE, or with the plain one alone, begins no flow", arguments: [nil, ["plain"]] as [[String]?])
    func downgrade(methods: [String]?) async throws {
        world.server.change { $0.metadata["code_challenge_methods_supported"] = methods.map { .array($0.map(Value.string)) } }
        #expect(try await world.refusalToBegin() == .noPKCE)
        #expect(world.server.count(FakeAccountServer.issuer + "/par") == 0)
    }

    @Test("an account is only what its name and its document agree about")
    func accounts() async throws {
        #expect(try await world.refusalToBegin("no handle") == .unknownAccount)
        #expect(try await world.refusalToBegin("nobody.example.org") == .unknownAccount)
        #expect(try await world.refusalToBegin("did:plc:nobodynobodynobodynobody") == .unknownAccount)
        world.server.change { $0.handles["other.example.org"] = FakeAccountServer.alice }
        #expect(try await world.refusalToBegin("other.example.org") == .handleMismatch)
        world.server.change { $0.pdsOf[FakeAccountServer.bob] = "http://pds.example.com" }
        #expect(try await world.refusalToBegin(FakeAccountServer.bob) == .noPDS)
    }

    @Test("a nonce that a server wants is put into a second request, and no third is made")
    func nonces() async throws {
        world.server.change { $0.nonce = "first" }
        try await world.join()
        #expect(world.server.count(FakeAccountServer.issuer + "/par") == 2)
        #expect(world.server.count(FakeAccountServer.issuer + "/token") == 1, "the nonce is known by then")
        world.server.change {
            $0.answers[FakeAccountServer.issuer + "/par"] = { FakeAccountServer.refusal("use_dpop_nonce", nonce: "\($0)") }
        }
        #expect(try await world.refusalToBegin() == .pushRefused(error: "use_dpop_nonce"))
        #expect(world.server.count(FakeAccountServer.issuer + "/par") == 4)
        #expect(world.storage.flowCount == 0, "a flow that did not begin is not kept")
    }

    @Test("as many flows wait as may, and one more makes nobody ask anything of the server")
    func bounded() async throws {
        for _ in 0..<3 { #expect(try await world.refusalToBegin() == nil) }
        let pushed = world.server.count(FakeAccountServer.issuer + "/par")
        #expect(try await world.refusalToBegin() == .tooManyFlows)
        #expect(world.server.count(FakeAccountServer.issuer + "/par") == pushed)
    }

    @Test("what lies in the storage shows no secret, and opens in no other place")
    func sealed() async throws {
        let first = try await world.flow()
        let second = try await world.flow()
        let state = try #require(first.parameters.first { $0.0 == "state" }?.1)
        for bytes in world.storage.bytes {
            let text = String(decoding: bytes, as: UTF8.self)
            for secret in [state, first.cookie, FakeAccountServer.alice, "verifier", FakeAccountServer.issuer] {
                #expect(!text.contains(secret))
            }
        }
        world.storage.exchangeFlows()
        #expect(try await world.refusal(first.parameters, first.cookie) == .unknownState)
        #expect(try await world.refusal(second.parameters, second.cookie) == .unknownState)
    }

    @Test("a server that does not answer is told from one that refuses")
    func unreachable() async throws {
        for status in [429, 500, 503] {
            world.server.change { $0.answers[FakeAccountServer.issuer + "/par"] = { _ in FakeAccountServer.response(status, [:]) } }
            #expect(try await world.refusalToBegin() == .unreachable("the server answered with status \(status)"))
        }
    }
}
