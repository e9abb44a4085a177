import ATProto
import Simulation
import Testing

@Suite("CAR files")
struct CARTests {
    @Test("what is written is read back, whatever pieces the file comes in")
    func roundTrip() throws {
        let seed = TestFiles.seed
        var random = SeededGenerator(seed: seed)
        let blocks = [0, 1, 90, 91, 92, 127, 128, 16_347, 16_348, 40_000].map { count in
            RepoSample.Block(random.bytes(count), codec: count.isMultiple(of: 2) ? .dagCBOR : .raw)
        }
        let file = RepoSample.car(root: blocks[0].cid, blocks)
        for bound in [1, 2, 50, 5_000, file.count] {
            var reader = CARReader()
            var read: [CARBlock] = []
            var offset = 0
            while offset < file.count {
                let end = min(file.count, offset + Int.random(in: 1...bound, using: &random))
                reader.push(Array(file[offset..<end]))
                while let block = try reader.next() { read.append(block) }
                offset = end
            }
            try reader.finish()
            #expect(reader.roots == [blocks[0].cid], "seed \(seed), pieces of \(bound)")
            #expect(read.map(\.cid) == blocks.map(\.cid) && read.map(\.bytes) == blocks.map(\.bytes), "seed \(seed), pieces of \(bound)")
            #expect(read.allSatisfy { Array(file[$0.offset..<$0.offset + $0.bytes.count]) == $0.bytes }, "seed \(seed)")
        }
    }

    @Test("the size of a section is known before it is written")
    func sectionSize() {
        for count in [0, 90, 91, 92, 16_346, 16_347, 16_348, 2 << 20] {
            let block = RepoSample.Block([UInt8](repeating: 1, count: count))
            var section: [UInt8] = []
            CARWriter.encodeBlock(block.bytes, cid: block.cid, into: &section)
            #expect(section.count == CARWriter.sectionBytes(ofBlock: count))
        }
    }

    @Test("a header may name no root or many, but not too many")
    func roots() throws {
        for count in [0, 1, 3, 1024] {
            let roots = (0..<count).map { CID(hashing: [UInt8($0 & 0xFF), UInt8($0 >> 8)]) }
            var file: [UInt8] = []
            CARWriter.encodeHeader(roots: roots, into: &file)
            #expect(try CARReader.read(file).roots == roots)
        }
        var file: [UInt8] = []
        CARWriter.encodeHeader(roots: [CID](repeating: CID(hashing: []), count: 1025), into: &file)
        #expect(throws: CARError.header(.tooManyRoots(1025))) { try CARReader.read(file) }
    }

    @Test("an error names the place, and stays")
    func errors() throws {
        let block = RepoSample.Block([1, 2, 3])
        let good = RepoSample.car(root: block.cid, [block])
        var reader = CARReader()
        var bad = good + [37] + block.cid.bytes + [9]
        reader.push(bad)
        #expect(try reader.next()?.bytes == [1, 2, 3])
        for _ in 0..<2 { #expect(throws: CARError.hashMismatch(block.cid, offset: good.count + 37)) { try reader.next() } }
        bad = good + [5, 0]
        #expect(throws: CARError.sectionSize(bytes: 5, offset: good.count)) { try CARReader.read(bad) }
        #expect(throws: CARError.length(offset: good.count)) { try CARReader.read(good + [0x81, 0x00]) }
        #expect(throws: CARError.truncated(offset: good.count)) { try CARReader.read(good + [0x81]) }
        #expect(throws: CARError.truncated(offset: 0)) { try CARReader.read([]) }
    }

    @Test("a block may have the limit's size and not a byte more")
    func blockLimit() throws {
        let block = RepoSample.Block([UInt8](repeating: 1, count: 1000))
        let file = RepoSample.car(root: block.cid, [block])
        #expect(try CARReader.read(file, limits: .init(blockBytesMax: 1000)).blocks.count == 1)
        #expect(throws: CARError.self) { try CARReader.read(file, limits: .init(blockBytesMax: 999)) }
    }

    @Test("published repositories read as libipld reads them", arguments: [("greenground", 4), ("paul_staging", 452)])
    func published(name: String, distinct: Int) throws {
        guard let file = try TestFiles.published("cars/\(name).repo.car") else { return }
        let (roots, blocks) = try CARReader.read(file)
        #expect(Set(blocks.map(\.cid)).count == distinct)
        #expect(roots.count == 1)
        #expect(RepoSample.car(root: roots[0], blocks.map { RepoSample.Block($0.bytes) }) == file, "written back byte for byte")
        TestFiles.report(vectors: "cars/\(name).repo.car blocks", passed: distinct, of: distinct)
    }
}
