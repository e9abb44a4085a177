import ATProto
import Authorization
import Commands
import Engine
import EventLog
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Keys
import Logging
import Projections
import SQLiteStore
import Server
import Simulation
import Synchronization
import Testing

/// A whole service on a directory of its own: a log, the actors' files, an engine and the routes, asked through the router.
/// Alice and Bob are members: Alice of `general` and `writers`, Bob of `general`. Mallory is a member of `others` alone.
final class Service: Sendable {
    struct Settings: Sendable {
        var rate = WriteRate(writesMax: 1_000_000, window: .seconds(60), cooldown: .seconds(10), jitter: .seconds(1))
        var importBytesMax = 1 << 20
        var fragment = "atproto_pns"
        /// Whether a bare DID is believed; where not, and with no other authenticator, nobody proves anything.
        var isDevelopment = true
        var authenticator: (@Sendable (Engine) throws -> Authenticator)?
        var administrators: Administrators?
        var hydrateTellsBlocked = false
        var enrollmentsArePublic = false
        var membersGetProofs = false
        var accounts = Accounts.unknown
        /// How people come in over the network; nil: they cannot.
        var joining: Joining?
        /// The keys that members get.
        var makeKey: @Sendable () throws -> PrivateKey = { PrivateKey.generate(.p256) }
        /// What stands between the engine and its log.
        var log: @Sendable (any EventStore) -> any EventStore = { $0 }
    }

    static let did = "did:web:stratos.example.com"
    static let publicURL = "https://stratos.example.com"
    static let key: PrivateKey = {
        do { return try PrivateKey(curve: .k256, rawBytes: [UInt8](repeating: 7, count: 32)) } catch { preconditionFailure("\(error)") }
    }()
    static let alice = HostileRequest.actor
    static let bob = "did:plc:bobbobbobbobbobbobbobbob"
    static let mallory = "did:web:mallory.example"
    static let post = "zone.stratos.feed.post"
    /// A collection without a lexicon: a record may be anything there.
    static let thing = HostileRequest.thing

    let directory: TemporaryDirectory
    let store: LogStore
    let actors: ActorDatabases
    let engine: Engine
    let clock = TestClock()
    let exports = ExportRoom()
    /// Sees every line that is logged at any level, and every credential that `ask` sends: none may stand in the other.
    let watch = LogWatch()
    let router: RouterResponder<ConnectionContext>
    let authenticator: Authenticator
    /// All that the router answers at, as `GET /health`, and the NSID of each method behind its `/xrpc/`.
    let routeNames: Set<String>
    private let configuration: ServerConfiguration
    private let isClosed = Mutex(false)

    init(_ settings: Settings = Settings()) async throws {
        directory = try TemporaryDirectory()
        store = try LogStore(directory: directory.path) { error in Issue.record("the log failed: \(error)") }
        actors = ActorDatabases(directory: ActorDirectory(dataDirectory: directory.path), threads: 2)
        let key = Self.key
        let deployment = Deployment(
            serviceDID: try DID(Self.did), allowedDomains: ["general", "writers", "others"], autoEnrollDomains: [], missing: [],
            version: "test", build: [UInt8](repeating: 0, count: 32))
        let (clock, watch) = (clock, watch)
        let generator = Mutex(SeededGenerator(seed: TestFiles.seed))
        let surroundings = Surroundings(
            now: { clock.microseconds() }, random: { count in generator.withLock { $0.bytes(count) } })
        let authority = try await Authority.take(
            over: store, deployment: deployment, isStart: true, surroundings: surroundings, key: { _ in key })
        let files = ActorDirectory(dataDirectory: directory.path)
        engine = Engine(
            log: settings.log(store), readModel: actors,
            keys: ActorKeys(
                read: { try files.signingKey(of: $0) },
                keep: { key, actor in
                    try watch.keep(key, as: "an actor's key")
                    try files.keep(key, of: actor)
                }, remove: { try files.removeKey(of: $0) }, make: settings.makeKey), authority: authority,
            lexicons: .embedded, surroundings: surroundings, logger: Logger(label: "test", factory: watch.handler))
        try watch.keep(key, as: "the service's key")
        configuration = ServerConfiguration(
            serviceDID: Self.did, publicURL: Self.publicURL, serviceFragment: settings.fragment,
            publicKeyMultibase: key.publicKey.multibase, version: "test", writeRate: settings.rate,
            imports: ImportStaging(directory: directory.path, bytesMax: settings.importBytesMax), exports: exports,
            hydrateTellsBlocked: settings.hydrateTellsBlocked, enrollmentsArePublic: settings.enrollmentsArePublic,
            membersGetProofs: settings.membersGetProofs, accounts: settings.accounts, joining: settings.joining,
            probes: [("db", { [engine] in _ = try await engine.log.statistics() }), ("projections", { try files.probe() })],
            now: { clock.instant() })
        authenticator = try settings.authenticator?(engine) ?? Self.authenticator(settings, engine)
        let routes = try Self.routes(engine, configuration, authenticator)
        router = routes.buildResponder()
        routeNames = Set(
            routes.routes.map(\.description).filter { !$0.hasSuffix(" /xrpc/{nsid}") }
                + (try methodNames(engine: engine, configuration: configuration)))
        try await enroll(Self.alice, ["general", "writers"])
        try await enroll(Self.bob, ["general"])
        try await enroll(Self.mallory, ["others"])
    }

