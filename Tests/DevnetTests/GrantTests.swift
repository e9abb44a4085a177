import ATProto
import Devnet
import Keys
import Testing

@Suite("Codes and refresh tokens")
struct GrantTests {
    @Test("a code is good for its client, redirect, verifier and key, and gone after the first attempt")
    func code() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let refusals: [([String: String?], String)] = [
                (["code_verifier": nil], "code_verifier is required"), (["code_verifier": "short"], "too short"),
                (["code_verifier": String(repeating: "w", count: 43)], "Invalid code_verifier"), (["redirect_uri": nil], "redirect_uri"),
                (["redirect_uri": "http://127.0.0.1:1/callback"], "redirect_uri"),
                (["client_id": "http://localhost"], "not issued to this client"),
            ]
            for (change, text) in refusals {
                let code = try #require(try await flow.callback()["code"])
                try expectRefusal(try await flow.exchange(code, change), 400, "invalid_grant", text)
                try expectRefusal(try await flow.exchange(code), 400, "invalid_grant", "Invalid code")
            }
            var thief = flow
            thief.user.clientKey = .generate(.p256)
            let code = try #require(try await flow.callback()["code"])
            try expectRefusal(try await thief.exchange(code), 401, "invalid_token", "key binding")
            try expectRefusal(try await flow.exchange("cod-0"), 400, "invalid_grant", "Invalid code")
            try expectRefusal(try await flow.exchange(code, ["grant_type": "password"]), 400, "invalid_grant", "not supported")
            try expectRefusal(try await flow.exchange(code, ["code": nil]), 400, "invalid_request", "code is missing")
            #expect(devnet.sessions().isEmpty)
        }
    }

    @Test("a code that is shown twice ends the session that it made")
    func codeReplayed() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let code = try #require(try await flow.callback()["code"])
            let tokens = try OAuthFlow.Tokens(try await flow.exchange(code))
            #expect(devnet.sessions().count == 1)
            try expectRefusal(try await flow.exchange(code), 400, "invalid_grant", "Invalid code")
            #expect(devnet.sessions().isEmpty)
            try expectRefusal(try await flow.refresh(tokens.refresh), 400, "invalid_grant")
        }
    }

    @Test("one PKCE challenge serves one session")
    func challengeReused() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            _ = try await flow.tokens()
            let code = try #require(try await flow.callback()["code"])
            try expectRefusal(try await flow.exchange(code), 400, "invalid_grant", "Code challenge already used")
        }
    }

    @Test("a code waits five minutes")
    func codeExpires() async throws {
        let clock = StoppedClock()
        try await Devnet.run(clock) { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            for (wait, isGood) in [(Int64(299_999), true), (300_000, false)] {
                let flow = OAuthFlow(devnet, user)
                let code = try #require(try await flow.callback()["code"])
                clock.milliseconds += wait
                let answer = try await flow.exchange(code)
                if isGood { #expect(answer.status == 200) } else { try expectRefusal(answer, 400, "invalid_grant", "expired") }
            }
        }
    }

    @Test("a refresh token is good once; shown again, by whomever, it ends the session and what was made of it")
    func refreshReplayed() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let first = try await flow.tokens()
            let second = try OAuthFlow.Tokens(try await flow.refresh(first.refresh))
            let third = try OAuthFlow.Tokens(try await flow.refresh(second.refresh))
            try expectRefusal(try await flow.refresh(first.refresh), 400, "invalid_grant", "replayed")
            #expect(devnet.sessions().isEmpty)
            try expectRefusal(try await flow.refresh(third.refresh), 400, "invalid_grant", "Invalid refresh token")
        }
    }

    @Test("of refreshes that race with one token one gives a new one, and every other is invalid_grant")
    func refreshRace() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let token = try await flow.tokens().refresh
            let answers = try await withThrowingTaskGroup(of: HTTPCall.Answer.self) { group in
                for _ in 0..<4 { group.addTask { try await flow.refresh(token) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(answers.count { $0.status == 200 } == 1)
            for answer in answers where answer.status != 200 { try expectRefusal(answer, 400, "invalid_grant") }
            #expect(devnet.sessions().isEmpty)
        }
    }

    @Test("a refresh with another key, or by another client, is refused and ends the session", arguments: ["key", "client"])
    func stolen(what: String) async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let tokens = try await flow.tokens()
            var thief = flow
            if what == "key" { thief.user.clientKey = .generate(.p256) } else { thief.clientID = "http://localhost" }
            let answer = try await thief.refresh(tokens.refresh)
            if what == "key" {
                try expectRefusal(answer, 401, "invalid_token", "key binding")
            } else {
                try expectRefusal(answer, 400, "invalid_grant", "not issued to this client")
            }
            try expectRefusal(try await flow.refresh(tokens.refresh), 400, "invalid_grant", "Invalid refresh token")
        }
    }

    @Test("a public client's refresh token waits two days, and its session ends after seven")
    func lifetimes() async throws {
        let clock = StoppedClock()
        let day: Int64 = 86_400_000
        try await Devnet.run(clock) { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            let idle = OAuthFlow(devnet, user)
            let late = try await idle.tokens().refresh
            clock.milliseconds += 2 * day
            try expectRefusal(try await idle.refresh(late), 400, "invalid_grant", "Refresh token expired")

            let busy = OAuthFlow(devnet, user)
            var token = try await busy.tokens().refresh
            for wait in [2 * day - 1, 2 * day - 1, 2 * day - 1, day + 2] {
                clock.milliseconds += wait
                token = try OAuthFlow.Tokens(try await busy.refresh(token)).refresh
            }
            clock.milliseconds += 1
            try expectRefusal(try await busy.refresh(token), 400, "invalid_grant", "Session expired")
        }
    }

    @Test("revocation takes either token, knows its client and key, and says nothing of unknown ones")
    func revocation() async throws {
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            for isAccess in [true, false] {
                let flow = OAuthFlow(devnet, user)
                let tokens = try await flow.tokens()
                let token = isAccess ? tokens.access : tokens.refresh
                var thief = flow
                thief.user.clientKey = .generate(.p256)
                try expectRefusal(try await thief.revoke(token), 401, "invalid_token", "key binding")
                var other = flow
                other.clientID = "http://localhost"
                try expectRefusal(try await other.revoke(token), 400, "invalid_grant", "not issued to this client")
                #expect(devnet.sessions().count == 1)
                #expect(try await flow.revoke(token).status == 200)
                #expect(devnet.sessions().isEmpty)
                #expect(try await flow.revoke(token).status == 200)
            }
        }
    }

    @Test("a symmetric PDS gives sessions too")
    func symmetric() async throws {
        var configuration = DevnetConfiguration()
        configuration.tokens = .hs256
        try await Devnet.run(configuration) { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let token = try await flow.tokens().access
            #expect(try ReadJWT(token).header["alg"] == "HS256")
            let input: Value = ["repo": "alice.test", "collection": "com.example.note", "rkey": "a", "record": [:]]
            #expect(try await flow.call("com.atproto.repo.putRecord", input, token: token).status == 200)
        }
    }
}
