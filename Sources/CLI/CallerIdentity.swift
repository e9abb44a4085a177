import Authorization
import Commands
import Engine
import EventLog

/// How the served process finds out who calls: its calls to directories and to people's own servers, and the authenticator over them.
struct CallerIdentity {
    let authenticator: Authenticator
    private let client: OutboundClient
    /// For the directory alone, which the operator chose: it may stand on a private address, and strangers' servers that answer slowly
    /// take none of its places.
    private let directory: OutboundClient

    init(_ settings: Settings, authority: Authority, engine: Engine) {
        // In development, directories and servers are on this machine or near it.
        let userAgent = settings.userAgent(version: Stratos.version)
        client = OutboundClient(filter: settings.isDevelopment ? .any : .publicOnly, userAgent: userAgent)
        directory = OutboundClient(filter: .any, userAgent: userAgent)
        let now = Surroundings.ofThisMachine.now
        let names = TextRecords()
        let identities = IdentityResolver(
            outbound: client.outbound, directory: directory.outbound, plcURL: settings.plcURL, allowsHTTP: settings.isDevelopment, now: now,
            txt: { try await names.records(of: $0) })
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
    }
}
