import ATProto
import Devnet
import HTTPTypes
import Keys
import Testing

@Suite("Service auth of the PDS")
struct ServiceAuthTests {
    private static let method = "zone.stratos.enrollment.status"

    private struct Session {
        let devnet: Devnet
        let user: DevnetUser
        let token: String

        init(_ devnet: Devnet, handle: String = "alice.test") async throws {
            self.devnet = devnet
            user = try devnet.createAccount(handle: handle)
            let answer = try await HTTPCall.post(
                devnet.pdsURL + "/xrpc/com.atproto.server.createSession",
                ["identifier": .string(handle), "password": .string(user.password)])
            token = try #require(try answer.json["accessJwt"]?.stringValue)
        }

        func ask(_ query: String, authorization: String? = nil) async throws -> HTTPCall.Answer {
            try await HTTPCall.get(
                "\(devnet.pdsURL)/xrpc/com.atproto.server.getServiceAuth\(query)",
                headers: [.authorization: authorization ?? "Bearer \(token)"])
        }
    }

    private func withSession(_ clock: StoppedClock, _ body: (Session) async throws -> Void) async throws {
        var configuration = DevnetConfiguration()
        configuration.clock = { clock.milliseconds }
        try await Devnet.run(configuration) { devnet in try await body(try await Session(devnet)) }
    }

