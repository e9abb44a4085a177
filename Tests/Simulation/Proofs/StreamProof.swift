import ATProto
import EventLog
import Foundation
import SQLiteStore
import Synchronization

/// Subscribers follow the real service over WebSockets, lose their connections at random frames, and go on from the last message that
/// they have, while writers create, change and delete records, members are enrolled, the service is killed and its projections are made
/// anew. In the end what each was told is compared with the log itself, read by other code: of all that was due nothing is lost, nothing
/// came twice, and each actor's commits came in their order.
package enum StreamProof {
    package static let proof = Proof(
        name: "stream",
        claim: "whoever goes on from the last message, however often the connection is lost, is told all that is due, once and in order"
    ) { request in
        guard let program = Program.built else {
            return ProofResult(counts: [], failures: ["the program `stratos` was not built beside this one"])
        }
        let plan =
            request.small
            ? Plan(writers: 8, writes: 200, disconnects: 120, kills: 1, connectionsAtOnce: 200)
            : Plan(writers: 64, writes: 10_000, disconnects: 10_000, kills: 12, connectionsAtOnce: 5000)
        return try await run(request, program: program, plan)
    }

    struct Plan: Sendable {
        let writers: Int
        /// At least so many, answered or not.
        let writes: Int
        /// The same.
        let disconnects: Int
        let kills: Int
        let connectionsAtOnce: Int
    }

    static let actors = 6
    static let syncToken = "the token of the proof"

    static func actor(_ number: Int) -> String { "did:web:actor\(number).example.com" }
    static func boundary(_ name: String) -> String { "\(ServedDirectory.service)/\(name)" }

    private static func run(_ request: ProofRequest, program: Program, _ plan: Plan) async throws -> ProofResult {
        var random = SeededGenerator(seed: request.seed)
        let served = try ServedDirectory(program, path: request.directory + "/data")
        served.environment["STRATOS_SYNC_TOKEN"] = syncToken
        for number in 0..<actors { try await served.succeed("enroll", actor(number), "--boundary", "general", "--boundary", "writers") }
        try await served.start()
        let control = StreamControl()
        let writers = (0..<plan.writers).map { number in
            StreamWriter(number, port: served.port, random: SeededGenerator(seed: request.seed &+ UInt64(number) << 32), control: control)
        }
        let followers = StreamFollower.Interest.all.enumerated().map { number, interest in
            StreamFollower(
                interest, port: served.port, random: SeededGenerator(seed: request.seed &+ UInt64(number + 1000) << 32), control: control)
        }
        for writer in writers { writer.start() }
        for follower in followers { follower.start() }

        var (kills, rebuilds, enrolled) = (0, 0, 0)
        while control.disconnects < plan.disconnects || control.writes < plan.writes, control.failureCount == 0 {
            try await Task.sleep(for: .milliseconds(Int.random(in: 20...200, using: &random)))
            try await served.succeed("enroll", "did:web:late\(enrolled).example.com", "--boundary", "general")
            enrolled += 1
            if rebuilds == 0, control.disconnects > plan.disconnects / 3 {
                try await served.succeed("rebuild")
                rebuilds += 1
            }
            if kills < plan.kills, control.disconnects > plan.disconnects * (kills + 1) / (plan.kills + 1) {
                try await served.kill()
                try await served.start()
                kills += 1
            }
        }
        control.stopWriting()
        for writer in writers { try await writer.finished() }
        // The last of each stream: whoever has it has what was before it. From before it comes no connection is cut on purpose, so that nobody
        // who has it waits for more.
        control.stopLosing()
        for number in 0..<actors { try await StreamWriter.writeLast(to: actor(number), port: served.port) }
        try await served.succeed("enroll", StreamFollower.lastMember, "--boundary", "general")
        for follower in followers { try await follower.finished() }
        let crowd = try await StreamCrowd.come(plan.connectionsAtOnce, port: served.port)
        try await served.stop()

        var judge = StreamJudge(directory: served.path)
        try await judge.readLog()
        for follower in followers { judge.judge(follower) }
        let counts: [(name: String, count: Int)] = [
            ("disconnects", control.disconnects), ("writers", plan.writers), ("writes", writers.reduce(0) { $0 + $1.count }),
            ("subscribers", followers.count), ("messages", followers.reduce(0) { $0 + $1.told.count }), ("due", judge.due),
            ("told of what was superseded or deleted since", judge.extra), ("kills", kills), ("rebuilds", rebuilds), ("enrolled", enrolled),
            ("connections at once", plan.connectionsAtOnce), ("of them served", crowd.served), ("told to come later", crowd.refused),
        ]
        let failures = control.failures + judge.failures + crowd.failures
        return ProofResult(counts: counts, failures: failures.prefix(50).map { "seed \(request.seed): \($0)" })
    }
}

/// What writers and subscribers share.
final class StreamControl: Sendable {
    private struct State {
        var failures: [String] = []
        var writes = 0
        var disconnects = 0
        var isWriting = true
        var isLosing = true
    }

    private let state = Mutex(State())

