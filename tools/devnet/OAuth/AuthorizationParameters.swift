import ATProto
import Keys

/// A well-formed authorization request: what the client pushed and the server will keep to.
struct AuthorizationParameters: Sendable {
    enum ResponseMode: String, Sendable { case query, fragment }

    let redirectURI: String
    let scope: String
    let state: String?
    /// SHA-256 of the verifier, as base64url.
    let codeChallenge: String
    let loginHint: String?
    let responseMode: ResponseMode
    /// `prompt=none`: the page must not be shown.
    let isSilent: Bool
    /// Thumbprint of the key that the tokens will be bound to; nil leaves that to the token request.
    let thumbprint: String?

    /// Checks the form of a pushed request against the client's metadata and the profile.
    /// - Parameter key: of the DPoP proof beside it.
    init(_ form: FormFields, of client: OAuthClient, key: String?) throws(OAuthRefusal) {
        for name in ["request", "request_uri", "claims", "id_token_hint", "nonce"] where form[name] != nil {
            throw .invalidRequest("Unsupported \"\(name)\" parameter")
        }
        guard form["response_type"] == "code" else {
            throw .authorization("unsupported_response_type", "Unsupported response_type \"\(form["response_type"] ?? "")\"")
        }
        guard let mode = ResponseMode(rawValue: form["response_mode"] ?? "query") else {
            throw .invalidRequest("Unsupported response_mode")
        }
        responseMode = mode
        scope = try Self.scope(form["scope"], of: client)
        redirectURI = try Self.redirect(form["redirect_uri"], of: client)
        codeChallenge = try Self.challenge(form)
        state = form["state"]
        if let hint = form["login_hint"]?.lowercased() {
            guard (try? ATIdentifier(hint)) != nil else { throw .invalidRequest("Invalid login_hint \"\(hint)\"") }
            loginHint = hint
        } else {
            loginHint = nil
        }
        isSilent = form["prompt"] == "none"
        if isSilent, case .none = client.authentication {
            throw .authorization("consent_required", "Public clients are not allowed to use silent-sign-on")
        }
        if let stated = form["dpop_jkt"], let key, stated != key {
            throw .invalidRequest("\"dpop_jkt\" does not match the DPoP proof")
        }
        thumbprint = key ?? form["dpop_jkt"]
    }

    private static func scope(_ text: String?, of client: OAuthClient) throws(OAuthRefusal) -> String {
        var scopes: [String] = []
        for scope in (text ?? "").split(separator: " ").map(String.init) where !scopes.contains(scope) { scopes.append(scope) }
        for scope in scopes where !client.scopes.contains(scope) {
            throw .invalidScope("Scope \"\(scope)\" is not declared in the client metadata")
        }
        guard scopes.contains("atproto") else { throw .invalidScope("The \"atproto\" scope is required") }
        return scopes.joined(separator: " ")
    }

    private static func redirect(_ given: String?, of client: OAuthClient) throws(OAuthRefusal) -> String {
        guard let redirect = given ?? (client.redirectURIs.count == 1 ? client.redirectURIs[0] : nil) else {
            throw .invalidRequest("redirect_uri is required")
        }
        guard client.allows(redirect: redirect) else { throw .invalidRequest("Invalid redirect_uri \(redirect)") }
        return redirect
    }

    private static func challenge(_ form: FormFields) throws(OAuthRefusal) -> String {
        guard let challenge = form["code_challenge"] else { throw .invalidRequest("Use of PKCE is required") }
        guard form["code_challenge_method"] == "S256" else {
            throw .invalidRequest("atproto requires use of \"S256\" code_challenge_method")
        }
        guard let digest = try? Base64URL.decode(challenge), digest.count == 32 else {
            throw .invalidRequest("code_challenge must be a SHA-256 digest in base64url")
        }
        return challenge
    }
}

extension OAuthServer {
    /// Milliseconds for which a request waits to be opened, and then to be decided.
    private static let requestLifetime: Int64 = 300_000
    private static let uriPrefix = "urn:ietf:params:oauth:request_uri:"

    /// Keeps a pushed request (RFC 9126).
    /// - Returns: its `request_uri`, and how many seconds it is good for.
    func push(_ form: FormFields, key: String?) async throws -> (uri: String, lifetime: Int64) {
        let (client, credential) = try await authenticate(form, key: key)
        let parameters = try AuthorizationParameters(form, of: client, key: key)
        let uri = "\(Self.uriPrefix)req-\(try PDS.randomHex(16))"
        let now = pds.clock()
        state.withLock { state in
            state.requests = state.requests.filter { $0.value.expires > now - Self.requestLifetime }
            state.requests[uri] = AuthorizationRequest(
                client: client, credential: credential, parameters: parameters, expires: now + Self.requestLifetime)
        }
        return (uri, Self.requestLifetime / 1000)
    }
}
