import ATProto
import Devnet
import Keys

/// A request with an inter-service token whose parts are still open.
struct ServiceTokenRequest {
    var token: DevnetJWT
    /// Stands in place of what the token would give.
    var authorization: [String]?

    func headers() throws -> [String] { try authorization ?? ["Bearer \(token.text)"] }
}

extension Mutation where Request == ServiceTokenRequest {
    private static func token(
        _ description: String, status: Int = 401, error: String = "AuthenticationRequired", isForProceduresAlone: Bool = false,
        _ change: @escaping @Sendable (inout DevnetJWT, MutationContext) throws -> Void
    ) -> Mutation {
        Mutation("service token: \(description)", status: status, error: error, isForProceduresAlone: isForProceduresAlone) {
            try change(&$0.token, $1)
        }
    }

    static let serviceTokens: [Mutation] = [
        token("a bit of the signature flipped") { token, _ in token.signatureBytes = try token.signature.flipped },
        token("no signature") { token, _ in token.signatureBytes = [] },
        token("a signature of 63 bytes") { token, _ in token.signatureBytes = Array(try token.signature.dropLast()) },
        token("a signature in DER") { token, _ in token.signatureBytes = [0x30, 0x44] + (try token.signature) },
        token("signed by another account") { token, context in token.signer = .key(context.other.repoKey) },
        token("signed by a client's key") { token, context in token.signer = .key(context.other.clientKey) },
        token("alg none") { token, _ in (token.header["alg"], token.signer) = ("none", .none) },
        token("alg HS256") { token, _ in (token.header["alg"], token.signer) = ("HS256", .secret([1])) },
        token("alg of the other curve") { token, _ in token.header["alg"] = "ES256" },
        token("alg RS256") { token, _ in token.header["alg"] = "RS256" },
        token("no alg") { token, _ in token.header["alg"] = nil },
        token("the type of an access token") { token, _ in token.header["typ"] = "at+jwt" },
        token("the type of a refresh token") { token, _ in token.header["typ"] = "refresh+jwt" },
        token("the type of a proof") { token, _ in token.header["typ"] = "dpop+jwt" },
        token("critical extensions") { token, _ in token.header["crit"] = ["lxm"] },
        token("of another member, signed by this one") { token, context in
            token.claims["iss"] = .string(context.other.did.description)
        },
        token("of somebody who is not enrolled", status: 400, error: "NotEnrolled") { token, context in
            token.claims["iss"] = .string(context.stranger.did.description)
            token.signer = .key(context.stranger.repoKey)
        },
        token("no issuer") { token, _ in token.claims["iss"] = nil },
        token("an issuer that is no DID") { token, _ in token.claims["iss"] = "https://pds.example" },
        token("an issuer with a fragment") { token, _ in
            token.claims["iss"] = .string((token.claims["iss"]?.stringValue ?? "") + "#atproto")
        },
        token("no audience") { token, _ in token.claims["aud"] = nil },
        token("another audience") { token, _ in token.claims["aud"] = "did:web:other.example" },
        token("an audience that begins as ours") { token, context in token.claims["aud"] = .string(context.service + ".evil.example") },
        token("an audience that ends as ours") { token, context in token.claims["aud"] = .string("did:web:evil.example/" + context.service)
        },
        token("an empty fragment") { token, context in token.claims["aud"] = .string(context.service + "#") },
        token("our URL as the audience") { token, _ in token.claims["aud"] = "https://stratos.example.com" },
        token("audiences as a list") { token, context in token.claims["aud"] = [.string(context.service)] },
        token("no method") { token, _ in token.claims["lxm"] = nil },
        token("another method") { token, _ in token.claims["lxm"] = "com.atproto.repo.uploadBlob" },
        token("every method") { token, _ in token.claims["lxm"] = "*" },
        token("the method in capitals") { token, _ in token.claims["lxm"] = .string((token.claims["lxm"]?.stringValue ?? "").uppercased())
        },
        token("expired") { token, context in token.claims["exp"] = .integer(context.now - 31) },
        token("no expiry") { token, _ in token.claims["exp"] = nil },
        token("an expiry as text") { token, context in token.claims["exp"] = .string(String(context.now + 60)) },
        token("an expiry two hours away") { token, context in token.claims["exp"] = .integer(context.now + 7200) },
        token("a lifetime of two hours, nearly over") { token, context in
            token.claims["iat"] = .integer(context.now - 7000)
            token.claims["exp"] = .integer(context.now + 200)
        },
        token("issued in the future") { token, context in token.claims["iat"] = .integer(context.now + 31) },
        token("not valid yet") { token, context in token.claims["nbf"] = .integer(context.now + 31) },
        token("no identifier", isForProceduresAlone: true) { token, _ in token.claims["jti"] = nil },
        token("an empty identifier") { token, _ in token.claims["jti"] = "" },
        token("a number as identifier") { token, _ in token.claims["jti"] = 7 },
        token("a long identifier") { token, _ in token.claims["jti"] = .string(String(repeating: "j", count: 257)) },
        token("a claim twice") { token, _ in
            let text = String(decoding: DataModelJSON.encode(.map(token.claims)), as: UTF8.self)
            token.claimsBytes = Array("\(text.dropLast()),\"lxm\":\"com.atproto.repo.getRecord\"}".utf8)
        },
        token("claims that are a list") { token, _ in token.claimsBytes = Array("[]".utf8) },
        token("a header that is no JSON") { token, _ in token.headerBytes = Array("alg".utf8) },
        token("more than it may hold") { token, _ in token.claims["pad"] = .string(String(repeating: "x", count: 8192)) },
        Mutation("service token: a fourth part") { request, _ in request.authorization = ["Bearer \(try request.token.text).AAAA"] },
        Mutation("service token: two parts") { request, _ in request.authorization = ["Bearer \(request.token.signingInput)"] },
        Mutation("service token: padded base64") { request, _ in request.authorization = ["Bearer \(try request.token.text)=="] },
        Mutation("service token: a space more") { request, _ in request.authorization = ["Bearer  \(try request.token.text)"] },
        Mutation("service token: sent twice") { request, _ in
            request.authorization = ["Bearer \(try request.token.text)", "Bearer \(try request.token.text)"]
        },
        Mutation("service token: as a DPoP token without a proof") { request, _ in
            request.authorization = ["DPoP \(try request.token.text)"]
        },
        Mutation("service token: as a password") { request, _ in
            request.authorization = ["Basic \(Base64URL.encode(Array("admin:\(try request.token.text)".utf8)))"]
        },
    ]
}
