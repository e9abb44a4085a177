import ATProto
import Devnet
import Keys

/// A request with an access token and a proof of possession, whose parts are still open. What a test changes, and only that, is wrong.
struct DPoPRequest {
    var token: DevnetJWT
    var proof: DevnetJWT
    /// Stand in place of what the parts would give.
    var tokenText: String?
    var authorization: [String]?
    var proofs: [String]?
    /// Whether the proof's `ath` follows the token, as it does where the token was made so.
    var bindsToken = true

    /// The values of the two headers.
    func headers() throws -> (authorization: [String], proofs: [String]) {
        let text = try tokenText ?? token.text
        var proof = proof
        if bindsToken { proof.claims["ath"] = .string(Base64URL.encode(CID(hashing: Array(text.utf8), codec: .raw).digest)) }
        return (authorization ?? ["DPoP \(text)"], try proofs ?? [proof.text])
    }
}

/// One thing that is wrong with a request, and what the answer must be.
struct Mutation<Request>: Sendable, CustomStringConvertible {
    let description: String
    let status: Int
    let error: String
    /// What the `WWW-Authenticate` must hold; nil where there need be none.
    let challenge: String?
    let change: @Sendable (inout Request, MutationContext) throws -> Void
    /// Whether it is wrong for procedures alone: a query with it is fine.
    var isForProceduresAlone = false

    init(
        _ description: String, status: Int = 401, error: String = "AuthenticationRequired", challenge: String? = nil,
        isForProceduresAlone: Bool = false, change: @escaping @Sendable (inout Request, MutationContext) throws -> Void
    ) {
        self.description = description
        self.status = status
        self.error = error
        self.challenge = challenge
        self.isForProceduresAlone = isForProceduresAlone
        self.change = change
    }
}

/// What a mutation may need beside the request.
struct MutationContext: Sendable {
    /// Seconds since 1970, as the service sees them.
    let now: Int64
    /// Another member with keys of their own.
    let other: DevnetUser
    /// Nobody here.
    let stranger: DevnetUser
    let service: String
    let url: String
}

extension Mutation where Request == DPoPRequest {
    private static let invalidToken = "error=\"invalid_token\""
    private static let invalidProof = "error=\"invalid_dpop_proof\""

    private static func token(
        _ description: String, status: Int = 401, error: String = "AuthenticationRequired", challenge: String? = invalidToken,
        _ change: @escaping @Sendable (inout DevnetJWT, MutationContext) throws -> Void
    ) -> Mutation {
        Mutation("token: \(description)", status: status, error: error, challenge: challenge) { try change(&$0.token, $1) }
    }

    private static func proof(
        _ description: String, challenge: String = invalidProof,
        _ change: @escaping @Sendable (inout DevnetJWT, MutationContext) throws -> Void
    ) -> Mutation {
        Mutation("proof: \(description)", challenge: challenge) { try change(&$0.proof, $1) }
    }

    static let tokens: [Mutation] = [
        token("a bit of the signature flipped") { token, _ in token.signatureBytes = try token.signature.flipped },
        token("no signature") { token, _ in token.signatureBytes = [] },
        token("signed by another key") { token, context in token.signer = .key(context.other.clientKey) },
        token("signed by the account's own repo key") { token, context in token.signer = .key(context.other.repoKey) },
        token("alg none") { token, _ in (token.header["alg"], token.signer) = ("none", .none) },
        token("alg HS256") { token, _ in (token.header["alg"], token.signer) = ("HS256", .secret([1, 2, 3])) },
        token("alg RS256") { token, _ in token.header["alg"] = "RS256" },
        token("alg of the other curve") { token, _ in token.header["alg"] = "ES256K" },
        token("no alg") { token, _ in token.header["alg"] = nil },
        token("kid of no key") { token, _ in token.header["kid"] = "nobody" },
        token("critical extensions") { token, _ in token.header["crit"] = ["exp"] },
        token("another issuer") { token, _ in token.claims["iss"] = "https://evil.example" },
        token("the issuer with a slash") { token, _ in token.claims["iss"] = .string((token.claims["iss"]?.stringValue ?? "") + "/") },
        token("no issuer") { token, _ in token.claims["iss"] = nil },
        token("no subject") { token, _ in token.claims["sub"] = nil },
        token("a subject that is no DID") { token, _ in token.claims["sub"] = "alice" },
        token("a subject that is not enrolled", status: 400, error: "NotEnrolled", challenge: nil) { token, context in
            token.claims["sub"] = .string(context.stranger.did.description)
        },
        token("expired") { token, context in token.claims["exp"] = .integer(context.now - 31) },
        token("no expiry") { token, _ in token.claims["exp"] = nil },
        token("an expiry as text") { token, context in token.claims["exp"] = .string(String(context.now + 60)) },
        token("an expiry with a fraction") { token, context in
            let text = String(decoding: DataModelJSON.encode(.map(token.claims)), as: UTF8.self)
            token.claimsBytes = Array("\(text.dropLast()),\"x\":1.5}".utf8)
        },
        token("not valid yet") { token, context in token.claims["nbf"] = .integer(context.now + 60) },
        token("issued in the future") { token, context in token.claims["iat"] = .integer(context.now + 600) },
        token("not bound to a key") { token, _ in token.claims["cnf"] = nil },
        token("bound to another key", challenge: invalidProof) { token, context in
            token.claims["cnf"] = ["jkt": .string(context.other.clientKey.publicKey.jwk.thumbprint)]
        },
        token("for another audience") { token, _ in token.claims["aud"] = "did:web:pds.example" },
        token("for an audience that begins as the right one") { token, _ in
            token.claims["aud"] = .string((token.claims["aud"]?.stringValue ?? "") + ".evil.example")
        },
        token("no audience") { token, _ in token.claims["aud"] = nil },
        token("a claim twice") { token, _ in
            let text = String(decoding: DataModelJSON.encode(.map(token.claims)), as: UTF8.self)
            token.claimsBytes = Array("\(text.dropLast()),\"sub\":\"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\"}".utf8)
        },
        token("claims that are no JSON") { token, _ in token.claimsBytes = Array("{".utf8) },
        token("a header that is no JSON") { token, _ in token.headerBytes = [0xFF] },
        Mutation("token: a fourth part", challenge: invalidToken) { request, _ in request.tokenText = try request.token.text + ".AAAA" },
        Mutation("token: two parts", challenge: invalidToken) { request, _ in request.tokenText = request.token.signingInput },
        Mutation("token: padded base64", challenge: invalidToken) { request, _ in request.tokenText = try request.token.text + "==" },
        Mutation("token: more than it may hold", challenge: invalidToken) { request, _ in
            request.token.claims["pad"] = .string(String(repeating: "x", count: 8192))
        },
        Mutation("token: empty", challenge: "DPoP realm=\"stratos\"") { request, _ in request.authorization = ["DPoP "] },
        Mutation("token: sent as a bearer") { request, _ in request.authorization = ["Bearer \(try request.token.text)"] },
        Mutation("token: sent twice", challenge: "DPoP realm=\"stratos\"") { request, _ in
            request.authorization = ["DPoP \(try request.token.text)", "DPoP \(try request.token.text)"]
        },
        Mutation("token: another scheme", challenge: "DPoP realm=\"stratos\"") { request, _ in
            request.authorization = ["Token \(try request.token.text)"]
        },
    ]

