import ATProto

/// What the server says of itself to OAuth clients: RFC 9728 and RFC 8414 with what the AT Protocol's profile demands.
extension PDS {
    /// What this server verifies of the many that the public one lists; every client must have the first.
    static let proofAlgorithms = ["ES256", "ES256K"]

    func protectedResource(issuer: String) -> Value {
        [
            "resource": .string(url), "authorization_servers": [.string(issuer)], "scopes_supported": [],
            "bearer_methods_supported": ["header"], "resource_documentation": "https://atproto.com",
        ]
    }

    func authorizationServer(issuer: String) -> Value {
        let url = url
        return [
            "issuer": .string(issuer),
            "authorization_endpoint": .string(url + "/oauth/authorize"),
            "token_endpoint": .string(url + "/oauth/token"),
            "revocation_endpoint": .string(url + "/oauth/revoke"),
            "pushed_authorization_request_endpoint": .string(url + "/oauth/par"),
            "jwks_uri": .string(url + "/oauth/jwks"),
            "require_pushed_authorization_requests": true,
            "authorization_response_iss_parameter_supported": true,
            "client_id_metadata_document_supported": true,
            "scopes_supported": ["atproto", "transition:email", "transition:generic", "transition:chat.bsky"],
            "subject_types_supported": ["public"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
            "dpop_signing_alg_values_supported": .array(Self.proofAlgorithms.map(Value.string)),
            "request_parameter_supported": false,
            "request_uri_parameter_supported": true,
            "require_request_uri_registration": true,
            "ui_locales_supported": ["en-US"],
            "display_values_supported": ["page", "popup", "touch"],
            "protected_resources": [.string(url)],
        ]
    }
}
