import ATProto
import Authorization
import Commands
import Devnet
import Engine
import EventLog
import Foundation
import HTTPTypes
import Hummingbird
import Keys
import Simulation
import Synchronization
import Testing

@testable import Server

/// A service that people of a devnet join, over its routes: what they and their browsers do, one thing after the other. All that must
/// stay secret on the way is given to the service's watch.
final class JoiningWorld: Sendable {
    let devnet: Devnet
    let service: Service
    let storage: MemoryOAuthStorage
    let sessions: OAuthSessions
    let user: DevnetUser
    /// Whose sessions were gained, in order.
    private let told: Told
    private let nonce: @Sendable () -> String

    struct Terms: Sendable {
        var enrollment = EnrollmentTerms(mode: .open)
        var rate = FlowRate()
        var log: @Sendable (any EventStore) -> any EventStore = { $0 }
        var returnOrigin = "http://127.0.0.1:3100"
    }

    private final class Told: Sendable {
        let accounts = Mutex<[DID]>([])
    }

    /// Where requests of the OAuth client are seen on their way: what of them is secret.
    private final class Wire: Sendable {
        let watch = Mutex<LogWatch?>(nil)
        let early = Mutex<[(String, String)]>([])

        func keep(_ secret: String, as name: String) {
            guard secret.utf8.count >= 8 else { return }
            if let watch = watch.withLock({ $0 }) { watch.keep(secret, as: name) } else { early.withLock { $0.append((secret, name)) } }
        }

        func note(_ request: OutboundRequest, _ response: OutboundResponse) {
            for (name, value) in request.headers { keep(value, as: name) }
            for field in String(decoding: request.body?.bytes ?? [], as: UTF8.self).split(separator: "&") {
                let pair = field.split(separator: "=", maxSplits: 1).map(String.init)
                guard pair.count == 2,
                    ["state", "code", "code_verifier", "refresh_token", "token", "client_assertion"].contains(pair[0])
                else { continue }
                keep(pair[1].removingPercentEncoding ?? pair[1], as: "a \(pair[0])")
            }
            let answer = try? DataModelJSON.decodePlain(response.body)
            for name in ["access_token", "refresh_token", "request_uri"] {
                if let secret = answer?[name]?.stringValue { keep(secret, as: "a \(name)") }
            }
            if let nonce = response.headers.nonce { keep(nonce, as: "a server's nonce") }
        }
    }

    init(_ devnet: Devnet, _ terms: Terms = Terms()) async throws {
        self.devnet = devnet
        user = try devnet.createAccount(handle: "joining.test")
        let (wire, told, storage) = (Wire(), Told(), MemoryOAuthStorage())
        (self.told, self.storage) = (told, storage)
        let client = OutboundClient(filter: .any, userAgent: "test")
        let outbound = Outbound { request async throws(OutboundError) in
            let response = try await client.outbound.send(request)
            wire.note(request, response)
            return response
        }
        let now: @Sendable () -> Int64 = { Int64(Date.now.timeIntervalSince1970 * 1_000_000) }
        let identities = IdentityResolver(outbound: outbound, plcURL: devnet.plcURL, allowsHTTP: true, now: now, txt: { _ in [] })
        let generator = Mutex(SeededGenerator(seed: TestFiles.seed))
        let random: @Sendable (Int) -> [UInt8] = { count in generator.withLock { $0.bytes(count) } }
        let here = OAuthIdentity(
            publicURL: "http://localhost:3100", id: nil, redirectURI: nil, secret: nil, presentation: .init())
        let oauth = OAuthClient(
            identity: OAuthIdentity(
                publicURL: Service.publicURL, id: here.id, redirectURI: here.redirectURI, secret: nil, presentation: .init()),
            resolver: identities, outbound: outbound, allowsHTTP: true, storage: storage.storage,
            seal: Seal(serviceKey: Service.key, random: random), now: now, random: random)
        sessions = oauth.sessions { _, _ in }
        var settings = Service.Settings()
        settings.log = terms.log
        settings.joining = Joining(
            client: oauth, sessions: sessions, admits: { terms.enrollment.admits($0, pds: $1) },
            onSession: { account in told.accounts.withLock { $0.append(account) } }, rate: terms.rate)
        let nonces = DPoPNonces(serviceKey: Service.key)
        nonce = { nonces.current(now: now() / 1_000_000) }
        let issuers = TokenIssuers(resolver: identities, outbound: outbound, allowsHTTP: true, now: now)
        settings.authenticator = { engine in
            Authenticator(
                service: try DID(Service.did), appViews: [], nonces: nonces,
                keys: CallerKeys(identities: identities, issuers: issuers), administrators: nil, believesBareDIDs: false,
                isEnrolled: { try await engine.isEnrolled($0) }, now: { now() / 1_000_000 })
        }
        service = try await Service(settings)
        wire.watch.withLock { $0 = service.watch }
        for (secret, name) in wire.early.withLock({ $0 }) { service.watch.keep(secret, as: name) }
    }