    static let proofMutations: [Mutation] = [
        Mutation("proof: none", challenge: invalidProof) { request, _ in request.proofs = [] },
        Mutation("proof: two", challenge: invalidProof) { request, _ in
            let text = try request.headers().proofs[0]
            request.proofs = [text, text]
        },
        Mutation("proof: no token", challenge: invalidProof) { request, _ in request.proofs = ["AAAA"] },
        proof("a bit of the signature flipped") { proof, _ in proof.signatureBytes = [UInt8](repeating: 1, count: 64) },
        proof("a signature of 63 bytes") { proof, _ in proof.signatureBytes = [UInt8](repeating: 1, count: 63) },
        proof("signed by another key") { proof, context in proof.signer = .key(context.other.clientKey) },
        proof("alg none") { proof, _ in (proof.header["alg"], proof.signer) = ("none", .none) },
        proof("alg HS256") { proof, _ in (proof.header["alg"], proof.signer) = ("HS256", .secret([1])) },
        proof("another type") { proof, _ in proof.header["typ"] = "JWT" },
        proof("no type") { proof, _ in proof.header["typ"] = nil },
        proof("no key") { proof, _ in proof.header["jwk"] = nil },
        proof("a private key") { proof, _ in
            var jwk = proof.header["jwk"]?.mapValue ?? ValueMap()
            jwk["d"] = "AAAA"
            proof.header["jwk"] = .map(jwk)
        },
        proof("a key that is no point") { proof, _ in
            var jwk = proof.header["jwk"]?.mapValue ?? ValueMap()
            jwk["y"] = jwk["x"]
            proof.header["jwk"] = .map(jwk)
        },
        proof("for another method") { proof, _ in proof.claims["htm"] = "PATCH" },
        proof("the method in small letters") { proof, _ in
            proof.claims["htm"] = .string((proof.claims["htm"]?.stringValue ?? "").lowercased())
        },
        proof("no method") { proof, _ in proof.claims["htm"] = nil },
        proof("for another host") { proof, context in
            proof.claims["htu"] = .string(context.url.split(separator: "stratos.").joined(separator: "evil."))
        },
        proof("for another path") { proof, context in proof.claims["htu"] = .string(context.url + "x") },
        proof("for another scheme") { proof, context in proof.claims["htu"] = .string("http" + context.url.dropFirst(5)) },
        proof("an address with credentials") { proof, context in
            proof.claims["htu"] = .string(context.url.split(separator: "://").joined(separator: "://user@"))
        },
        proof("no address") { proof, _ in proof.claims["htu"] = nil },
        proof("old") { proof, context in proof.claims["iat"] = .integer(context.now - 191) },
        proof("of the future") { proof, context in proof.claims["iat"] = .integer(context.now + 181) },
        proof("no time") { proof, _ in proof.claims["iat"] = nil },
        proof("no identifier") { proof, _ in proof.claims["jti"] = nil },
        proof("an empty identifier") { proof, _ in proof.claims["jti"] = "" },
        proof("a long identifier") { proof, _ in proof.claims["jti"] = .string(String(repeating: "j", count: 257)) },
        Mutation("proof: not bound to a token", challenge: invalidProof) { request, _ in
            request.bindsToken = false
            request.proof.claims["ath"] = nil
        },
        Mutation("proof: bound to another token", challenge: invalidProof) { request, _ in
            request.bindsToken = false
            request.proof.claims["ath"] = .string(Base64URL.encode([UInt8](repeating: 0, count: 32)))
        },
        proof("no nonce", challenge: "error=\"use_dpop_nonce\"") { proof, _ in proof.claims["nonce"] = nil },
        proof("a nonce that we never gave", challenge: "error=\"use_dpop_nonce\"") { proof, _ in
            proof.claims["nonce"] = .string(Base64URL.encode([UInt8](repeating: 5, count: 32)))
        },
    ]
}

extension [UInt8] {
    /// With the lowest bit of the last byte changed: still a number of the same size.
    var flipped: [UInt8] {
        var bytes = self
        bytes[bytes.count - 1] ^= 1
        return bytes
    }
}
