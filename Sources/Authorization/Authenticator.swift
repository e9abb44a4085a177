package import ATProto
package import EventLog

/// What a request brings to prove who calls.
package struct Credentials: Sendable {
    /// The values of the `Authorization` headers.
    package let authorization: [String]
    /// The values of the `DPoP` headers.
    package let proofs: [String]
    package let httpMethod: String
    /// Of the request as the client sees it: the service's public URL and the path.
    package let url: String
    /// The NSID that is called.
    package let method: String
    /// Whether the call changes something: then what proves it may be used once.
    package let isProcedure: Bool
    /// Where the request comes from, as far as it can be told.
    package let address: @Sendable () -> String?

    package init(
        authorization: [String], proofs: [String], httpMethod: String, url: String, method: String, isProcedure: Bool,
        address: @escaping @Sendable () -> String?
    ) {
        self.authorization = authorization
        self.proofs = proofs
        self.httpMethod = httpMethod
        self.url = url
        self.method = method
        self.isProcedure = isProcedure
        self.address = address
    }

    /// The one `Authorization` header at its first space, the scheme in lower case; nil where there is another number of them, or no
    /// space.
    fileprivate var schemeAndValue: (scheme: String, value: Substring)? {
        guard authorization.count == 1, let space = authorization[0].firstIndex(of: " ") else { return nil }
        return (authorization[0][..<space].lowercased(), authorization[0][space...].dropFirst())
    }
}

/// A caller, with what proved who it is.
package struct Proven: Sendable {
    package let caller: Caller
    package let credential: Agent.Credential
    /// What a procedure records with its append, so that the same credential changes nothing a second time.
    package let use: SingleUse?

    package init(caller: Caller, credential: Agent.Credential, use: SingleUse? = nil) {
        self.caller = caller
        self.credential = credential
        self.use = use
    }
}

