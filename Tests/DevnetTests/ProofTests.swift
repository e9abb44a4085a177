import ATProto
import Devnet
import HTTPTypes
import Keys
import Testing

@Suite("DPoP proofs before the authorization server and the PDS")
struct ProofTests {
    private struct Fault: Sendable {
        let text: String
        let edit: @Sendable (inout DevnetJWT) -> Void

        init(_ text: String, _ edit: @escaping @Sendable (inout DevnetJWT) -> Void) {
            self.text = text
            self.edit = edit
        }
    }

    /// What is wrong with a proof wherever it is shown.
    private static let faults = [
        Fault("Failed to verify") { $0.header["typ"] = "JWT" }, Fault("Failed to verify") { $0.header["jwk"] = nil },
        Fault("Failed to verify") { $0.header["alg"] = "none" }, Fault("Failed to verify") { $0.signer = .none },
        Fault("Failed to verify") { $0.signer = .key(.generate(.p256)) }, Fault("Failed to verify") { $0.claimsBytes = Array("[]".utf8) },
        Fault("Failed to verify") { jwt in
            guard case .map(var jwk)? = jwt.header["jwk"] else { return }
            jwk["d"] = "c2VjcmV0"
            jwt.header["jwk"] = .map(jwk)
        },
        Fault("\"jti\" missing") { $0.claims["jti"] = nil }, Fault("\"jti\" missing") { $0.claims["jti"] = "" },
        Fault("\"htm\" mismatch") { $0.claims["htm"] = "GET" }, Fault("\"htm\" mismatch") { $0.claims["htm"] = "post" },
        Fault("\"htu\" mismatch") { $0.claims["htu"] = "http://localhost/oauth/par" }, Fault("\"htu\" mismatch") { $0.claims["htu"] = nil },
        Fault("\"htu\" mismatch") { $0.claims["htu"] = .string(($0.claims["htu"]?.stringValue ?? "") + "/") },
        Fault("\"iat\" missing") { $0.claims["iat"] = nil }, Fault("expired") { $0.claims["exp"] = 1 },
    ]

