import Foundation
import Keys
import Simulation
import Testing

@Suite("Keys: keys as text")
struct KeysTextTests {
    struct K256: Decodable {
        var privateKeyBytesHex: String
        var publicDidKey: String
    }

    struct P256: Decodable {
        var privateKeyBytesBase58: String
        var publicDidKey: String
    }

    @Test("the private keys of the published did:key vectors have the published names")
    func publishedDIDKeys() throws {
        let k256 = "interop/crypto/w3c_didkey_K256.json"
        if let bytes = try TestFiles.published(k256) {
            let cases = try JSONDecoder().decode([K256].self, from: Data(bytes))
            var passed = 0
            for entry in cases {
                let key = try PrivateKey(curve: .k256, rawBytes: KeysSupport.bytes(entry.privateKeyBytesHex))
                if key.publicKey.didKey == entry.publicDidKey, try PublicKey(didKey: entry.publicDidKey) == key.publicKey { passed += 1 }
            }
            TestFiles.report(vectors: k256, passed: passed, of: cases.count)
            #expect(passed == cases.count)
        }
        let p256 = "interop/crypto/w3c_didkey_P256.json"
        if let bytes = try TestFiles.published(p256) {
            let cases = try JSONDecoder().decode([P256].self, from: Data(bytes))
            var passed = 0
            for entry in cases {
                let key = try PrivateKey(curve: .p256, rawBytes: Base58BTC.decode(entry.privateKeyBytesBase58))
                if key.publicKey.didKey == entry.publicDidKey, try PublicKey(didKey: entry.publicDidKey) == key.publicKey { passed += 1 }
            }
            TestFiles.report(vectors: p256, passed: passed, of: cases.count)
            #expect(passed == cases.count)
        }
    }

    @Test("a key comes back from each of its texts and forms", arguments: Curve.allCases)
    func roundTrips(curve: Curve) throws {
        for _ in 0..<20 {
            let key = PrivateKey.generate(curve).publicKey
            #expect(try PublicKey(didKey: key.didKey) == key)
            #expect(try PublicKey(multibase: key.multibase) == key)
            #expect(try PublicKey(jwk: key.jwk) == key)
            #expect(try PublicKey(curve: curve, compressed: key.compressed) == key)
            let jwk = key.jwk
            let uncompressed = try [4] + Base64URL.decode(jwk.x) + Base64URL.decode(jwk.y)
            #expect(try PublicKey(curve: curve, sec1: uncompressed) == key)
            #expect(try PublicKey(curve: curve, multibaseWithoutCodec: "z" + Base58BTC.encode(uncompressed)) == key)
            #expect(key.didKey.hasPrefix(curve == .p256 ? "did:key:zDn" : "did:key:zQ3s"))
            #expect(Set([key, try PublicKey(didKey: key.didKey)]).count == 1)
        }
    }

