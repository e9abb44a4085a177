internal import ATProto
internal import Keys

/// What a PDS says of itself as a protected resource (RFC 9728), as far as it names its authorization server.
enum ProtectedResource {
    /// - Throws: `malformed` unless it speaks of this PDS, and names exactly one authorization server, by its origin, over TLS.
    static func issuer(_ metadata: Value, of pds: WebOrigin, allowingHTTP: Bool) throws(IssuerError) -> WebOrigin {
        guard let resource = metadata["resource"]?.stringValue.flatMap({ WebOrigin($0) }), resource == pds else {
            throw .malformed("the metadata of another protected resource")
        }
        guard let servers = metadata["authorization_servers"]?.arrayValue, servers.count == 1, let name = servers[0].stringValue else {
            throw .malformed("a PDS names exactly one authorization server")
        }
        guard let issuer = WebOrigin(name), issuer.description == name, issuer.isTrustworthy(allowingHTTP: allowingHTTP) else {
            throw .malformed("an authorization server is named by its https origin")
        }
        return issuer
    }
}

/// What an authorization server says of itself (RFC 8414), as far as it leads to its keys.
struct AuthorizationServer: Sendable {
    let keySetURL: String

    /// - Parameter issuer: the server that was asked; the metadata must name itself by exactly this.
    init(_ metadata: Value, issuer: String, allowingHTTP: Bool) throws(IssuerError) {
        guard metadata["issuer"]?.stringValue == issuer else { throw .malformed("the metadata of another authorization server") }
        // Without a place for keys it publishes none: the same as an empty set, and what a PDS with secret keys may do.
        guard let url = metadata["jwks_uri"]?.stringValue else { throw .unknownKey }
        guard WebOrigin.isTrustworthy(url: url, allowingHTTP: allowingHTTP) else { throw .malformed("jwks_uri is not an https URL") }
        keySetURL = url
    }
}

/// The keys that an issuer publishes (RFC 7517), those that can check a token of ours: public, on our curves, for signatures.
struct IssuerKeySet: Sendable {
    private struct Entry {
        let id: String?
        let key: PublicKey
    }

    private let entries: [Entry]

    /// Keys of other kinds stand in many sets and are left out.
    /// - Throws: `malformed` when it is no key set.
    init(_ set: Value) throws(IssuerError) {
        guard let keys = set["keys"]?.arrayValue else { throw .malformed("a key set has a list of keys") }
        entries = keys.compactMap { Self.entry($0) }
    }

    /// The one key of that name and curve; without a name the one key of the curve. Two are none: nobody could say which is meant.
    func key(id: String?, curve: Curve) -> PublicKey? {
        let matching = entries.filter { $0.key.curve == curve && (id == nil || $0.id == id) }
        return matching.count == 1 ? matching[0].key : nil
    }

    private static func entry(_ key: Value) -> Entry? {
        func text(_ name: String) -> String? { key[name]?.stringValue }
        // A set that shows a private key has given it away.
        guard key["d"] == nil, let kty = text("kty"), let crv = text("crv"), let x = text("x"), let y = text("y"),
            let jwk = try? JWK(kty: kty, crv: crv, x: x, y: y), let publicKey = try? PublicKey(jwk: jwk)
        else { return nil }
        guard isAbsent(key["use"], or: "sig"), isAbsent(key["alg"], or: publicKey.curve.algorithm) else { return nil }
        if let operations = key["key_ops"] {
            guard operations.arrayValue?.contains(.string("verify")) == true else { return nil }
        }
        if let id = key["kid"], id.stringValue == nil { return nil }
        return Entry(id: text("kid"), key: publicKey)
    }

    private static func isAbsent(_ member: Value?, or text: String) -> Bool { member == nil || member?.stringValue == text }
}
