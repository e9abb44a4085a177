import ATProto
import Devnet
import Foundation
import Keys
import Simulation
import Synchronization

/// A running service of which settings are looked at, with members who prove themselves by inter-service tokens, whatever mode it
/// runs in, and with a directory of DIDs that hears who asks.
final class SettingsSubject {
    static let appView = "did:plc:appviewappviewappviewapp"
    /// Members who write too much.
    static let writers = ["a", "b", "c", "d", "e"].map { "did:plc:" + String(repeating: $0, count: 24) }
    static let visibleKey = "3lq2222222222"
    private static let hiddenKey = "3lq2222222223"

    let program: ProgramUnderTest
    /// Whether every setting is given.
    let isGiven: Bool
    let directory: RawServer
    private let keys: [String: PrivateKey]
    private let limited = Mutex<[Int]?>(nil)

    init(_ program: ProgramUnderTest, isGiven: Bool) throws {
        self.program = program
        self.isGiven = isGiven
        let people = [Service.alice, Service.bob, Self.appView] + Self.writers
        let keys = Dictionary(uniqueKeysWithValues: people.map { ($0, PrivateKey.generate(.k256)) })
        self.keys = keys
        directory = try RawServer { connection in
            let did = String(connection.path.dropFirst())
            guard let key = keys[did] else { return connection.respond(status: 404, body: []) }
            let document: Value = [
                "id": .string(did),
                "verificationMethod": [
                    [
                        "id": "#atproto", "type": "Multikey", "controller": .string(did),
                        "publicKeyMultibase": .string(key.publicKey.multibase),
                    ]
                ],
            ]
            connection.respond(body: DataModelJSON.encode(document))
        }
    }

    /// A text of the table with what only this run knows.
    func filled(_ text: String) -> String {
        text.replacing("{port}", with: String(program.served.port)).replacing("{directory}", with: directory.origin)
            .replacing("{data}", with: program.served.path)
    }

    /// Enrolls everybody, starts the service and writes two posts of Alice's.
    func start() async throws {
        try await program.served.succeed("enroll", Service.alice, "--boundary", "general", "--boundary", "writers")
        try await program.served.succeed("enroll", Service.bob, "--boundary", "general")
        try await program.served.start()
        for writer in Self.writers { try await program.served.succeed("enroll", writer, "--boundary", "general") }
        for (key, boundary) in [(Self.visibleKey, "general"), (Self.hiddenKey, "writers")] {
            let answer = try await ask(
                "com.atproto.repo.createRecord",
                input: [
                    "repo": .string(Service.alice), "collection": .string(Service.post), "rkey": .string(key),
                    "record": record(in: boundary),
                ], as: Service.alice)
            guard answer["uri"] != nil else { throw ServedDirectory.Failure.notServing("\(answer)") }
        }
    }

    private var serviceDID: String { program.served.environment["STRATOS_SERVICE_DID"] ?? "" }

