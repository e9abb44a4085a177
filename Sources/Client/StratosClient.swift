public import ATProto
package import Authorization

/// What an app, an indexer or an auditor needs of Stratos: find the services of an account, check what they attest, verify single
/// records, and follow a service's streams. (wire contract, sections 7 and 10)
///
/// Every server that is asked is bounded in time and size, no redirect is followed, and a server that a stranger named is connected
/// to on public addresses alone. Nothing is kept but the answers about DIDs.
///
/// ```swift
/// let client = StratosClient()
/// for enrollment in try await client.enrollments(of: did).valid {
///     try await client.verify(enrollment)
/// }
/// ```
public final class StratosClient: Sendable {
    let configuration: ClientConfiguration
    let identities: IdentityResolver
    /// To servers that strangers' documents and records name.
    private let strangers: Outbound
    /// To servers that the caller named.
    private let chosen: Outbound
    private let owned: [OutboundClient]

    public init(_ configuration: ClientConfiguration = ClientConfiguration()) {
        self.configuration = configuration
        let strangers = OutboundClient(
            filter: configuration.reach.filter, userAgent: configuration.userAgent,
            certificateAuthorities: configuration.certificateAuthorities)
        let chosen = OutboundClient(
            filter: .any, userAgent: configuration.userAgent, certificateAuthorities: configuration.certificateAuthorities)
        self.strangers = strangers.outbound
        self.chosen = chosen.outbound
        owned = [strangers, chosen]
        let records = TextRecords()
        identities = IdentityResolver(
            outbound: strangers.outbound, directory: chosen.outbound, plcURL: configuration.directory,
            allowsHTTP: configuration.reach == .everywhere, now: { systemMicroseconds() },
            txt: { try await records.records(of: $0) })
    }

    /// For tests, which are every server themselves.
    package init(_ configuration: ClientConfiguration, outbound: Outbound) {
        self.configuration = configuration
        strangers = outbound
        chosen = outbound
        owned = []
        identities = IdentityResolver(
            outbound: outbound, plcURL: configuration.directory, allowsHTTP: configuration.reach == .everywhere,
            now: { systemMicroseconds() }, txt: { _ in [] })
    }

    deinit { for client in owned { client.close() } }

    /// The account that a handle names, where the account's document names the handle too.
    /// - Returns: nil where it does not lead both ways, or nobody could be asked.
    public func account(named handle: Handle) async -> DID? { await identities.account(named: handle) }

    func outbound(for address: ServiceAddress) -> Outbound { address.isNamedByStranger ? strangers : chosen }
    var strangersOutbound: Outbound { strangers }
}

/// How a client reaches others.
public struct ClientConfiguration: Sendable {
    /// Which servers may be asked that documents and records of strangers name.
    public enum Reach: Hashable, Sendable {
        /// Those on public addresses, over TLS.
        case publicInternet
        /// Also those on private addresses and, on this machine, without TLS: for development and tests.
        case everywhere
    }

    /// The URL of the directory of did:plc.
    public var directory: String
    public var reach: Reach
    /// What servers see of this program: one line of printable ASCII.
    public var userAgent: String
    /// A PEM file of those who may sign certificates, in place of the system's.
    public var certificateAuthorities: String?
    /// One request, to its last byte.
    public var requestTimeout: Duration

    public init(
        directory: String = "https://plc.directory", reach: Reach = .publicInternet, userAgent: String = "stratos-client",
        certificateAuthorities: String? = nil, requestTimeout: Duration = .seconds(10)
    ) {
        self.directory = directory
        self.reach = reach
        self.userAgent = userAgent
        self.certificateAuthorities = certificateAuthorities
        self.requestTimeout = requestTimeout
    }
}

extension ClientConfiguration.Reach {
    var filter: AddressFilter { self == .everywhere ? .any : .publicOnly }
}
