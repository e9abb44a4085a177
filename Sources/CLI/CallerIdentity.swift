import Authorization
import Commands
import Engine
import EventLog

/// How the served process finds out who calls: its calls to directories and to people's own servers, and the authenticator over them.
struct CallerIdentity {
    let authenticator: Authenticator
    let accounts: Accounts
    /// The flow by which people join, and the sessions that it ends in.
    let oauth: OAuthClient
    let sessions: OAuthSessions
    private let client: OutboundClient
    /// For the directory alone, which the operator chose: it may stand on a private address, and strangers' servers that answer slowly
    /// take none of its places.
    private let directory: OutboundClient
    /// For the servers of people who join, and the records that are kept there.
    private let oauthClient: OutboundClient
    /// For the hosts of handles that members ask for: few at a time, and none of those that credentials wait for.
    private let nameClient: OutboundClient

    init(_ settings: Settings, publicURL: String, authority: Authority, engine: Engine, storage: OAuthStorage) {
        // In development, directories and servers are on this machine or near it.
        let userAgent = settings.userAgent(version: Stratos.version)
        let filter = settings.isDevelopment ? AddressFilter.any : .publicOnly
        client = OutboundClient(filter: filter, userAgent: userAgent)
        directory = OutboundClient(filter: .any, userAgent: userAgent)
        let now = Surroundings.ofThisMachine.now
        let names = TextRecords()
        let identities = IdentityResolver(
            outbound: client.outbound, directory: directory.outbound, plcURL: settings.plcURL, allowsHTTP: settings.isDevelopment, now: now,
            txt: { try await names.records(of: $0) })
        nameClient = OutboundClient(filter: filter, userAgent: userAgent, transfersMax: 8, waitingMax: 32)
        let nameRecords = TextRecords(threadsMax: 4, waitingMax: 32)
        accounts = Accounts(
            members: identities,
            names: IdentityResolver(
                outbound: nameClient.outbound, directory: directory.outbound, plcURL: settings.plcURL,
                allowsHTTP: settings.isDevelopment, now: now, txt: { try await nameRecords.records(of: $0) },
                limits: ResolutionLimits(chainTimeout: .seconds(5), answersMax: 2_000, cacheBytesMax: 4 << 20)))
        oauthClient = OutboundClient(filter: filter, userAgent: userAgent)
        let random = Surroundings.ofThisMachine.random
        oauth = OAuthClient(
            identity: settings.oauthIdentity(publicURL: publicURL),
            resolver: IdentityResolver(
                outbound: oauthClient.outbound, directory: directory.outbound, plcURL: settings.plcURL,
                allowsHTTP: settings.isDevelopment, now: now, txt: { try await names.records(of: $0) }),
            outbound: oauthClient.outbound, allowsHTTP: settings.isDevelopment, storage: storage,
            seal: Seal(serviceKey: authority.key, random: random), now: now, random: random)
        sessions = oauth.sessions { [logger = engine.logger] account, reason in
            logger.warning(
                "a session has ended: the member must join once more for records on their own server",
                metadata: ["actor": .string(account.description), "reason": .string(reason)])
        }
        let issuers = TokenIssuers(resolver: identities, outbound: client.outbound, allowsHTTP: settings.isDevelopment, now: now)
        authenticator = Authenticator(
            service: authority.terms.serviceDID, appViews: settings.appViews, nonces: DPoPNonces(serviceKey: authority.key),
            keys: CallerKeys(identities: identities, issuers: issuers),
            administrators: settings.adminPassword.map(Administrators.init(password:)), believesBareDIDs: settings.isDevelopment,
            isEnrolled: { try await engine.isEnrolled($0) }, now: { now() / 1_000_000 })
    }

    func close() {
        client.close()
        directory.close()
        nameClient.close()
        oauthClient.close()
    }
}
