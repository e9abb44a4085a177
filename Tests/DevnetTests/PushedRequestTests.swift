import ATProto
import Devnet
import HTTPTypes
import Keys
import Testing

@Suite("Pushed authorization requests")
struct PushedRequestTests {
    private static let refusals: [(String, String?, name: String, text: String)] = [
        ("scope", "repo:com.example.note", "invalid_scope", "\"atproto\" scope is required"),
        ("scope", nil, "invalid_scope", "\"atproto\" scope is required"),
        ("scope", "atproto transition:generic", "invalid_scope", "not declared"),
        ("scope", "atproto repo:com.example.note?action=create", "invalid_scope", "not declared"),
        ("redirect_uri", "http://127.0.0.1:7777/other", "invalid_request", "Invalid redirect_uri"),
        ("redirect_uri", "http://127.0.0.1:7777/callback?x=1", "invalid_request", "Invalid redirect_uri"),
        ("redirect_uri", "http://[::1]:7777/callback", "invalid_request", "Invalid redirect_uri"),
        ("redirect_uri", "http://localhost:7777/callback", "invalid_request", "Invalid redirect_uri"),
        ("redirect_uri", "https://127.0.0.1:7777/callback", "invalid_request", "Invalid redirect_uri"),
        ("redirect_uri", "http://127.0.0.1.evil.test/callback", "invalid_request", "Invalid redirect_uri"),
        ("redirect_uri", "http://127.0.0.1@evil.test/callback", "invalid_request", "Invalid redirect_uri"),
        ("code_challenge", nil, "invalid_request", "PKCE"),
        ("code_challenge", "abc", "invalid_request", "SHA-256"),
        ("code_challenge_method", nil, "invalid_request", "S256"),
        ("code_challenge_method", "plain", "invalid_request", "S256"),
        ("response_type", "token", "unsupported_response_type", "response_type"),
        ("response_type", nil, "unsupported_response_type", "response_type"),
        ("response_mode", "form_post", "invalid_request", "response_mode"),
        ("login_hint", "not a handle", "invalid_request", "login_hint"),
        ("prompt", "none", "consent_required", "silent-sign-on"),
        ("request", "a.b.c", "invalid_request", "\"request\""),
        ("nonce", "n", "invalid_request", "\"nonce\""),
        ("dpop_jkt", "another", "invalid_request", "dpop_jkt"),
        ("client_id", nil, "invalid_request", "client_id is missing"),
        ("client_id", "http://localhost?scope=atproto&scope=atproto", "invalid_client_metadata", "Duplicate"),
        ("client_id", "http://localhost?redirect_uri=http://localhost/", "invalid_client_metadata", "127.0.0.1"),
        ("client_id", "http://localhost?redirect_uri=https://127.0.0.1/", "invalid_client_metadata", "127.0.0.1"),
        ("client_id", "http://localhost?name=x", "invalid_client_metadata", "Unexpected"),
        ("client_id", "http://localhost?scope=repo:a.b.c", "invalid_client_metadata", "\"atproto\" scope"),
        ("client_id", "http://localhost?scope=atproto%20openid", "invalid_client_metadata", "Unsupported scope"),
        ("client_id", "http://localhost#x", "invalid_client_metadata", "loopback"),
        ("client_id", "https://client.test/metadata.json", "invalid_client_metadata", "loopback"),
        ("client_id", "http://client.test/metadata.json", "invalid_client_metadata", "loopback"),
        ("client_id", "client", "invalid_client_metadata", "Invalid client ID"),
    ]

