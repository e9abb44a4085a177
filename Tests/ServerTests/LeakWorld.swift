import ATProto
import Authorization
import Devnet
import Engine
import EventLog
import Foundation
import HTTPTypes
import Keys
import Simulation
import Synchronization
import Testing

/// A service that is like every other of its kind, but for what became of one record, the secret. Time, randomness and keys are the
/// same in all of them, so that whatever differs between two answers comes from the secret.
final class LeakWorld: Sendable {
    static let owner = "did:plc:ownerownerownerownerowne"
    static let nobody = "did:plc:nobodynobodynobodynobod2"
    static let stranger = "did:web:stranger.example"
    static let appView = "did:web:appview.example"
    /// Whom the administrators' methods are tried on.
    static let subject = "did:web:subject.example"
    /// The secret stands here between records that members and outsiders may read…
    static let collection = Service.thing
    /// …and once more here, where nothing else is.
    static let hiddenCollection = "zone.stratos.test.hidden"
    static let key = "3lq2222222225"
    /// A key beside the secret's where never was anything.
    static let emptyKey = "3lq2222222226"
    static let neighbours = ["3lq2222222223", "3lq2222222227"]
    static let text = "the secret text"
    /// Under which the owner wrote it.
    static let idempotencyKey = "secret/createRecord/\(collection)"
    private static let password = "password"
    let state: RecordState
    let service: Service
    /// Of the secret as it stood last; where it was never there, as it would.
    let cid: String
    private let keys: [String: PrivateKey]
    private let asked = Mutex(0)
    /// By which credentials are judged.
    private let clock = TestClock()

    /// - Parameter hasSecret: whether the record was ever there; all else is the same.
    init(_ state: RecordState, hasSecret: Bool = true) async throws {
        self.state = state
        let generator = Mutex(SeededGenerator(seed: TestFiles.seed))
        let key: @Sendable () throws -> PrivateKey = {
            try PrivateKey(curve: .p256, rawBytes: generator.withLock { $0.keyBytes() })
        }
        let keys = [Self.appView: try key(), Self.stranger: try key()]
        self.keys = keys
        var settings = Service.Settings()
        settings.makeKey = key
        let clock = clock
        settings.authenticator = { engine in
            Authenticator(
                service: try DID(Service.did), appViews: [try DID(Self.appView)], nonces: DPoPNonces(serviceKey: Service.key),
                keys: CallerKeys(
                    signingKey: { did, _ async throws(CredentialRefusal) in keys[did.description]?.publicKey },
                    issuerKey: { _ async throws(CredentialRefusal) in throw .unavailable(message: "no issuers in this test") }),
                administrators: Administrators(password: Self.password), believesBareDIDs: true,
                isEnrolled: { try await engine.isEnrolled($0) }, now: { clock.microseconds() / 1_000_000 })
        }
        service = try await Service(settings)
        try await service.enroll(Self.owner, ["general", "writers", "others"])
        try await service.enroll(Self.subject, ["general"])
        let boundaries: [String] =
            switch state {
            case .absent, .ownerOnly: []
            case .lacked: ["writers"]
            case .shared, .deleted, .ownerLeft, .ownerLeftErased, .ownerBack, .ownerBackErased: ["general"]
            }
        let secret = Self.record(Self.text, in: boundaries)
        cid = CID(hashing: DAGCBOR.encode(Self.stored(secret, Self.collection))).description
        for neighbour in Self.neighbours {
            try await service.write(
                Self.record("open", in: ["general", "others"]), at: neighbour, collection: Self.collection, as: Self.owner)
        }
        for collection in [Self.collection, Self.hiddenCollection] where hasSecret && state != .absent {
            try await change("createRecord", ["record": secret, "validate": false], in: collection)
            guard state == .deleted else { continue }
            try await change("deleteRecord", [:], in: collection)
        }
        service.clock.set(.seconds(30))
        switch state {
        case .absent, .lacked, .shared, .ownerOnly, .deleted: break
        case .ownerLeft, .ownerBack: try await leave(.kept)
        case .ownerLeftErased, .ownerBackErased: try await leave(.erase)
        }
        guard state == .ownerBack || state == .ownerBackErased else { return }
        service.clock.set(.seconds(40))
        try await service.enroll(Self.owner, ["general", "writers", "others"])
    }

