internal import ATProto

/// An authorization server as a client of the AT Protocol's profile needs it (RFC 8414): where to push a request, where to send the
/// browser, where to exchange and to give back tokens. (atproto spec: OAuth, "Authorization Servers")
struct OAuthServer: Hashable, Sendable {
    let issuer: String
    let pushEndpoint: String
    let authorizationEndpoint: String
    let tokenEndpoint: String
    let revocationEndpoint: String?

    /// - Parameters:
    ///   - issuer: the server that was asked; the metadata must name itself by exactly this.
    ///   - provingClient: whether the client has a key to prove itself by.
    init(_ metadata: Value, issuer: String, provingClient: Bool, allowingHTTP: Bool) throws(OAuthRefusal) {
        guard metadata["issuer"]?.stringValue == issuer else { throw .unfitServer("the metadata of another authorization server") }
        // First and by its own name: a server, or somebody between, that has it left out makes codes worth stealing.
        guard Self.lists("S256", in: metadata["code_challenge_methods_supported"]) else { throw .noPKCE }
        for (member, value) in [
            ("response_types_supported", "code"), ("grant_types_supported", "authorization_code"),
            ("grant_types_supported", "refresh_token"), ("scopes_supported", "atproto"), ("dpop_signing_alg_values_supported", "ES256"),
            ("token_endpoint_auth_methods_supported", provingClient ? "private_key_jwt" : "none"),
        ] {
            guard Self.lists(value, in: metadata[member]) else { throw .unfitServer("\(member) does not list \(value)") }
        }
        if provingClient, !Self.lists("ES256", in: metadata["token_endpoint_auth_signing_alg_values_supported"]) {
            throw .unfitServer("clients cannot prove themselves with ES256")
        }
        for member in [
            "require_pushed_authorization_requests", "authorization_response_iss_parameter_supported",
            "client_id_metadata_document_supported",
        ] {
            guard metadata[member] == true else { throw .unfitServer("\(member) is not true") }
        }
        self.issuer = issuer
        pushEndpoint = try Self.endpoint("pushed_authorization_request_endpoint", in: metadata, allowingHTTP)
        authorizationEndpoint = try Self.endpoint("authorization_endpoint", in: metadata, allowingHTTP)
        tokenEndpoint = try Self.endpoint("token_endpoint", in: metadata, allowingHTTP)
        revocationEndpoint =
            metadata["revocation_endpoint"] == nil ? nil : try Self.endpoint("revocation_endpoint", in: metadata, allowingHTTP)
    }

    private static func lists(_ value: String, in list: Value?) -> Bool { list?.arrayValue?.contains(.string(value)) == true }

    private static func endpoint(_ member: String, in metadata: Value, _ allowingHTTP: Bool) throws(OAuthRefusal) -> String {
        guard let url = metadata[member]?.stringValue, WebOrigin.isTrustworthy(url: url, allowingHTTP: allowingHTTP) else {
            throw .unfitServer("\(member) is not an https URL")
        }
        return url
    }

    // As it is kept beside a flow or a session.

    init?(_ kept: Value?) {
        guard let kept, let issuer = kept["issuer"]?.stringValue, let push = kept["push"]?.stringValue,
            let authorization = kept["authorization"]?.stringValue, let token = kept["token"]?.stringValue
        else { return nil }
        self.issuer = issuer
        pushEndpoint = push
        authorizationEndpoint = authorization
        tokenEndpoint = token
        revocationEndpoint = kept["revocation"]?.stringValue
    }

    var kept: Value {
        var kept: ValueMap = [
            "issuer": .string(issuer), "push": .string(pushEndpoint), "authorization": .string(authorizationEndpoint),
            "token": .string(tokenEndpoint),
        ]
        if let revocationEndpoint { kept["revocation"] = .string(revocationEndpoint) }
        return .map(kept)
    }
}
