import ATProto
import Simulation
import Testing

@Suite("CID, base32 and varint")
struct CIDTests {
    private let empty = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"

    @Test("the published CID syntax lists are told apart", arguments: [true, false])
    func publishedSyntax(isValid: Bool) throws {
        let path = "interop/syntax/cid_syntax_\(isValid ? "valid" : "invalid").txt"
        guard let lines = try TestFiles.publishedLines(path) else { return }
        let passed = lines.filter { CID.isSyntacticallyValid($0) == isValid }
        for line in lines where CID.isSyntacticallyValid(line) != isValid { Issue.record("\(line)") }
        TestFiles.report(vectors: path, passed: passed.count, of: lines.count)
    }

    @Test("the lexicon format takes 8 to 256 characters")
    func syntaxLengths() {
        for (count, isValid) in [(7, false), (8, true), (256, true), (257, false)] {
            #expect(CID.isSyntacticallyValid(String(repeating: "b", count: count)) == isValid)
        }
    }

    @Test("text, bytes and parts of a CID agree, whatever its digest")
    func roundTrips() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        for _ in 0..<500 {
            let cid = generator.cid()
            #expect(try CID(cid.description) == cid, "seed \(TestFiles.seed)")
            #expect(try CID(bytes: cid.bytes) == cid, "seed \(TestFiles.seed)")
            #expect(CID(codec: cid.codec, digest: cid.digest) == cid)
            #expect(cid.description == "b" + Base32.encode(cid.bytes))
            #expect(cid.bytes.count == CID.byteCount && cid.description.utf8.count == CID.characterCount)
        }
    }

    @Test("hashing an empty map gives its known CID")
    func hashes() throws {
        #expect(CID(hashing: [0xA0]).description == empty)
        #expect(CID(hashing: [UInt8]([0xA0]).span.bytes) == CID(hashing: [0xA0]))
        #expect(CID(hashing: [0xA0], codec: .raw).digest == CID(hashing: [0xA0]).digest)
    }

    @Test("CIDs are ordered as their bytes are")
    func order() {
        var generator = SeededGenerator(seed: TestFiles.seed)
        let cids = (0..<200).map { _ in generator.cid() }
        for (left, right) in zip(cids, cids.dropFirst()) {
            #expect((left < right) == left.bytes.lexicographicallyPrecedes(right.bytes), "seed \(TestFiles.seed)")
        }
    }

    @Test("every byte of the head must be the expected one")
    func heads() throws {
        let cid = CID(hashing: [0xA0])
        for place in 0..<4 {
            for byte in UInt8.min...UInt8.max {
                var bytes = cid.bytes
                bytes[place] = byte
                let isKnown = bytes[place] == cid.bytes[place] || (place == 1 && byte == CID.Codec.raw.rawValue)
                #expect((try? CID(bytes: bytes)) != nil || !isKnown)
                #expect((try? CID(bytes: bytes)) == nil || isKnown)
            }
        }
        #expect(throws: CIDError.version(0)) { try CID(bytes: [0] + cid.bytes.dropFirst()) }
        #expect(throws: CIDError.codec(0x70)) { try CID(bytes: [1, 0x70] + cid.bytes.dropFirst(2)) }
        #expect(throws: CIDError.hash(0x1320)) { try CID(bytes: [1, 0x71, 0x13] + cid.bytes.dropFirst(3)) }
        #expect(throws: CIDError.length(35)) { try CID(bytes: cid.bytes.dropLast()) }
        #expect(throws: CIDError.length(37)) { try CID(bytes: cid.bytes + [0]) }
    }

    @Test("a text that is nearly a CID is refused with the place")
    func texts() throws {
        #expect(try CID(empty).description == empty)
        #expect(throws: CIDError.textLength(58)) { try CID(String(empty.dropLast())) }
        #expect(throws: CIDError.textLength(60)) { try CID(empty + "a") }
        #expect(throws: CIDError.textLength(0)) { try CID("") }
        #expect(throws: CIDError.multibase) { try CID("z" + empty.dropFirst()) }
        #expect(throws: CIDError.base32(offset: 1)) { try CID("bA" + empty.dropFirst(2)) }
        #expect(throws: CIDError.base32(offset: 58)) { try CID(empty.dropLast() + "1") }
        // The last character has two bits more than the digest: of the four texts they would allow, one is right.
        let others = "bcd".map { String(empty.dropLast()) + String($0) }
        for other in others { #expect(throws: CIDError.base32(offset: 58)) { try CID(other) } }
    }

    @Test("base32 has one text for each byte string")
    func base32() throws {
        #expect(Base32.encode(Array("foobar".utf8)) == "mzxw6ytboi")
        var generator = SeededGenerator(seed: TestFiles.seed)
        for count in 0..<40 {
            let bytes = generator.bytes(count)
            #expect(try Base32.decode(Base32.encode(bytes)) == bytes, "seed \(TestFiles.seed)")
        }
        #expect(throws: Base32Error.length(1)) { try Base32.decode("a") }
        #expect(throws: Base32Error.length(3)) { try Base32.decode("aaa") }
        #expect(throws: Base32Error.unusedBits) { try Base32.decode("ab") }
        #expect(throws: Base32Error.character(offset: 2)) { try Base32.decode("aa=aaaaa") }
    }

    @Test("varints come back, and only in their shortest form")
    func varints() throws {
        for shift in 0..<63 {
            for value in [1 << UInt64(shift), 1 << UInt64(shift) - 1, Varint.valueMax] as [UInt64] {
                var bytes: [UInt8] = [0xFF]
                Varint.encode(value, into: &bytes)
                let decoded = try Varint.decode(bytes, at: 1)
                #expect(decoded.value == value && decoded.end == bytes.count && bytes.count <= 1 + Varint.bytesMax)
                #expect(throws: VarintError.truncated(offset: 1)) { try Varint.decode(Array(bytes.dropLast()), at: 1) }
            }
        }
        #expect(throws: VarintError.notShortest(offset: 0)) { try Varint.decode([0x80, 0x00], at: 0) }
        #expect(throws: VarintError.tooLong(offset: 0)) { try Varint.decode([UInt8](repeating: 0xFF, count: 9) + [0x01], at: 0) }
        #expect(throws: VarintError.truncated(offset: 0)) { try Varint.decode([], at: 0) }
    }
}
