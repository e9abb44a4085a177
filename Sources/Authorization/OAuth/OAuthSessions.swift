package import ATProto
internal import Keys

/// The sessions that accounts gave: kept sealed, refreshed when their access tokens expire, and given back.
///
/// Refreshing exchanges the refresh token, which is good for once. So one caller at a time refreshes an account's session, and what the
/// server gave is durable before it is used. Between the server's exchange and our write lies a moment that no order of ours can close: a
/// process that ends there, or an answer that is lost, leaves a refresh token here that the server has exchanged. That a refresh was
/// begun is durable before it is sent; the next one tries the old token again, which servers take that did not get the first request or
/// let it be repeated for a while. Where the server refuses it the session has ended, the record says why, and the person must come back.
package final class OAuthSessions: Sendable {
    let endpoints: OAuthEndpoints
    private let storage: OAuthStorage
    private let seal: Seal
    private let turns = AccountTurns()
    private let onEnd: @Sendable (DID, String) -> Void

    /// An access token this close to its end is exchanged before it is used.
    private static let margin: Int64 = 30

    init(
        endpoints: OAuthEndpoints, storage: OAuthStorage, seal: Seal, onEnd: @escaping @Sendable (DID, String) -> Void
    ) {
        self.endpoints = endpoints
        self.storage = storage
        self.seal = seal
        self.onEnd = onEnd
    }

    private var seconds: Int64 { endpoints.proofs.now() / 1_000_000 }

    /// Keeps what a flow ended in. Durable on return. An earlier session that it takes the place of is given back.
    package func keep(_ ending: OAuthClient.Ending) async throws(PDSError) {
        var session = ending.session
        session.given = endpoints.proofs.now()
        let replaced = try await turns.run(ending.did, full: Self.busy) { [session] () async throws(PDSError) in
            let held = try await held(ending.did)
            try await write(session)
            return held
        }
        if let replaced { await endpoints.giveBack(replaced.refreshToken, of: replaced.account.server, key: replaced.key) }
    }

    /// Whether a session is held that its server has not ended, as far as is known here.
    package func holds(_ account: DID) async throws(PDSError) -> Bool {
        try await held(account) != nil
    }

    /// Gives the session back, and forgets it. None is no error.
    /// - Parameter time: microseconds; one that was given later is another wish of the account, and stays. Nil: whichever is held.
    /// - Throws: `unavailable` where its server cannot be told now; then it is still held, and this may be asked again.
    package func revoke(_ account: DID, givenBefore time: Int64? = nil) async throws(PDSError) {
        try await turns.run(account, full: Self.busy) { () async throws(PDSError) in
            if let held = try await held(account) {
                if let time, held.given >= time { return }
                do throws(OAuthEndpoints.Failure) {
                    try await endpoints.revoke(held.refreshToken, at: held.account.server, key: held.key)
                } catch {
                    // A server that refuses has no such session any more, or never will take it back.
                    if case .unreachable(let reason, let after) = error { throw .unavailable(reason: reason, after: after) }
                }
            }
            try await stored { [storage] in try await storage.removeSession(account) }
        }
    }

    /// Forgets the session without telling its server.
    package func forget(_ account: DID) async throws(PDSError) {
        try await turns.run(account, full: Self.busy) { () async throws(PDSError) in
            try await stored { [storage] in try await storage.removeSession(account) }
        }
    }

    // MARK: Using

    /// The session with an access token that has not expired.
    func usable(_ account: DID) async throws(PDSError) -> OAuthSession {
        let held = try await session(of: account)
        guard let expires = held.expires, expires <= seconds + Self.margin else { return held }
        return try await refreshed(held)
    }

    /// The session after `old`, whose access token is of no more use: from the server, or from whoever asked it meanwhile.
    func refreshed(_ old: OAuthSession) async throws(PDSError) -> OAuthSession {
        let account = old.account.did
        return try await turns.run(account, full: Self.busy) { () async throws(PDSError) in
            var held = try await session(of: account)
            guard held.accessToken == old.accessToken else { return held }
            let mayBeExchanged = held.refreshingSince != nil
            held.refreshingSince = seconds
            try await write(held)
            let answer: Value
            do throws(OAuthEndpoints.Failure) {
                answer = try await endpoints.tokens(
                    for: [("grant_type", "refresh_token"), ("refresh_token", held.refreshToken)], at: held.account.server, key: held.key)
            } catch {
                throw try await failure(error, of: account, mayBeExchanged: mayBeExchanged)
            }
            let tokens: TokenAnswer
            do throws(OAuthRefusal) {
                tokens = try TokenAnswer(answer, subject: account, refreshed: held.refreshToken, now: seconds)
            } catch {
                throw try await end(account, because: error.name)
            }
            var fresh = OAuthSession(account: held.account, key: held.key, tokens: tokens)
            fresh.given = held.given
            try await write(fresh)
            return fresh
        }
    }

    private func failure(_ error: OAuthEndpoints.Failure, of account: DID, mayBeExchanged: Bool) async throws(PDSError) -> PDSError {
        switch error {
        case .refused(_, "invalid_grant"):
            try await end(account, because: mayBeExchanged ? "LostRefresh" : "RefreshRefused")
        case .refused(let status, let error): .refused(status: status, name: error)
        case .malformed: .unavailable(reason: "the token endpoint's answer is not what was asked for")
        case .unreachable(let reason, let after): .unavailable(reason: reason, after: after)
        }
    }

    /// Records that the session is over.
    private func end(_ account: DID, because reason: String) async throws(PDSError) -> PDSError {
        let ended = OAuthStorage.StoredSession.ended(reason: reason, at: seconds)
        try await stored { [storage] in try await storage.keepSession(account, ended) }
        onEnd(account, reason)
        return .sessionEnded
    }

    private func held(_ account: DID) async throws(PDSError) -> OAuthSession? {
        do throws(PDSError) { return try await session(of: account) } catch .noSession { return nil } catch .sessionEnded { return nil }
    }

    /// - Throws: `noSession`, `sessionEnded`; `unavailable` where the storage fails. A row that does not open, under another key of the
    ///   service or out of another account's, is a session that has ended.
    private func session(of account: DID) async throws(PDSError) -> OAuthSession {
        switch try await stored({ [storage] in try await storage.session(account) }) {
        case nil: throw .noSession
        case .ended: throw .sessionEnded
        case .sealed(let bytes):
            guard let session = OAuthSession(bytes, of: account, by: seal) else {
                onEnd(account, "Unreadable")
                throw .sessionEnded
            }
            return session
        }
    }

    private func write(_ session: OAuthSession) async throws(PDSError) {
        let (account, sealed) = (session.account.did, session.sealed(by: seal))
        try await stored { [storage] in try await storage.keepSession(account, .sealed(sealed)) }
    }

    private func stored<Result: Sendable>(_ body: @Sendable () async throws -> Result) async throws(PDSError) -> Result {
        do { return try await body() } catch { throw .unavailable(reason: "the sessions cannot be read or written here") }
    }

    private static let busy = PDSError.unavailable(reason: "too much is being done for this account", after: .seconds(1))
}