    @Test("a token names the user, the service and the method, lives a minute, and verifies under the key of the DID document")
    func token() async throws {
        let clock = StoppedClock()
        try await withSession(clock) { session in
            var identifiers: Set<String> = []
            for _ in 0..<3 {
                let answer = try await session.ask("?aud=did:web:stratos.test%23stratos&lxm=\(Self.method)")
                let token = try ReadJWT(try #require(try answer.json["token"]?.stringValue))
                #expect(token.header == ["typ": "JWT", "alg": "ES256K"])
                identifiers.insert(try #require(token.claims["jti"]?.stringValue))
                var claims = try #require(token.claims.mapValue)
                claims.remove("jti")
                let expected: ValueMap = [
                    "iss": .string(session.user.did.description), "aud": "did:web:stratos.test#stratos", "lxm": .string(Self.method),
                    "iat": .integer(clock.seconds), "exp": .integer(clock.seconds + 60),
                ]
                #expect(claims == expected)
                let document = try await HTTPCall.get("\(session.devnet.plcURL)/\(session.user.did)").json
                let key = try #require(document["verificationMethod"]?.arrayValue?.first?["publicKeyMultibase"]?.stringValue)
                #expect(token.verifies(with: try PublicKey(multibase: key)))
            }
            #expect(identifiers.count == 3)
        }
    }

    @Test("with a method a token may live an hour, without one a minute, and none is born dead")
    func expirations() async throws {
        let clock = StoppedClock(milliseconds: 1_800_000_000_000)
        try await withSession(clock) { session in
            let lxm = "&lxm=\(Self.method)"
            let cases: [(String, Int64, Bool)] = [
                (lxm, 3600, true), (lxm, 3601, false), ("", 60, true), ("", 61, false), (lxm, 0, true), (lxm, -1, false), ("", -1, false),
            ]
            for (query, ahead, isGranted) in cases {
                let answer = try await session.ask("?aud=did:web:stratos.test&exp=\(clock.seconds + ahead)\(query)")
                #expect(answer.status == (isGranted ? 200 : 400), "\(query) \(ahead)")
                if isGranted {
                    let token = try ReadJWT(try #require(try answer.json["token"]?.stringValue))
                    #expect(token.claims["exp"] == .integer(clock.seconds + ahead))
                    #expect((token.claims["lxm"] == nil) == query.isEmpty)
                } else {
                    #expect(try answer.json["error"] == "BadExpiration", "\(query) \(ahead)")
                }
            }
            // Half a second later the same hour is not yet too long, and a second more still is.
            clock.milliseconds += 500
            #expect(try await session.ask("?aud=did:web:stratos.test&exp=\(clock.seconds + 3600)\(lxm)").status == 200)
            #expect(try await session.ask("?aud=did:web:stratos.test&exp=\(clock.seconds + 3601)\(lxm)").status == 400)
            #expect(try await session.ask("?aud=did:web:stratos.test&exp=0\(lxm)").json["error"] == "BadExpiration")
            #expect(try await session.ask("?aud=did:web:stratos.test&exp=9223372036854775807\(lxm)").json["error"] == "BadExpiration")
            #expect(try await session.ask("?aud=did:web:stratos.test&exp=9223372036854775808\(lxm)").json["error"] == "InvalidRequest")
        }
    }

    @Test("methods about the account itself are refused, and so is what names no service")
    func refusals() async throws {
        try await withSession(StoppedClock()) { session in
            for method in [
                "com.atproto.identity.signPlcOperation", "com.atproto.server.createAppPassword", "com.atproto.server.updateEmail",
            ] {
                let answer = try await session.ask("?aud=did:web:stratos.test&lxm=\(method)")
                #expect(answer.status == 400)
                #expect(
                    try answer.json["message"]?.stringValue
                        == "cannot request a service auth token for the following protected method: \(method)")
            }
            for query in [
                "", "?lxm=\(Self.method)", "?aud=", "?aud=stratos.test", "?aud=did:web:stratos.test%23", "?aud=did:web:stratos.test&lxm=x",
                "?aud=did:web:a.test&aud=did:web:b.test", "?aud=did:web:stratos.test&exp=soon",
            ] {
                let answer = try await session.ask(query)
                #expect(answer.status == 400, "\(query)")
                #expect(try answer.json["error"] == "InvalidRequest", "\(query)")
            }
        }
    }

    @Test("only a session's access token opens it: not none, not another's bytes, not a refresh token, and not for ever")
    func sessions() async throws {
        let clock = StoppedClock()
        try await withSession(clock) { session in
            let query = "?aud=did:web:stratos.test&lxm=\(Self.method)"
            for header in ["", "Basic abc", "Bearer ", "bearer \(session.token)"] {
                let answer = try await session.ask(query, authorization: header)
                #expect(answer.status == 401, "\(header.prefix(10))")
                #expect(try answer.json["error"] == "AuthMissing")
            }
            let refresh = try await HTTPCall.post(
                session.devnet.pdsURL + "/xrpc/com.atproto.server.createSession", ["identifier": "alice.test", "password": "password"])
            let access = try session.user.accessToken().text
            let altered = session.token.dropLast() + (session.token.hasSuffix("A") ? "E" : "A")
            for token in [try #require(try refresh.json["refreshJwt"]?.stringValue), access, String(altered), "a.b.c", "a"] {
                let answer = try await session.ask(query, authorization: "Bearer \(token)")
                #expect(answer.status == 400, "\(token.prefix(30))")
                #expect(try answer.json["error"] == "InvalidToken")
            }
            let opened = clock.seconds
            clock.milliseconds = (opened + 7199) * 1000
            #expect(try await session.ask(query).status == 200)
            clock.milliseconds = (opened + 7200) * 1000
            #expect(try await session.ask(query).json == ["error": "ExpiredToken", "message": "Token has expired"])
        }
    }

    @Test("after the repo key was replaced, new tokens verify under the new key of the document and old ones do not")
    func replacedKey() async throws {
        try await withSession(StoppedClock()) { session in
            let user = session.user
            let old = try ReadJWT(try user.serviceAuth(audience: "did:web:stratos.test", method: Self.method).text)
            let oldKey = user.repoKey.publicKey
            try session.devnet.replaceRepoKey(of: user.did, with: .generate(.p256))
            let new = try ReadJWT(try user.serviceAuth(audience: "did:web:stratos.test", method: Self.method).text)
            let document = try await HTTPCall.get("\(session.devnet.plcURL)/\(user.did)").json
            let method = try #require(document["verificationMethod"]?.arrayValue?.first?["publicKeyMultibase"]?.stringValue)
            let key = try PublicKey(multibase: method)
            #expect(key == user.repoKey.publicKey && key != oldKey)
            #expect(new.verifies(with: key) && new.header["alg"] == "ES256")
            #expect(old.verifies(with: oldKey) && !old.verifies(with: key))
        }
    }
}
