import ATProto
import Keys
import Simulation
import Testing

@Suite("Repository verification")
struct RepoVerifierTests {
    private let seed = TestFiles.seed

    /// What libipld 3.5 and a walk in Python found.
    @Test(
        "published repositories are accepted with the roots and counts that libipld finds",
        arguments: [
            ("greenground", "bafyreidre5tvfhczb3ogh7mckqlmepb6q75tvkh2jvsbc7vmvysxfap3jm", 3, 2, 0),
            ("paul_staging", "bafyreifg4tuxt4o4a6pkr76ana3ykdc2o5s3ttjxwtxse34yxbmaauhw6y", 2, 185, 215),
        ])
    func published(name: String, root: String, version: Int, records: Int, extra: Int) throws {
        guard let file = try TestFiles.published("cars/\(name).repo.car") else { return }
        let report = try RepoVerifier.verify(file)
        #expect(report.commit.description == root)
        #expect(report.version == version && report.records == records && report.extra == extra)
        #expect(report.signature == .notChecked && report.bytes == file.count)
        TestFiles.report(vectors: "cars/\(name).repo.car records", passed: report.records, of: records)
    }

    @Test(
        "repositories that others made and signed are accepted record by record",
        arguments: ["repo-p256", "repo-k256", "repo-k256-shuffled"])
    func fixtures(name: String) throws {
        let file = try TestFiles.fixture("atproto/\(name).car")
        let list = try TestFiles.fixture("atproto/\(name == "repo-p256" ? name : "repo-k256").json")
        let expected = try DataModelJSON.decode(list)
        let key = try PublicKey(didKey: try #require(expected["key"]?.stringValue))
        var records: [MSTKey: CID] = [:]
        var keys: [MSTKey] = []
        let report = try RepoVerifier.verify(file, key: key) { record in
            records[record.key] = record.cid
            keys.append(record.key)
        }
        #expect(report.signature == .verified)
        #expect(report.did.description == expected["did"]?.stringValue && report.rev?.description == expected["rev"]?.stringValue)
        #expect(report.commit.description == expected["commit"]?.stringValue && report.data.description == expected["data"]?.stringValue)
        #expect(Int64(report.blocks) == expected["blocks"]?.integerValue && report.duplicates == 0 && report.extra == 0)
        let wanted = try #require(expected["records"]?.mapValue)
        #expect(records.count == wanted.count && keys == keys.sorted())
        for (key, cid) in wanted { #expect(try records[MSTKey(key)]?.description == cid.stringValue) }
        let stranger = try PrivateKey(curve: key.curve, rawBytes: [UInt8](repeating: 1, count: 32)).publicKey
        #expect(throws: RepoError.self) { try RepoVerifier.verify(file, key: stranger) }
    }

    @Test("a file in streamable order is read once; in another order only nodes are read again")
    func reads() throws {
        let sample = try RepoSample(records: 400, seed: seed)
        let blocks = sample.blocks
        let nodes = blocks.count - 401
        #expect(try reads(of: sample.car()) == 0)
        // Records first: the walk passes them by, and every node comes when it is needed.
        let recordsFirst =
            [blocks[0]] + sample.sections.filter(\.isRecord).map(sample.block)
            + sample.sections.filter { !$0.isRecord }.dropFirst().map(sample.block)
        #expect(try reads(of: sample.car(recordsFirst)) == 0)
        // Nodes first: they are read again, in file order, in few pieces.
        #expect(
            try reads(
                of: sample.car(
                    sample.sections.filter { !$0.isRecord }.map(sample.block) + recordsFirst.filter { !blocks[0..<1].contains($0) })) <= 3)
        var random = SeededGenerator(seed: seed)
        #expect(try reads(of: sample.car(blocks.shuffled(using: &random))) <= nodes + 1)
    }

    private func reads(of file: [UInt8]) throws -> Int {
        var verifier = RepoVerifier()
        try verifier.push(file)
        var step = try verifier.finish()
        var count = 0
        while case .read(let offset, let length) = step {
            count += 1
            step = try verifier.answer(Array(file[offset..<offset + length]))
        }
        guard case .done(let report) = step else { return -1 }
        #expect(report.records == 400)
        return count
    }

    @Test("a file that changes between its two readings is refused")
    func changed() throws {
        let sample = try RepoSample(records: 40, seed: seed)
        let file = sample.car(sample.blocks.reversed())
        var verifier = RepoVerifier()
        try verifier.push(file)
        guard case .read(_, let count) = try verifier.finish() else {
            Issue.record("a reversed file is read again")
            return
        }
        var name = ""
        do {
            _ = try verifier.answer([UInt8](repeating: 0xA0, count: count))
        } catch {
            name = error.name
        }
        #expect(name == "FileChanged", "seed \(seed)")
    }

    @Test("duplicates and blocks of nobody are counted")
    func extra() throws {
        let sample = try RepoSample(records: 20, seed: seed)
        let blocks = sample.blocks
        let report = try RepoVerifier.verify(sample.car(blocks + [RepoSample.Block([0xA0]), blocks[0], blocks[3], blocks[3]]))
        #expect(report.blocks == blocks.count + 4 && report.duplicates == 3 && report.extra == 1 && report.records == 20)
    }

    @Test("more distinct blocks than the limit are refused, duplicates are not counted against it")
    func blocksMax() throws {
        let sample = try RepoSample(records: 20, seed: seed)
        let blocks = sample.blocks
        let enough = RepoVerifier.Limits(blocksMax: blocks.count)
        #expect(try RepoVerifier.verify(sample.car(), limits: enough).records == 20)
        #expect(throws: RepoError.tooManyBlocks(max: blocks.count - 1)) {
            try RepoVerifier.verify(sample.car(), limits: .init(blocksMax: blocks.count - 1))
        }
    }

    @Test("a refusal names the block and where it lies")
    func evidence() throws {
        let sample = try RepoSample(records: 20, seed: seed)
        var blocks = sample.blocks
        let gone = blocks[try #require(sample.sections.lastIndex { $0.isRecord })]
        blocks.removeAll { $0 == gone }
        let key = RepoSample.key(19, of: 20).description
        #expect(throws: RepoError.missing(gone.cid, .record(key: key))) { try RepoVerifier.verify(sample.car(blocks)) }
        let offset = sample.car(blocks).count + 1 + CID.byteCount
        #expect(throws: RepoError.car(.hashMismatch(gone.cid, offset: offset))) {
            try RepoVerifier.verify(sample.car(blocks) + [37] + gone.cid.bytes + [0])
        }
    }

    @Test("accepted whole, refused altered, cut or hostile")
    func proof() async throws {
        let result = try await CARProof.proof.run(ProofRequest(seed: seed, small: true, directory: ""))
        for failure in result.failures { Issue.record("\(failure), seed \(seed)") }
        print("cars: \(result.counts.map { "\($0.count) \($0.name)" }.joined(separator: ", "))")
    }

    @Test("every byte of a small published repository is guarded")
    func everyByte() throws {
        guard let file = try TestFiles.published("cars/greenground.repo.car") else { return }
        for place in file.indices {
            var changed = file
            changed[place] ^= 1 << (place % 8)
            #expect(throws: RepoError.self, "byte \(place)") { try RepoVerifier.verify(changed) }
        }
    }
}

extension RepoSample.Section {
    fileprivate var isRecord: Bool {
        if case .record = self { true } else { false }
    }
}