    private static func routes(
        _ engine: Engine, _ configuration: ServerConfiguration, _ authenticator: Authenticator
    ) throws -> Router<ConnectionContext> {
        try Server.routes(engine: engine, configuration: configuration, authenticator: authenticator, logger: engine.logger)
    }

    /// The routes of a process that has started again: it knows what the directory holds, and nothing that the one before remembered.
    func router(with authenticator: Authenticator) throws -> RouterResponder<ConnectionContext> {
        try Self.routes(engine, configuration, authenticator).buildResponder()
    }

    /// Nobody's keys can be had: all that proves a caller is a bare DID, or the administrators' password.
    private static func authenticator(_ settings: Settings, _ engine: Engine) throws -> Authenticator {
        let keys = CallerKeys(
            signingKey: { _, _ async throws(CredentialRefusal) in nil },
            issuerKey: { _ async throws(CredentialRefusal) in throw .unavailable(message: "no issuers in this test") })
        return Authenticator(
            service: try DID(did), appViews: [], nonces: DPoPNonces(serviceKey: key), keys: keys, administrators: settings.administrators,
            believesBareDIDs: settings.isDevelopment, isEnrolled: { try await engine.isEnrolled($0) }, now: { 1_790_000_000 })
    }

    deinit { close() }

    func close() {
        let isFirst = isClosed.withLock { isClosed in
            defer { isClosed = true }
            return !isClosed
        }
        guard isFirst else { return }
        store.close()
        actors.close()
        for finding in watch.findings() { Issue.record("a secret was logged: \(finding)") }
    }

    @discardableResult
    func enroll(_ did: String, _ boundaries: [String]) async throws -> EnrollmentSummary {
        try await engine.enroll(
            try DID(did), boundaries: boundaries, pds: nil, by: Agent(did: try DID(Self.did), credential: .operator))
    }

    /// Asks over the router.
    /// - Parameters:
    ///   - caller: sent as a development bearer; nil sends none.
    ///   - body: sent with its length; nil sends neither.
    func ask(
        _ method: HTTPRequest.Method, _ target: String, as caller: String? = nil, type: String? = nil, headers: HTTPFields = [:],
        body: [UInt8]? = nil, through other: RouterResponder<ConnectionContext>? = nil
    ) async throws -> Answer {
        var headers = headers
        if let caller { headers[.authorization] = "Bearer \(caller)" }
        if let type { headers[.contentType] = type }
        let sent = headers
        keepSecrets(of: sent)
        return try await Application(responder: other ?? router, logger: engine.logger).test(.router) { client in
            let response = try await client.executeRequest(
                uri: target, method: method, headers: sent, body: body.map { ByteBuffer(bytes: $0) })
            if let nonce = response.headers[HTTPField.Name("DPoP-Nonce")!] { self.watch.keep(nonce, as: "a nonce") }
            return Answer(status: response.status.code, headers: response.headers, body: Array(response.body.readableBytesView))
        }
    }

    private func keepSecrets(of headers: HTTPFields) {
        for value in headers[values: .authorization] { watch.keep(authorization: value) }
        for value in headers[values: HTTPField.Name("DPoP")!] { watch.keep(value, as: "a proof") }
        for value in headers[values: HTTPField.Name("Idempotency-Key")!] where value.utf8.count >= 8 {
            watch.keep(value, as: "an idempotency key")
        }
    }

    /// A query of a method.
    func get(_ method: String, _ parameters: [(String, String)] = [], as caller: String? = nil) async throws -> Answer {
        try await ask(.get, Self.target(method, parameters), as: caller)
    }

