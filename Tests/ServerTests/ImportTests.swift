import ATProto
import Commands
import HTTPTypes
import Keys
import Simulation
import Testing

@Suite("HTTP: importRepo")
struct ImportTests {
    /// A repo of posts as another server would have it, signed by a key of its own.
    static func repo(of did: String, _ records: [(path: String, record: Value)]) throws -> [UInt8] {
        let key = try PrivateKey(curve: .k256, rawBytes: [UInt8](repeating: 9, count: 32))
        let blocks = records.map { RepoSample.Block(DAGCBOR.encode($0.record)) }
        var entries: [(key: MSTKey, value: CID)] = []
        for (record, block) in zip(records, blocks) { entries.append((try MSTKey(record.path), block.cid)) }
        entries.sort { $0.key < $1.key }
        let tree = try MST.build(sorted: entries)
        let rev = TID(microseconds: 1_780_000_000_000_000, clockID: 7)
        let owner = try DID(did)
        let signature = try key.sign(Commit.unsignedBytes(did: owner, data: tree.root(), rev: rev))
        let commit = RepoSample.Block(Commit(did: owner, data: tree.root(), rev: rev, signature: signature).block)
        var all = [commit]
        var nodes = tree.nodes()
        while let item = try nodes.next() {
            if case .node(_, let bytes) = item { all.append(RepoSample.Block(bytes)) }
        }
        return RepoSample.car(root: commit.cid, all + blocks)
    }

    static func post(_ text: String, in boundary: Value = Service.boundary("general")) -> Value {
        [
            "$type": .string(Service.post), "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["$type": "zone.stratos.boundary.defs#Domains", "values": [["value": boundary]]],
        ]
    }

    private func posts(_ count: Int) -> [(path: String, record: Value)] {
        (0..<count).map { ("\(Service.post)/\(TID(microseconds: 1_700_000_000_000_000 + Int64($0), clockID: 0))", Self.post("\($0)")) }
    }

    private func send(_ car: [UInt8], to service: Service, as caller: String? = Service.alice, type: String? = "application/vnd.ipld.car")
        async throws -> Answer
    {
        try await service.ask(.post, "/xrpc/zone.stratos.repo.importRepo", as: caller, type: type, body: car)
    }

    @Test("a repo comes in whole: every record with its CID, the tree with its root, in one commit of the actor's own key")
    func imports() async throws {
        let service = try await Service()
        let car = try Self.repo(of: Service.alice, posts(50))
        let answer = try await send(car, to: service)
        #expect(answer.status == 200, "\(answer.text)")
        #expect(answer.text == "{\"imported\":50}")
        #expect(try await service.events(of: Service.alice) == 2, "one event for the enrollment, one for all of the import")
        let export = try await service.get("zone.stratos.sync.getRepo", [("did", Service.alice)], as: Service.alice)
        let key = try #require(try await service.engine.enrollment(of: DID(Service.alice))).signingKey
        let report = try RepoVerifier.verify(export.body, key: key)
        #expect(report.data == (try RepoVerifier.verify(car)).data)
        let bob = try await service.get(
            "com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post), ("limit", "100")], as: Service.bob)
        #expect(bob["records"]?.arrayValue?.count == 50)
    }

    @Test("an export of one service imports into another, and comes out with the same tree")
    func roundTrip() async throws {
        let first = try await Service(), second = try await Service()
        for number in 0..<5 { try await first.write(Service.postRecord("\(number)", in: "general")) }
        try await first.write(["size": 1], at: "mine", collection: Service.thing)
        let car = try await first.get("zone.stratos.sync.getRepo", [("did", Service.alice)], as: Service.alice).body
        let answer = try await send(car, to: second)
        #expect(answer.text == "{\"imported\":6}")
        let again = try await second.get("zone.stratos.sync.getRepo", [("did", Service.alice)], as: Service.alice).body
        #expect(try RepoVerifier.verify(again).data == RepoVerifier.verify(car).data)
    }

    @Test("only into an empty repo of one's own, and only by a member")
    func whose() async throws {
        let service = try await Service()
        let car = try Self.repo(of: Service.alice, posts(2))
        expect(try await send(car, to: service, as: nil), 401, "AuthenticationRequired")
        expect(try await send(car, to: service, as: "did:plc:nobody"), 401, "AuthenticationRequired")
        expect(try await send(car, to: service, as: Service.bob), 400, "InvalidCar", "Commit DID does not match authenticated user")
        #expect(try await send(car, to: service).status == 200)
        expect(try await send(car, to: service), 400, "RepoAlreadyExists", "Repo already exists for this DID")
    }

    @Test("the body is a CAR of at most STRATOS_IMPORT_MAX_BYTES: as many are taken, one more is refused, with a length or without")
    func size() async throws {
        let car = try Self.repo(of: Service.alice, posts(2))
        let exact = try await Service(Service.Settings(importBytesMax: car.count))
        #expect(try await send(car, to: exact).status == 200)
        let small = try await Service(Service.Settings(importBytesMax: car.count - 1))
        let message = "CAR file exceeds maximum size of \(car.count - 1) bytes"
        expect(try await send(car, to: small), 400, "InvalidCar", message)
        let chunked = try await small.ask(
            .post, "/xrpc/zone.stratos.repo.importRepo", as: Service.alice, type: "application/vnd.ipld.car",
            headers: [.transferEncoding: "chunked"], body: car)
        expect(chunked, 400, "InvalidCar", message)
        expect(try await send([], to: small), 400, "InvalidRequest", "A request body is expected but none was provided")
        expect(
            try await send(car, to: small, type: nil), 400, "InvalidRequest", "Request encoding (Content-Type) required but not provided")
        expect(
            try await send(car, to: small, type: "application/json"), 400, "InvalidRequest",
            "Wrong request encoding (Content-Type): application/json")
    }

    @Test("a file that is no sound repo is refused, and nothing of it is written", .timeLimit(.minutes(1)))
    func hostile() async throws {
        let service = try await Service()
        var refused = 0
        for repo in try HostileRepo.all(seed: TestFiles.seed) where !repo.refusal.isEmpty && repo.refusal != "InvalidSignature" {
            let answer = try await send(repo.car, to: service)
            guard !repo.car.isEmpty else {
                expect(answer, 400, "InvalidRequest")
                continue
            }
            expect(answer, 400, "InvalidCar")
            #expect(
                answer["message"]?.stringValue != "Commit DID does not match authenticated user", "\(repo.name), seed \(TestFiles.seed)")
            refused += 1
        }
        #expect(refused > 40)
        #expect(try await service.events(of: Service.alice) == 1)
    }

