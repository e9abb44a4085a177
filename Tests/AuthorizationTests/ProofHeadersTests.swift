import ATProto
import Authorization
import Keys
import Simulation
import Testing

@Suite("Headers of proofs")
struct ProofHeadersTests {
    private let url = "https://stratos.example/xrpc/com.atproto.repo.getRecord"
    private let now: Int64 = 1_700_000_000

    private var expected: DPoPProof.Expectation { .init(method: "GET", url: url, accessToken: "a.b.c", now: now) }

    private func header(_ key: PrivateKey, _ more: ValueMap = [:]) -> Value {
        let jwk = key.publicKey.jwk
        var members: ValueMap = ["kty": .string(jwk.kty), "crv": .string(jwk.crv), "x": .string(jwk.x), "y": .string(jwk.y)]
        for (name, value) in more { members[name] = value }
        return ["typ": "dpop+jwt", "alg": .string(key.curve.algorithm), "jwk": .map(members)]
    }

    /// A proof under a header, signed by a key that need not be the one in it.
    private func proof(_ header: Value, by key: PrivateKey, number: Int = 0, url: String? = nil) throws -> String {
        func part(_ value: Value) -> String { Base64URL.encode(DataModelJSON.encode(value)) }
        let claims: Value = [
            "htm": "GET", "htu": .string(url ?? self.url), "iat": .integer(now), "jti": .string("\(number)"),
            "ath": .string(Base64URL.encode(CID(hashing: Array("a.b.c".utf8), codec: .raw).digest)),
        ]
        let input = part(header) + "." + part(claims)
        return "\(input).\(Base64URL.encode(try key.sign(Array(input.utf8))))"
    }

    @Test("a header that is remembered is the same key with the same thumbprint, on both curves", arguments: Curve.allCases)
    func remembered(curve: Curve) throws {
        let headers = ProofHeaders()
        let key = PrivateKey.generate(curve)
        for number in 0..<3 {
            let (proof, _) = try DPoPProof.check(try proof(header(key), by: key, number: number), expected, headers: headers)
            #expect(proof.thumbprint == key.publicKey.jwk.thumbprint)
            headers.remember(proof.header)
            #expect(headers.count == 1)
        }
    }

    @Test("what is remembered vouches for no signature: another key under that header, another claim or another curve is refused each time")
    func forged() throws {
        let headers = ProofHeaders()
        let (key, other) = (PrivateKey.generate(.p256), PrivateKey.generate(.p256))
        let good = try proof(header(key), by: key)
        headers.remember(try DPoPProof.check(good, expected, headers: headers).proof.header)
        let parts = good.split(separator: ".")
        let claims = try proof(header(key), by: key, number: 1).split(separator: ".")[1]
        let forged = [
            try proof(header(key), by: other), try proof(header(key), by: .generate(.k256)), "\(parts[0]).\(claims).\(parts[2])",
            "\(parts[0]).\(parts[1]).\(Base64URL.encode([UInt8](repeating: 0, count: 64)))",
        ]
        for text in forged {
            #expect(throws: TokenError.badSignature) { try DPoPProof.check(text, expected, headers: headers) }
        }
        #expect(headers.count == 1)
        #expect(try DPoPProof.check(good, expected, headers: headers).proof.thumbprint == key.publicKey.jwk.thumbprint)
    }

    @Test("a header beside a remembered one is judged by itself, however little it differs")
    func neighbours() throws {
        let headers = ProofHeaders()
        let key = PrivateKey.generate(.p256)
        headers.remember(try DPoPProof.check(try proof(header(key), by: key), expected, headers: headers).proof.header)
        let leaked = header(key, ["d": "AAAA"])
        #expect(throws: TokenError.malformed("a DPoP proof carries a public key, never a private one")) {
            try DPoPProof.check(try proof(leaked, by: key), expected, headers: headers)
        }
        var typed = try #require(header(key).mapValue)
        typed["typ"] = "jwt"
        #expect(throws: TokenError.malformed("a DPoP proof has the type dpop+jwt")) {
            try DPoPProof.check(try proof(.map(typed), by: key), expected, headers: headers)
        }
        var critical = try #require(header(key).mapValue)
        critical["crit"] = ["exp"]
        #expect(throws: TokenError.self) { try DPoPProof.check(try proof(.map(critical), by: key), expected, headers: headers) }
        #expect(headers.count == 1)
    }

    @Test("nothing is remembered of a proof that is only checked, and an address that is no URL is none, not even beside another")
    func unremembered() throws {
        let headers = ProofHeaders()
        let key = PrivateKey.generate(.p256)
        _ = try DPoPProof.check(try proof(header(key), by: key), expected, headers: headers)
        #expect(headers.count == 0)
        let odd = DPoPProof.Expectation(method: "GET", url: "no address", accessToken: "a.b.c", now: now)
        #expect(throws: TokenError.mismatched("DPoP htu mismatch")) {
            try DPoPProof.check(try proof(header(key), by: key, url: "another"), odd, headers: headers)
        }
        // The same place, written differently.
        let same = "HTTPS://Stratos.Example:443/xrpc/com.atproto.repo.getRecord?a=b"
        _ = try DPoPProof.check(try proof(header(key), by: key, url: same), expected, headers: headers)
    }

    @Test("the memory is bounded in number and in bytes, and what it forgot is parsed again")
    func bounded() throws {
        let first = PrivateKey.generate(.p256)
        for headers in [ProofHeaders(countMax: 8), ProofHeaders(countMax: 1000, bytesMax: 8 * 6 * 240)] {
            for number in 0..<30 {
                let key = number == 0 ? first : PrivateKey.generate(.p256)
                headers.remember(try DPoPProof.check(try proof(header(key), by: key), expected, headers: headers).proof.header)
                #expect(headers.count <= 8)
            }
            #expect(headers.count >= 2)
            let proof = try DPoPProof.check(try proof(header(first), by: first), expected, headers: headers).proof
            #expect(proof.thumbprint == first.publicKey.jwk.thumbprint)
        }
    }
}
