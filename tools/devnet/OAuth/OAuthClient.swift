import ATProto
import Keys

/// How a client proves that it is the one which it names: not at all, or with a key of its metadata. A session keeps what its
/// client proved at the beginning, and takes nothing less later.
enum ClientCredential: Hashable, Sendable {
    case none
    case key(id: String, thumbprint: String)
}

/// A client as its metadata describes it (OAuth Client ID Metadata Document, and the AT Protocol's profile of it).
struct OAuthClient: Sendable {
    enum Authentication: Sendable {
        case none
        /// `private_key_jwt`: the keys by their identifiers.
        case keys([String: JWK])
    }

    let id: String
    let name: String?
    let redirectURIs: [String]
    let scopes: [String]
    let grantTypes: Set<String>
    let authentication: Authentication
    /// The development form, `http://localhost?…`: its redirects may have any port.
    let isLoopbackForm: Bool

    func allows(redirect: String) -> Bool {
        if redirectURIs.contains(redirect) { return true }
        guard isLoopbackForm, let redirect = WebURL(redirect) else { return false }
        return redirectURIs.contains { WebURL($0)?.matchesButForPort(redirect) ?? false }
    }
}

extension OAuthClient {
    private static let loopbackForm = "http://localhost"

    /// `http://localhost` with a path of at most `/`: there is no document to fetch, for the identifier says it all.
    static func isLoopbackForm(_ id: String) -> Bool {
        guard id.hasPrefix(loopbackForm) else { return false }
        let rest = id.dropFirst(loopbackForm.count)
        return rest.isEmpty || rest == "/" || rest.hasPrefix("?") || rest.hasPrefix("/?")
    }

    /// - Parameter id: of the development form.
    init(loopbackForm id: String) throws(OAuthRefusal) {
        func invalid(_ reason: String) -> OAuthRefusal { .invalidClientMetadata("Invalid loopback client ID: \(reason)") }
        guard !id.contains("#") else { throw invalid("Value must not contain a hash component") }
        var redirects: [String] = []
        var scope: String?
        let query = id.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).dropFirst().first ?? ""
        for (name, value) in try FormFields.pairs(query) {
            switch name {
            case "scope":
                guard scope == nil else { throw invalid("Duplicate \"scope\" query parameter") }
                scope = value
            case "redirect_uri":
                guard let url = WebURL(value), url.scheme == "http", url.isLoopbackAddress, !url.hasFragment else {
                    throw invalid("redirect_uri must be http on 127.0.0.1 or [::1]")
                }
                redirects.append(value)
            default: throw invalid("Unexpected query parameter \"\(name)\"")
            }
        }
        self.id = id
        name = "An application on this computer"
        redirectURIs = redirects.isEmpty ? ["http://127.0.0.1/", "http://[::1]/"] : redirects
        scopes = try Self.scopes(scope ?? "atproto")
        grantTypes = ["authorization_code", "refresh_token"]
        authentication = .none
        isLoopbackForm = true
    }

    /// Reads the document that was fetched from `id`.
    init(_ metadata: Value, fetchedFrom id: String) throws(OAuthRefusal) {
        func strings(_ name: String) -> [String]? {
            metadata[name]?.arrayValue.flatMap { values in
                let strings = values.compactMap(\.stringValue)
                return strings.count == values.count ? strings : nil
            }
        }
        guard metadata["client_id"]?.stringValue == id else { throw .invalidClientMetadata("client_id does not match") }
        guard let scope = metadata["scope"]?.stringValue else { throw .invalidClientMetadata("Missing scope property") }
        let grants = strings("grant_types") ?? ["authorization_code"]
        for grant in grants where !["authorization_code", "refresh_token"].contains(grant) {
            throw .invalidClientMetadata("Grant type \"\(grant)\" is not supported")
        }
        guard Set(grants).count == grants.count, grants.contains("authorization_code") else {
            throw .invalidClientMetadata("grant_types must name authorization_code, and nothing twice")
        }
        guard (strings("response_types") ?? ["code"]) == ["code"] else {
            throw .invalidClientMetadata("Unsupported response type")
        }
        guard metadata["dpop_bound_access_tokens"] == true else {
            throw .invalidClientMetadata("\"dpop_bound_access_tokens\" must be true")
        }
        guard let redirects = strings("redirect_uris"), !redirects.isEmpty else {
            throw .invalidClientMetadata("At least one redirect_uri is required")
        }
        for redirect in redirects { try Self.check(redirect: redirect) }
        self.id = id
        name = metadata["client_name"]?.stringValue
        redirectURIs = redirects
        scopes = try Self.scopes(scope)
        grantTypes = Set(grants)
        authentication = try Self.authentication(metadata)
        isLoopbackForm = false
    }

    /// The public server wants https of web clients, without exception; here plain http is good for loopback, where the client's own
    /// document lies as well.
    private static func check(redirect: String) throws(OAuthRefusal) {
        guard let url = WebURL(redirect), !url.hasFragment, url.scheme == "https" || (url.scheme == "http" && url.isLoopback) else {
            throw .invalidClientMetadata("Invalid redirect_uri \(redirect)")
        }
    }

    private static func scopes(_ text: String) throws(OAuthRefusal) -> [String] {
        let scopes = text.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        guard scopes.contains("atproto") else { throw .invalidClientMetadata("Missing \"atproto\" scope") }
        guard Set(scopes).count == scopes.count else { throw .invalidClientMetadata("Duplicate scope") }
        for scope in scopes where OAuthScope(scope) == nil { throw .invalidClientMetadata("Unsupported scope \"\(scope)\"") }
        return scopes
    }

    private static func authentication(_ metadata: Value) throws(OAuthRefusal) -> Authentication {
        let algorithm = metadata["token_endpoint_auth_signing_alg"]?.stringValue
        switch metadata["token_endpoint_auth_method"]?.stringValue {
        case "none":
            guard algorithm == nil else {
                throw .invalidClientMetadata("token_endpoint_auth_method \"none\" must not have token_endpoint_auth_signing_alg")
            }
            return .none
        case "private_key_jwt":
            guard algorithm == "ES256" else { throw .invalidClientMetadata("token_endpoint_auth_signing_alg must be ES256") }
            // The public server fetches a `jwks_uri` too.
            guard let values = metadata["jwks"]?["keys"]?.arrayValue, !values.isEmpty else {
                throw .invalidClientMetadata("private_key_jwt auth method requires at least one key in jwks")
            }
            var keys: [String: JWK] = [:]
            for value in values {
                guard let id = value["kid"]?.stringValue, let jwk = JWK(value) else {
                    throw .invalidClientMetadata("jwks must hold public EC keys with a kid")
                }
                keys[id] = jwk
            }
            return .keys(keys)
        case nil: throw .invalidClientMetadata("Missing token_endpoint_auth_method client metadata")
        case let method?:
            throw .invalidClientMetadata(
                "\(method) is not a supported \"token_endpoint_auth_method\". Use \"private_key_jwt\" or \"none\".")
        }
    }
}
