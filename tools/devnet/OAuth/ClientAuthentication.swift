import ATProto
import Keys

/// Which client is asking, and whether it is the one.
extension OAuthServer {
    private static let assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    /// Seconds.
    private static let assertionAgeMax: Int64 = 60

    /// Reads the client's metadata anew, each time: what it says is true from then on. The public server remembers it for ten
    /// minutes.
    func client(_ id: String) async throws -> OAuthClient {
        if OAuthClient.isLoopbackForm(id) { return try OAuthClient(loopbackForm: id) }
        // A public server fetches https from public addresses. A devnet has neither, and asks its own machine alone.
        guard let url = WebURL(id), url.scheme == "http", url.isLoopback, !url.hasFragment else {
            throw OAuthRefusal.invalidClientMetadata("Invalid client ID \"\(id)\": the devnet reads http on loopback alone")
        }
        return try OAuthClient(try await MetadataFetch.get(url), fetchedFrom: id)
    }

    /// Who sends a form: the client, and what it proved.
    /// - Parameter key: thumbprint of the key that the request's DPoP proof has.
    func authenticate(_ form: FormFields, key: String?) async throws -> (client: OAuthClient, credential: ClientCredential) {
        let client = try await client(try form.required("client_id"))
        guard case .keys(let keys) = client.authentication else { return (client, .none) }
        guard let assertion = form["client_assertion"] else {
            throw OAuthRefusal.invalidRequest("client authentication method \"private_key_jwt\" required a \"client_assertion\"")
        }
        guard form["client_assertion_type"] == Self.assertionType else {
            throw OAuthRefusal.invalidClient("Unsupported client_assertion_type")
        }
        let credential = try verify(assertion, of: client, keys: keys)
        if case .key(_, let thumbprint) = credential, thumbprint == key {
            throw OAuthRefusal.invalidRequest("The DPoP proof must be signed with a different key than the client assertion")
        }
        return (client, credential)
    }

    /// RFC 7523, section 3. `exp` is checked where there is one, as the public server does; `iat` bounds the age anyway.
    private func verify(_ text: String, of client: OAuthClient, keys: [String: JWK]) throws(OAuthRefusal) -> ClientCredential {
        func failed(_ reason: String) -> OAuthRefusal { .invalidClient("Validation of \"client_assertion\" failed: \(reason)") }
        guard let assertion = ReceivedJWT(text) else { throw failed("malformed") }
        guard assertion.header["alg"] == "ES256" else { throw failed("alg must be ES256") }
        guard let id = assertion.header["kid"]?.stringValue else { throw .invalidClient("\"kid\" required in client_assertion") }
        guard let jwk = keys[id], let key = try? PublicKey(jwk: jwk), assertion.isSigned(by: key) else { throw failed("signature") }
        let claims = assertion.claims
        guard claims["iss"]?.stringValue == client.id else { throw failed("unexpected \"iss\" claim value") }
        guard claims["sub"]?.stringValue == client.id else { throw failed("unexpected \"sub\" claim value") }
        guard claims["aud"]?.stringValue == pds.url || claims["aud"] == [.string(pds.url)] else {
            throw failed("unexpected \"aud\" claim value")
        }
        guard let identifier = claims["jti"]?.stringValue, !identifier.isEmpty else { throw failed("missing required \"jti\" claim") }
        let now = pds.now
        guard let issued = claims["iat"]?.integerValue, issued <= now, now - issued <= Self.assertionAgeMax else {
            throw failed("\"iat\" claim timestamp check failed")
        }
        if let expiry = claims["exp"] {
            guard let expiry = expiry.integerValue, now < expiry else { throw failed("\"exp\" claim timestamp check failed") }
        }
        guard useOnce("assertion \(client.id) \(identifier)", expires: issued + Self.assertionAgeMax) else {
            throw .invalidGrant("private_key_jwt jti reused")
        }
        return .key(id: id, thumbprint: jwk.thumbprint)
    }
}
