package import ATProto

/// Blocks that refer to each other by number, so that a fuzzer that does not know SHA-256 can change one and keep the links whole.
///
/// A link to block n of the list is a CID whose digest is 30 bytes 0xEE and n as two bytes, big-endian. ``mend(_:)`` puts the real
/// digests in; a link that closes a circle stays as it is, and leads nowhere.
package enum FuzzBlocks {
    private static let mark = [UInt8](repeating: 0xEE, count: 30)

    /// The digest that stands for block `number`.
    package static func placeholder(_ number: Int) -> [UInt8] {
        mark + [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
    }

    package struct Block {
        package var codec: CID.Codec
        package var bytes: [UInt8]

        package init(codec: CID.Codec, bytes: [UInt8]) {
            self.codec = codec
            self.bytes = bytes
        }
    }

    /// - Returns: the blocks with real links, and their CIDs.
    package static func mend(_ blocks: [Block]) -> [(cid: CID, bytes: [UInt8])] {
        var mending = Mending(
            blocks: blocks, progress: Array(repeating: .untouched, count: blocks.count))
        return blocks.indices.map {
            mending.finish($0) ?? (
                CID(hashing: blocks[$0].bytes, codec: blocks[$0].codec), blocks[$0].bytes
            )
        }
    }

    private struct Mending {
        enum Progress {
            case untouched, begun, finished(cid: CID, bytes: [UInt8])
        }

        let blocks: [Block]
        var progress: [Progress]

        /// Nil in a circle of links.
        mutating func finish(_ index: Int) -> (cid: CID, bytes: [UInt8])? {
            switch progress[index] {
            case .begun: return nil
            case .finished(let cid, let bytes): return (cid, bytes)
            case .untouched: break
            }
            progress[index] = .begun
            var bytes = blocks[index].bytes
            FuzzBlocks.fill(&bytes) { $0 < blocks.count ? finish($0)?.cid : nil }
            let cid = CID(hashing: bytes, codec: blocks[index].codec)
            progress[index] = .finished(cid: cid, bytes: bytes)
            return (cid, bytes)
        }
    }

    /// Replaces placeholders.
    /// - Parameter cid: of a block by its number; nil leaves the placeholder.
    static func fill(_ bytes: inout [UInt8], _ cid: (Int) -> CID?) {
        var start = 0
        while let found = nextMark(in: bytes, from: start) {
            let number = Int(bytes[found + 30]) << 8 | Int(bytes[found + 31])
            if let cid = cid(number) { bytes.replaceSubrange(found..<found + 32, with: cid.digest) }
            start = found + 32
        }
    }

    /// Where the next whole placeholder begins.
    private static func nextMark(in bytes: [UInt8], from start: Int) -> Int? {
        var run = 0
        for index in start..<bytes.count {
            run = bytes[index] == 0xEE ? run + 1 : 0
            if run == mark.count { return index + 3 <= bytes.count ? index + 1 - mark.count : nil }
        }
        return nil
    }
}

// MARK: - CAR

enum FuzzCAR {
    /// As the bytes are, and with every link and hash mended, which leads deep into the reader of whole repos.
    static func run(_ bytes: [UInt8]) throws(FuzzFailure) -> Bool {
        let accepted = try check(bytes)
        guard let mended = mend(bytes) else { return accepted }
        return try check(mended) || accepted
    }

    /// - Returns: whether it is a repo with all that it refers to.
    private static func check(_ bytes: [UInt8]) throws(FuzzFailure) -> Bool {
        var generator = SeededGenerator(seed: UInt64(bytes.count))
        let whole = outcome { () throws(CARError) in try content(CARReader.read(bytes)) }
        let cut = outcome { () throws(CARError) in try readInChunks(bytes, &generator) }
        try invariant(whole == cut, "in chunks \(cut), whole \(whole)")
        if case .success(let content) = whole {
            try invariant(write(content) == bytes, "written again, the file has other bytes")
        }
        return try checkRepo(bytes, &generator)
    }

    private struct Content: Equatable {
        var roots: [CID]
        var blocks: [CARBlock]
    }

    private static func content(_ parts: (roots: [CID], blocks: [CARBlock])) -> Content {
        Content(roots: parts.roots, blocks: parts.blocks)
    }

    private static func readInChunks(_ bytes: [UInt8], _ generator: inout SeededGenerator)
        throws(CARError) -> Content
    {
        var reader = CARReader()
        var content = Content(roots: [], blocks: [])
        for chunk in chunks(bytes, &generator) {
            reader.push(chunk)
            while let block = try reader.next() { content.blocks.append(block) }
        }
        try reader.finish()
        content.roots = reader.roots ?? []
        return content
    }

    private static func chunks(_ bytes: [UInt8], _ generator: inout SeededGenerator) -> [[UInt8]] {
        var chunks: [[UInt8]] = []
        var start = 0
        while start < bytes.count {
            let most = [1, 7, 64, 4096].randomElement(using: &generator) ?? 1
            let end = min(bytes.count, start + Int.random(in: 1...most, using: &generator))
            chunks.append(Array(bytes[start..<end]))
            start = end
        }
        return chunks
    }

    private static func write(_ content: Content) -> [UInt8] {
        var file: [UInt8] = []
        CARWriter.encodeHeader(roots: content.roots, into: &file)
        for block in content.blocks { CARWriter.encodeBlock(block.bytes, cid: block.cid, into: &file) }
        return file
    }

    private static func checkRepo(_ bytes: [UInt8], _ generator: inout SeededGenerator)
        throws(FuzzFailure) -> Bool
    {
        var visited: [RepoRecord] = []
        let whole = outcome { () throws(RepoError) in
            try RepoVerifier.verify(bytes) { visited.append($0) }
        }
        var visitedInChunks: [RepoRecord] = []
        let parts = chunks(bytes, &generator)
        let cut = outcome { () throws(RepoError) in
            try verify(parts, of: bytes) { visitedInChunks.append($0) }
        }
        try invariant(whole == cut, "repo in chunks \(cut), whole \(whole)")
        guard case .success(let report) = whole else { return false }
        try invariant(
            report.records == visited.count && visited == visitedInChunks,
            "\(report.records) records, \(visited.count) visited")
        try invariant(
            zip(visited, visited.dropFirst()).allSatisfy { $0.key < $1.key },
            "records are visited out of order")
        return true
    }

    private static func verify(
        _ chunks: [[UInt8]], of file: [UInt8], _ visit: @escaping (RepoRecord) -> Void
    ) throws(RepoError) -> RepoReport {
        var verifier = RepoVerifier(visit: visit)
        for chunk in chunks { try verifier.push(chunk) }
        var step = try verifier.finish()
        while true {
            switch step {
            case .read(let offset, let count):
                step = try verifier.answer(Array(file[offset..<offset + count]))
            case .done(let report): return report
            }
        }
    }

    /// The same file with the digests that it should have; nil where it is not even a row of sections.
    private static func mend(_ bytes: [UInt8]) -> [UInt8]? {
        guard let (headerCount, headerStart) = length(in: bytes, at: 0),
            headerStart + headerCount <= bytes.count
        else { return nil }
        var header = Array(bytes[headerStart..<headerStart + headerCount])
        var blocks: [FuzzBlocks.Block] = []
        var offset = headerStart + headerCount
        while let (count, start) = length(in: bytes, at: offset), start + count <= bytes.count {
            guard count >= 36, let codec = CID.Codec(rawValue: bytes[start + 1]) else { break }
            blocks.append(FuzzBlocks.Block(codec: codec, bytes: Array(bytes[start + 36..<start + count])))
            offset = start + count
        }
        guard !blocks.isEmpty else { return nil }
        let mended = FuzzBlocks.mend(blocks)
        FuzzBlocks.fill(&header) { $0 < mended.count ? mended[$0].cid : nil }
        var file: [UInt8] = []
        Varint.encode(UInt64(header.count), into: &file)
        file += header
        for block in mended { CARWriter.encodeBlock(block.bytes, cid: block.cid, into: &file) }
        return file + bytes[offset...]
    }

    /// A varint of up to four bytes, and where it ends.
    private static func length(in bytes: [UInt8], at offset: Int) -> (Int, Int)? {
        var value = 0
        for index in 0..<4 where offset + index < bytes.count {
            value |= Int(bytes[offset + index] & 0x7F) << (7 * index)
            if bytes[offset + index] < 0x80 { return (value, offset + index + 1) }
        }
        return nil
    }
}

// MARK: - MST

enum FuzzMST {
    /// The input is a row of blocks, each after its length as two bytes, big-endian; the last may be cut. The first is the root.
    static func run(_ bytes: [UInt8]) throws(FuzzFailure) -> Bool {
        let blocks = FuzzBlocks.mend(split(bytes))
        guard let root = blocks.first?.cid else { return false }
        let tree = MST(root: root, blocks: blocks)
        let verified = outcome { () throws(MSTError) in try tree.verify() }
        var entries: [(key: MSTKey, value: CID)] = []
        let walked = outcome { () throws(MSTError) in
            try tree.walk { (key, value) in
                entries.append((key, value))
                return true
            }
        }
        try invariant(
            zip(entries, entries.dropFirst()).allSatisfy { $0.key < $1.key }, "keys are out of order")
        try edit(tree, entries)
        guard case .success(let count) = verified else { return false }
        try invariant(
            (try? walked.get()) != nil && count.records == entries.count, "verified, but \(walked)")
        try rebuild(tree, entries)
        return true
    }

    private static func split(_ bytes: [UInt8]) -> [FuzzBlocks.Block] {
        var blocks: [FuzzBlocks.Block] = []
        var offset = 0
        while offset + 2 <= bytes.count, blocks.count < 200 {
            let count = Int(bytes[offset]) << 8 | Int(bytes[offset + 1])
            let end = min(bytes.count, offset + 2 + count)
            blocks.append(FuzzBlocks.Block(codec: .dagCBOR, bytes: Array(bytes[offset + 2..<end])))
            offset = end
        }
        return blocks
    }

    /// A tree that verifies has the shape that its keys give it, and answers all questions alike.
    private static func rebuild(_ tree: MST, _ entries: [(key: MSTKey, value: CID)])
        throws(FuzzFailure)
    {
        do {
            var fresh = MST()
            for (key, value) in entries { try fresh.insert(key, value) }
            try invariant(fresh.root() == tree.root(), "a tree of the same keys has another root")
            var reversed: [MSTKey] = []
            try tree.walkReversed { (key, _) in
                reversed.append(key)
                return true
            }
            try invariant(reversed == entries.reversed().map(\.key), "the walk back meets other keys")
            let differences = try MST.diff(from: MST(), to: tree)
            try invariant(
                differences == entries.map { .created($0.key, $0.value) },
                "the difference to nothing is not everything")
            var edited = tree
            try edited.invert(differences)
            try invariant(edited.root() == MST().root(), "everything undone is not nothing")
            var traversal = tree.nodes()
            while let item = try traversal.next() {
                if case .node(let cid, let bytes) = item {
                    try invariant(CID(hashing: bytes) == cid, "a node has another CID")
                }
            }
        } catch let failure as FuzzFailure {
            throw failure
        } catch {
            throw FuzzFailure(description: "verified, but \(error)")
        }
    }

    /// Edits of any tree, a damaged one too, either fail and leave it as it was or do what they say.
    private static func edit(_ tree: MST, _ entries: [(key: MSTKey, value: CID)]) throws(FuzzFailure) {
        let value = CID(hashing: [0xF6])
        for text in ["a.b.c/1", "zz.zz.zz/zz", "app.bsky.feed.post/3jzfcijpj2z2a"] {
            guard let key = try? MSTKey(text) else { continue }
            var edited = tree
            guard (try? edited.insert(key, value)) != nil else {
                try invariant(edited.root() == tree.root(), "a failed insert changed the tree")
                continue
            }
            try invariant((try? edited.get(key)) == value, "an inserted record is not there")
            let removed = outcome { () throws(MSTError) in try edited.delete(key) }
            if case .success(let old) = removed {
                try invariant(old == value, "an inserted record was another")
            }
        }
        guard let first = entries.first else { return }
        var edited = tree
        if (try? edited.delete(first.key)) != nil {
            let found = outcome { () throws(MSTError) in try edited.get(first.key) }
            if case .success(let cid) = found { try invariant(cid == nil, "a deleted record is there") }
        } else {
            try invariant(edited.root() == tree.root(), "a failed delete changed the tree")
        }
    }
}
