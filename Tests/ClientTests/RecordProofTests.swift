@testable import Client
import ATProto
import Authorization
import Keys
import Simulation
import Testing

@Suite("Proofs of records")
struct RecordProofTests {
    private static let account = ClientWorld.account
    private static let collection = try! NSID("zone.stratos.feed.post")

    /// A repo of sixty records, its commit, and what proves one of them.
    private struct Repo {
        let key = PrivateKey.generate(.p256)
        let tree: MST
        let records: [String: Value]

        init() throws {
            var tree = MST()
            var records: [String: Value] = [:]
            for number in 0..<60 {
                let record = StreamSample.record("record \(number)")
                records["k\(number)"] = record
                try tree.insert(
                    MSTKey(collection: collection, recordKey: try RecordKey("k\(number)")), CID(hashing: DAGCBOR.encode(record)))
            }
            self.tree = tree
            self.records = records
        }

        func commit(did: DID = account, key: PrivateKey? = nil) throws -> Commit {
            let rev = StreamSample.rev(1)
            let bytes = Commit.unsignedBytes(did: did, data: tree.root(), rev: rev)
            return Commit(did: did, data: tree.root(), rev: rev, signature: try (key ?? self.key).sign(bytes))
        }

        func proof(
            of name: String, commit: Commit? = nil, without left: Int? = nil, roots: ((CID) -> [CID])? = nil, record: [UInt8]? = nil
        ) throws -> [UInt8] {
            let commit = try commit ?? self.commit()
            var blocks = [(cid: commit.cid, bytes: commit.block)]
            blocks += try tree.proof(of: MSTKey(collection: collection, recordKey: try RecordKey(name)))
            if let value = records[name] {
                let block = DAGCBOR.encode(value)
                blocks.append((CID(hashing: block), record ?? block))
            }
            if let left { blocks.remove(at: left) }
            var car: [UInt8] = []
            CARWriter.encodeHeader(roots: roots?(commit.cid) ?? [commit.cid], into: &car)
            for block in blocks { CARWriter.encodeBlock(block.bytes, cid: block.cid, into: &car) }
            return car
        }
    }

    private func verify(_ car: [UInt8], _ name: String = "k7", key: CommitKey) throws -> ProvenPlace {
        try RecordProof.verify(
            car, account: Self.account, collection: Self.collection, recordKey: try RecordKey(name), key: key)
    }

    @Test("each level proves the record, its CID and the commit that holds it")
    func levels() throws {
        let repo = try Repo()
        let service = PrivateKey.generate(.k256)
        for (commit, key, level) in [
            (try repo.commit(), CommitKey.user(repo.key.publicKey), VerificationLevel.userSignature),
            (try repo.commit(key: service), .service([PrivateKey.generate(.k256).publicKey, service.publicKey]), .serviceSignature),
            (try repo.commit(), .unchecked, .cidIntegrity),
        ] {
            let place = try verify(try repo.proof(of: "k7", commit: commit), key: key)
            let record = StreamSample.record("record 7")
            #expect(
                place == .record(VerifiedRecord(level: level, cid: CID(hashing: DAGCBOR.encode(record)), record: record, commit: commit)))
        }
    }

    @Test("that there is no record is proven too")
    func absence() throws {
        let repo = try Repo()
        #expect(
            try verify(try repo.proof(of: "never"), "never", key: .user(repo.key.publicKey))
                == .absent(.userSignature, commit: try repo.commit()))
    }

    @Test("a commit that another key signed is refused, never taken at a lower level")
    func otherKeys() throws {
        let repo = try Repo()
        let car = try repo.proof(of: "k7")
        #expect(throws: ProofFault.signature) { try verify(car, key: .user(PrivateKey.generate(.p256).publicKey)) }
        #expect(throws: ProofFault.signature) { try verify(car, key: .service([PrivateKey.generate(.k256).publicKey])) }
        #expect(throws: ProofFault.signature) { try verify(car, key: .service([])) }
    }

    @Test("a proof of another account, without one of its blocks, or with other roots is refused, and why")
    func faults() throws {
        let repo = try Repo()
        let other = try DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
        let key = CommitKey.user(repo.key.publicKey)
        #expect(throws: ProofFault.otherAccount(other)) {
            try verify(try repo.proof(of: "k7", commit: try repo.commit(did: other)), key: key)
        }
        let blocks = try CARReader.read(try repo.proof(of: "k7")).blocks
        for index in blocks.indices {
            #expect(throws: ProofFault.missing(blocks[index].cid)) { try verify(try repo.proof(of: "k7", without: index), key: key) }
        }
        #expect(throws: ProofFault.roots(0)) { try verify(try repo.proof(of: "k7", roots: { _ in [] }), key: key) }
        #expect(throws: ProofFault.roots(2)) { try verify(try repo.proof(of: "k7", roots: { [$0, $0] }), key: key) }
        let lie = DAGCBOR.encode(StreamSample.record("a lie"))
        #expect(throws: ProofFault.self) { try verify(try repo.proof(of: "k7", record: lie), key: key) }
        #expect(throws: ProofFault.self) { try verify([], key: key) }
    }

    @Test("a proof with any byte changed is refused at every level")
    func damage() throws {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        let repo = try Repo()
        let whole = try repo.proof(of: "k7")
        for round in 0..<400 {
            var car = whole
            let index = Int.random(in: 0..<car.count, using: &generator)
            car[index] ^= UInt8.random(in: 1...255, using: &generator)
            for key in [CommitKey.user(repo.key.publicKey), .unchecked] {
                #expect(throws: ProofFault.self, "seed \(seed), round \(round), byte \(index)") { try verify(car, key: key) }
            }
        }
    }

    @Test("a record is asked for with the caller's credential, and a sync token is given to no other method than a stream's")
    func request() async throws {
        let world = ClientWorld()
        let repo = try Repo()
        let address = try #require(ServiceAddress(ClientWorld.serviceURL))
        let url =
            "https://stratos.example.com/xrpc/com.atproto.sync.getRecord?did=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz&collection=zone.stratos.feed.post&rkey=k7"
        func ask(_ credential: Credential?) async throws -> ProvenPlace {
            try await world.client.record(
                try RecordKey("k7"), in: Self.collection, of: Self.account, at: address, credential: credential,
                key: .user(repo.key.publicKey))
        }
        world.set(url, try repo.proof(of: "k7"), type: "application/vnd.ipld.car")
        #expect(try await ask(Credential("a.b.c", as: .bearer)) == (try verify(try repo.proof(of: "k7"), key: .user(repo.key.publicKey))))
        #expect(world.requests.last?.headers == ["Authorization": "Bearer a.b.c"])
        _ = try await ask(Credential("the sync token", as: .syncToken))
        #expect(world.requests.last?.headers == [:] && world.requests.last?.url == url)
        world.set(url, ["error": "RecordNotFound", "message": "x"], status: 400)
        await #expect(throws: RecordError.noAnswer(.refused(status: 400, name: "RecordNotFound"))) { try await ask(nil) }
        world.set(url, [1, 2, 3], type: "application/vnd.ipld.car")
        await #expect(throws: RecordError.self) { try await ask(nil) }
    }
}
