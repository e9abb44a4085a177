import ATProto
import Commands
import HTTPTypes
import Simulation
import Testing

/// I12: what a caller may not read looks like what is not there, to the last header.
@Suite("HTTP: denied looks like absent")
struct DeniedReadsTests {
    /// Who asks, for what; both of a pair are asked by the same caller.
    private struct Pair {
        let method: String
        let denied: [(String, String)]
        let absent: [(String, String)]
    }

    private static let nobody = "did:plc:nobodynobodynobodynobody"

    private func pairs(cid: String) -> [Pair] {
        let here = [("collection", Service.post), ("rkey", "3lq2222222223")]
        let missing = [("collection", Service.post), ("rkey", "3lq2222222224")]
        let alice = ("repo", Service.alice), stranger = ("repo", Self.nobody)
        let proof = ("did", Service.alice), noProof = ("did", Self.nobody)
        return [
            Pair(method: "com.atproto.repo.getRecord", denied: [alice] + here, absent: [alice] + missing),
            Pair(method: "com.atproto.repo.getRecord", denied: [alice] + here, absent: [stranger] + here),
            Pair(method: "com.atproto.repo.getRecord", denied: [alice, ("cid", cid)] + here, absent: [alice, ("cid", cid)] + missing),
            Pair(
                method: "com.atproto.repo.listRecords", denied: [alice, ("collection", Service.thing)],
                absent: [alice, ("collection", "zone.stratos.test.none")]),
            Pair(
                method: "com.atproto.repo.listRecords", denied: [alice, ("collection", Service.thing)],
                absent: [stranger, ("collection", Service.thing)]),
            Pair(
                method: "com.atproto.repo.listRecords",
                denied: [alice, ("collection", Service.post), ("limit", "1"), ("cursor", "3lq2222222224")],
                absent: [alice, ("collection", Service.post), ("limit", "1"), ("cursor", "3lq2222222222")]),
            Pair(method: "com.atproto.repo.describeRepo", denied: [alice], absent: [stranger]),
            Pair(method: "com.atproto.sync.getRecord", denied: [proof] + here, absent: [proof] + missing),
            Pair(method: "com.atproto.sync.getRecord", denied: [proof] + here, absent: [noProof] + here),
            Pair(method: "com.atproto.sync.getRepo", denied: [proof], absent: [noProof]),
            Pair(method: "zone.stratos.sync.getRepo", denied: [proof], absent: [noProof]),
            Pair(
                method: "zone.stratos.sync.getRepo", denied: [proof, ("since", "3lq2222222222")],
                absent: [noProof, ("since", "3lq2222222222")]),
            Pair(method: "com.atproto.sync.getLatestCommit", denied: [proof], absent: [noProof]),
        ]
    }

    @Test("every read route answers both with the same status, headers and body, to every caller and with both verbs (I12)")
    func same() async throws {
        let service = try await Service()
        let written = try await service.write(Service.postRecord("secret", in: "writers"), at: "3lq2222222223")
        try await service.write(["size": 1], at: "mine", collection: Service.thing)
        for pair in pairs(cid: try #require(written["cid"]?.stringValue)) {
            for caller in [Service.bob, Service.mallory, nil] as [String?] {
                for verb in [HTTPRequest.Method.get, .head] {
                    let denied = try await service.ask(verb, Service.target(pair.method, pair.denied), as: caller)
                    let absent = try await service.ask(verb, Service.target(pair.method, pair.absent), as: caller)
                    #expect(denied.comparable == absent.comparable, "\(verb) \(pair.method) \(pair.denied) as \(caller ?? "nobody")")
                    #expect(!denied.text.contains("secret"))
                }
            }
        }
    }

    @Test("a proof is for whoever may read every key that it names (I12)")
    func proofs() async throws {
        let service = try await Service()
        try await service.write(Service.postRecord("open", in: "general"), at: "3lq2222222222")
        let parameters = [("did", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")]
        #expect(try await service.get("com.atproto.sync.getRecord", parameters, as: Service.bob).status == 200)
        try await service.write(Service.postRecord("secret", in: "writers"), at: "3lq2222222223")
        let hidden = try await service.get("com.atproto.sync.getRecord", parameters, as: Service.bob)
        let absent = try await service.get(
            "com.atproto.sync.getRecord", [("did", Service.alice), ("collection", Service.post), ("rkey", "3lq222222222z")], as: Service.bob
        )
        #expect(hidden.comparable == absent.comparable)
        #expect(try await service.get("com.atproto.sync.getRecord", parameters, as: Service.alice).status == 200)
    }
}
