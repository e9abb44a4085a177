import ATProto
import Devnet
import Keys
import Testing

@Suite("OAuth from the request to the end of the session")
struct OAuthFlowTests {
    @Test("a client comes to a session, refreshes it, writes with it, and gives it back")
    func wholeWay() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let pushed = try await flow.push()
            #expect(pushed.status == 201)
            #expect(try pushed.json["expires_in"] == 300)
            #expect(try pushed.json["request_uri"]?.stringValue?.hasPrefix("urn:ietf:params:oauth:request_uri:req-") == true)

            let callback = try await flow.callback()
            #expect(Set(callback.keys) == ["code", "state", "iss"])
            #expect(callback["state"] == flow.state && callback["iss"] == devnet.pdsURL)

            let answer = try await flow.exchange(try #require(callback["code"]))
            #expect(answer.status == 200, "\(answer.text)")
            let json = try answer.json
            #expect(json["token_type"] == "DPoP" && json["scope"] == .string(flow.scope) && json["expires_in"] == 3600)
            #expect(json["sub"] == .string(flow.user.did.description))
            let first = try OAuthFlow.Tokens(answer)
            let claims = try ReadJWT(first.access).claims
            #expect(claims["aud"] == .string(devnet.pdsDID) && claims["client_id"] == .string(flow.clientID))
            #expect(claims["cnf"] == ["jkt": .string(flow.user.clientKey.publicKey.jwk.thumbprint)])
            let session = try #require(devnet.sessions().first)
            #expect(devnet.sessions().count == 1 && session.did == flow.user.did)
            #expect(session.clientID == flow.clientID && session.scope == flow.scope)

            let second = try OAuthFlow.Tokens(try await flow.refresh(first.refresh))
            #expect(second.access != first.access && second.refresh != first.refresh)
            let record: Value = ["text": "hello"]
            let input: Value = [
                "repo": .string(flow.user.did.description), "collection": "com.example.note", "rkey": "one", "record": record,
            ]
            for token in [first.access, second.access] {
                #expect(try await flow.call("com.atproto.repo.putRecord", input, token: token).status == 200)
            }
            #expect(devnet.writes().map(\.isChange) == [true, false])

            #expect(try await flow.revoke(second.refresh).status == 200)
            #expect(devnet.sessions().isEmpty)
            for token in [first.access, second.access] {
                try expectRefusal(try await flow.call("com.atproto.repo.putRecord", input, token: token), 401, "invalid_token")
            }
            try expectRefusal(try await flow.refresh(second.refresh), 400, "invalid_grant", "Invalid refresh token")
        }
    }

    @Test("the user says no, and the client hears of it, with state and issuer")
    func denied() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let callback = try await flow.callback(.deny)
            #expect(callback["error"] == "access_denied" && callback["state"] == flow.state && callback["iss"] == devnet.pdsURL)
            #expect(callback["code"] == nil && devnet.sessions().isEmpty)
        }
    }
}
