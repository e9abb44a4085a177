internal import ATProto

/// An account with the servers that speak for it.
struct AccountServer: Hashable, Sendable {
    let did: DID
    /// The origin of the PDS.
    let pds: String
    let server: OAuthServer
}

/// Finds the authorization server of an account by the account's own word: DID document → PDS → the server that this PDS names → what
/// that server says of itself. Nothing of it is remembered, but for a DID document for ten seconds: a flow asks twice, when it begins
/// and before it believes a code, and the second answer must not be the first one kept.
struct OAuthDiscovery: Sendable {
    private let resolver: IdentityResolver
    private let fetch: DocumentFetch
    private let allowsHTTP: Bool
    private let provingClient: Bool

    init(
        resolver: IdentityResolver, outbound: Outbound, allowsHTTP: Bool, provingClient: Bool, now: @escaping @Sendable () -> Int64,
        limits: ResolutionLimits = ResolutionLimits()
    ) {
        self.resolver = resolver
        fetch = DocumentFetch(outbound: outbound, limits: limits, now: now)
        self.allowsHTTP = allowsHTTP
        self.provingClient = provingClient
    }

    /// The account that a person means: by its DID, or by a handle that names it and that it names.
    func account(_ identifier: ATIdentifier) async throws(OAuthRefusal) -> (did: DID, handle: Handle?) {
        switch identifier {
        case .did(let did): return (did, nil)
        case .handle(let handle): return (try await did(of: handle), handle.normalized)
        }
    }

    /// - Throws: `handleMismatch` where the account does not name the handle.
    func did(of handle: Handle) async throws(OAuthRefusal) -> DID {
        let deadline = resolver.newDeadline()
        do throws(IdentityError) {
            let did = try await resolver.did(of: handle, until: deadline)
            if try await resolver.document(of: did, refresh: false, until: deadline).handle == handle.normalized { return did }
            // The account may have taken the name just now.
            if try await resolver.document(of: did, refresh: true, until: deadline).handle == handle.normalized { return did }
        } catch {
            throw OAuthRefusal(error)
        }
        throw .handleMismatch
    }

    func server(of did: DID) async throws(OAuthRefusal) -> AccountServer {
        let deadline = resolver.newDeadline()
        let document: DIDDocument
        do throws(IdentityError) { document = try await resolver.document(of: did, refresh: true, until: deadline) } catch {
            throw OAuthRefusal(error)
        }
        guard let pds = document.pds.flatMap({ WebOrigin($0) }), pds.isTrustworthy(allowingHTTP: allowsHTTP) else { throw .noPDS }
        let resource = try await json("\(pds)/.well-known/oauth-protected-resource", until: deadline)
        let issuer: WebOrigin
        do throws(IssuerError) { issuer = try ProtectedResource.issuer(resource, of: pds, allowingHTTP: allowsHTTP) } catch {
            throw .unfitServer("the PDS does not name its authorization server as it must")
        }
        let metadata = try await json("\(issuer)/.well-known/oauth-authorization-server", until: deadline)
        let server = try OAuthServer(
            metadata, issuer: issuer.description, provingClient: provingClient, allowingHTTP: allowsHTTP)
        return AccountServer(did: did, pds: pds.description, server: server)
    }

    private func json(_ url: String, until deadline: Int64) async throws(OAuthRefusal) -> Value {
        do throws(DocumentFetch.Failure) { return try await fetch.json(url, until: deadline).json } catch { throw OAuthRefusal(error) }
    }
}
