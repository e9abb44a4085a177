import Foundation
import Keys
import Simulation
import Testing

@Suite("Keys: signatures")
struct KeysSignatureTests {
    /// RFC 6979, appendix A.2.5, the rows for SHA-256: the published s of `sample` is the high one.
    @Test(
        "P-256 signs the messages of RFC 6979 A.2.5 with the published r, and s or n − s",
        arguments: [
            (
                "sample", "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
                "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
            ),
            (
                "test", "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
                "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083"
            ),
        ])
    func rfc6979(message: String, r: String, s: String) throws {
        let key = try PrivateKey(
            curve: .p256, rawBytes: KeysSupport.bytes("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"))
        let x = "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
        #expect(key.publicKey.compressed == KeysSupport.bytes("03" + x))
        let signature = try key.sign(Array(message.utf8))
        let published = KeysSupport.bytes(s)
        #expect(Array(signature[..<32]) == KeysSupport.bytes(r))
        #expect([published, KeysSupport.negated(published, .p256)].contains(Array(signature[32...])))
        #expect(signature[32...].lexicographicallyPrecedes(KeysSupport.negated(Array(signature[32...]), .p256)))
    }

    struct Deterministic: Decodable {
        struct Case: Decodable {
            var curve: String
            var `private`: String
            var `public`: String
            var message: String
            var signature: String
            var wasHigh: Bool
        }
        /// Valid signatures whose s is n/2 rounded down, or one more.
        struct Bound: Decodable {
            var curve: String
            var `public`: String
            var message: String
            var signature: String
            var high: Bool
        }
        var cases: [Case]
        var bounds: [Bound]
    }

    @Test("500 keys and messages of each curve are signed as PyPI cryptography signs them, s made low")
    func equalsCryptography() throws {
        let fixture = try JSONDecoder().decode(Deterministic.self, from: Data(TestFiles.fixture("keys/deterministic.json")))
        for curve in Curve.allCases {
            let cases = fixture.cases.filter { $0.curve == (curve == .p256 ? "p256" : "k256") }
            #expect(cases.count == 500)
            #expect(cases.contains { $0.wasHigh } && cases.contains { !$0.wasHigh })
            var passed = 0
            for entry in cases {
                let key = try PrivateKey(curve: curve, rawBytes: KeysSupport.bytes(entry.private))
                let message = KeysSupport.bytes(entry.message)
                let signature = try key.sign(message)
                guard signature == KeysSupport.bytes(entry.signature), key.publicKey.compressed == KeysSupport.bytes(entry.public) else {
                    Issue.record("\(curve): the key of \(entry.public) signs otherwise")
                    continue
                }
                passed += 1
            }
            TestFiles.report(vectors: "Fixtures/keys/deterministic.json (\(curve.jwkName))", passed: passed, of: cases.count)
            #expect(passed == cases.count)
        }
    }

    struct Published: Decodable {
        var comment: String
        var messageBase64: String
        var algorithm: String
        var publicKeyDid: String
        var publicKeyMultibase: String
        var signatureBase64: String
        var validSignature: Bool
        var tags: [String]
    }

    @Test("the published signatures are judged as they say: high-S and DER are refused")
    func publishedSignatures() throws {
        let name = "interop/crypto/signature-fixtures.json"
        guard let bytes = try TestFiles.published(name) else { return }
        let cases = try JSONDecoder().decode([Published].self, from: Data(bytes))
        var passed = 0
        for entry in cases {
            let key = try PublicKey(didKey: entry.publicKeyDid)
            let signature = try Self.base64(entry.signatureBase64)
            let message = try Self.base64(entry.messageBase64)
            let sameKey = try PublicKey(curve: key.curve, multibaseWithoutCodec: entry.publicKeyMultibase) == key
            let judged = key.verifies(signature, of: message)
            let highAllowed = key.verifies(signature, of: message, allowHighS: true)
            let right =
                sameKey && key.curve.algorithm == entry.algorithm && judged == entry.validSignature
                && highAllowed == !entry.tags.contains("der-encoded")
            #expect(right, "\(entry.comment)")
            if right { passed += 1 }
        }
        TestFiles.report(vectors: name, passed: passed, of: cases.count)
        #expect(passed == cases.count)
    }

