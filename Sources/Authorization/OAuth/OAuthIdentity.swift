package import ATProto
package import Keys

/// Who the service is to authorization servers: its client identifier, where they send browsers back to, and, for a confidential
/// client, the key that it proves itself by. (atproto spec: OAuth, "Clients")
package struct OAuthIdentity: Sendable {
    package let id: String
    package let redirectURI: String
    /// What stands behind the identifier, for servers that fetch it.
    package let metadata: Value
    /// Whether a key was given that a client on this machine cannot have: its metadata is what the specification says of it.
    package let ignoresSecret: Bool
    let secret: PrivateKey?

    /// What the operator may say of the service.
    package struct Presentation: Sendable {
        package var name: String?
        package var logoURI: String?
        package var termsURI: String?
        package var policyURI: String?

        package init(name: String? = nil, logoURI: String? = nil, termsURI: String? = nil, policyURI: String? = nil) {
            self.name = name
            self.logoURI = logoURI
            self.termsURI = termsURI
            self.policyURI = policyURI
        }
    }

    private static let keyID = "key-1"

    /// - Parameters:
    ///   - publicURL: of the service, without a slash at its end.
    ///   - id: the identifier, where it is not the usual one: the metadata's own URL, or for a service on this machine `http://localhost`
    ///     with all that is to be known in its query, as nobody else could fetch anything from there.
    ///   - redirectURI: where it is not the usual one. A service on this machine is named by its address there, as the protocol takes
    ///     no name for it.
    package init(publicURL: String, id: String?, redirectURI: String?, secret: PrivateKey?, presentation: Presentation) {
        let isLocal = id == nil && WebOrigin(ofURL: publicURL).map { $0.isLoopback && !$0.isSecure } ?? false
        let redirect = redirectURI ?? (isLocal ? Self.addressed(publicURL) : publicURL) + "/oauth/callback"
        let local = "http://localhost?" + FormEncoding.encode([("redirect_uri", redirect), ("scope", OAuthScope.requested)])
        self.redirectURI = redirect
        self.id = id ?? (isLocal ? local : publicURL + "/client-metadata.json")
        self.secret = isLocal ? nil : secret
        ignoresSecret = isLocal && secret != nil
        metadata = Self.metadata(
            id: self.id, redirectURI: redirect, publicURL: publicURL, key: self.secret?.publicKey, presentation)
    }

    /// Where browsers are sent back to, and so where they must have begun.
    package var callbackOrigin: WebOrigin? { WebOrigin(ofURL: redirectURI) }

    /// `http://localhost:3100/at` is `http://127.0.0.1:3100/at`.
    private static func addressed(_ url: String) -> String {
        for name in ["http://localhost"] where url.hasPrefix(name) { return "http://127.0.0.1" + url.dropFirst(name.count) }
        return url
    }

    private static func metadata(
        id: String, redirectURI: String, publicURL: String, key: PublicKey?, _ presentation: Presentation
    ) -> Value {
        var metadata: ValueMap = [
            "client_id": .string(id), "client_name": .string(presentation.name ?? "Stratos Service"), "client_uri": .string(publicURL),
            "redirect_uris": [.string(redirectURI)], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "scope": .string(OAuthScope.requested), "token_endpoint_auth_method": key == nil ? "none" : "private_key_jwt",
            "dpop_bound_access_tokens": true, "application_type": "web",
        ]
        if let key {
            var jwk = DPoPMaker.members(of: key)
            jwk["kid"] = .string(keyID)
            jwk["use"] = "sig"
            jwk["alg"] = .string(key.curve.algorithm)
            metadata["token_endpoint_auth_signing_alg"] = .string(key.curve.algorithm)
            metadata["jwks"] = ["keys": [.map(jwk)]]
        }
        if let uri = presentation.logoURI { metadata["logo_uri"] = .string(uri) }
        if let uri = presentation.termsURI { metadata["tos_uri"] = .string(uri) }
        if let uri = presentation.policyURI { metadata["policy_uri"] = .string(uri) }
        return .map(metadata)
    }

    /// What a request to a server's own endpoints carries to say who asks (RFC 7523 for the proof).
    /// - Parameter now: seconds.
    func credentials(for issuer: String, now: Int64, identifier: String) -> [(String, String)] {
        guard let secret else { return [("client_id", id)] }
        let assertion = SignedToken.text(
            header: ["typ": "JWT", "alg": .string(secret.curve.algorithm), "kid": .string(Self.keyID)],
            claims: [
                "iss": .string(id), "sub": .string(id), "aud": .string(issuer), "jti": .string(identifier), "iat": .integer(now),
                "exp": .integer(now + 60),
            ], key: secret)
        return [
            ("client_id", id), ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ]
    }
}

/// The key of a confidential client, as an operator gives it: PEM or a JWK, of P-256.
package enum ClientSecret {
    /// - Throws: `malformed` for anything else.
    package static func key(_ text: String) throws(KeysError) -> PrivateKey {
        if text.hasPrefix("-----BEGIN ") { return try PrivateKey(pem: text) }
        guard let json = try? DataModelJSON.decodePlain(Array(text.utf8)), let secret = json["d"]?.stringValue else {
            throw .malformed("neither PEM nor a private JWK")
        }
        let jwk = try JWK(
            kty: json["kty"]?.stringValue ?? "", crv: json["crv"]?.stringValue ?? "", x: json["x"]?.stringValue ?? "",
            y: json["y"]?.stringValue ?? "")
        guard jwk.curve == .p256 else { throw .malformed("a client's key is one of P-256") }
        return try PrivateKey(jwk: jwk, secret: secret)
    }
}
