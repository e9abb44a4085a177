import ATProto
import Devnet
import Hummingbird
import HummingbirdTesting
import Keys
import NIOCore
import Synchronization
import Testing

@Suite("Clients and their metadata documents")
struct ClientMetadataTests {
    /// A client's own server on loopback: one document, which can be changed.
    private final class ClientServer: Sendable {
        let document = Mutex<(value: Value, status: HTTPResponse.Status, type: String)>(([:], .ok, "application/json"))
        let key = PrivateKey.generate(.p256)

        /// Gives a flow whose client is described here: a confidential one with `key`.
        static func run(
            clock: StoppedClock = StoppedClock(), _ body: @escaping @Sendable (OAuthFlow, ClientServer) async throws -> Void
        ) async throws {
            let server = ClientServer()
            let router = Router()
            router.get("/client.json") { _, _ in
                let (value, status, type) = server.document.withLock { $0 }
                return Response(
                    status: status, headers: [.contentType: type], body: .init(byteBuffer: ByteBuffer(bytes: DataModelJSON.encode(value))))
            }
            router.get("/moved.json") { _, _ in Response(status: .found, headers: [.location: "/client.json"]) }
            try await Application(router: router).test(.live) { client in
                try await Devnet.run(clock) { devnet in
                    var flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
                    flow.clientID = "http://localhost:\(try #require(client.port))/client.json"
                    flow.redirect = "http://localhost:\(try #require(client.port))/oauth/callback"
                    flow.assertionKey = server.key
                    flow.clock = clock
                    server.set(server.metadata(of: flow))
                    try await body(flow, server)
                }
            }
        }

        func set(_ value: ValueMap) { document.withLock { $0.value = .map(value) } }

        func metadata(of flow: OAuthFlow) -> ValueMap {
            let jwk = key.publicKey.jwk
            let public_: Value = [
                "kty": .string(jwk.kty), "crv": .string(jwk.crv), "x": .string(jwk.x), "y": .string(jwk.y), "kid": "key-1", "alg": "ES256",
                "use": "sig",
            ]
            return [
                "client_id": .string(flow.clientID), "client_name": "A client", "redirect_uris": [.string(flow.redirect)],
                "scope": .string(flow.scope), "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
                "dpop_bound_access_tokens": true, "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_signing_alg": "ES256", "jwks": ["keys": [public_]],
            ]
        }
    }

    private static let refusals: [(String, Value?, String)] = [
        ("client_id", "http://localhost/other.json", "client_id does not match"), ("client_id", nil, "client_id does not match"),
        ("scope", nil, "Missing scope"), ("scope", "repo:com.example.note", "\"atproto\" scope"),
        ("scope", "atproto atproto", "Duplicate scope"), ("scope", "atproto openid", "Unsupported scope"),
        ("scope", "atproto repo:", "Unsupported scope"), ("scope", "atproto repo:com.example.note?action=read", "Unsupported scope"),
        ("redirect_uris", nil, "redirect_uri"), ("redirect_uris", [], "redirect_uri"),
        ("redirect_uris", ["http://client.test/callback"], "Invalid redirect_uri"),
        ("redirect_uris", ["https://client.test/#x"], "Invalid redirect_uri"), ("grant_types", ["implicit"], "not supported"),
        ("grant_types", ["refresh_token"], "grant_types"), ("response_types", ["token"], "response type"),
        ("dpop_bound_access_tokens", nil, "must be true"), ("dpop_bound_access_tokens", false, "must be true"),
        ("token_endpoint_auth_method", nil, "Missing token_endpoint_auth_method"),
        ("token_endpoint_auth_method", "client_secret_basic", "not a supported"),
        ("token_endpoint_auth_method", "none", "must not have token_endpoint_auth_signing_alg"),
        ("token_endpoint_auth_signing_alg", nil, "ES256"), ("token_endpoint_auth_signing_alg", "none", "ES256"),
        ("jwks", nil, "at least one key"), ("jwks", ["keys": []], "at least one key"),
        ("jwks", ["keys": [["kty": "oct", "k": "c2VjcmV0", "kid": "key-1"]]], "public EC keys"),
    ]

