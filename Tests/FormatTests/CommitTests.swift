import ATProto
import Keys
import Simulation
import Testing

@Suite("Commits")
struct CommitTests {
    private let did: DID
    private let data = CID(hashing: [1])
    private let rev = TID(microseconds: 1_790_000_000_000_000, clockID: 3)

    init() throws { did = try DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz") }

    @Test("a commit is signed, written, read and verified", arguments: [Curve.p256, .k256])
    func roundTrip(curve: Curve) throws {
        let key = try PrivateKey(curve: curve, rawBytes: [UInt8](repeating: 3, count: 32))
        let signature = try key.sign(Commit.unsignedBytes(did: did, data: data, rev: rev))
        let commit = Commit(did: did, data: data, rev: rev, signature: signature)
        let read = try Commit(block: commit.block)
        #expect(read == commit && read.cid == CID(hashing: commit.block))
        #expect(read.version == 3 && read.prev == nil)
        #expect(read.verifies(with: key.publicKey))
        let stranger = try PrivateKey(curve: curve, rawBytes: [UInt8](repeating: 4, count: 32))
        #expect(!read.verifies(with: stranger.publicKey))
    }

    @Test("what is written has a null prev and nothing else that is not needed")
    func fields() throws {
        let commit = Commit(did: did, data: data, rev: rev, signature: [UInt8](repeating: 7, count: 64))
        let value = try DAGCBOR.decode(commit.block)
        #expect(value.mapValue?.map(\.key) == ["did", "rev", "sig", "data", "prev", "version"])
        #expect(value["prev"] == .null)
        #expect(try DAGCBOR.decode(commit.unsignedBytes).mapValue?.map(\.key) == ["did", "rev", "data", "prev", "version"])
    }

    @Test("a link in prev and a version 2 without rev are read and give the same bytes back")
    func old() throws {
        var map: ValueMap = [
            "did": .string(did.description), "version": .integer(2), "data": .link(data), "prev": .link(CID(hashing: [2])),
            "sig": .bytes([UInt8](repeating: 7, count: 64)),
        ]
        for rev in [nil, rev] {
            for version: Int64 in [2, 3] where rev != nil || version == 2 {
                map["version"] = .integer(version)
                map["rev"] = rev.map { .string($0.description) }
                let bytes = DAGCBOR.encode(.map(map))
                let commit = try Commit(block: bytes)
                #expect(commit.block == bytes && commit.rev == rev && commit.prev == CID(hashing: [2]) && commit.version == version)
            }
        }
        map["rev"] = nil
        #expect(throws: CommitError.shape) { try Commit(block: DAGCBOR.encode(.map(map))) }
    }

    @Test("the heads of published repositories are what libipld says")
    func published() throws {
        for (name, version, rev, data) in [
            ("greenground", 3, "3k67up3j7hf2x", "bafyreiejqm332nncmkzsmztfkle54ysi7uibkrgbo2ysyhatrzqxdnhxby"),
            ("paul_staging", 2, nil, "bafyreifz3qfac7wtftti5mkgyvxoolkq7pe3ygfuwhsjubb27t2nmmqjdy"),
        ] as [(String, Int, String?, String)] {
            guard let file = try TestFiles.published("cars/\(name).repo.car") else { return }
            let (roots, blocks) = try CARReader.read(file)
            let block = try #require(blocks.first { $0.cid == roots[0] })
            let commit = try Commit(block: block.bytes)
            #expect(commit.version == version && commit.rev?.description == rev && commit.prev != nil)
            #expect(commit.data.description == data)
            #expect(commit.cid == roots[0])
        }
    }
}
