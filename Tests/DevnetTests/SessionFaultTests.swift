import ATProto
import Devnet
import Foundation
import Testing

@Suite("A PDS that fails its clients")
struct SessionFaultTests {
    private let input: Value = ["repo": "alice.test", "collection": "com.example.note", "rkey": "a", "record": ["text": "hello"]]

    @Test("a part that is down closes the connection, does nothing, and is counted; the others answer")
    func down() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let tokens = try await flow.tokens()
            let before = devnet.requests(to: .writes)
            devnet.setFault(.down, on: .writes)
            for _ in 0..<3 {
                await #expect(throws: (any Error).self) {
                    try await flow.call("com.atproto.repo.putRecord", input, token: tokens.access)
                }
            }
            #expect(devnet.requests(to: .writes) == before + 3)
            #expect(try await HTTPCall.get(devnet.pdsURL + "/xrpc/_health").status == 200)
            devnet.setFault(nil, on: .writes)
            #expect(devnet.writes().isEmpty)
            #expect(try await flow.call("com.atproto.repo.putRecord", input, token: tokens.access).status == 200)

            devnet.setFault(.down, on: DevnetPart.pds)
            for path in ["/xrpc/_health", "/oauth/jwks", "/oauth/authorize", "/.well-known/oauth-authorization-server"] {
                await #expect(throws: (any Error).self, "\(path)") { try await HTTPCall.get(devnet.pdsURL + path) }
            }
            #expect(try await HTTPCall.get("\(devnet.plcURL)/\(flow.user.did)").status == 200)
            devnet.clearFaults()
            #expect(try await HTTPCall.get(devnet.pdsURL + "/xrpc/_health").status == 200)
        }
    }

    @Test("a write whose answer is lost has been done: its repetition is counted and changes nothing")
    func afterwards() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let tokens = try await flow.tokens()
            let url = devnet.pdsURL + "/xrpc/com.atproto.repo.putRecord"
            let nonce = try await HTTPCall.post(url, input).headers[.dpopNonce]
            func put() async throws -> HTTPCall.Answer {
                let proof = try flow.user.dpopProof(method: "POST", url: url, nonce: nonce, accessToken: tokens.access).text
                return try await HTTPCall.post(url, input, headers: [.authorization: "DPoP \(tokens.access)", .dpop: proof])
            }
            devnet.setFault(.afterwards, on: .writes, count: 2)
            for count in 1...2 {
                await #expect(throws: (any Error).self) { try await put() }
                #expect(devnet.writes().count == count)
            }
            #expect(try await put().status == 200)
            #expect(devnet.writes().map(\.action) == [.create, .update, .update])
            #expect(devnet.writes().map(\.isChange) == [true, false, false])
        }
    }

    @Test("a refresh whose answer is lost has spent the token: shown again it ends the session")
    func lostRefresh() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let tokens = try await flow.tokens()
            let url = devnet.pdsURL + "/oauth/token"
            let nonce = try await HTTPCall.post(url, form: []).headers[.dpopNonce]
            devnet.setFault(.afterwards, on: .token, count: 1)
            let proof = try flow.user.dpopProof(method: "POST", url: url, nonce: nonce).text
            let form = [("grant_type", "refresh_token"), ("client_id", flow.clientID), ("refresh_token", tokens.refresh)]
            await #expect(throws: (any Error).self) { try await HTTPCall.post(url, form: form, headers: [.dpop: proof]) }
            #expect(devnet.sessions().count == 1)
            try expectRefusal(try await flow.refresh(tokens.refresh), 400, "invalid_grant", "replayed")
            #expect(devnet.sessions().isEmpty)
        }
    }

    @Test("a server that forgets ends every session, a user who revokes his own", arguments: [true, false])
    func forgets(isAll: Bool) async throws {
        try await Devnet.run { devnet in
            let alice = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let bob = OAuthFlow(devnet, try devnet.createAccount(handle: "bob.test"))
            let (first, second) = (try await alice.tokens(), try await bob.tokens())
            if isAll { try devnet.forgetSessions() } else { try devnet.revokeSessions(of: alice.user.did) }
            #expect(devnet.sessions().map(\.did) == (isAll ? [] : [bob.user.did]))
            #expect(devnet.sessions(of: alice.user.did).isEmpty)
            try expectRefusal(try await alice.call("com.atproto.repo.putRecord", input, token: first.access), 401, "invalid_token")
            try expectRefusal(try await alice.refresh(first.refresh), 400, "invalid_grant", "Invalid refresh token")
            let answer = try await bob.refresh(second.refresh)
            if isAll { try expectRefusal(answer, 400, "invalid_grant") } else { #expect(answer.status == 200) }
        }
    }

    @Test("another process sets these faults and reads the counts over HTTP")
    func overHTTP() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            _ = try await flow.tokens()
            let base = devnet.pdsURL + "/devnet"
            let sessions = try await HTTPCall.get(base + "/sessions").json["sessions"]?.arrayValue
            #expect(sessions?.first?["client_id"] == .string(flow.clientID) && sessions?.count == 1)
            #expect(try await HTTPCall.post(base + "/sessions/end", ["account": "carol.test"]).status == 400)
            #expect(try await HTTPCall.post(base + "/sessions/end", ["account": "alice.test"]).status == 200)
            #expect(devnet.sessions().isEmpty)
            _ = try await OAuthFlow(devnet, flow.user).tokens()
            #expect(try await HTTPCall.post(base + "/sessions/end", [:]).status == 200)
            #expect(devnet.sessions().isEmpty)
            #expect(try await HTTPCall.post(base + "/rotate-nonces", [:]).status == 200)

            let counts = try await HTTPCall.get(base + "/requests").json
            #expect(counts["par"] == 4 && counts["token"] == 4 && counts["writes"] == 0)
            #expect(try await HTTPCall.post(base + "/fault", ["part": "pds", "name": "down"]).status == 200)
            await #expect(throws: (any Error).self) { try await HTTPCall.get(devnet.pdsURL + "/oauth/jwks") }
            #expect(try await HTTPCall.post(base + "/fault", ["part": "pds"]).status == 200)
            #expect(try await HTTPCall.post(base + "/fault", ["part": "jwks", "name": "afterwards", "count": 1]).status == 200)
            await #expect(throws: (any Error).self) { try await HTTPCall.get(devnet.pdsURL + "/oauth/jwks") }
            #expect(try await HTTPCall.get(devnet.pdsURL + "/oauth/jwks").status == 200)
        }
    }

    @Test("with a data file, sessions, spent tokens and the journal outlive a restart")
    func restart() async throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "devnet-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        var configuration = DevnetConfiguration()
        configuration.dataFile = path
        let (key, first, second, writes) = try await Devnet.run(configuration) { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let first = try await flow.tokens()
            let second = try OAuthFlow.Tokens(try await flow.refresh(first.refresh))
            #expect(try await flow.call("com.atproto.repo.putRecord", input, token: second.access).status == 200)
            return (flow.user.clientKey, first, second, devnet.writes())
        }
        try await Devnet.run(configuration) { devnet in
            let handle = try Handle("alice.test")
            var flow = OAuthFlow(devnet, try #require(devnet.user(handle)))
            flow.user.clientKey = key
            #expect(devnet.writes() == writes && devnet.sessions().count == 1)
            #expect(try await flow.call("com.atproto.repo.putRecord", input, token: second.access).status == 200)
            try expectRefusal(try await flow.refresh(first.refresh), 400, "invalid_grant", "replayed")
        }
        try await Devnet.run(configuration) { devnet in
            #expect(devnet.sessions().isEmpty, "a refusal that ends a session is kept too")
            #expect(devnet.writes().map(\.isChange) == [true, false])
        }
    }
}