    /// A procedure with a JSON body.
    func call(
        _ method: String, _ input: Value, as caller: String? = nil, headers: HTTPFields = [:],
        through other: RouterResponder<ConnectionContext>? = nil
    ) async throws -> Answer {
        try await ask(
            .post, "/xrpc/\(method)", as: caller, type: "application/json", headers: headers, body: DataModelJSON.encode(input),
            through: other)
    }

    static func target(_ method: String, _ parameters: [(String, String)] = []) -> String {
        let query = parameters.map { "\($0.0)=\(percentEncoded($0.1))" }.joined(separator: "&")
        return "/xrpc/\(method)" + (query.isEmpty ? "" : "?\(query)")
    }

    private static func percentEncoded(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics.union(CharacterSet(charactersIn: "-._~"))) ?? text
    }
}

// What the tests write.
extension Service {
    static func boundary(_ name: String) -> Value { .string("\(did)/\(name)") }

    static func postRecord(_ text: String, in boundaries: String...) -> Value {
        [
            "$type": .string(post), "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": .array(boundaries.map { ["value": boundary($0)] })],
        ]
    }

    /// Writes a post and expects that it was taken.
    @discardableResult
    func write(
        _ record: Value, at rkey: String? = nil, collection: String = Service.post, as caller: String = Service.alice,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> Answer {
        // Shorter texts are words that stand in other places too.
        if let text = record["text"]?.stringValue, text.utf8.count >= 12 { watch.keep(text, as: "a record's text") }
        var input: ValueMap = ["repo": .string(caller), "collection": .string(collection), "record": record]
        if let rkey { input["rkey"] = .string(rkey) }
        if collection != Service.post { input["validate"] = false }
        let answer = try await call("com.atproto.repo.createRecord", .map(input), as: caller)
        #expect(answer.status == 200, "\(answer.text)", sourceLocation: sourceLocation)
        return answer
    }

    /// Runs `body` as while projections are dropped or rebuilt.
    func whileGateIsClosed(_ body: () async throws -> Void) async throws { try await engine.gate.closed(body) }

    func events(of did: String) async throws -> UInt64 { try await store.head(of: try DID(did)).sequence }
}

/// An answer as a client sees it.
struct Answer: Equatable, Sendable {
    let status: Int
    let headers: HTTPFields
    let body: [UInt8]

    var text: String { String(decoding: body, as: UTF8.self) }

    var json: Value {
        get throws { try DataModelJSON.decode(body, limits: DecodingLimits(bytesMax: 64 << 20)) }
    }

    subscript(name: String) -> Value? { (try? json)?[name] }
    subscript(header name: HTTPField.Name) -> String? { headers[name] }

    /// Without what differs between any two answers.
    var comparable: Answer {
        var headers = headers
        headers[.date] = nil
        headers[HTTPField.Name("x-trace-id")!] = nil
        headers[HTTPField.Name("DPoP-Nonce")!] = nil
        return Answer(status: status, headers: headers, body: body)
    }
}

/// Expects a refusal in the protocol's form.
func expect(
    _ answer: Answer, _ status: Int, _ error: String, _ message: String? = nil, sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(answer.status == status, "\(answer.text.prefix(300))", sourceLocation: sourceLocation)
    #expect(answer["error"]?.stringValue == error, "\(answer.text.prefix(300))", sourceLocation: sourceLocation)
    if let message { #expect(answer["message"]?.stringValue == message, sourceLocation: sourceLocation) }
    #expect(answer[header: .contentType] == "application/json; charset=utf-8", sourceLocation: sourceLocation)
    let fields: ValueMap? = (try? answer.json)?.mapValue
    #expect(fields?.count == 2, "an error has a name and a message: \(answer.text.prefix(300))", sourceLocation: sourceLocation)
}

/// Time that only the test moves, but for a microsecond at each look.
final class TestClock: Sendable {
    private let start = ContinuousClock.now
    private let elapsed = Mutex<Int64>(0)

    func advance(by duration: Duration) {
        let (seconds, attoseconds) = duration.components
        elapsed.withLock { $0 += seconds * 1_000_000 + attoseconds / 1_000_000_000_000 }
    }

    /// So long after the start, whatever was looked at meanwhile.
    func set(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        elapsed.withLock { $0 = seconds * 1_000_000 + attoseconds / 1_000_000_000_000 }
    }

    func microseconds() -> Int64 {
        elapsed.withLock { elapsed in
            elapsed += 1
            return 1_790_000_000_000_000 + elapsed
        }
    }

    func instant() -> ContinuousClock.Instant { start + .microseconds(elapsed.withLock { $0 }) }
}
