package import ATProto

/// What tests do with OAuth sessions and count at the PDS.
extension Devnet {
    package enum Consent: Hashable, Sendable { case accept, deny }

    /// An OAuth session that is in force.
    package struct Session: Hashable, Sendable {
        package let did: DID
        package let clientID: String
        package let scope: String
    }

    /// Signs `user` in at an authorization URL and decides, through the code of the pages.
    /// - Returns: the client's callback URL, to which a browser would be sent: with a code, or with `error=access_denied`.
    /// - Throws: `DevnetConsentError` where there would be a page that says why not.
    package func consent(at authorizationURL: String, as user: DevnetUser, _ decision: Consent = .accept) throws -> String {
        guard let account = pds.account(user.did) else { throw DevnetError.noAccount(user.did.description) }
        return try oauth.consent(at: authorizationURL, as: account, decision == .accept ? .accept : .deny)
    }

    /// The sessions in force, oldest first.
    /// - Parameter did: of one account only.
    package func sessions(of did: DID? = nil) -> [Session] {
        oauth.sessions.filter { did == nil || $0.account == did }.map {
            Session(did: $0.account, clientID: $0.clientID, scope: $0.scope)
        }
    }

    /// Ends an account's sessions, as the user does in the settings of the server.
    package func revokeSessions(of did: DID) throws(DevnetError) {
        oauth.endSessions(of: did)
        try keep()
    }

    /// The server has lost every session: refresh tokens are `invalid_grant`, access tokens `invalid_token`.
    package func forgetSessions() throws(DevnetError) {
        oauth.endSessions()
        try keep()
    }

    /// Every DPoP nonce that was given out is unknown from now on.
    package func rotateNonces() throws(DevnetError) { try oauth.rotateNonces() }

    /// Every write that clients made and the PDS accepted, in order.
    /// - Parameter did: of one account only.
    package func writes(of did: DID? = nil) -> [DevnetWrite] { pds.journal.filter { did == nil || $0.did == did } }

    /// A record as the public sees it; nil where there is none.
    package func record(of did: DID, collection: NSID, key: RecordKey) -> Value? {
        pds.record(of: did, collection: collection, key: key)?.value
    }
}