    @Test("a sound file cut, or with a byte changed, is refused")
    func damaged() async throws {
        let service = try await Service()
        let car = try Self.repo(of: Service.alice, posts(3))
        let (ends, last) = try CARProof.layout(of: car)
        var generator = SeededGenerator(seed: TestFiles.seed)
        for _ in 0..<20 {
            let cut = Int.random(in: 1..<last, using: &generator)
            expect(try await send(Array(car[..<cut]), to: service), 400, "InvalidCar")
            var changed = car
            let place = Int.random(in: 0..<last, using: &generator)
            changed[place] ^= UInt8.random(in: 1...255, using: &generator)
            expect(try await send(changed, to: service), 400, "InvalidCar")
        }
        for end in ends where end < last { expect(try await send(Array(car[..<end]), to: service), 400, "InvalidCar") }
        #expect(try await service.events(of: Service.alice) == 1, "seed \(TestFiles.seed)")
    }

    @Test("every record is judged like one that is written; one that breaks a rule keeps all of them out, and is named")
    func judged() async throws {
        let service = try await Service()
        let good = posts(3)
        let cases: [(String, Value, String)] = [
            ("\(Service.post)/3lq2222222222", Self.post("x", in: Service.boundary("others")), "You do not have access"),
            ("\(Service.post)/3lq2222222222", Self.post("x", in: Service.boundary("nowhere")), "is not allowed"),
            ("\(Service.post)/3lq2222222222", Self.post("x", in: "did:web:other.example/general"), "does not belong to this service"),
            ("\(Service.post)/3lq2222222222", ["$type": .string(Service.post), "text": "x"], "must have a boundary"),
            ("\(Service.post)/3lq2222222222", ["text": "x"], "$type must be"),
            ("\(Service.post)/3lq2222222222", Self.post(String(repeating: "x", count: 301)), "Record/text"),
            ("app.bsky.feed.post/3lq2222222222", ["$type": "app.bsky.feed.post", "text": "x"], "Only zone.stratos.*"),
        ]
        for (path, record, reason) in cases {
            let answer = try await send(try Self.repo(of: Service.alice, good + [(path, record)]), to: service)
            #expect(answer.status == 400)
            #expect(answer["error"]?.stringValue == "InvalidRecord")
            let message = answer["message"]?.stringValue ?? ""
            #expect(message.hasPrefix("1 records are refused, so none was imported: \(path): "), "\(message)")
            #expect(message.contains(reason), "\(message)")
        }
        #expect(try await service.events(of: Service.alice) == 1)
    }
}