    var failures: [String] { state.withLock { $0.failures } }
    var failureCount: Int { state.withLock { $0.failures.count } }
    var writes: Int { state.withLock { $0.writes } }
    var disconnects: Int { state.withLock { $0.disconnects } }
    var isWriting: Bool { state.withLock { $0.isWriting } }
    var isLosing: Bool { state.withLock { $0.isLosing } }

    func fail(_ message: String) { state.withLock { $0.failures.append(message) } }
    func wrote() { state.withLock { $0.writes += 1 } }
    func lost() { state.withLock { $0.disconnects += 1 } }
    func stopWriting() { state.withLock { $0.isWriting = false } }
    func stopLosing() { state.withLock { $0.isLosing = false } }
}

/// One writer: a thread, a connection, one request after the other. What an unanswered request came to, the log says in the end.
///
/// `@unchecked Sendable`: the thread alone touches what changes, until `finished` has returned.
final class StreamWriter: @unchecked Sendable {
    private let number: Int
    private let port: UInt16
    private let control: StreamControl
    private var random: SeededGenerator
    private var connection: HTTPConnection?
    private let ended = DispatchSemaphore(value: 0)
    private(set) var count = 0

    init(_ number: Int, port: UInt16, random: SeededGenerator, control: StreamControl) {
        (self.number, self.port, self.random, self.control) = (number, port, random, control)
    }

    func start() {
        let thread = Thread { [self] in
            while control.isWriting { write() }
            ended.signal()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }

    func finished() async throws { try await onThread { [ended] in ended.wait() } }

    private func write() {
        let actor = StreamProof.actor(number % StreamProof.actors)
        // A few keys, so that records are changed, deleted and made anew all the time; no two writers have one in common.
        let key = "k\(number)-\(Int.random(in: 0..<6, using: &random))"
        var input: ValueMap = ["repo": .string(actor), "collection": .string(Self.collection), "rkey": .string(key)]
        let kind = Int.random(in: 0..<8, using: &random)
        if kind > 0 {
            let names = [["general"], ["writers"], ["general", "writers"], []].randomElement(using: &random) ?? []
            input["record"] = Self.record("\(number)/\(count)", in: names)
            input["validate"] = false
        }
        count += 1
        control.wrote()
        do throws(HTTPConnection.Failure) {
            if connection == nil { connection = try HTTPConnection(port: port) }
            let answer = try Self.ask(connection!, kind == 0 ? "deleteRecord" : "putRecord", input, as: actor)
            if answer.status != 200, answer.status != 429, answer.status < 500 { control.fail("a write: \(answer.text)") }
        } catch {
            connection = nil
        }
        // Some hundreds a second in all, with the subscribers on the same machine.
        Thread.sleep(forTimeInterval: Double.random(in: 0.02...0.2, using: &random))
    }

    static let collection = "zone.stratos.test.note"

    private static func record(_ text: String, in names: [String]) -> Value {
        var record: ValueMap = ["text": .string(text)]
        if !names.isEmpty {
            record["boundary"] = ["values": .array(names.map { ["value": .string(StreamProof.boundary($0))] })]
        }
        return .map(record)
    }

    private static func ask(
        _ connection: HTTPConnection, _ method: String, _ input: ValueMap, as actor: String
    ) throws(HTTPConnection.Failure) -> HTTPAnswer {
        try connection.ask(
            "POST", "/xrpc/com.atproto.repo.\(method)",
            headers: [("Authorization", "Bearer \(actor)"), ("Content-Type", "application/json")],
            body: DataModelJSON.encode(.map(input)))
    }

    static let lastKey = "the-last"

    static func writeLast(to actor: String, port: UInt16) async throws {
        let input: ValueMap = [
            "repo": .string(actor), "collection": .string(collection), "rkey": .string(lastKey), "validate": false,
            "record": record("the last", in: ["general", "writers"]),
        ]
        let answer = try await onThread { try ask(try HTTPConnection(port: port), "putRecord", input, as: actor) }
        guard answer.status == 200 else { throw ServedDirectory.Failure.notServing(answer.text) }
    }
}

/// One subscriber: a thread that follows a stream, cuts the connection after some messages, and goes on from the last.
///
/// `@unchecked Sendable`: the thread alone touches what changes, until `finished` has returned.
final class StreamFollower: @unchecked Sendable {
    /// What is followed, and by whom.
    enum Interest: Sendable, CustomStringConvertible {
        case commits(of: String, domain: String?, byOwner: Bool)
        case enrollments

        static let all: [Interest] =
            (0..<StreamProof.actors).flatMap { number -> [Interest] in
                let actor = StreamProof.actor(number)
                return [
                    .commits(of: actor, domain: nil, byOwner: number % 2 == 0), .commits(of: actor, domain: "general", byOwner: false),
                    .commits(of: actor, domain: "writers", byOwner: number % 3 == 0),
                ]
            } + [.enrollments, .enrollments]

        var description: String {
            switch self {
            case .commits(let actor, let domain, let byOwner): "\(actor) \(domain ?? "all")\(byOwner ? " as its owner" : "")"
            case .enrollments: "enrollments"
            }
        }
    }