    var gained: [DID] { told.accounts.withLock { $0 } }

    // MARK: What a browser does

    struct Flow: Sendable {
        let location: String
        /// As the browser sends it back.
        let cookie: String
    }

    static func query(_ fields: [(String, String)]) -> String {
        fields.map { "\($0.0)=\($0.1.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")" }.joined(separator: "&")
    }

    func begin(_ fields: [(String, String)] = [], headers: HTTPFields = [:]) async throws -> Answer {
        try await service.ask(
            .get, "/oauth/authorize?" + Self.query([("handle", user.did.description)] + fields), headers: headers)
    }

    /// A flow that has begun.
    func flow(_ fields: [(String, String)] = []) async throws -> Flow {
        let answer = try await begin(fields)
        let location = try #require(answer[header: .location], "\(answer.status) \(answer.text)")
        let cookie = try #require(answer[header: .setCookie]?.split(separator: ";").first.map(String.init))
        service.watch.keep(String(cookie.split(separator: "=")[1]), as: "a cookie")
        return Flow(location: location, cookie: cookie)
    }

    /// The target that the person's server sends the browser to.
    func consent(_ flow: Flow, as other: DevnetUser? = nil, _ decision: Devnet.Consent = .accept) throws -> String {
        let callback = try devnet.consent(at: flow.location, as: other ?? user, decision)
        for (name, value) in URLComponents(string: callback)?.queryItems?.map({ ($0.name, $0.value ?? "") }) ?? []
        where ["code", "state"].contains(name) {
            service.watch.keep(value, as: "a \(name)")
        }
        return String(callback.dropFirst("http://127.0.0.1:3100".count))
    }

    func come(back target: String, cookie: String?, headers: HTTPFields = [:]) async throws -> Answer {
        var headers = headers
        headers[.cookie] = cookie
        return try await service.ask(.get, target, headers: headers)
    }

    /// The whole way.
    @discardableResult
    func join() async throws -> Answer {
        let flow = try await flow()
        return try await come(back: try consent(flow), cookie: flow.cookie)
    }

    // MARK: What a member's app does

    func dpop(_ verb: String, _ path: String) throws -> HTTPFields {
        let token = try user.accessToken().text
        let proof = try user.dpopProof(method: verb, url: Service.publicURL + path, nonce: nonce(), accessToken: token)
        return [.authorization: "DPoP \(token)", HTTPField.Name("DPoP")!: try proof.text]
    }

    func bearer(_ method: String) throws -> HTTPFields {
        [.authorization: "Bearer \(try user.serviceAuth(audience: Service.did, method: method).text)"]
    }

    func post(_ headers: HTTPFields) async throws -> Answer {
        let input: Value = [
            "repo": .string(user.did.description), "collection": .string(Service.post),
            "record": Service.postRecord("a post of somebody who joined", in: "general"),
        ]
        return try await service.call("com.atproto.repo.createRecord", input, headers: headers)
    }
}