    @Test("a did:key that is not canonical, of another kind or off the curve is refused")
    func malformedDIDKeys() throws {
        let text = "did:key:zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo"
        let key = try PublicKey(didKey: text)
        for end in 0..<text.count {
            #expect(throws: KeysError.self, "\(end) characters") { try PublicKey(didKey: String(text.prefix(end))) }
        }
        let name = String(text.dropFirst(9))
        let wrong: [String] = [
            " \(text)", "\(text) ", "\(text)\n", "\(text)#z\(name)", text.uppercased(), "did:web:z\(name)", "DID:KEY:z\(name)",
            "\(text)1", "did:key:z1\(name)", "did:key:z", "did:key:", "did:key:u\(name)", "did:key:Z\(name)", "did:key:z\u{301}\(name)",
            "did:key:\u{301}z\(name)",
            text.replacing("D", with: "0"), text.replacing("D", with: "é"), "did:key:z" + String(repeating: "z", count: 91),
        ]
        for text in wrong { #expect(throws: KeysError.self, "\(text)") { try PublicKey(didKey: text) } }
        #expect(throws: KeysError.malformed("a did:key of ours has 57 characters")) {
            try PublicKey(didKey: "did:key:z" + String(repeating: "1", count: 1_000_000))
        }

        func named(_ bytes: [UInt8]) -> String { "did:key:z" + Base58BTC.encode(bytes) }
        let point = key.compressed
        // Ed25519, and P-256's code in a varint that is longer than it need be.
        #expect(throws: KeysError.unsupported("a kind of key other than P-256 and secp256k1")) {
            try PublicKey(didKey: named([0xed, 0x01] + point.dropFirst()))
        }
        #expect(throws: KeysError.self) { try PublicKey(didKey: named([0x80, 0xa4, 0x00] + point)) }
        #expect(throws: KeysError.invalidPoint(.p256)) { try PublicKey(didKey: named([0x80, 0x24] + point + [0])) }
        #expect(throws: KeysError.invalidPoint(.p256)) { try PublicKey(didKey: named([0x80, 0x24] + point.dropLast())) }
        #expect(throws: KeysError.invalidPoint(.p256)) { try PublicKey(didKey: named([0x80, 0x24, 0x05] + point.dropFirst())) }
    }

    @Test("coordinates off the curve, at infinity, beyond the field and in hybrid form are refused", arguments: Curve.allCases)
    func invalidPoints(curve: Curve) throws {
        let key = PrivateKey.generate(curve).publicKey
        let jwk = key.jwk
        let (x, y) = try (Base64URL.decode(jwk.x), Base64URL.decode(jwk.y))
        var otherY = y
        otherY[31] ^= 1
        let beyond = [UInt8](repeating: 0xff, count: 32)
        let sign = 6 + y[31] % 2
        let (zeros33, zeros65) = ([UInt8](repeating: 0, count: 33), [UInt8](repeating: 0, count: 65))
        let wrong: [[UInt8]] = [
            [], [0], zeros33, zeros65, [4] + x + otherY, [4] + x, [2] + beyond,
            [3] + beyond,
            [sign] + x + y, [2] + x + y, [4] + x + y + [0], [0x12] + x, x,
        ]
        for point in wrong {
            #expect(throws: KeysError.invalidPoint(curve), "\(point)") { try PublicKey(curve: curve, sec1: point) }
            #expect(throws: KeysError.invalidPoint(curve), "\(point)") { try PublicKey(curve: curve, compressed: point) }
        }
        #expect(throws: KeysError.invalidPoint(curve)) {
            try PublicKey(jwk: JWK(kty: "EC", crv: curve.jwkName, x: jwk.x, y: Base64URL.encode(otherY)))
        }
        // Half of all x are on the curve; the other half must be refused.
        var refused = 0
        for last in UInt8(0)..<64 {
            let point = [2] + x.dropLast() + [last]
            if (try? PublicKey(curve: curve, compressed: point)) == nil { refused += 1 }
        }
        #expect((8...56).contains(refused))
    }

    @Test("a private number of 0, n or more, or of another length is refused; 1 and n − 1 are keys", arguments: Curve.allCases)
    func privateRange(curve: Curve) throws {
        let order = KeysSupport.order(curve)
        let zero = [UInt8](repeating: 0, count: 32)
        var one = zero
        one[31] = 1
        for wrong in [zero, order, [UInt8](repeating: 0xff, count: 32), [], Array(one.dropFirst()), [0] + one] {
            #expect(throws: KeysError.invalidScalar(curve)) { try PrivateKey(curve: curve, rawBytes: wrong) }
        }
        let smallest = try PrivateKey(curve: curve, rawBytes: one).publicKey
        let largest = try PrivateKey(curve: curve, rawBytes: KeysSupport.negated(one, curve)).publicKey
        #expect(smallest.jwk.x == largest.jwk.x && smallest.jwk.y != largest.jwk.y)
    }

    /// The key and the thumbprint of RFC 9449, section 4.1 and figure 4.
    @Test("a JWK has the thumbprint that RFC 9449 gives for it")
    func thumbprint() throws {
        let jwk = try JWK(
            kty: "EC", crv: "P-256", x: "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", y: "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA")
        #expect(jwk.thumbprint == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I")
        #expect(try PublicKey(jwk: jwk).jwk == jwk)
    }

    @Test("a JWK of another kind, or with coordinates that are not 32 strict bytes, is refused")
    func malformedJWKs() throws {
        let good = PrivateKey.generate(.k256).publicKey.jwk
        _ = try JWK(kty: "EC", crv: "secp256k1", x: good.x, y: good.y)
        for (kty, crv) in [("OKP", "Ed25519"), ("EC", "P-384"), ("EC", "p-256"), ("ec", "P-256"), ("RSA", "P-256"), ("", "")] {
            #expect(throws: KeysError.self) { try JWK(kty: kty, crv: crv, x: good.x, y: good.y) }
        }
        let short = Base64URL.encode([UInt8](repeating: 7, count: 31))
        for x in ["", short, good.x + "A", good.x + "=", String(good.x.dropLast()) + "B", String(good.x.dropLast()) + "\"", good.x + " "] {
            // The last character of 32 bytes has four bits that must be zero, so B never ends one.
            #expect(throws: KeysError.self, "\(x)") { try JWK(kty: "EC", crv: "secp256k1", x: x, y: good.y) }
            #expect(throws: KeysError.self, "\(x)") { try JWK(kty: "EC", crv: "secp256k1", x: good.x, y: x) }
        }
    }

    @Test("base58btc has the published texts, keeps leading zeros and refuses what is long or not of its alphabet")
    func base58() throws {
        // draft-msporny-base58, section 5.
        let published: [([UInt8], String)] = [
            (Array("Hello World!".utf8), "2NEpo7TZRRrLZSi2U"),
            (Array("The quick brown fox jumps over the lazy dog.".utf8), "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z"),
            (KeysSupport.bytes("0000287fb4cd"), "11233QC4"), ([], ""), ([0], "1"), ([0, 0], "11"), ([57], "z"), ([58], "21"),
        ]
        for (bytes, text) in published {
            #expect(Base58BTC.encode(bytes) == text)
            #expect(try Base58BTC.decode(text) == bytes)
        }
        var generator = SeededGenerator(seed: TestFiles.seed)
        for count in 0..<100 {
            let bytes = [UInt8](repeating: 0, count: count % 3) + generator.bytes(count)
            #expect(try Base58BTC.decode(Base58BTC.encode(bytes)) == bytes, "seed \(TestFiles.seed)")
            #expect(try Base58BTC.decode(Base58BTC.encode(bytes), countMax: bytes.count) == bytes, "seed \(TestFiles.seed)")
            guard !bytes.isEmpty else { continue }
            #expect(throws: KeysError.self) { try Base58BTC.decode(Base58BTC.encode(bytes), countMax: bytes.count - 1) }
        }
        for wrong in [
            "0", "O", "I", "l", "2 ", "+", "é", "2\0", String(repeating: "1", count: 257), String(repeating: "z", count: 1_000_000),
        ] {
            #expect(throws: KeysError.self) { try Base58BTC.decode(wrong) }
        }
    }

    @Test("base64url has one text for each sequence of bytes, and that one only")
    func base64URL() throws {
        // RFC 4648, section 10, without padding; and bytes that need the URL alphabet.
        let published: [(String, String)] = [
            ("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE"), ("foobar", "Zm9vYmFy"),
        ]
        for (bytes, text) in published {
            #expect(Base64URL.encode(Array(bytes.utf8)) == text)
            #expect(try Base64URL.decode(text) == Array(bytes.utf8))
        }
        #expect(Base64URL.encode([0xfb, 0xff, 0xfe]) == "-__-")
        for wrong in ["Zg==", "Zg=", "Zm8=", "Zh", "Zm9", "A", "Zm9vY", "+//+", "Z g", "Zg\n", "é", "Z\0"] {
            #expect(throws: KeysError.self, "\(wrong)") { try Base64URL.decode(wrong) }
        }
        var generator = SeededGenerator(seed: TestFiles.seed)
        for count in 0..<200 {
            let bytes = generator.bytes(count)
            let text = Base64URL.encode(bytes)
            #expect(try Base64URL.decode(text) == bytes, "seed \(TestFiles.seed)")
            let foundation = Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
            #expect(text == foundation, "seed \(TestFiles.seed)")
        }
    }
}