    @Test("each parameter that is wrong is refused by its name, and a request that is right is kept")
    func refusals() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            #expect(try await flow.push().status == 201)
            for refusal in Self.refusals {
                let answer = try await flow.push([refusal.0: refusal.1])
                let json = try answer.json
                #expect(
                    answer.status == 400 && json["error"] == .string(refusal.name)
                        && (json["error_description"]?.stringValue?.contains(refusal.text) ?? false),
                    "\(refusal): \(answer.text)")
            }
            let twice = try await flow.send(flow.pushed + [("state", "again")], to: "par")
            try expectRefusal(twice, 400, "invalid_request", "state must be given once")
        }
    }

    @Test("what the profile leaves to the client is left to it")
    func allowed() async throws {
        try await Devnet.run { devnet in
            var flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let jkt = flow.user.clientKey.publicKey.jwk.thumbprint
            for change in [
                ["redirect_uri": "http://127.0.0.1/callback"], ["redirect_uri": "http://127.0.0.1:1/callback"], ["state": nil],
                ["login_hint": nil], ["login_hint": "ALICE.test"], ["login_hint": flow.user.did.description], ["prompt": "login"],
                ["scope": "atproto"], ["scope": "atproto atproto"], ["response_mode": "fragment"], ["dpop_jkt": jkt],
            ] as [[String: String?]] {
                let answer = try await flow.push(change)
                #expect(answer.status == 201, "\(change): \(answer.text)")
            }
            flow.clientID = "http://localhost/?scope=" + HTTPCall.escaped(flow.scope)
            for redirect in ["http://127.0.0.1:9/", "http://[::1]:9/"] {
                #expect(try await flow.push(["redirect_uri": redirect]).status == 201, "\(redirect)")
            }
            try expectRefusal(try await flow.push(["redirect_uri": nil]), 400, "invalid_request", "redirect_uri is required")
        }
    }

    @Test("a request may come as JSON, and without a proof; then the token request binds the key")
    func withoutProof() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let fields = flow.pushed.reduce(into: ValueMap()) { $0[$1.0] = .string($1.1) }
            let answer = try await HTTPCall.post(devnet.pdsURL + "/oauth/par", .map(fields))
            #expect(answer.status == 201 && answer.headers[.dpopNonce] != nil, "\(answer.text)")
            let url = try devnet.consent(at: try flow.authorizationURL(answer), as: flow.user)
            let code = try #require(url.split(separator: "code=").last)
            let tokens = try OAuthFlow.Tokens(try await flow.exchange(String(code)))
            let jkt = flow.user.clientKey.publicKey.jwk.thumbprint
            #expect(try ReadJWT(tokens.access).claims["cnf"] == ["jkt": .string(jkt)])
            let text = try await HTTPCall.post(devnet.pdsURL + "/oauth/par", bytes: [], contentType: "text/plain")
            try expectRefusal(text, 400, "invalid_request", "content type")
        }
    }

    @Test("a pushed request is decided once, by the client and in the time that it was made for")
    func once() async throws {
        let clock = StoppedClock()
        try await Devnet.run(clock) { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let first = try flow.authorizationURL(try await flow.push())
            _ = try devnet.consent(at: first, as: flow.user)
            #expect(throws: DevnetConsentError.self) { try devnet.consent(at: first, as: flow.user) }

            let second = try flow.authorizationURL(try await flow.push())
            let other = second.replacing("client_id=http", with: "client_id=https")
            #expect(throws: DevnetConsentError.refused("This request was made by another application.")) {
                try devnet.consent(at: other, as: flow.user)
            }
            #expect(throws: DevnetConsentError.self, "the attempt has ended it") { try devnet.consent(at: second, as: flow.user) }

            let early = try flow.authorizationURL(try await flow.push())
            let late = try flow.authorizationURL(try await flow.push())
            clock.milliseconds += 299_999
            #expect(try devnet.consent(at: early, as: flow.user).contains("code="))
            clock.milliseconds += 1
            #expect(try devnet.consent(at: late, as: flow.user).contains("error=access_denied"))

            let unknown = "\(devnet.pdsURL)/oauth/authorize?client_id=x&request_uri=urn:ietf:params:oauth:request_uri:req-0"
            for url in [unknown, "\(devnet.pdsURL)/oauth/authorize?client_id=x"] {
                #expect(throws: DevnetConsentError.self, "\(url)") { try devnet.consent(at: url, as: flow.user) }
            }
            #expect(throws: DevnetConsentError.notOurs("https://other.test/")) {
                try devnet.consent(at: "https://other.test/", as: flow.user)
            }
        }
    }
}