    private func leave(_ content: AccountLeave.Content) async throws {
        let owner = try DID(Self.owner)
        try await service.engine.leave(owner, content: content, reason: "", by: Agent(did: owner, credential: .dev))
    }

    private func change(_ method: String, _ more: ValueMap, in collection: String) async throws {
        var input: ValueMap = ["repo": .string(Self.owner), "collection": .string(collection), "rkey": .string(Self.key)]
        for (name, value) in more { input[name] = value }
        let answer = try await service.call(
            "com.atproto.repo.\(method)", .map(input), as: Self.owner,
            headers: [.init("Idempotency-Key")!: "secret/\(method)/\(collection)"])
        #expect(answer.status == 200, "\(answer.text)")
    }

    private static func record(_ text: String, in boundaries: [String]) -> Value {
        var record: ValueMap = ["text": .string(text)]
        if !boundaries.isEmpty { record["boundary"] = ["values": .array(boundaries.map { ["value": Service.boundary($0)] })] }
        return .map(record)
    }

    /// With what the service adds to it.
    private static func stored(_ record: Value, _ collection: String) -> Value {
        guard case .map(var fields) = record else { return record }
        fields["$type"] = .string(collection)
        if case .map(var boundary) = fields["boundary"] {
            boundary["$type"] = "zone.stratos.boundary.defs#Domains"
            fields["boundary"] = .map(boundary)
        }
        return .map(fields)
    }

    /// Asks as somebody. The clock stands where it stood when any other of these services was asked as often.
    func ask(_ probe: Probe, as caller: MatrixCaller) async throws -> Answer {
        let count = asked.withLock { count in
            count += 1
            return count
        }
        // Slowly enough that nobody is throttled for the wrong passwords of this test.
        let seconds = 60 + 7 * count
        service.clock.set(.seconds(seconds))
        clock.set(.seconds(seconds))
        let now = clock.microseconds() / 1_000_000
        var headers = probe.headers
        headers[.authorization] = try authorization(caller, method: probe.method, number: count, now: now)
        return try await service.ask(probe.verb, probe.target, type: probe.type, headers: headers, body: probe.body)
    }

    /// What a caller sends, at the moment that the clocks of this service stand at.
    func authorization(_ caller: MatrixCaller, method: String) throws -> String? {
        let number = asked.withLock { count in
            count += 1
            return count
        }
        return try authorization(caller, method: method, number: number, now: clock.microseconds() / 1_000_000)
    }

    private func authorization(_ caller: MatrixCaller, method: String, number: Int, now: Int64) throws -> String? {
        switch caller {
        case .anonymous: nil
        case .stranger: "Bearer \(try token(of: Self.stranger, method: method, number: number, now: now))"
        case .outsider: "Bearer \(Service.mallory)"
        case .member: "Bearer \(Service.bob)"
        case .owner: "Bearer \(Self.owner)"
        case .appView: "Bearer \(try token(of: Self.appView, method: method, number: number, now: now))"
        case .administrator: "Basic \(Data("ines:\(Self.password)".utf8).base64EncodedString())"
        }
    }

    private func token(of did: String, method: String, number: Int, now: Int64) throws -> String {
        let key = try #require(keys[did])
        return try DevnetJWT(
            header: ["typ": "JWT", "alg": .string(key.curve.algorithm)],
            claims: [
                "iss": .string(did), "aud": .string(Service.did), "iat": .integer(now), "exp": .integer(now + 60),
                "jti": .string("\(number)"), "lxm": .string(method),
            ], signer: .key(key)
        ).text
    }
}
