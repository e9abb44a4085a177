import ATProto
import Authorization
import Keys
import Simulation
import Testing

@Suite("Verified tokens")
struct VerifiedTokensTests {
    private let key = PrivateKey.generate(.p256)

    private func text(_ number: Int, by key: PrivateKey) throws -> String {
        func part(_ value: Value) -> String { Base64URL.encode(DataModelJSON.encode(value)) }
        let input = part(["alg": .string(key.curve.algorithm)]) + "." + part(["jti": .string("\(number)")])
        return "\(input).\(Base64URL.encode(try key.sign(Array(input.utf8))))"
    }

    @Test("a token that was verified once is the same token, under the key that signed it and no other")
    func remembered() throws {
        let tokens = VerifiedTokens()
        let text = try text(1, by: key)
        for _ in 0..<3 {
            let token = try tokens.token(text)
            #expect(token.claims == ["jti": "1"])
            #expect(tokens.isSigned(token, text, by: key.publicKey))
            #expect(!tokens.isSigned(token, text, by: PrivateKey.generate(.p256).publicKey), "of an issuer that has another key now")
            #expect(!tokens.isSigned(token, text, by: PrivateKey.generate(.k256).publicKey))
        }
        #expect(tokens.count == 1)
    }

    @Test("a token whose signature is wrong is remembered as nothing, however often it comes, and beside the good one")
    func forged() throws {
        let tokens = VerifiedTokens()
        let good = try text(1, by: key)
        #expect(tokens.isSigned(try tokens.token(good), good, by: key.publicKey))
        let claims = try text(2, by: key).split(separator: ".")
        let parts = good.split(separator: ".")
        let forged = [try text(1, by: .generate(.p256)), "\(parts[0]).\(claims[1]).\(parts[2])", good + "A", good.lowercased()]
        for text in forged {
            for _ in 0..<2 {
                guard let token = try? tokens.token(text) else { continue }
                #expect(!tokens.isSigned(token, text, by: key.publicKey), "\(text)")
            }
        }
        #expect(tokens.count == 1)
        #expect(throws: TokenError.malformed("Could not decode access token")) { try tokens.token("a.b") }
    }

    @Test("the memory is bounded in number and in bytes, and what it forgot is verified again")
    func bounded() throws {
        for tokens in [VerifiedTokens(countMax: 8), VerifiedTokens(countMax: 1000, bytesMax: 8 * 4 * 140)] {
            for number in 0..<50 {
                let text = try text(number, by: key)
                #expect(tokens.isSigned(try tokens.token(text), text, by: key.publicKey))
                #expect(tokens.count <= 8)
            }
            #expect(tokens.count >= 2)
            let first = try text(0, by: key)
            #expect(tokens.isSigned(try tokens.token(first), first, by: key.publicKey))
        }
    }
}
