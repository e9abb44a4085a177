package import ATProto
package import Authorization

/// How people come in over the network, where they can.
package struct Joining: Sendable {
    package let client: OAuthClient
    package let sessions: OAuthSessions
    /// Whether an account may become a member; the second is the origin of its PDS.
    package let admits: @Sendable (DID, String) -> Bool
    /// Called when an account's session is held, and so its records elsewhere can be brought to what its log says.
    package let onSession: @Sendable (DID) -> Void
    let rate: FlowRate

    package init(
        client: OAuthClient, sessions: OAuthSessions, admits: @escaping @Sendable (DID, String) -> Bool,
        onSession: @escaping @Sendable (DID) -> Void, rate: FlowRate = FlowRate()
    ) {
        self.client = client
        self.sessions = sessions
        self.admits = admits
        self.onSession = onSession
        self.rate = rate
    }
}