    func record(in boundary: String) -> Value {
        [
            "$type": .string(Service.post), "text": "x", "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": [["value": .string("\(serviceDID)/\(boundary)")]]],
        ]
    }

    var hiddenURI: Value { .string("at://\(Service.alice)/\(Service.post)/\(Self.hiddenKey)") }

    // Asking

    /// - Parameters:
    ///   - caller: proves itself with a token for the method that the target names.
    ///   - authorization: sent as it is.
    func answer(
        _ verb: String, _ target: String, as caller: String? = nil, authorization: String? = nil, type: String = "application/json",
        body: [UInt8]? = nil
    ) async throws -> HTTPAnswer {
        var headers = body == nil ? [] : [("Content-Type", type)]
        if let authorization { headers.append(("Authorization", authorization)) }
        if let caller {
            let method = target.dropFirst("/xrpc/".count).prefix { $0 != "?" }
            headers.append(("Authorization", "Bearer \(try token(of: caller, for: String(method)))"))
        }
        let (port, sent) = (program.served.port, headers)
        return try await onThread { try HTTPConnection(port: port).ask(verb, target, headers: sent, body: body) }
    }

    fileprivate func token(of caller: String, for method: String) throws -> String {
        guard let key = keys[caller] else { throw ServedDirectory.Failure.notServing("nobody") }
        let now = Int64(Date.now.timeIntervalSince1970)
        return try DevnetJWT(
            header: ["typ": "JWT", "alg": "ES256K"],
            claims: [
                "iss": .string(caller), "aud": .string(serviceDID), "lxm": .string(method), "iat": .integer(now), "exp": .integer(now + 60),
                "jti": .string(UUID().uuidString),
            ], signer: .key(key)
        ).text
    }

    func ask(_ method: String, _ parameters: [(String, String)] = [], as caller: String? = nil) async throws -> Value {
        try DataModelJSON.decode(try await answer("GET", Service.target(method, parameters), as: caller).body)
    }

    func ask(_ method: String, input: Value, as caller: String? = nil) async throws -> Value {
        try DataModelJSON.decode(
            try await answer("POST", Service.target(method), as: caller, body: DataModelJSON.encode(input)).body)
    }

    // What is seen

    func document() async throws -> Value { try DataModelJSON.decode(try await answer("GET", "/.well-known/did.json").body) }

    /// A member of what the service says of itself to authorization servers; the first of several, and nothing for none.
    func clientMetadata(_ name: String) async throws -> String {
        let value = try DataModelJSON.decode(try await answer("GET", "/client-metadata.json").body)[name]
        return value?.stringValue ?? value?.arrayValue?.first?.stringValue ?? ""
    }

    func upload(_ car: [UInt8], as caller: String) async throws -> Value {
        try DataModelJSON.decode(
            try await answer(
                "POST", "/xrpc/zone.stratos.repo.importRepo", as: caller, type: "application/vnd.ipld.car", body: car
            ).body)
    }

    /// As the directory heard it.
    func userAgent() async throws -> String {
        _ = try await answer("GET", "/xrpc/zone.stratos.audit.listReads", as: Service.alice)
        let lines = directory.requests.last?.split(separator: "\r\n") ?? []
        return lines.first { $0.lowercased().hasPrefix("user-agent: ") }.map(String.init) ?? ""
    }

    var logFile: [UInt8]? { FileManager.default.contents(atPath: program.served.path + "/log.sqlite").map { Array($0) } }

    /// What the service has logged up to now.
    var said: String { String(decoding: program.served.running?.errorsSoFar ?? [], as: UTF8.self) }

    /// Of the lines that the service has logged up to now.
    var lowestLevelLogged: String {
        let text = said
        return ["trace", "debug", "info", "notice", "warning", "error", "critical"].first { text.contains(" \($0) ") } ?? "nothing"
    }

    func boundariesOfSomebodyNew() async throws -> [String] {
        let outcome = try await program.run(["enroll", "did:plc:somebodynewsomebodynewsom", "--json"])
        let answer = try DataModelJSON.decode(Array((outcome.lines.last ?? "{}").utf8))
        return (answer["boundaries"]?.arrayValue ?? []).compactMap { $0.stringValue?.split(separator: "/").last.map(String.init) }
    }

    /// So many posts in one batch.
    func writeMany(_ count: Int, as writer: String) async throws -> HTTPAnswer {
        let write: Value = [
            "$type": "com.atproto.repo.applyWrites#create", "collection": .string(Service.post), "value": record(in: "general"),
        ]
        let input: Value = ["repo": .string(writer), "writes": .array([Value](repeating: write, count: count))]
        return try await answer("POST", "/xrpc/com.atproto.repo.applyWrites", as: writer, body: DataModelJSON.encode(input))
    }

    /// Seconds that members are told to wait who wrote more than they may; each has one cooldown.
    func cooldowns() async throws -> [Int] {
        if let limited = limited.withLock({ $0 }) { return limited }
        var seconds: [Int] = []
        for writer in Self.writers[2...] {
            let answer = try await writeMany(4, as: writer)
            guard answer.status == 429, let wait = answer["retry-after"].flatMap({ Int($0) }) else {
                throw ServedDirectory.Failure.notServing("\(answer.status) \(answer.text)")
            }
            seconds.append(wait)
        }
        limited.withLock { $0 = seconds }
        return seconds
    }
}

// Streams, over sockets.
extension SettingsSubject {
    /// Follows enrollments with a sync token.
    func follow(syncToken: String, _ body: @escaping @Sendable (WebSocketClient) throws -> String) async throws -> String {
        let port = program.served.port
        let target = Service.target("zone.stratos.sync.subscribeRecords", [("syncToken", syncToken)])
        return try await onThread { try body(try WebSocketClient(port: port, target)) }
    }

    /// Follows the owner's own stream.
    func follow(_ body: @escaping @Sendable (WebSocketClient) throws -> String) async throws -> String {
        let method = "zone.stratos.sync.subscribeRecords"
        let (port, token) = (program.served.port, try token(of: Service.alice, for: method))
        return try await onThread {
            try body(
                try WebSocketClient(
                    port: port, Service.target(method, [("did", Service.alice)]), headers: [("Authorization", "Bearer \(token)")]))
        }
    }

    /// What is told of one record.
    func follow(_ key: String, as owner: String) async throws -> String {
        try await follow { stream in
            var told: [String] = []
            while told.count < 2, case .message(let message) = try stream.next() {
                told += message.operations.filter { $0.path.hasSuffix(key) }.map(\.action)
            }
            return told.joined(separator: ", ")
        }
    }

    /// Writes a record that is there once more, with other words.
    func rewrite(_ key: String) async throws {
        let answer = try await ask(
            "com.atproto.repo.putRecord",
            input: [
                "repo": .string(Service.alice), "collection": .string(Service.post), "rkey": .string(key),
                "record": record(in: "general").replacingText("other words"),
            ], as: Service.alice)
        guard answer["uri"] != nil else { throw WebSocketClient.Failure.malformed("\(answer)") }
    }
}

extension Value {
    fileprivate func replacingText(_ text: String) -> Value {
        guard case .map(var fields) = self else { return self }
        fields["text"] = .string(text)
        return .map(fields)
    }
}
