import ATProto

/// What the server says of itself to OAuth clients: RFC 9728 and RFC 8414 with what the AT Protocol's profile demands.
extension PDS {
    private static let signingAlgorithms: Value = [
        "ES256", "ES256K", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES384", "ES512",
    ]

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
            "response_modes_supported": ["query", "fragment", "form_post"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": Self.signingAlgorithms,
            "dpop_signing_alg_values_supported": Self.signingAlgorithms,
            "request_parameter_supported": true,
            "request_uri_parameter_supported": true,
            "require_request_uri_registration": true,
            "request_object_signing_alg_values_supported": Self.signingAlgorithms,
            "request_object_encryption_alg_values_supported": [],
            "request_object_encryption_enc_values_supported": [],
            "ui_locales_supported": ["en-US"],
            "display_values_supported": ["page", "popup", "touch"],
            "protected_resources": [.string(url)],
        ]
    }
}