    static let lastMember = "did:web:last.example.com"

    let interest: Interest
    private let port: UInt16
    private let control: StreamControl
    private var random: SeededGenerator
    private let ended = DispatchSemaphore(value: 0)
    private(set) var told: [SeenMessage] = []
    private var cursor: Int64?

    init(_ interest: Interest, port: UInt16, random: SeededGenerator, control: StreamControl) {
        (self.interest, self.port, self.random, self.control) = (interest, port, random, control)
    }

    func start() {
        let thread = Thread { [self] in
            follow()
            ended.signal()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }

    func finished() async throws { try await onThread { [ended] in ended.wait() } }

    private func follow() {
        var end = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < end {
            let isLast = !control.isLosing
            if !isLast { end = ContinuousClock.now + .seconds(60) }
            do {
                let client = try connect()
                defer { client.close() }
                let most = isLast ? Int.max : Int.random(in: 0...40, using: &random)
                let until = ContinuousClock.now + .milliseconds(Int.random(in: 1...60, using: &random))
                var count = 0
                while count < most, isLast || ContinuousClock.now < until {
                    guard case .message(let message) = try client.next() else { break }
                    guard take(message) else { return }
                    count += 1
                    if isOver(message) { return }
                }
                if !isLast { control.lost() }
            } catch HTTPConnection.Failure.timedOut {
                if !isLast { control.lost() }  // Nothing came for a while, and the connection is cut all the same.
            } catch {
                Thread.sleep(forTimeInterval: 0.005)  // It is being started again.
            }
        }
        control.fail("\(interest): the last message did not come within a minute")
    }

    private func connect() throws -> WebSocketClient {
        var target = "/xrpc/zone.stratos.sync.subscribeRecords?"
        var headers: [(String, String)] = []
        switch interest {
        case .commits(let actor, let domain, let byOwner):
            target += "did=\(actor)"
            if let domain { target += "&domain=\(domain)" }
            if byOwner {
                headers = [("Authorization", "Bearer \(actor)")]
            } else {
                target += "&syncToken=\(StreamProof.syncToken.replacing(" ", with: "%20"))"
            }
        case .enrollments: target += "syncToken=\(StreamProof.syncToken.replacing(" ", with: "%20"))"
        }
        if let cursor { target += "&cursor=\(cursor)" }
        return try WebSocketClient(port: port, target, headers: headers, timeout: control.isLosing ? .milliseconds(100) : .seconds(30))
    }

    /// - Returns: false where it is a failure to be told this.
    private func take(_ message: SeenMessage) -> Bool {
        // While the projections are made anew, or the service stops, it says so and is asked again.
        if let error = message.error {
            if error == "ServiceUnavailable" { return true }
            control.fail("\(interest): \(error) \(message.body)")
            return false
        }
        guard let next = message.cursor, next > cursor ?? 0 else {
            control.fail("\(interest): told of \(message.cursor ?? -1) after \(cursor ?? 0)")
            return false
        }
        cursor = next
        told.append(message)
        return true
    }

    private func isOver(_ message: SeenMessage) -> Bool {
        guard !control.isLosing else { return false }
        return message.operations.contains { $0.path.hasSuffix("/" + StreamWriter.lastKey) }
            || message.body["did"]?.stringValue == Self.lastMember
    }
}

/// Many connections at the same time: each is served, or told to come later.
struct StreamCrowd: Sendable {
    var served = 0
    var refused = 0
    var failures: [String] = []

    static func come(_ count: Int, port: UInt16) async throws -> StreamCrowd {
        try await onThread {
            var crowd = StreamCrowd()
            let target =
                "/xrpc/zone.stratos.sync.subscribeRecords?did=\(StreamProof.actor(0))&syncToken="
                + StreamProof.syncToken.replacing(" ", with: "%20")
            var open: [WebSocketClient] = []
            var waiting = 0
            for _ in 0..<count {
                // Behind as many as the server has room for, the next ones wait unaccepted.
                guard let client = try? WebSocketClient(port: port, target, timeout: .seconds(open.count > 1900 ? 1 : 20)) else {
                    waiting += 1
                    if waiting > 20 { break }
                    continue
                }
                switch try client.next() {
                case .message(let message) where message.error == "TooManyConnections": crowd.refused += 1
                case .message(let message) where message.error == nil:
                    crowd.served += 1
                    open.append(client)
                case .message(let message): crowd.failures.append("one of many was told \(message.body)")
                case .closed(let code, let reason): crowd.failures.append("one of many was closed: \(code ?? 0) \(reason)")
                case .cut: crowd.failures.append("one of many was cut off")
                }
            }
            let health = try HTTPConnection(port: port).ask("GET", "/health").status
            if health != 200 { crowd.failures.append("health beside \(open.count) streams: \(health)") }
            if crowd.served != min(count, 2000) {
                crowd.failures.append("\(crowd.served) of \(count) were served, \(waiting) not answered")
            }
            return crowd
        }
    }
}
