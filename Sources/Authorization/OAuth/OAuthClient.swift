package import ATProto
internal import Keys
internal import Synchronization

/// The flow by which people join: their own server lets the service keep two kinds of records there, and so proves who they are.
///
/// It is OAuth by the AT Protocol's profile: the request is pushed (RFC 9126), a code is good for its verifier alone (PKCE, RFC 7636)
/// and for one key (DPoP, RFC 9449), the answer names its issuer (RFC 9207), and that issuer is the one which the account's DID
/// document leads to, when the flow begins and again before a code is exchanged. A flow belongs to the browser that began it, lasts ten
/// minutes and ends once.
package final class OAuthClient: Sendable {
    package let identity: OAuthIdentity
    private let discovery: OAuthDiscovery
    private let endpoints: OAuthEndpoints
    private let storage: OAuthStorage
    private let seal: Seal
    private let now: @Sendable () -> Int64
    private let random: @Sendable (Int) -> [UInt8]
    private let beginning = Mutex(0)

    /// Flows that are asking servers at a time.
    private static let beginningMax = 32

    /// - Parameters:
    ///   - allowsHTTP: for servers on this machine, in development and tests.
    ///   - now: microseconds.
    package init(
        identity: OAuthIdentity, resolver: IdentityResolver, outbound: Outbound, allowsHTTP: Bool, storage: OAuthStorage, seal: Seal,
        now: @escaping @Sendable () -> Int64, random: @escaping @Sendable (Int) -> [UInt8]
    ) {
        self.identity = identity
        discovery = OAuthDiscovery(
            resolver: resolver, outbound: outbound, allowsHTTP: allowsHTTP, provingClient: identity.secret != nil, now: now)
        endpoints = OAuthEndpoints(outbound: outbound, identity: identity, proofs: DPoPMaker(now: now, random: random))
        self.storage = storage
        self.seal = seal
        self.now = now
        self.random = random
    }

    /// The sessions that flows end in; they share the client's way to servers.
    package func sessions(onEnd: @escaping @Sendable (DID, _ reason: String) -> Void) -> OAuthSessions {
        OAuthSessions(endpoints: endpoints, storage: storage, seal: seal, onEnd: onEnd)
    }

    private var seconds: Int64 { now() / 1_000_000 }

    // MARK: Beginning

    /// Where to send the browser, and the cookie that it must bring back.
    package struct Beginning: Sendable {
        package let location: String
        package let cookie: Cookie
    }

    package struct Cookie: Sendable {
        package let name: String
        package let value: String
        /// Over TLS alone, and for this host alone.
        package let isSecure: Bool
        /// Seconds.
        package let lifetime: Int64
    }

    /// Cookies are for this host and for TLS where browsers come back over TLS.
    private var isSecure: Bool { identity.callbackOrigin?.isSecure ?? true }

    /// The account that a person means: a DID or a handle, as people type it.
    /// - Throws: `unknownAccount` where it is neither.
    package static func identifier(typed text: String) throws(OAuthRefusal) -> ATIdentifier {
        do { return try ATIdentifier(text.hasPrefix("@") ? String(text.dropFirst()) : text) } catch { throw .unknownAccount }
    }

    /// - Parameter returnTo: where the browser is to go in the end; judged by the caller.
    /// - Throws: `OAuthRefusal`, and what the storage throws.
    package func begin(_ identifier: ATIdentifier, returnTo: String?) async throws -> Beginning {
        let isAdmitted = beginning.withLock { count in
            guard count < Self.beginningMax else { return false }
            count += 1
            return true
        }
        guard isAdmitted else { throw OAuthRefusal.tooManyFlows }
        defer { beginning.withLock { $0 -= 1 } }
        let (did, handle) = try await discovery.account(identifier)
        let account = try await discovery.server(of: did)
        let (state, secret) = (Base64URL.encode(random(32)), Base64URL.encode(random(32)))
        let flow = OAuthFlow(account: account, handle: handle, returnTo: returnTo, cookie: secret, now: seconds, random: random)
        let id = OAuthFlow.identifier(ofState: state)
        // Kept before anything of it is known elsewhere, and so within the bound on how many there are.
        guard try await storage.keepFlow(id, flow.sealed(by: seal, as: id), flow.expires) else { throw OAuthRefusal.tooManyFlows }
        let requestURI: String
        do throws(OAuthEndpoints.Failure) {
            requestURI = try await endpoints.push(parameters(of: flow, state: state), to: account.server, key: flow.key)
        } catch {
            _ = try await storage.takeFlow(id)
            throw Self.refusal(error) { .pushRefused(error: $0) }
        }
        let location = FormEncoding.appending(
            [("client_id", identity.id), ("request_uri", requestURI)], to: account.server.authorizationEndpoint)
        let cookie = Cookie(
            name: OAuthFlow.cookieName(ofState: state, isHostBound: isSecure), value: secret, isSecure: isSecure,
            lifetime: OAuthFlow.lifetime)
        return Beginning(location: location, cookie: cookie)
    }

    private func parameters(of flow: OAuthFlow, state: String) -> [(String, String)] {
        [
            ("response_type", "code"), ("redirect_uri", identity.redirectURI), ("scope", OAuthScope.requested), ("state", state),
            ("code_challenge", flow.challenge), ("code_challenge_method", "S256"),
            ("login_hint", flow.handle?.description ?? flow.account.did.description),
        ]
    }

    // MARK: Ending

    /// What a flow ended in: an account that proved itself, and the session that it gave, which nobody has kept yet.
    package struct Ending: Sendable {
        package let did: DID
        /// The name that the person came by, which leads to the account and back; nil for one who came by a DID.
        package let handle: Handle?
        /// The origin of the account's PDS.
        package let pds: String
        package let returnTo: String?
        let session: OAuthSession
    }

    /// The cookie that belongs to a callback, to be read and then removed; nil where it has no state.
    package func cookieName(ofCallback parameters: [(String, String)]) -> String? {
        parameters.first { $0.0 == "state" }.map { OAuthFlow.cookieName(ofState: $0.1, isHostBound: isSecure) }
    }

    /// Judges a callback and exchanges its code.
    /// - Parameters:
    ///   - parameters: of the callback's query.
    ///   - cookie: the value of the cookie that belongs to it, as the browser brought it.
    /// - Throws: `OAuthRefusal`, and what the storage throws. Then the flow is over, but where another browser came with its state.
    package func end(_ parameters: [(String, String)], cookie: String?) async throws -> Ending {
        let fields = try Self.fields(parameters)
        guard let state = fields["state"] else { throw OAuthRefusal.unknownState }
        let id = OAuthFlow.identifier(ofState: state)
        guard let sealed = try await storage.flow(id), let flow = OAuthFlow(sealed, by: seal, as: id) else {
            throw OAuthRefusal.unknownState
        }
        guard seconds < flow.expires else { throw OAuthRefusal.expiredState }
        // A state that somebody else has come by ends nobody's flow.
        guard flow.isBegun(byBrowserWith: cookie) else { throw OAuthRefusal.otherBrowser }
        guard try await storage.takeFlow(id) else { throw OAuthRefusal.unknownState }
        guard let issuer = fields["iss"] else { throw OAuthRefusal.missingIssuer }
        guard issuer == flow.account.server.issuer else { throw OAuthRefusal.otherIssuer }
        if let error = fields["error"] { throw OAuthRefusal.notAuthorized(error: OAuthRefusal.code(error)) }
        guard let code = fields["code"] else { throw OAuthRefusal.missingCode }
        guard try await discovery.server(of: flow.account.did) == flow.account else { throw OAuthRefusal.serverChanged }
        return try await exchange(code, of: flow)
    }

    /// Each once, and none longer than any that a server sends.
    private static func fields(_ parameters: [(String, String)]) throws(OAuthRefusal) -> [String: String] {
        var fields: [String: String] = [:]
        for (name, value) in parameters where ["state", "iss", "code", "error"].contains(name) {
            guard fields.updateValue(value, forKey: name) == nil, 1...4096 ~= value.utf8.count,
                value.utf8.allSatisfy({ 0x21...0x7E ~= $0 })
            else { throw .malformedCallback }
        }
        return fields
    }

    private func exchange(_ code: String, of flow: OAuthFlow) async throws(OAuthRefusal) -> Ending {
        let answer: Value
        do throws(OAuthEndpoints.Failure) {
            answer = try await endpoints.tokens(
                for: [
                    ("grant_type", "authorization_code"), ("code", code), ("redirect_uri", identity.redirectURI),
                    ("code_verifier", flow.verifier),
                ], at: flow.account.server, key: flow.key)
        } catch {
            throw Self.refusal(error) { .codeRefused(error: $0) }
        }
        do throws(OAuthRefusal) {
            let tokens = try TokenAnswer(answer, subject: flow.account.did, now: seconds)
            if let handle = flow.handle, try await discovery.did(of: handle) != flow.account.did { throw .handleMismatch }
            return Ending(
                did: flow.account.did, handle: flow.handle, pds: flow.account.pds, returnTo: flow.returnTo,
                session: OAuthSession(account: flow.account, key: flow.key, tokens: tokens))
        } catch {
            // What is not used is given back.
            if let token = answer["refresh_token"]?.stringValue ?? answer["access_token"]?.stringValue {
                await endpoints.giveBack(token, of: flow.account.server, key: flow.key)
            }
            throw error
        }
    }

    /// Gives back the session of somebody who is not let in.
    package func discard(_ ending: Ending) async {
        await endpoints.giveBack(ending.session.refreshToken, of: ending.session.account.server, key: ending.session.key)
    }

    private static func refusal(_ failure: OAuthEndpoints.Failure, refused: (String) -> OAuthRefusal) -> OAuthRefusal {
        switch failure {
        case .refused(_, let error): refused(error)
        case .malformed: .malformedTokens("what should be JSON is not what was asked for")
        case .unreachable(let reason, _): .unreachable(reason)
        }
    }
}