/// Every way of proving who calls, and the order of its checks: what costs nothing first, and nothing is fetched from anywhere before
/// it is known that the claimed caller is enrolled or listed here.
package struct Authenticator: Sendable {
    let service: DID
    let appViews: Set<DID>
    let nonces: DPoPNonces
    let keys: CallerKeys
    /// Nil: there are no administrators on the network.
    let administrators: Administrators?
    /// Whether `Bearer did:…` is believed. For development alone.
    let believesBareDIDs: Bool
    let isEnrolled: @Sendable (DID) async throws -> Bool
    /// Seconds since 1970.
    let now: @Sendable () -> Int64
    private let replays: ReplayMemory
    private let tokens = VerifiedTokens()
    private let proofHeaders = ProofHeaders()

    package init(
        service: DID, appViews: Set<DID>, nonces: DPoPNonces, keys: CallerKeys, administrators: Administrators?, believesBareDIDs: Bool,
        replays: ReplayMemory = ReplayMemory(), isEnrolled: @escaping @Sendable (DID) async throws -> Bool,
        now: @escaping @Sendable () -> Int64
    ) {
        self.service = service
        self.appViews = appViews
        self.nonces = nonces
        self.keys = keys
        self.administrators = administrators
        self.believesBareDIDs = believesBareDIDs
        self.replays = replays
        self.isEnrolled = isEnrolled
        self.now = now
    }

    /// The nonce that every answer carries.
    package var nonce: String { nonces.current(now: now()) }

    /// - Returns: nil where the request brings no credential at all. One that it brings is verified or refused, never overlooked.
    /// - Throws: `CredentialRefusal`, and what asking for an enrollment throws.
    package func authenticate(_ credentials: Credentials) async throws -> Proven? {
        guard !credentials.authorization.isEmpty else { return nil }
        guard let (scheme, value) = credentials.schemeAndValue else { throw CredentialRefusal.scheme }
        switch scheme {
        case "dpop": return try await dpop(value, credentials)
        case "bearer": return try await bearer(value, credentials)
        case "basic": return try administrator { $0.check(basic: value, from: credentials.address(), now: now()) }
        default: throw CredentialRefusal.scheme
        }
    }

    /// The same for the administrators' own methods, which take nothing else.
    package func authenticateAdministrator(_ credentials: Credentials) throws -> Proven {
        guard let (scheme, value) = credentials.schemeAndValue else { throw CredentialRefusal.wrongPassword }
        switch scheme {
        case "basic": return try administrator { $0.check(basic: value, from: credentials.address(), now: now()) }
        case "bearer": return try administrator { $0.check(bearer: value, from: credentials.address(), now: now()) }
        default: throw CredentialRefusal.wrongPassword
        }
    }

    private func administrator(_ check: (Administrators) -> Administrators.Outcome) throws(CredentialRefusal) -> Proven {
        guard let administrators else { throw .wrongPassword }
        switch check(administrators) {
        case .administrator(let name): return Proven(caller: .administrator(name: name), credential: .admin)
        case .wrong: throw .wrongPassword
        case .throttled(let seconds): throw .throttled(message: "Too many failed attempts", seconds: seconds)
        }
    }

    // MARK: Bearer

    private func bearer(_ value: Substring, _ credentials: Credentials) async throws -> Proven {
        if believesBareDIDs, value.hasPrefix("did:") {
            guard let did = try? DID(String(value)), try await isEnrolled(did) else { throw CredentialRefusal.wrongPassword }
            return Proven(caller: .user(did), credential: .dev)
        }
        // What does not look like a token can only be the administrators' password.
        guard value.utf8.count(where: { $0 == UInt8(ascii: ".") }) == 2 else {
            return try administrator { $0.check(bearer: value, from: credentials.address(), now: now()) }
        }
        return try await serviceToken(value, credentials)
    }

    private func serviceToken(_ value: Substring, _ credentials: Credentials) async throws -> Proven {
        let token: ServiceToken
        do throws(TokenError) {
            token = try ServiceToken.check(value, service: service, method: credentials.method, now: now())
            if credentials.isProcedure, token.use == nil { throw .malformed("a token for \(credentials.method) has a jti") }
        } catch {
            throw CredentialRefusal.refused(message: error.message, challenge: nil)
        }
        let isAppView = appViews.contains(token.issuer)
        if !isAppView { guard try await isEnrolled(token.issuer) else { throw CredentialRefusal.notEnrolled } }
        guard try await isSigned(token) else { throw CredentialRefusal.refused(message: TokenError.badSignature.message, challenge: nil) }
        let use = credentials.isProcedure ? token.use : nil
        if let use { try note(use, of: isAppView ? nil : token.issuer) { .refused(message: $0.message, challenge: nil) } }
        return isAppView
            ? Proven(caller: .appView(token.issuer), credential: .appView, use: use)
            : Proven(caller: .user(token.issuer), credential: .serviceAuth, use: use)
    }

    /// By the key in the issuer's document; where that fails, by the document as it is now, since keys change.
    private func isSigned(_ token: ServiceToken) async throws(CredentialRefusal) -> Bool {
        if try await keys.signingKey(token.issuer, false).map(token.token.isSigned(by:)) ?? false { return true }
        return try await keys.signingKey(token.issuer, true).map(token.token.isSigned(by:)) ?? false
    }

    // MARK: DPoP

    private func dpop(_ value: Substring, _ credentials: Credentials) async throws -> Proven {
        let text = String(value)
        guard !text.isEmpty, !text.utf8.contains(UInt8(ascii: " ")) else {
            throw CredentialRefusal.refused(message: "Access token required", challenge: "DPoP realm=\"stratos\", error=\"invalid_token\"")
        }
        let proof = try proof(of: credentials, accessToken: text)
        let access: AccessToken
        do throws(TokenError) { access = try AccessToken.check(try tokens.token(text), proof: proof, now: now()) } catch {
            if case .mismatched = error { throw CredentialRefusal.proof(error) }
            throw CredentialRefusal.token(error)
        }
        guard try await isEnrolled(access.subject) else { throw CredentialRefusal.notEnrolled }
        let (key, pds) = try await keys.issuerKey(access)
        guard tokens.isSigned(access.token, text, by: key) else { throw CredentialRefusal.token(.badSignature) }
        guard isAudience(of: access, pds) else { throw CredentialRefusal.token(.mismatched("Token audience is another service")) }
        try note(proof.use, of: access.subject, refusal: CredentialRefusal.proof)
        proofHeaders.remember(proof.header)
        return Proven(caller: .user(access.subject), credential: .dpop, use: credentials.isProcedure ? proof.use : nil)
    }

    private func proof(of credentials: Credentials, accessToken: String) throws(CredentialRefusal) -> DPoPProof {
        guard credentials.proofs.count == 1, let text = credentials.proofs.first else {
            let message = credentials.proofs.isEmpty ? "DPoP proof required" : "Only one DPoP proof is allowed"
            throw .refused(message: message, challenge: "DPoP realm=\"stratos\", error=\"invalid_dpop_proof\"")
        }
        let expected = DPoPProof.Expectation(
            method: credentials.httpMethod, url: credentials.url, accessToken: accessToken, now: now())
        let checked: (proof: DPoPProof, nonce: String?)
        do throws(TokenError) { checked = try DPoPProof.check(text, expected, headers: proofHeaders) } catch { throw .proof(error) }
        guard let nonce = checked.nonce, nonces.recognizes(nonce, now: now()) else { throw .nonceRequired }
        return checked.proof
    }

    /// The subject's own PDS, by its URL or its did:web, or this service.
    private func isAudience(of access: AccessToken, _ pds: WebOrigin) -> Bool {
        access.audiences.contains { audience in
            audience.hasPrefix("did:")
                ? audience == service.description || audience == pds.webDID
                : audience == pds.description || DPoPProof.normalized(audience) == DPoPProof.normalized(pds.description)
        }
    }

    private func note(_ use: SingleUse, of caller: DID?, refusal: (TokenError) -> CredentialRefusal) throws(CredentialRefusal) {
        switch replays.note(use, of: caller, now: now()) {
        case .first: return
        case .again: throw refusal(.replayed)
        case .tooMany: throw .throttled(message: "Too many requests", seconds: 60)
        }
    }
}
