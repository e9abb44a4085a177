import ATProto
import Devnet
import Foundation
import Simulation
import Testing

@testable import Server

/// The real service's streams, opened by tokens of the owner's own server.
@Suite("Streams: opened by a proof of possession")
struct StreamProofTests {
    @Test("an owner's token opens the owner's stream with a proof made for it, once, and with no other", .timeLimit(.minutes(1)))
    func proofs() async throws {
        guard let program = try ProgramUnderTest("a stream opened by DPoP") else { return }
        try await Devnet.run { devnet in
            let owner = try devnet.createAccount(handle: "alice.test")
            let other = try devnet.createAccount(handle: "bob.test")
            program.served.environment["STRATOS_PLC_URL"] = devnet.plcURL
            for user in [owner, other] { try await program.served.succeed("enroll", user.did.description) }
            try await program.served.start()
            let target = "/xrpc/\(StreamServer.method)?did=\(owner.did)"
            let url = "http://localhost:\(program.served.port)\(target)"
            let port = program.served.port
            let nonce = try #require(try HTTPConnection(port: port).ask("GET", "/health")["dpop-nonce"])

            let tokens = [owner.did: try owner.accessToken().text, other.did: try other.accessToken().text]
            func open(_ user: DevnetUser, _ proof: DevnetJWT?, _ target: String = target) throws -> WebSocketClient {
                let headers = [("Authorization", "DPoP \(tokens[user.did]!)")] + (try proof.map { [("DPoP", try $0.text)] } ?? [])
                return try WebSocketClient(port: port, target, headers: headers)
            }
            func refusal(_ stream: WebSocketClient) throws -> [String?] { try stream.end().messages.map(\.error) }
            func proof(_ user: DevnetUser, _ method: String = "GET", url: String = url, nonce: String?) throws -> DevnetJWT {
                try user.dpopProof(method: method, url: url, nonce: nonce, accessToken: tokens[user.did]!)
            }

            let good = try proof(owner, nonce: nonce)
            let stream = try open(owner, good)
            let input: Value = [
                "repo": .string(owner.did.description), "collection": .string(Service.post),
                "record": Service.postRecord("told to its owner", in: "general"),
            ]
            let answer = try await program.ask("POST", "/xrpc/com.atproto.repo.createRecord", as: owner.did.description, body: input)
            #expect(answer.status == 200, "\(answer.text)")
            #expect(try stream.messages(1).map(\.type) == ["#commit"])
            stream.close()

            #expect(try refusal(try open(owner, good)) == ["AuthenticationRequired"], "the same proof again")
            let changed: [(String, DevnetUser, DevnetJWT?)] = [
                ("none", owner, nil), ("without a nonce", owner, try proof(owner, nonce: nil)),
                ("for POST", owner, try proof(owner, "POST", nonce: nonce)),
                ("for another method", owner, try proof(owner, url: url.replacing("subscribeRecords", with: "getRepo"), nonce: nonce)),
                (
                    "of another key", owner,
                    try other.dpopProof(method: "GET", url: url, nonce: nonce, accessToken: tokens[owner.did]!)
                ),
                ("somebody else's", other, try proof(other, nonce: nonce)),
            ]
            for (name, user, proof) in changed {
                #expect(try refusal(try open(user, proof)) == ["AuthenticationRequired"], "\(name)")
            }
            #expect(try refusal(try open(owner, proof(owner, nonce: nonce), "/xrpc/\(StreamServer.method)")) == ["AuthenticationRequired"])
            try await program.served.stop()
        }
    }
}
