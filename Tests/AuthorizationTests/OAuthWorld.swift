import ATProto
import Authorization
import Keys
import Simulation
import Synchronization

/// A client, its storage, and an account's servers.
final class OAuthWorld: Sendable {
    let clock = TestClock()
    let storage = MemoryOAuthStorage(flowsMax: 3)
    let server: FakeAccountServer
    let client: OAuthClient
    let sessions: OAuthSessions
    /// Why sessions ended, in order.
    private let ended = Reasons()

    static let publicURL = "https://stratos.example.com"
    static let key: PrivateKey = {
        do { return try PrivateKey(curve: .k256, rawBytes: [UInt8](repeating: 7, count: 32)) } catch { preconditionFailure("\(error)") }
    }()

    private final class Reasons: Sendable {
        let all = Mutex<[String]>([])
    }

    init(secret: PrivateKey? = nil) {
        server = FakeAccountServer(clock: clock.now)
        client = Self.client(server, storage, clock, secret: secret, serviceKey: Self.key, seed: TestFiles.seed)
        if let secret { server.change { $0.clientKeys = [secret.publicKey.jwk] } }
        sessions = client.sessions { [ended] _, reason in ended.all.withLock { $0.append(reason) } }
    }

    var reasons: [String] { ended.all.withLock { $0 } }

    /// The sessions as a process sees them that starts now, perhaps with another key.
    func restarted(serviceKey: PrivateKey = OAuthWorld.key) -> OAuthSessions {
        Self.client(server, storage, clock, secret: nil, serviceKey: serviceKey, seed: TestFiles.seed &+ 1)
            .sessions { [ended] _, reason in ended.all.withLock { $0.append(reason) } }
    }

    /// A flow that has begun, at the account's server said yes to.
    func flow(
        of identifier: String = FakeAccountServer.handle, as account: String = FakeAccountServer.alice
    ) async throws -> (parameters: [(String, String)], cookie: String) {
        let beginning = try await client.begin(try OAuthClient.identifier(typed: identifier), returnTo: nil)
        return (try server.consent(at: beginning.location, as: account), beginning.cookie.value)
    }

    /// Joins: a session is held afterwards.
    func join() async throws {
        let (parameters, cookie) = try await flow()
        try await sessions.keep(try await client.end(parameters, cookie: cookie))
    }

    /// Why a flow does not begin; nil where it does.
    func refusalToBegin(_ identifier: String = FakeAccountServer.handle) async throws -> OAuthRefusal? {
        do {
            _ = try await client.begin(try OAuthClient.identifier(typed: identifier), returnTo: nil)
        } catch let refusal as OAuthRefusal {
            return refusal
        }
        return nil
    }

    /// Why a callback ends in no session; nil where it does.
    func refusal(_ parameters: [(String, String)], _ cookie: String?) async throws -> OAuthRefusal? {
        do { _ = try await client.end(parameters, cookie: cookie) } catch let refusal as OAuthRefusal { return refusal }
        return nil
    }

    static func client(
        _ server: FakeAccountServer, _ storage: MemoryOAuthStorage, _ clock: TestClock, secret: PrivateKey?, serviceKey: PrivateKey,
        seed: UInt64
    ) -> OAuthClient {
        let generator = Mutex(SeededGenerator(seed: seed))
        let random: @Sendable (Int) -> [UInt8] = { count in generator.withLock { $0.bytes(count) } }
        return OAuthClient(
            identity: OAuthIdentity(publicURL: publicURL, id: nil, redirectURI: nil, secret: secret, presentation: .init()),
            resolver: IdentityResolver(
                outbound: server.outbound, plcURL: "https://plc.example.com", allowsHTTP: false, now: clock.now, txt: { _ in [] }),
            outbound: server.outbound, allowsHTTP: false, storage: storage.storage, seal: Seal(serviceKey: serviceKey, random: random),
            now: clock.now, random: random)
    }
}
