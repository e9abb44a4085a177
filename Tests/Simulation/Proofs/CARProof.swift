import ATProto

/// A verifier accepts a sound repository in any order and any cut, and refuses it with any byte changed, cut anywhere before the end of the
/// last block that its head reaches, and in every way that `HostileRepo` knows.
package enum CARProof {
    package static let proof = Proof(
        name: "cars",
        claim: "repositories in CAR files are accepted whole, and refused truncated, altered, or made by somebody hostile"
    ) { request in
        var run = Run(random: SeededGenerator(seed: request.seed), small: request.small)
        try run.hostile(seed: request.seed)
        try run.cycle()
        try run.file("a sample of 40 records", RepoSample(records: 40, seed: request.seed).car())
        for name in ["greenground", "paul_staging"] {
            guard let file = try TestFiles.published("cars/\(name).repo.car") else { continue }
            try run.file(name, file)
        }
        return ProofResult(counts: run.counts.sorted { $0.key < $1.key }.map { (name: $0.key, count: $0.value) }, failures: run.failures)
    }

    /// The places a file has: where each section ends, and where the last one ends that the head reaches.
    package static func layout(of file: [UInt8]) throws -> (ends: [Int], lastReached: Int) {
        let (roots, blocks) = try CARReader.read(file)
        let table = Dictionary(blocks.map { ($0.cid, $0.bytes) }, uniquingKeysWith: { first, _ in first })
        guard let root = roots.first, let head = table[root] else { throw RepoError.roots(roots.count) }
        let commit = try Commit(block: head)
        var reached: Set<CID> = [root]
        var items = MST(root: commit.data) { (cid) throws(MSTError) in table[cid] }.nodes()
        while let item = try items.next() {
            switch item {
            case .node(let cid, _): reached.insert(cid)
            case .record(_, let cid): reached.insert(cid)
            }
        }
        // What counts of a block that is there more than once is the first.
        var last = 0
        for block in blocks where reached.remove(block.cid) != nil { last = block.offset + block.bytes.count }
        return (blocks.map { $0.offset + $0.bytes.count }, last)
    }

    private struct Run {
        var random: SeededGenerator
        let small: Bool
        var counts: [String: Int] = [:]
        var failures: [String] = []

        mutating func hostile(seed: UInt64) throws {
            for repo in try HostileRepo.all(seed: seed) {
                let outcome = CARProof.outcome(repo.car, repo)
                if outcome != repo.refusal { failures.append("\(repo.name): \(Self.words(outcome)), not \(Self.words(repo.refusal))") }
                counts[repo.refusal.isEmpty ? "sound accepted" : "hostile refused", default: 0] += 1
            }
        }

        /// No block can name itself, so the blocks come from a source that lies about their CIDs and says it has checked them.
        mutating func cycle() throws {
            let cid = CID(hashing: [])
            for entries in [[], [try Self.entry(cid)]] {
                let node = DAGCBOR.encode(.map(["e": .array(entries), "l": .link(cid)]))
                do {
                    _ = try MST(root: cid, hashesChecked: true) { (_) throws(MSTError) in node }.verify()
                    failures.append("a node over itself: accepted")
                } catch MSTError.invalidNode {
                    counts["cycles refused", default: 0] += 1
                }
            }
        }

        private static func entry(_ cid: CID) throws -> Value {
            var number = 0
            while try MSTKey("com.example.record/\(number)").layer != 1 { number += 1 }
            let suffix = [UInt8]("com.example.record/\(number)".utf8)
            return .map(["k": .bytes(suffix), "p": .integer(0), "t": .link(cid), "v": .link(cid)])
        }

        mutating func file(_ name: String, _ file: [UInt8]) throws {
            let (ends, lastReached) = try CARProof.layout(of: file)
            let boundaries = Set(ends)
            for cut in places(in: file.count) {
                let accepted = CARProof.outcome(Array(file[..<cut])).isEmpty
                let expected = cut >= lastReached && boundaries.contains(cut)
                if accepted != expected { failures.append("\(name) cut at \(cut): \(accepted ? "accepted" : "refused")") }
                counts["cuts", default: 0] += 1
            }
            let between = ends.filter { $0 < lastReached }
            for cut in small ? Array(between.shuffled(using: &random).prefix(100)) : between {
                if CARProof.outcome(Array(file[..<cut])).isEmpty { failures.append("\(name) cut after the block at \(cut): accepted") }
                counts["cuts between blocks", default: 0] += 1
            }
            for place in places(in: file.count) {
                var changed = file
                changed[place] ^= UInt8.random(in: 1...255, using: &random)
                if CARProof.outcome(changed).isEmpty { failures.append("\(name) with \(changed[place]) at \(place): accepted") }
                counts["bytes changed", default: 0] += 1
            }
            try reordered(name, file)
        }

        /// All places, or a sample of about 60.
        private mutating func places(in count: Int) -> [Int] {
            small ? (0..<60).map { _ in Int.random(in: 0..<count, using: &random) } : Array(0..<count)
        }

        /// The same blocks in another order, and the same file in other pieces, are the same repository.
        private mutating func reordered(_ name: String, _ file: [UInt8]) throws {
            let report = try RepoVerifier.verify(file)
            let (_, blocks) = try CARReader.read(file)
            for _ in 0..<(small ? 3 : 200) {
                let shuffled = blocks.shuffled(using: &random).map { RepoSample.Block($0.bytes) }
                let other = try RepoVerifier.verify(RepoSample.car(root: report.commit, shuffled))
                if other != report { failures.append("\(name) in another order: \(other)") }
                counts["orders", default: 0] += 1
            }
            for _ in 0..<(small ? 3 : 200) {
                let other = try inPieces(file)
                if other != report { failures.append("\(name) in pieces: \(other)") }
                counts["piecewise", default: 0] += 1
            }
        }

        private mutating func inPieces(_ file: [UInt8]) throws -> RepoReport {
            var verifier = RepoVerifier()
            let bound = [2, 40, 400, 40_000][Int.random(in: 0..<4, using: &random)]
            var offset = 0
            while offset < file.count {
                let end = min(file.count, offset + Int.random(in: 1..<bound, using: &random))
                try verifier.push(Array(file[offset..<end]))
                offset = end
            }
            var step = try verifier.finish()
            while case .read(let offset, let count) = step { step = try verifier.answer(Array(file[offset..<offset + count])) }
            guard case .done(let report) = step else { preconditionFailure("a step reads or is the last") }
            return report
        }

        private static func words(_ refusal: String) -> String { refusal.isEmpty ? "accepted" : "refused as \(refusal)" }
    }

    /// The name of the error, or nothing when it was accepted.
    private static func outcome(_ file: [UInt8], _ repo: HostileRepo? = nil) -> String {
        do throws(RepoError) {
            _ = try RepoVerifier.verify(file, key: repo?.key)
            return ""
        } catch {
            return error.name
        }
    }
}
