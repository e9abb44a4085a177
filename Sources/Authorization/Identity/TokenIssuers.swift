package import ATProto
package import Keys

/// Proves who may issue tokens for a DID, and finds the key that a token must be signed with.
///
/// A token names its issuer itself, so anybody can set up an issuer and name any subject. What makes an issuer the right one is
/// the subject's own word: DID document → PDS → the authorization server that this PDS names → the keys that this server
/// publishes. Each step is read from where the step before points, never from the token. (atproto spec: OAuth; RFC 9728, RFC 8414)
package final class TokenIssuers: Sendable {
    private let resolver: IdentityResolver
    private let fetch: DocumentFetch
    private let allowsHTTP: Bool
    /// The issuer that a PDS names, by the origin of the PDS.
    private let issuers: AnswerCache<String, WebOrigin, IssuerError>
    /// Where an issuer publishes its keys.
    private let servers: AnswerCache<String, AuthorizationServer, IssuerError>
    private let keySets: AnswerCache<String, IssuerKeySet, IssuerError>

    /// - Parameters:
    ///   - allowsHTTP: lets servers on this machine do without TLS: for development and tests.
    ///   - now: microseconds.
    package init(
        resolver: IdentityResolver, outbound: Outbound, allowsHTTP: Bool, now: @escaping @Sendable () -> Int64,
        limits: ResolutionLimits = ResolutionLimits()
    ) {
        self.resolver = resolver
        fetch = DocumentFetch(outbound: outbound, limits: limits, now: now)
        self.allowsHTTP = allowsHTTP
        issuers = AnswerCache(rules: limits.metadataRules, now: now)
        servers = AnswerCache(rules: limits.metadataRules, now: now)
        keySets = AnswerCache(rules: limits.keySetRules, now: now)
    }

    /// The key that a token of `issuer` about `subject` must verify under, and the origin of the subject's PDS.
    ///
    /// - Parameters:
    ///   - issuer: the token's `iss`: exactly the text that the authorization server calls itself by.
    ///   - keyID: the token's `kid`. Without one the issuer must publish exactly one key of the algorithm.
    ///   - algorithm: the token's `alg`; the key has its curve.
    package func key(
        issuer: String, subject: DID, keyID: String?, algorithm: String
    ) async throws(IssuerError) -> (key: PublicKey, pds: WebOrigin) {
        let curve = try Self.curve(of: algorithm)
        let deadline = resolver.newDeadline()
        var pds = try await pds(of: subject, refresh: false, until: deadline)
        if try await self.issuer(namedBy: pds, refresh: false, until: deadline).description != issuer {
            guard WebOrigin(issuer)?.description == issuer else { throw .notTheIssuer }
            // The account may have moved since.
            pds = try await self.pds(of: subject, refresh: true, until: deadline)
            guard try await self.issuer(namedBy: pds, refresh: true, until: deadline).description == issuer else { throw .notTheIssuer }
        }
        if let key = try await keySet(of: issuer, refresh: false, until: deadline).key(id: keyID, curve: curve) { return (key, pds) }
        if let key = try await keySet(of: issuer, refresh: true, until: deadline).key(id: keyID, curve: curve) { return (key, pds) }
        throw .unknownKey
    }

    private static func curve(of algorithm: String) throws(IssuerError) -> Curve {
        if let curve = Curve.allCases.first(where: { $0.algorithm == algorithm }) { return curve }
        throw ["HS256", "HS384", "HS512"].contains(algorithm) ? .symmetricAlgorithm : .unsupportedAlgorithm
    }

    private func pds(of subject: DID, refresh: Bool, until deadline: Int64) async throws(IssuerError) -> WebOrigin {
        let document: DIDDocument
        do throws(IdentityError) {
            document = try await resolver.document(of: subject, refresh: refresh, until: deadline)
        } catch {
            throw .subject(error)
        }
        guard let pds = document.pdsOrigin, pds.isTrustworthy(allowingHTTP: allowsHTTP) else { throw .noPDS }
        return pds
    }

    /// The authorization server that a PDS names.
    private func issuer(namedBy pds: WebOrigin, refresh: Bool, until deadline: Int64) async throws(IssuerError) -> WebOrigin {
        try await issuers.value(for: pds.description, refresh: refresh) { [fetch, allowsHTTP] in
            await Self.fetched { () async throws(IssuerError) in
                let document = try await Self.json("\(pds)/.well-known/oauth-protected-resource", fetch, until: deadline)
                let issuer = try ProtectedResource.issuer(document.json, of: pds, allowingHTTP: allowsHTTP)
                return (issuer, issuer.description.utf8.count)
            }
        }
    }

    private func keySet(of issuer: String, refresh: Bool, until deadline: Int64) async throws(IssuerError) -> IssuerKeySet {
        let server = try await servers.value(for: issuer) { [fetch, allowsHTTP] in
            await Self.fetched { () async throws(IssuerError) in
                let document = try await Self.json("\(issuer)/.well-known/oauth-authorization-server", fetch, until: deadline)
                let server = try AuthorizationServer(document.json, issuer: issuer, allowingHTTP: allowsHTTP)
                return (server, issuer.utf8.count + server.keySetURL.utf8.count)
            }
        }
        return try await keySets.value(for: issuer, refresh: refresh) { [fetch] in
            await Self.fetched { () async throws(IssuerError) in
                let document = try await Self.json(server.keySetURL, fetch, until: deadline)
                return (try IssuerKeySet(document.json), document.bytes)
            }
        }
    }

    private static func json(
        _ url: String, _ fetch: DocumentFetch, until deadline: Int64
    ) async throws(IssuerError) -> DocumentFetch.Document {
        do throws(DocumentFetch.Failure) { return try await fetch.json(url, until: deadline) } catch { throw IssuerError(error) }
    }

    private static func fetched<Answer: Sendable>(
        _ body: () async throws(IssuerError) -> (Answer, Int)
    ) async -> Result<AnswerCache<String, Answer, IssuerError>.Fetched, IssuerError> {
        do throws(IssuerError) {
            let (value, bytes) = try await body()
            return .success(.init(value: value, bytes: bytes))
        } catch {
            return .failure(error)
        }
    }
}
