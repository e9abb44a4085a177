import ATProto
import HTTPTypes
import Hummingbird
import Keys

/// Who makes a request that needs somebody, and what they may do.
struct PDSCaller: Sendable {
    let account: PDS.Account
    /// What an OAuth client was granted; nil for a session of the account itself, which may do everything.
    let scope: String?

    /// - Throws: the refusal of the public server, which names the scope that would do.
    func require(_ action: DevnetWrite.Action, in collection: NSID) throws(XRPCRefusal) {
        guard let scope, !OAuthScope.allows(action, in: collection, scope: scope) else { return }
        throw XRPCRefusal(
            .forbidden, "ScopeMissingError", "Missing required scope \"repo:\(collection)?action=\(action.rawValue)\"")
    }
}

extension PDS {
    /// The account whose session or DPoP-bound token the request carries.
    func caller(of request: Request, _ server: OAuthServer) throws -> PDSCaller {
        let header = request.headers[.authorization] ?? ""
        let parts = header.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].lowercased() == "dpop" else { return PDSCaller(account: try session(of: request), scope: nil) }
        let token = String(parts[1])
        guard let key = try server.provenKey(of: request, accessToken: token) else {
            throw OAuthRefusal.invalidProof("DPoP proof required")
        }
        guard let claims = verifiedClaims(of: token) else { throw OAuthRefusal.invalidToken("Token could not be verified") }
        guard claims["cnf"]?["jkt"]?.stringValue == key else { throw OAuthRefusal.wrongKey }
        guard let expiry = claims["exp"]?.integerValue, now < expiry else { throw OAuthRefusal.invalidToken("Token expired") }
        guard claims["aud"]?.stringValue == serviceDID else { throw OAuthRefusal.invalidToken("Invalid audience") }
        guard let session = claims["jti"]?.stringValue.flatMap({ server.session(ofToken: $0) }), session.thumbprint == key,
            claims["sub"]?.stringValue == session.account.description, let account = account(session.account)
        else { throw OAuthRefusal.invalidToken("Invalid token") }
        return PDSCaller(account: account, scope: session.scope)
    }

    /// The claims of an access token that this server signed, whether or not it still holds; nil for anybody else's, and for one whose
    /// key was forgotten.
    func verifiedClaims(of text: String) -> Value? {
        guard let token = ReceivedJWT(text), token.header["typ"]?.stringValue == "at+jwt", token.claims["iss"]?.stringValue == url else {
            return nil
        }
        switch algorithm {
        case .hs256: return token.isSigned(withSecret: secret) ? token.claims : nil
        case .es256:
            let key = tokenKeys.first { .string($0.publicKey.jwk.thumbprint) == token.header["kid"] }
            return key.map { token.isSigned(by: $0.publicKey) } ?? false ? token.claims : nil
        }
    }
}
