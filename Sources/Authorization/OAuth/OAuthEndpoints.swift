internal import ATProto
internal import Keys

/// What a token endpoint gave (RFC 6749, section 5.1), bound to the key that asked.
struct TokenAnswer: Hashable, Sendable {
    let accessToken: String
    let refreshToken: String
    /// Seconds since 1970; nil where the server did not say.
    let expires: Int64?

    static let bytesMax = 16 << 10

    /// - Parameters:
    ///   - subject: whose tokens they must be.
    ///   - refreshed: the refresh token that these were given for, which stays in force where no other comes with them. Then a scope may
    ///     be missing too: it is what it was.
    ///   - now: seconds.
    init(_ answer: Value, subject: DID, refreshed: String? = nil, now: Int64) throws(OAuthRefusal) {
        guard answer["token_type"]?.stringValue?.lowercased() == "dpop" else { throw .notBound }
        accessToken = try Self.token("access_token", in: answer)
        if let refreshed, answer["refresh_token"] == nil {
            refreshToken = refreshed
        } else {
            refreshToken = try Self.token("refresh_token", in: answer)
        }
        guard answer["sub"]?.stringValue == subject.description else { throw .otherSubject }
        let scope = answer["scope"] ?? (refreshed == nil ? .null : .string(OAuthScope.requested))
        guard let scope = scope.stringValue, OAuthScope.isEnough(scope) else { throw .scopeTooSmall }
        expires = answer["expires_in"]?.integerValue.map { now + min(max(0, $0), 31_536_000) }
    }

    private static func token(_ member: String, in answer: Value) throws(OAuthRefusal) -> String {
        guard let text = answer[member]?.stringValue, 1...bytesMax ~= text.utf8.count, text.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
            throw .malformedTokens("\(member) is no token")
        }
        return text
    }
}

/// Requests to an authorization server's own endpoints: forms, with the client's credentials and a proof of possession.
struct OAuthEndpoints: Sendable {
    let outbound: Outbound
    let identity: OAuthIdentity
    let proofs: DPoPMaker

    enum Failure: Error, Hashable {
        /// The server's own error code.
        case refused(status: Int, error: String)
        case malformed
        case unreachable(String, after: Duration? = nil)
    }

    private static let timeout: Duration = .seconds(10)
    private static let bytesMax = 64 << 10

    private static let formType = "application/x-www-form-urlencoded"

    /// Pushes the parameters of an authorization (RFC 9126).
    /// - Returns: the `request_uri` that stands for them.
    func push(_ parameters: [(String, String)], to server: OAuthServer, key: PrivateKey) async throws(Failure) -> String {
        let answer = try await post(parameters, to: server.pushEndpoint, of: server, key: key, isRepeatable: true)
        guard let uri = answer["request_uri"]?.stringValue, 1...2048 ~= uri.utf8.count, uri.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
            throw .malformed
        }
        return uri
    }

    /// Exchanges a grant, which is good for once: it is never sent a second time, but where the server says that it did not look at it.
    func tokens(for grant: [(String, String)], at server: OAuthServer, key: PrivateKey) async throws(Failure) -> Value {
        try await post(grant, to: server.tokenEndpoint, of: server, key: key, isRepeatable: false)
    }

    /// Gives tokens back that are not kept here: what its server cannot be told now expires there.
    func giveBack(_ token: String, of server: OAuthServer, key: PrivateKey) async {
        // best effort: nobody holds the token any more.
        try? await revoke(token, at: server, key: key)
    }

    /// Gives tokens back (RFC 7009). A server without the endpoint cannot be told; theirs expire.
    func revoke(_ token: String, at server: OAuthServer, key: PrivateKey) async throws(Failure) {
        guard let endpoint = server.revocationEndpoint else { return }
        _ = try await post(
            [("token", token), ("token_type_hint", "refresh_token")], to: endpoint, of: server, key: key, isRepeatable: true,
            wantsJSON: false
        )
    }

    /// Once more where the server wants its nonce in the proof.
    private func post(
        _ form: [(String, String)], to url: String, of server: OAuthServer, key: PrivateKey, isRepeatable: Bool, wantsJSON: Bool = true
    ) async throws(Failure) -> Value {
        for isLast in [false, true] {
            let response = try await send(form, to: url, of: server, key: key, isRepeatable: isRepeatable)
            let isSuccess = 200...299 ~= response.status
            if isSuccess, !wantsJSON { return .null }
            let answer = Self.json(response)
            if isSuccess {
                guard let answer else { throw .malformed }
                return answer
            }
            if response.status == 429 || response.status >= 500 {
                throw .unreachable("the server answered with status \(response.status)", after: RetryAfter.duration(response))
            }
            let error = OAuthRefusal.code(answer?["error"]?.stringValue)
            guard error == "use_dpop_nonce", response.headers.nonce != nil, !isLast else {
                throw .refused(status: response.status, error: error)
            }
        }
        preconditionFailure("the second turn returns or throws")
    }

    private func send(
        _ form: [(String, String)], to url: String, of server: OAuthServer, key: PrivateKey, isRepeatable: Bool
    ) async throws(Failure) -> OutboundResponse {
        let credentials = identity.credentials(
            for: server.issuer, now: proofs.now() / 1_000_000, identifier: Base64URL.encode(proofs.random(16)))
        let request = OutboundRequest(
            posting: .init(contentType: Self.formType, bytes: Array(FormEncoding.encode(form + credentials).utf8)), to: url,
            accept: "application/json", headers: ["DPoP": proofs.proof(method: .post, url: url, key: key)], isRepeatable: isRepeatable,
            bytesMax: Self.bytesMax, timeout: Self.timeout)
        do throws(OutboundError) {
            let response = try await outbound.send(request)
            proofs.nonces.note(response.headers.nonce, from: url)
            return response
        } catch {
            throw .unreachable(error.reason)
        }
    }

    private static let jsonLimits = DecodingLimits(bytesMax: bytesMax, depthMax: 8, countMax: 1024, keyBytesMax: 256)

    private static func json(_ response: OutboundResponse) -> Value? {
        guard let type = response.contentType, DocumentFetch.isJSON(type) else { return nil }
        return try? DataModelJSON.decodePlain(response.body, limits: jsonLimits)
    }
}

/// When a server says to come again (RFC 9110, section 10.2.3), in seconds; its dates are not read.
enum RetryAfter {
    static func duration(_ response: OutboundResponse) -> Duration? {
        guard let text = response.headers.retryAfter, text.utf8.count <= 6, let seconds = UInt32(text) else { return nil }
        return .seconds(min(seconds, 86_400))
    }
}

extension OutboundError {
    /// In words of ours.
    var reason: String {
        switch self {
        case .invalidURL: "not a URL that can be asked"
        case .refusedAddress: "the host has no address that may be connected to"
        case .timedOut: "no answer in time"
        case .tooLarge(let max): "more than \(max) bytes"
        case .unreachable(let reason): reason
        case .overloaded: "too many requests wait already"
        case .closed: "the service is stopping"
        }
    }
}
