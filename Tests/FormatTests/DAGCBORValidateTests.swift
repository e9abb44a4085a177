import ATProto
import Simulation
import Testing

@Suite("DAG-CBOR validation")
struct DAGCBORValidateTests {
    @Test("validate accepts what decode accepts, and refuses the rest for the same reason at the same byte")
    func agrees() throws {
        let seed = TestFiles.seed
        var random = SeededGenerator(seed: seed)
        let limits = DecodingLimits(bytesMax: 400, depthMax: 4, countMax: 12, keyBytesMax: 40)
        var accepted = 0
        for round in 0..<3000 {
            var bytes = round < 1000 ? RepoSample.record(round, seed: seed) : DAGCBOR.encode(Self.value(depth: 0, &random))
            for _ in 0..<Int.random(in: 0...2, using: &random) where !bytes.isEmpty {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: bytes.remove(at: place)
                default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
                }
            }
            for limits in [.standard, limits] {
                let verdict = Self.decode(bytes, limits)
                #expect(Self.validate(bytes, limits) == verdict, "seed \(seed), round \(round), \(bytes)")
                accepted += verdict == nil ? 1 : 0
            }
        }
        #expect(accepted > 500, "too few valid inputs to mean anything: \(accepted), seed \(seed)")
    }

    private static func value(depth: Int, _ random: inout SeededGenerator) -> Value {
        switch Int.random(in: 0..<(depth < 5 ? 9 : 6), using: &random) {
        case 0: .null
        case 1: .bool(true)
        case 2: .integer(Int64(truncatingIfNeeded: random.next()) >> Int64.random(in: 0..<63, using: &random))
        case 3: .string(["", "é", "日本語", "plain text that is longer than eight", "a\u{1F600}b"].randomElement(using: &random) ?? "")
        case 4: .bytes(random.bytes(Int.random(in: 0..<30, using: &random)))
        case 5: .link(CID(codec: .raw, digest: random.bytes(32)))
        case 6: .array((0..<Int.random(in: 0..<5, using: &random)).map { _ in value(depth: depth + 1, &random) })
        default:
            .map(
                (0..<Int.random(in: 0..<5, using: &random)).reduce(into: ValueMap()) { map, _ in
                    map[String(random.next() >> 40, radix: 36)] = value(depth: depth + 1, &random)
                })
        }
    }

    private static func decode(_ bytes: [UInt8], _ limits: DecodingLimits) -> DAGCBORError? {
        do {
            _ = try DAGCBOR.decode(bytes, limits: limits)
            return nil
        } catch {
            return error
        }
    }

    private static func validate(_ bytes: [UInt8], _ limits: DecodingLimits) -> DAGCBORError? {
        do {
            try DAGCBOR.validate(bytes, limits: limits)
            return nil
        } catch {
            return error
        }
    }
}
