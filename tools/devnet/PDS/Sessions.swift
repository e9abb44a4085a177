import ATProto
import Crypto
import HTTPTypes
import Hummingbird
import Keys

/// The server's own sessions: HS256 tokens that only it reads, with the claims, lifetimes and refusals of the public PDS.
extension PDS {
    private static let accessScope = "com.atproto.access"
    private static let refreshScope = "com.atproto.refresh"

    /// - Throws: the same refusal for an unknown account and a wrong password.
    func createSession(identifier: String, password: String) throws -> Value {
        let account = (try? ATIdentifier(identifier)).flatMap { self.account($0) }  // what is no identifier names no account
        guard let account, account.password == password else {
            throw XRPCRefusal.authenticationRequired("Invalid identifier or password")
        }
        let now = now
        let did = Value.string(account.did.description)
        let access = DevnetJWT(
            header: ["typ": "at+jwt", "alg": "HS256"],
            claims: [
                "scope": .string(Self.accessScope), "aud": .string(serviceDID), "sub": did, "iat": .integer(now),
                "exp": .integer(now + 120 * 60),
            ], signer: .secret(secret))
        let refresh = DevnetJWT(
            header: ["typ": "refresh+jwt", "alg": "HS256"],
            claims: [
                "scope": .string(Self.refreshScope), "aud": .string(serviceDID), "sub": did, "iat": .integer(now),
                "exp": .integer(now + 90 * 86_400), "jti": .string(try Self.randomHex(32)),
            ], signer: .secret(secret))
        return [
            "did": did, "handle": .string(account.handle.description), "active": true,
            "didDoc": try directory.document(of: account.did.description), "accessJwt": .string(try access.text),
            "refreshJwt": .string(try refresh.text),
        ]
    }

    /// The account whose session the request carries.
    func session(of request: Request) throws(XRPCRefusal) -> Account {
        guard let header = request.headers[.authorization], header.hasPrefix("Bearer ") else {
            throw XRPCRefusal(.unauthorized, "AuthMissing", "Authentication Required")
        }
        let claims = try sessionClaims(String(header.dropFirst("Bearer ".count)))
        guard let expiry = claims["exp"]?.integerValue, now < expiry else {
            throw XRPCRefusal(.badRequest, "ExpiredToken", "Token has expired")
        }
        guard claims["scope"]?.stringValue == Self.accessScope else { throw .invalidToken("Bad token scope") }
        guard claims["aud"]?.stringValue == serviceDID else { throw .invalidToken("Bad token aud") }
        guard let did = try? DID(claims["sub"]?.stringValue ?? ""), let account = account(did) else {
            throw .invalidToken("Malformed token")
        }
        return account
    }

    /// The claims of an HS256 token of type `at+jwt` that this server signed.
    private func sessionClaims(_ token: String) throws(XRPCRefusal) -> Value {
        let refusal = XRPCRefusal.invalidToken("Token could not be verified")
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        do {
            guard parts.count == 3 else { throw refusal }
            let header = try DataModelJSON.decodePlain(try Base64URL.decode(utf8: parts[0].utf8))
            guard header["alg"]?.stringValue == "HS256", header["typ"]?.stringValue == "at+jwt" else { throw refusal }
            let isOurs = HMAC<SHA256>.isValidAuthenticationCode(
                try Base64URL.decode(utf8: parts[2].utf8), authenticating: Array("\(parts[0]).\(parts[1])".utf8),
                using: SymmetricKey(data: secret))
            guard isOurs else { throw refusal }
            return try DataModelJSON.decodePlain(try Base64URL.decode(utf8: parts[1].utf8))
        } catch {
            throw refusal
        }
    }
}