    @Test("each thing that is wrong with a proof is refused: at the authorization server")
    func authorizationServer() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            for fault in Self.faults {
                let answer = try await flow.send(flow.pushed, to: "par", edit: fault.edit)
                try expectRefusal(answer, 401, "invalid_dpop_proof", fault.text)
                #expect(answer.headers[.wwwAuthenticate]?.contains("error=\"invalid_dpop_proof\"") == true)
            }
            let bound = try await flow.send(flow.pushed, to: "par") { $0.claims["ath"] = "hash" }
            try expectRefusal(bound, 401, "invalid_dpop_proof", "\"ath\" claim not allowed")
            for nonce in [nil, "", "unknown"] {
                let answer = try await flow.send(flow.pushed, to: "par") { $0.claims["nonce"] = nonce.map { .string($0) } }
                try expectRefusal(answer, 400, "use_dpop_nonce")
            }
            #expect(try await flow.push().status == 201)
            let bare = try await HTTPCall.post(
                devnet.pdsURL + "/oauth/token", form: [("grant_type", "refresh_token"), ("client_id", flow.clientID)])
            try expectRefusal(bare, 401, "invalid_dpop_proof", "DPoP proof required")
        }
    }

    @Test("each thing that is wrong with a proof or its token is refused: at the PDS")
    func resourceServer() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let token = try await flow.tokens().access
            let input: Value = ["repo": "alice.test", "collection": "com.example.note", "rkey": "a", "record": [:]]
            func put(_ token: String, _ edit: (inout DevnetJWT) -> Void = { _ in }) async throws -> HTTPCall.Answer {
                try await flow.call("com.atproto.repo.putRecord", input, token: token, edit: edit)
            }
            for fault in Self.faults { try expectRefusal(try await put(token, fault.edit), 401, "invalid_dpop_proof", fault.text) }
            try expectRefusal(try await put(token) { $0.claims["ath"] = nil }, 401, "invalid_dpop_proof", "\"ath\" mismatch")
            try expectRefusal(try await put(token) { $0.claims["ath"] = "other" }, 401, "invalid_dpop_proof", "\"ath\" mismatch")
            try expectRefusal(try await put(token) { $0.claims["nonce"] = "unknown" }, 401, "use_dpop_nonce")
            try expectRefusal(try await put("a.b.c"), 401, "invalid_token", "could not be verified")
            try expectRefusal(try await put(try flow.user.accessToken().text), 401, "invalid_token", "Invalid token")
            let other = PrivateKey.generate(.p256)
            let stolen = try await put(token) {
                $0.header["jwk"] = DevnetJWT.jwk(of: other.publicKey)
                $0.signer = .key(other)
            }
            try expectRefusal(stolen, 401, "invalid_token", "key binding")
            let url = devnet.pdsURL + "/xrpc/com.atproto.repo.putRecord"
            let bare = try await HTTPCall.post(url, input, headers: [.authorization: "DPoP \(token)"])
            try expectRefusal(bare, 401, "invalid_dpop_proof", "DPoP proof required")
            try expectRefusal(try await HTTPCall.post(url, input, headers: [.authorization: "Bearer \(token)"]), 400, "InvalidToken")
            try expectRefusal(try await HTTPCall.post(url, input), 401, "AuthMissing")
            #expect(devnet.writes().isEmpty)
            #expect(try await put(token).status == 200)
        }
    }

    @Test("a proof is good once, and two at a time are none")
    func replay() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let url = devnet.pdsURL + "/oauth/par"
            let nonce = try await flow.push().headers[.dpopNonce]
            let proof = try flow.user.dpopProof(method: "POST", url: url, nonce: nonce).text
            #expect(try await HTTPCall.post(url, form: flow.pushed, headers: [.dpop: proof]).status == 201)
            try expectRefusal(
                try await HTTPCall.post(url, form: flow.pushed, headers: [.dpop: proof]), 401, "invalid_dpop_proof", "replayed")
            var headers: HTTPFields = [.dpop: try flow.user.dpopProof(method: "POST", url: url, nonce: nonce).text]
            headers.append(HTTPField(name: .dpop, value: try flow.user.dpopProof(method: "POST", url: url, nonce: nonce).text))
            try expectRefusal(
                try await HTTPCall.post(url, form: flow.pushed, headers: headers), 401, "invalid_dpop_proof", "single proof")
        }
    }

    @Test("a proof may be 190 seconds old and 180 ahead, and no more")
    func age() async throws {
        let clock = StoppedClock()
        try await Devnet.run(clock) { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            for (offset, isGood) in [(Int64(-190), true), (-191, false), (180, true), (181, false)] {
                let answer = try await flow.send(flow.pushed, to: "par") { $0.claims["iat"] = .integer(clock.seconds + offset) }
                #expect(answer.status == (isGood ? 201 : 401), "\(offset): \(answer.text)")
            }
        }
    }

    @Test("a nonce is good for its minute and the two around it, and for none after a rotation")
    func nonces() async throws {
        // On the minute, so that the periods are whole.
        let clock = StoppedClock(milliseconds: 1_800_000_000_000)
        try await Devnet.run(clock) { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let url = devnet.pdsURL + "/oauth/par"
            let nonce = try #require(try await flow.push().headers[.dpopNonce])
            func push() async throws -> HTTPCall.Answer {
                let proof = try flow.user.dpopProof(method: "POST", url: url, nonce: nonce).text
                return try await HTTPCall.post(url, form: flow.pushed, headers: [.dpop: proof])
            }
            #expect(try await push().status == 201)
            clock.milliseconds += 179_999
            let late = try await push()
            #expect(late.status == 201 && late.headers[.dpopNonce] != nonce)
            clock.milliseconds += 1
            try expectRefusal(try await push(), 400, "use_dpop_nonce")
            clock.milliseconds -= 1
            #expect(try await push().status == 201)
            try devnet.rotateNonces()
            try expectRefusal(try await push(), 400, "use_dpop_nonce")
            #expect(try await flow.push().status == 201)
        }
    }

    @Test("an access token is good for the time that was asked for", arguments: [Int64(2), 3600])
    func tokenExpires(lifetime: Int64) async throws {
        let clock = StoppedClock(milliseconds: 1_800_000_000_000)
        try await Devnet.run(clock, lifetime: lifetime) { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let tokens = try await flow.tokens()
            let input: Value = ["repo": "alice.test", "collection": "com.example.note", "rkey": "a", "record": [:]]
            clock.milliseconds += lifetime * 1000 - 1
            #expect(try await flow.call("com.atproto.repo.putRecord", input, token: tokens.access).status == 200)
            clock.milliseconds += 1
            let answer = try await flow.call("com.atproto.repo.putRecord", input, token: tokens.access)
            try expectRefusal(answer, 401, "invalid_token", "Token expired")
            let next = try OAuthFlow.Tokens(try await flow.refresh(tokens.refresh))
            #expect(try await flow.call("com.atproto.repo.putRecord", input, token: next.access).status == 200)
        }
    }

    @Test("a token whose key was rotated away is good for nothing; one whose key is kept stays good")
    func rotatedKeys() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let tokens = try await flow.tokens()
            let input: Value = ["repo": "alice.test", "collection": "com.example.note", "rkey": "a", "record": [:]]
            try devnet.rotateTokenKeys()
            #expect(try await flow.call("com.atproto.repo.putRecord", input, token: tokens.access).status == 200)
            try devnet.rotateTokenKeys(keepingOld: false)
            try expectRefusal(try await flow.call("com.atproto.repo.putRecord", input, token: tokens.access), 401, "invalid_token")
            let next = try OAuthFlow.Tokens(try await flow.refresh(tokens.refresh))
            #expect(try await flow.call("com.atproto.repo.putRecord", input, token: next.access).status == 200)
        }
    }
}
