import ATProto
import Crypto
import Keys
import Synchronization

/// The PDS as an authorization server (OAuth 2.1 in the AT Protocol's profile): who asked for what, who allowed it, and the
/// sessions that came of it. Refuses what the public server refuses, under the same names.
///
/// Requests, codes and browsers live for minutes and end with the process; sessions outlive it where there is a data file.
final class OAuthServer: Sendable {
    /// What a client pushed, until it is decided.
    struct AuthorizationRequest: Sendable {
        let client: OAuthClient
        let credential: ClientCredential
        let parameters: AuthorizationParameters
        /// Milliseconds since 1970.
        var expires: Int64
        /// The browser that opened the page first; no other may go on with it.
        var browser: String?
        /// Who has signed in for this request.
        var account: DID?
    }

    /// What a code stands for, until it is exchanged.
    struct Grant: Sendable {
        let request: AuthorizationRequest
        let account: DID
        let expires: Int64
    }

    struct Session: Sendable {
        let account: DID
        let clientID: String
        let credential: ClientCredential
        let scope: String
        /// Thumbprint of the key that every request of the session must prove.
        let thumbprint: String
        let code: String
        let created: Int64
        var refreshed: Int64
        var refreshToken: String
        /// Earlier refresh tokens: whoever shows one of them again ends the session.
        var spent: Set<String> = []
        /// Access tokens that have not expired: their `jti`, and until when in seconds.
        var tokens: [String: Int64] = [:]
    }

    struct State: Sendable {
        var requests: [String: AuthorizationRequest] = [:]
        var codes: [String: Grant] = [:]
        /// By an identifier that is shown to nobody.
        var sessions: [String: Session] = [:]
        /// CSRF tokens by browser.
        var browsers: [String: String] = [:]
        /// What may be used once, with the second since 1970 at which it may be forgotten.
        var used: [String: Int64] = [:]
        var nonceSecret: [UInt8]
    }

    let pds: PDS
    /// Seconds.
    let accessTokenLifetime: Int64
    let state: Mutex<State>

    init(pds: PDS, configuration: DevnetConfiguration, sessions: [String: Session] = [:]) throws(DevnetError) {
        self.pds = pds
        accessTokenLifetime = configuration.accessTokenLifetime
        state = Mutex(State(sessions: sessions, nonceSecret: try PDS.randomBytes(32)))
    }

    /// Notes that `name` was used.
    /// - Parameter expires: seconds since 1970, after which it is refused for another reason.
    /// - Returns: false when it was used before.
    func useOnce(_ name: String, expires: Int64) -> Bool {
        let now = pds.now
        return state.withLock { state in
            if state.used.count > 10_000 { state.used = state.used.filter { $0.value >= now } }
            if let known = state.used[name], known >= now { return false }
            state.used[name] = expires
            return true
        }
    }
}

// MARK: Nonces

extension OAuthServer {
    /// Milliseconds for which one nonce is the newest; it is good for the one after it too.
    private static let noncePeriod: Int64 = 60_000

    /// The nonce to use from now on.
    var nextNonce: String { nonce(pds.clock() / Self.noncePeriod + 1) }

    func recognizes(nonce text: String) -> Bool {
        let now = pds.clock() / Self.noncePeriod
        return (now - 1...now + 1).contains { nonce($0) == text }
    }

    /// Every nonce that was given out is unknown from now on, as after a restart.
    func rotateNonces() throws(DevnetError) {
        let secret = try PDS.randomBytes(32)
        state.withLock { $0.nonceSecret = secret }
    }

    private func nonce(_ counter: Int64) -> String {
        let secret = state.withLock { $0.nonceSecret }
        let code = withUnsafeBytes(of: counter.bigEndian) {
            HMAC<SHA256>.authenticationCode(for: Array($0), using: SymmetricKey(data: secret))
        }
        return Base64URL.encode(Array(code))
    }
}

// MARK: Sessions

extension OAuthServer {
    /// Ends the sessions of an account, or all of them: their tokens are good for nothing any more.
    func endSessions(of account: DID? = nil) {
        state.withLock { state in state.sessions = state.sessions.filter { account != nil && $0.value.account != account } }
    }

    var sessions: [Session] { state.withLock { $0.sessions.values.sorted { $0.created < $1.created } } }

    /// The session that an access token belongs to.
    func session(ofToken identifier: String) -> Session? {
        state.withLock { state in state.sessions.values.first { $0.tokens[identifier] != nil } }
    }
}
