import ATProto
import Crypto
import Keys

/// The token endpoint and revocation: codes and refresh tokens are good once, and whoever shows one again ends the session.
extension OAuthServer {
    /// Milliseconds that a session lasts, and that its refresh token waits: a client without a key has less of both.
    private static func lifetimes(_ credential: ClientCredential) -> (session: Int64, refresh: Int64) {
        let day: Int64 = 86_400_000
        return credential == .none ? (7 * day, 2 * day) : (365 * day, 30 * day)
    }

    /// - Parameter key: thumbprint of the request's DPoP proof.
    func token(_ form: FormFields, key: String?) async throws -> Value {
        guard let key else { throw OAuthRefusal.invalidProof("DPoP proof required") }
        let (client, credential) = try await authenticate(form, key: key)
        let type = try form.required("grant_type")
        guard ["authorization_code", "refresh_token"].contains(type) else {
            throw OAuthRefusal.invalidGrant("Grant type \"\(type)\" is not supported by the server")
        }
        guard client.grantTypes.contains(type) else {
            throw OAuthRefusal.invalidGrant("\"\(type)\" grant type is not allowed for this client")
        }
        return type == "authorization_code"
            ? try exchange(try form.required("code"), form, client, credential, key: key)
            : try refresh(try form.required("refresh_token"), client, credential, key: key)
    }

    private func exchange(
        _ code: String, _ form: FormFields, _ client: OAuthClient, _ credential: ClientCredential, key: String
    ) throws -> Value {
        let now = pds.clock()
        let found = state.withLock { state in
            if state.codes[code] == nil { state.sessions = state.sessions.filter { $0.value.code != code } }
            // From here on the code is gone, whatever becomes of it.
            return state.codes.removeValue(forKey: code)
        }
        guard let grant = found else { throw OAuthRefusal.invalidGrant("Invalid code") }
        guard now < grant.expires else { throw OAuthRefusal.invalidGrant("This code has expired") }
        let parameters = grant.request.parameters
        guard grant.request.client.id == client.id else { throw OAuthRefusal.invalidGrant("Token was not issued to this client") }
        guard grant.request.credential == credential else { throw OAuthRefusal.invalidGrant("Client authentication mismatch") }
        guard (parameters.thumbprint ?? key) == key else { throw OAuthRefusal.wrongKey }
        guard form["redirect_uri"] == parameters.redirectURI else {
            throw OAuthRefusal.invalidGrant("The redirect_uri parameter must match the one used in the authorization request")
        }
        try check(verifier: form["code_verifier"], challenge: parameters.codeChallenge)
        var session = Session(
            account: grant.account, clientID: client.id, credential: credential, scope: parameters.scope, thumbprint: key, code: code,
            created: now, refreshed: now, refreshToken: "ref-\(try PDS.randomHex(32))")
        let answer = try tokens(for: &session)
        let id = try PDS.randomHex(16)
        state.withLock { $0.sessions[id] = session }
        return answer
    }

    private func check(verifier: String?, challenge: String) throws(OAuthRefusal) {
        guard let verifier else { throw .invalidGrant("code_verifier is required") }
        guard verifier.utf8.count >= 43 else { throw .invalidGrant("code_verifier too short") }
        guard Base64URL.encode(Array(SHA256.hash(data: Array(verifier.utf8)))) == challenge else {
            throw .invalidGrant("Invalid code_verifier")
        }
        guard useOnce("challenge \(challenge)", expires: pds.now + 86_400) else { throw .invalidGrant("Code challenge already used") }
    }

    /// Check and rotation are one step, so of two refreshes with one token the second finds it spent.
    private func refresh(_ token: String, _ client: OAuthClient, _ credential: ClientCredential, key: String) throws -> Value {
        let now = pds.clock()
        let next = "ref-\(try PDS.randomHex(32))"
        return try state.withLock { state in
            guard let id = state.sessions.first(where: { $0.value.refreshToken == token || $0.value.spent.contains(token) })?.key,
                var session = state.sessions.removeValue(forKey: id)
            else { throw OAuthRefusal.invalidGrant("Invalid refresh token") }
            // What is wrong from here on ends the session: it is put back only at the end.
            guard session.refreshToken == token else { throw OAuthRefusal.invalidGrant("Refresh token replayed") }
            guard session.clientID == client.id else { throw OAuthRefusal.invalidGrant("Token was not issued to this client") }
            guard session.credential == credential else { throw OAuthRefusal.invalidGrant("Client authentication mismatch") }
            guard session.thumbprint == key else { throw OAuthRefusal.wrongKey }
            let lifetimes = Self.lifetimes(credential)
            guard now < session.created + lifetimes.session else { throw OAuthRefusal.invalidGrant("Session expired") }
            guard now < session.refreshed + lifetimes.refresh else { throw OAuthRefusal.invalidGrant("Refresh token expired") }
            session.spent.insert(token)
            session.refreshToken = next
            session.refreshed = now
            let answer = try tokens(for: &session)
            state.sessions[id] = session
            return answer
        }
    }

    /// A new access token for a session, and the answer that hands it out.
    private func tokens(for session: inout Session) throws -> Value {
        var terms = DevnetTokenTerms(jkt: session.thumbprint)
        terms.scope = session.scope
        terms.clientID = session.clientID
        terms.lifetime = accessTokenLifetime
        let token = try pds.accessToken(for: session.account, terms)
        guard let identifier = token.claims["jti"]?.stringValue else { preconditionFailure("an access token has a jti") }
        let now = pds.now
        session.tokens = session.tokens.filter { $0.value > now }
        session.tokens[identifier] = now + accessTokenLifetime
        return [
            "access_token": .string(try token.text), "token_type": "DPoP", "refresh_token": .string(session.refreshToken),
            "expires_in": .integer(accessTokenLifetime), "scope": .string(session.scope), "sub": .string(session.account.description),
        ]
    }

    /// Ends the session of a token (RFC 7009); of one that is unknown there is nothing to end.
    func revoke(_ form: FormFields, key: String?) async throws {
        guard let key else { throw OAuthRefusal.invalidProof("DPoP proof required") }
        let (client, credential) = try await authenticate(form, key: key)
        let token = try form.required("token")
        let identifier = pds.verifiedClaims(of: token)?["jti"]?.stringValue
        try state.withLock { state in
            let found = state.sessions.first { _, session in
                session.refreshToken == token || session.spent.contains(token) || session.code == token
                    || identifier.map { session.tokens[$0] != nil } ?? false
            }
            guard let (id, session) = found else { return }
            guard session.clientID == client.id, session.credential == credential else {
                throw OAuthRefusal.invalidGrant("Token was not issued to this client")
            }
            guard session.thumbprint == key else { throw OAuthRefusal.wrongKey }
            state.sessions[id] = nil
        }
    }
}
