import CP256
import Foundation
import Keys
import Simulation
import Testing

@Suite("Keys: secrets stay secret")
struct KeysSecretTests {
    @Test("no way of printing a private key shows its bytes", arguments: Curve.allCases)
    func printing(curve: Curve) throws {
        let raw = [0x7f] + SeededGenerator.bytes(31, seed: TestFiles.seed)
        let key = try PrivateKey(curve: curve, rawBytes: raw)
        var texts = Self.texts(of: key)
        #expect(texts.allSatisfy { $0.contains(key.publicKey.didKey) || $0.contains("PrivateKey") })
        texts += Self.texts(of: [key]) + Self.texts(of: Optional(key)) + Self.texts(of: (key, 1))
        Self.expect(texts, hide: raw)
        #expect(Mirror(reflecting: key).children.isEmpty)

        let edwards = try Ed25519PrivateKey(rawBytes: raw)
        Self.expect(Self.texts(of: edwards) + Self.texts(of: [edwards]), hide: raw)
        #expect(Mirror(reflecting: edwards).children.isEmpty)
    }

    @Test("errors about keys hold no part of the refused text")
    func errors() throws {
        let secret = "zSecretSecretSecretSecretSecretSecretSecretSecret"
        for text in ["did:key:" + secret, secret, "did:key:zQ3sh" + secret] {
            let error = #expect(throws: KeysError.self) { try PublicKey(didKey: text) }
            #expect(!"\(try #require(error))".contains("Secret"))
        }
    }

    @Test("signing from many threads with the same key gives the same signature", arguments: Curve.allCases)
    func threads(curve: Curve) async throws {
        let key = PrivateKey.generate(curve)
        let message = Array("the same for all".utf8)
        let expected = try key.sign(message)
        let signatures = try await withThrowingTaskGroup(of: [[UInt8]].self) { group in
            for _ in 0..<8 { group.addTask { try (0..<25).map { _ in try key.sign(message) } } }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(signatures.count == 200 && signatures.allSatisfy { $0 == expected })
    }

    @Test("generated keys differ, and a thousand are held at once", arguments: Curve.allCases)
    func generation(curve: Curve) throws {
        let keys = (0..<1000).map { _ in PrivateKey.generate(curve) }
        #expect(Set(keys.map(\.publicKey)).count == 1000)
    }

    @Test("when the locked memory is full, keys are still made, and old and new ones sign", arguments: Curve.allCases)
    func fullMemory(curve: Curve) throws {
        let before = PrivateKey.generate(curve)
        // Together as much as there is but for the reserve; what finds no room comes from ordinary memory.
        let sizes = [512, 256, 128, 64, 32, 16, 8, 4, 2, 1].map { $0 << 10 }
        let taken = sizes.map { ($0, cp256_secret_allocate($0)) }
        defer { for (size, memory) in taken { cp256_secret_free(memory, size) } }
        let after = PrivateKey.generate(curve)
        for key in [before, after] { #expect(key.publicKey.verifies(try key.sign([1]), of: [1])) }
    }

    private static func texts<Subject>(of subject: Subject) -> [String] {
        var dumped = ""
        dump(subject, to: &dumped)
        return [String(describing: subject), String(reflecting: subject), "\(subject)", dumped]
    }

    private static func expect(_ texts: [String], hide raw: [UInt8]) {
        let hex = raw.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        let forms = [hex, Data(raw).base64EncodedString(), Base64URL.encode(raw), Base58BTC.encode(raw), "\(raw[0]), \(raw[1]), \(raw[2])"]
        for text in texts {
            for form in forms { #expect(!text.contains(form), "seed \(TestFiles.seed)") }
        }
    }
}

extension SeededGenerator {
    fileprivate static func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        return generator.bytes(count)
    }
}