    @Test("both curves: a signature is low-S, its high twin verifies only where high-S is allowed", arguments: Curve.allCases)
    func highS(curve: Curve) throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        for _ in 0..<20 {
            let key = try Self.key(curve, &generator)
            let message = generator.bytes(Int.random(in: 0...300, using: &generator))
            let signature = try key.sign(message)
            let high = Array(signature[..<32]) + KeysSupport.negated(Array(signature[32...]), curve)
            let seed = "seed \(TestFiles.seed)"
            #expect(try key.sign(message) == signature, "\(seed)")
            #expect(key.publicKey.verifies(signature, of: message), "\(seed)")
            #expect(key.publicKey.verifies(signature, of: message, allowHighS: true), "\(seed)")
            #expect(!key.publicKey.verifies(high, of: message), "\(seed)")
            #expect(key.publicKey.verifies(high, of: message, allowHighS: true), "\(seed)")
        }
    }

    @Test("the largest low s is accepted, the smallest high s only where high-S is allowed")
    func lowSBound() throws {
        let fixture = try JSONDecoder().decode(Deterministic.self, from: Data(TestFiles.fixture("keys/deterministic.json")))
        #expect(fixture.bounds.count == 4)
        for bound in fixture.bounds {
            let key = try PublicKey(curve: bound.curve == "p256" ? .p256 : .k256, compressed: KeysSupport.bytes(bound.public))
            let (signature, message) = (KeysSupport.bytes(bound.signature), KeysSupport.bytes(bound.message))
            #expect(key.verifies(signature, of: message) == !bound.high, "\(bound.curve)")
            #expect(key.verifies(signature, of: message, allowHighS: true), "\(bound.curve)")
        }
    }

    @Test("one changed bit anywhere, a shorter or longer signature, another key or zeros do not verify", arguments: Curve.allCases)
    func changedSignatures(curve: Curve) throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        let key = try Self.key(curve, &generator)
        let other = try Self.key(curve, &generator)
        let message = generator.bytes(40)
        let signature = try key.sign(message)
        for bit in 0..<512 {
            var changed = signature
            changed[bit / 8] ^= 1 << (bit % 8)
            #expect(!key.publicKey.verifies(changed, of: message, allowHighS: true), "bit \(bit), seed \(TestFiles.seed)")
        }
        for wrong in [[], [0], Array(signature.dropLast()), signature + [0], [UInt8](repeating: 0, count: 64)] {
            #expect(!key.publicKey.verifies(wrong, of: message))
            #expect(!key.publicKey.verifies(wrong, of: message, allowHighS: true))
        }
        let order = KeysSupport.order(curve)
        #expect(!key.publicKey.verifies(order + order, of: message, allowHighS: true))
        #expect(!key.publicKey.verifies(Array(signature[..<32]) + [UInt8](repeating: 0, count: 32), of: message))
        #expect(!key.publicKey.verifies(signature, of: message + [0]))
        #expect(!other.publicKey.verifies(signature, of: message))
    }

    /// RFC 8032, section 7.1, tests 1 and 2.
    @Test(
        "Ed25519 signs the published messages",
        arguments: [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ])
    func ed25519(seed: String, point: String, message: String, signature: String) throws {
        let key = try Ed25519PrivateKey(rawBytes: KeysSupport.bytes(seed))
        #expect(key.publicKey.rawBytes == KeysSupport.bytes(point))
        #expect(try key.sign(KeysSupport.bytes(message)) == KeysSupport.bytes(signature))
        #expect(key.publicKey.verifies(KeysSupport.bytes(signature), of: KeysSupport.bytes(message)))
        #expect(!key.publicKey.verifies(KeysSupport.bytes(signature), of: [1]))
        #expect(!key.publicKey.verifies(Array(KeysSupport.bytes(signature).dropLast()), of: KeysSupport.bytes(message)))
    }

    private static func key(_ curve: Curve, _ generator: inout SeededGenerator) throws -> PrivateKey {
        // The first byte keeps it under both orders.
        try PrivateKey(curve: curve, rawBytes: [0x7f] + generator.bytes(31))
    }

    /// The vectors have the standard alphabet and no padding.
    private static func base64(_ text: String) throws -> [UInt8] {
        let padding = String(repeating: "=", count: (4 - text.count % 4) % 4)
        return [UInt8](try #require(Data(base64Encoded: text + padding)))
    }
}