    @Test("each member of the document that is wrong is refused by its name")
    func document() async throws {
        try await ClientServer.run { flow, server in
            #expect(try await flow.push().status == 201)
            let sound = server.metadata(of: flow)
            for (name, value, text) in Self.refusals {
                var changed = sound
                changed[name] = value
                server.set(changed)
                let answer = try await flow.push()
                let json = try answer.json
                #expect(
                    answer.status == 400 && json["error"] == "invalid_client_metadata"
                        && (json["error_description"]?.stringValue?.contains(text) ?? false),
                    "\(name) \(String(describing: value)): \(answer.text)")
            }
            server.set(sound)
            for (status, type) in [(HTTPResponse.Status.notFound, "application/json"), (.ok, "text/html"), (.found, "application/json")] {
                server.document.withLock { ($0.status, $0.type) = (status, type) }
                try expectRefusal(try await flow.push(), 400, "invalid_client_metadata", "Failed to fetch")
            }
            for path in ["moved.json", "nothing.json"] {
                let answer = try await flow.push(["client_id": flow.clientID.replacing("client.json", with: path)])
                try expectRefusal(answer, 400, "invalid_client_metadata", "Failed to fetch")
            }
            let closed = try await flow.push(["client_id": "http://127.0.0.1:1/client.json"])
            try expectRefusal(closed, 400, "invalid_client_metadata", "Failed to fetch")
        }
    }

    @Test("the redirect must be one of the document, to the last character, its port too")
    func redirect() async throws {
        try await ClientServer.run { flow, server in
            var metadata = server.metadata(of: flow)
            metadata["redirect_uris"] = [.string(flow.redirect), "https://client.test/callback"]
            server.set(metadata)
            for redirect in [flow.redirect, "https://client.test/callback"] {
                #expect(try await flow.push(["redirect_uri": redirect]).status == 201, "\(redirect)")
            }
            for redirect in [
                "http://localhost:1/oauth/callback", flow.redirect + "/", flow.redirect + "?next=x", "https://client.test:444/callback",
                "https://CLIENT.test/callback",
            ] {
                try expectRefusal(try await flow.push(["redirect_uri": redirect]), 400, "invalid_request", "Invalid redirect_uri")
            }
        }
    }

    private struct Fault: Sendable {
        let text: String
        let name: String
        let edit: @Sendable (inout DevnetJWT) -> Void

        init(_ text: String, name: String = "invalid_client", _ edit: @escaping @Sendable (inout DevnetJWT) -> Void) {
            self.text = text
            self.name = name
            self.edit = edit
        }
    }

    @Test("a confidential client shows an assertion that is right in everything, each time another")
    func assertions() async throws {
        let clock = StoppedClock()
        let now = clock.seconds
        let faults = [
            Fault("alg") { $0.header["alg"] = "none" }, Fault("\"kid\" required") { $0.header["kid"] = nil },
            Fault("signature") { $0.header["kid"] = "key-2" }, Fault("signature") { $0.signer = .key(.generate(.p256)) },
            Fault("\"iss\"") { $0.claims["iss"] = "http://localhost" }, Fault("\"sub\"") { $0.claims["sub"] = "did:plc:alice" },
            Fault("\"aud\"") { $0.claims["aud"] = "https://other.test" }, Fault("\"aud\"") { $0.claims["aud"] = nil },
            Fault("\"aud\"") { $0.claims["aud"] = .string(($0.claims["aud"]?.stringValue ?? "") + "/oauth/token") },
            Fault("\"jti\"") { $0.claims["jti"] = nil }, Fault("\"iat\"") { $0.claims["iat"] = nil },
            Fault("\"iat\"") { $0.claims["iat"] = .integer(now + 1) }, Fault("\"iat\"") { $0.claims["iat"] = .integer(now - 61) },
            Fault("\"exp\"") { $0.claims["exp"] = .integer(now) }, Fault("malformed") { $0.claimsBytes = Array("1".utf8) },
        ]
        try await ClientServer.run(clock: clock) { flow, server in
            var bare = flow
            bare.assertionKey = nil
            try expectRefusal(try await bare.push(), 400, "invalid_request", "required a \"client_assertion\"")
            for fault in faults {
                let answer = try await bare.send(flow.pushed + (try flow.assertion(fault.edit)), to: "par")
                try expectRefusal(answer, 400, fault.name, fault.text)
            }
            for edit in [
                { $0.claims["iat"] = .integer(now - 60) }, { $0.claims["exp"] = nil },
                { $0.claims["aud"] = [.string(flow.devnet.pdsURL)] },
            ] as [(inout DevnetJWT) -> Void] {
                #expect(try await once(flow.pushed + (try flow.assertion(edit)), bare).status == 201)
            }
            let assertion = try flow.assertion()
            #expect(try await once(flow.pushed + assertion, bare).status == 201)
            try expectRefusal(try await once(flow.pushed + assertion, bare), 400, "invalid_grant", "jti reused")
            let type = try flow.assertion().map { ($0.0, $0.0 == "client_assertion_type" ? "password" : $0.1) }
            try expectRefusal(try await bare.send(flow.pushed + type, to: "par"), 400, "invalid_client", "client_assertion_type")
            var same = flow
            same.user.clientKey = server.key
            try expectRefusal(try await same.push(), 400, "invalid_request", "different key")
        }
    }

    /// One request only, for an assertion is good once: the nonce is fetched beside it.
    private func once(_ form: [(String, String)], _ flow: OAuthFlow) async throws -> HTTPCall.Answer {
        let url = flow.devnet.pdsURL + "/oauth/par"
        let nonce = try await HTTPCall.post(url, form: []).headers[.dpopNonce]
        let proof = try flow.user.dpopProof(method: "POST", url: url, nonce: nonce).text
        return try await HTTPCall.post(url, form: form, headers: [.dpop: proof])
    }

    @Test("a session asks for what its client proved at the beginning: no key and no other key will do later")
    func swapped() async throws {
        for isPublic in [true, false] {
            try await ClientServer.run { flow, server in
                let tokens = try await flow.tokens()
                let next = try OAuthFlow.Tokens(try await flow.refresh(tokens.refresh))
                var changed = flow
                var metadata = server.metadata(of: flow)
                if isPublic {
                    changed.assertionKey = nil
                    metadata["token_endpoint_auth_method"] = "none"
                    metadata["token_endpoint_auth_signing_alg"] = nil
                } else {
                    let key = PrivateKey.generate(.p256)
                    changed.assertionKey = key
                    guard case .map(var jwk) = DevnetJWT.jwk(of: key.publicKey) else { return }
                    jwk["kid"] = "key-1"
                    metadata["jwks"] = ["keys": [.map(jwk)]]
                }
                server.set(metadata)
                try expectRefusal(try await changed.revoke(next.refresh), 400, "invalid_grant", "not issued to this client")
                try expectRefusal(try await changed.refresh(next.refresh), 400, "invalid_grant", "authentication mismatch")
                #expect(flow.devnet.sessions().isEmpty)
            }
        }
    }

    @Test("a client may only use the grants of its document")
    func grants() async throws {
        try await ClientServer.run { flow, server in
            var metadata = server.metadata(of: flow)
            metadata["grant_types"] = nil
            server.set(metadata)
            let tokens = try await flow.tokens()
            try expectRefusal(try await flow.refresh(tokens.refresh), 400, "invalid_grant", "not allowed for this client")
        }
    }

    @Test("a confidential client may ask for no page, and is told that there must be one")
    func silent() async throws {
        try await ClientServer.run { flow, _ in
            let answer = try await flow.push(["prompt": "none"])
            let url = try flow.devnet.consent(at: try flow.authorizationURL(answer), as: flow.user)
            #expect(url.hasPrefix(flow.redirect) && url.contains("error=login_required"))
        }
    }
}
