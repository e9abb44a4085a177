import ATProto
import Commands
import HTTPTypes
import Simulation
import Testing

@Suite("HTTP: sync.getRecord, getRepo, getLatestCommit")
struct SyncMethodsTests {
    private func written(_ count: Int) async throws -> Service {
        let service = try await Service()
        for number in 0..<count { try await service.write(Service.postRecord("\(number)", in: "general")) }
        return service
    }

    private func latest(_ service: Service) async throws -> (cid: String, rev: String) {
        let answer = try await service.get("com.atproto.sync.getLatestCommit", [("did", Service.alice)], as: Service.alice)
        return (try #require(answer["cid"]?.stringValue), try #require(answer["rev"]?.stringValue))
    }

    @Test("getLatestCommit is the commit of the last write")
    func latestCommit() async throws {
        let service = try await written(2)
        let answer = try await service.write(Service.postRecord("last", in: "general"))
        let latest = try await latest(service)
        #expect(answer["commit"]?["cid"]?.stringValue == latest.cid)
        #expect(answer["commit"]?["rev"]?.stringValue == latest.rev)
    }

    @Test("exports beyond the memory for them are asked to come again; who may not have a repo learns nothing of that (I12)")
    func exportRoom() async throws {
        let service = try await written(3)
        let repo = [("did", Service.alice)]
        let absent = try await service.get("zone.stratos.sync.getRepo", [("did", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")], as: Service.mallory)
        var place = service.exports.place(bytes: 256 << 20)
        #expect(place != nil)
        let refused = try await service.get("zone.stratos.sync.getRepo", repo, as: Service.alice)
        #expect(refused.status == 429 && refused["error"]?.stringValue == "RateLimitExceeded")
        #expect(refused[header: .retryAfter] == "5")
        let denied = try await service.get("zone.stratos.sync.getRepo", repo, as: Service.mallory)
        #expect(denied.status == absent.status && denied["error"] == absent["error"])
        place = nil
        for _ in 0..<3 { #expect(try await service.get("zone.stratos.sync.getRepo", repo, as: Service.alice).status == 200) }
        // All of it was given back, and one is let in whatever its size.
        place = service.exports.place(bytes: 1 << 40)
        #expect(place != nil && service.exports.place(bytes: 1) == nil)
        withExtendedLifetime(place) {}
    }

    @Test(
        "an export begins with the commit, then goes through the tree in pre-order, and verifies under the actor's key",
        arguments: [
            "zone.stratos.sync.getRepo", "com.atproto.sync.getRepo",
        ])
    func export(method: String) async throws {
        let service = try await written(40)
        let answer = try await service.get(method, [("did", Service.alice)], as: Service.alice)
        #expect(answer.status == 200)
        #expect(answer[header: .contentType] == "application/vnd.ipld.car")
        let latest = try await latest(service)
        #expect(answer[header: HTTPField.Name("Atproto-Repo-Rev")!] == latest.rev)
        let (roots, blocks) = try CARReader.read(answer.body)
        #expect(roots.map(\.description) == [latest.cid])
        #expect(blocks.first?.cid.description == latest.cid)
        #expect(Set(blocks.map(\.cid)).count == blocks.count, "no block comes twice")
        let key = try #require(try await service.engine.enrollment(of: DID(Service.alice))).signingKey
        let report = try RepoVerifier.verify(answer.body, key: key)
        #expect(report.did.description == Service.alice)
        // Pre-order: whatever a node names comes after it.
        let table = Dictionary(uniqueKeysWithValues: blocks.map { ($0.cid, $0.bytes) })
        var expected = [try #require(roots.first)]
        let commit = try Commit(block: blocks[0].bytes)
        var walk = MST(root: commit.data) { (cid) throws(MSTError) in table[cid] }.nodes()
        while let item = try walk.next() {
            switch item {
            case .node(let cid, _): expected.append(cid)
            case .record(_, let cid): expected.append(cid)
            }
        }
        #expect(blocks.map(\.cid) == expected)
    }

    @Test("`since` leaves out the records that stood at that rev, and brings the commit always")
    func since() async throws {
        let service = try await written(10)
        let rev = try await latest(service).rev
        for number in 0..<3 { try await service.write(Service.postRecord("new \(number)", in: "general")) }
        func texts(_ since: String?) async throws -> [String] {
            let answer = try await service.get(
                "zone.stratos.sync.getRepo", [("did", Service.alice)] + (since.map { [("since", $0)] } ?? []), as: Service.alice)
            let (roots, blocks) = try CARReader.read(answer.body)
            #expect(blocks.first?.cid == roots.first)
            return try blocks.compactMap { try DAGCBOR.decode($0.bytes)["text"]?.stringValue }.sorted()
        }
        #expect(try await texts(rev) == ["new 0", "new 1", "new 2"])
        #expect(try await texts(nil).count == 13)
        #expect(try await texts(latest(service).rev) == [])
        for bad in ["", "yesterday", rev.dropLast().description] {
            let answer = try await service.get("zone.stratos.sync.getRepo", [("did", Service.alice), ("since", bad)], as: Service.alice)
            expect(answer, 400, "InvalidRequest")
        }
    }

    @Test("a proof holds the commit, the tree's path and the record; to its owner also that there is none")
    func proof() async throws {
        let service = try await written(40)
        try await service.write(Service.postRecord("proved", in: "general"), at: "3lq2222222222")
        let commit = try CID(try await latest(service).cid)
        for (rkey, text) in [("3lq2222222222", "proved"), ("3lq222222222z", nil)] as [(String, String?)] {
            let answer = try await service.get(
                "com.atproto.sync.getRecord", [("did", Service.alice), ("collection", Service.post), ("rkey", rkey)], as: Service.alice)
            #expect(answer.status == 200)
            #expect(answer[header: .contentType] == "application/vnd.ipld.car")
            #expect(answer[header: .contentLength] == "\(answer.body.count)")
            let (roots, blocks) = try CARReader.read(answer.body)
            #expect(roots == [commit])
            let table = Dictionary(uniqueKeysWithValues: blocks.map { ($0.cid, $0.bytes) })
            let signed = try Commit(block: #require(table[commit]))
            let tree = MST(root: signed.data) { (cid) throws(MSTError) in table[cid] }
            let found = try tree.get(MSTKey("\(Service.post)/\(rkey)"))
            #expect(try found.map { try DAGCBOR.decode(#require(table[$0]))["text"]?.stringValue } == (text.map { .some($0) }))
        }
    }
}
