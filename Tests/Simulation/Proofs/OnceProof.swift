import ATProto
import Foundation
import Synchronization

/// Writers send requests under idempotency keys to the real service, which is killed again and again; each repeats its request under
/// the same key until it is answered. In the end every request has had its effect exactly once, and whoever asked twice was
/// answered twice with the same bytes.
package enum OnceProof {
    package static let proof = Proof(
        name: "once",
        claim:
            "a request that is repeated under its key until it is answered has its effect exactly once, though the service is killed again and again"
    ) { request in
        guard let program = Program.built else {
            return ProofResult(counts: [], failures: ["the program `stratos` was not built beside this one"])
        }
        return try await run(request, program: program, writers: request.small ? 8 : 32, cycles: request.small ? 3 : 200)
    }

    static let actors = 8

    static func run(_ request: ProofRequest, program: Program, writers: Int, cycles: Int) async throws -> ProofResult {
        var random = SeededGenerator(seed: request.seed)
        let served = try ServedDirectory(program, path: request.directory + "/data")
        for number in 0..<actors { try await served.succeed("enroll", actor(number), "--boundary", "general") }
        let control = WriterControl()
        let threads = (0..<writers).map { number in
            OnceWriter(
                number: number, port: served.port, random: SeededGenerator(seed: request.seed &+ UInt64(number) << 32), control: control)
        }
        for writer in threads { writer.start() }
        var failures: [String] = []
        for cycle in 0..<cycles {
            try await served.start()
            // Long enough for some writes, and often in the midst of one.
            try await Task.sleep(for: .milliseconds(Int.random(in: 5...(request.small ? 200 : 400), using: &random)))
            try await served.kill()
            if control.failures.withLock({ $0.count }) > 0 {
                failures.append("cycle \(cycle) of seed \(request.seed)")
                break
            }
        }
        try await served.start()
        control.stop()
        for writer in threads { try await writer.finished() }
        failures += control.failures.withLock { $0 }
        var judge = OnceJudge(done: threads.flatMap(\.done))
        try await judge.compare(with: served)
        failures += judge.failures
        failures += try await countEvents(served, requests: judge.requests, starts: cycles + 1)
        try await served.stop()
        let verified = try await served.command(["verify", "--json"], timeout: .seconds(600))
        if verified.status != 0 { failures.append("verify: \(verified.outputText)") }
        let counts = [
            ("cycles", cycles), ("writers", writers), ("requests", judge.requests), ("records", judge.records),
            ("sent again unanswered", threads.reduce(0) { $0 + $1.repeats }), ("asked again", threads.reduce(0) { $0 + $1.rechecks }),
        ]
        return ProofResult(counts: counts.map { (name: $0.0, count: $0.1) }, failures: failures.map { "seed \(request.seed): \($0)" })
    }

    static func actor(_ number: Int) -> String { "did:web:actor\(number).example.com" }

    /// One event a request, besides those of the starts and the enrollments: nothing was done twice, also where no record shows it.
    private static func countEvents(_ served: ServedDirectory, requests: Int, starts: Int) async throws -> [String] {
        let outcome = try await served.succeed("log", "stats", "--json")
        let events = try DataModelJSON.decode(outcome.output.filter { $0 != 0x0A })["events"]?.integerValue
        // The first enrollment began the log with a start of its own.
        let expected = Int64(1 + actors + starts + requests)
        return events == expected ? [] : ["the log has \(events ?? -1) events where \(expected) were due"]
    }
}

/// What the writers share.
private final class WriterControl: Sendable {
    let failures = Mutex<[String]>([])
    private let isStopped = Mutex(false)

    var isStopping: Bool { isStopped.withLock { $0 } }
    func stop() { isStopped.withLock { $0 = true } }
}

/// A request that was answered.
private struct DoneRequest: Sendable {
    let actor: String
    /// The texts of the records that it asked for; each is unlike all others.
    let texts: [String]
    let answer: Value
}

/// One client: a thread, a connection, one request after the other.
///
/// `@unchecked Sendable`: the thread alone touches what changes, until `finished` has returned.
private final class OnceWriter: @unchecked Sendable {
    private let number: Int
    private let port: UInt16
    private let control: WriterControl
    private var random: SeededGenerator
    private var connection: HTTPConnection?
    private let ended = DispatchSemaphore(value: 0)
    private(set) var done: [DoneRequest] = []
    private(set) var repeats = 0
    private(set) var rechecks = 0

    init(number: Int, port: UInt16, random: SeededGenerator, control: WriterControl) {
        self.number = number
        self.port = port
        self.random = random
        self.control = control
    }

    func start() {
        let thread = Thread { [self] in
            work()
            ended.signal()
        }
        thread.stackSize = 1 << 20
        thread.start()
    }

    func finished() async throws {
        try await onThread { [ended] in ended.wait() }
    }

    private func work() {
        var count = 0
        while !control.isStopping {
            let request = makeRequest(count)
            count += 1
            guard let first = sendUntilAnswered(request) else { return }
            guard let answer = try? DataModelJSON.decode(first.body), first.status == 200 else {
                return fail("\(request.method) was answered with \(first.status): \(first.text)")
            }
            done.append(DoneRequest(actor: request.actor, texts: request.texts, answer: answer))
            guard Int.random(in: 0..<4, using: &random) == 0 else { continue }
            guard let again = sendUntilAnswered(request) else { return }
            rechecks += 1
            if again.body != first.body { return fail("\(request.method) was answered again with \(again.text), first with \(first.text)") }
        }
    }

    private func fail(_ message: String) { control.failures.withLock { $0.append("writer \(number): \(message)") } }

    private struct Request {
        let actor: String
        let method: String
        let key: String
        let body: [UInt8]
        let texts: [String]
    }

    private func makeRequest(_ count: Int) -> Request {
        let actor = OnceProof.actor(number % OnceProof.actors)
        let kind = Int.random(in: 0..<5, using: &random)
        let texts = (0..<(kind == 4 ? 3 : 1)).map { "writer \(number), request \(count), record \($0)" }
        var input: ValueMap = ["repo": .string(actor)]
        let collection = "zone.stratos.feed.post"
        if kind == 4 {
            input["writes"] = .array(
                texts.map { text in
                    ["$type": "com.atproto.repo.applyWrites#create", "collection": .string(collection), "value": Self.post(text)]
                })
        } else {
            input["collection"] = .string(collection)
            input["record"] = Self.post(texts[0])
            // Some leave the key to the service, some name it; no two name the same.
            if kind >= 2 { input["rkey"] = .string(TID(microseconds: Int64(count) * 1000 + Int64(number), clockID: 1).description) }
        }
        let method = kind == 4 ? "applyWrites" : kind == 3 ? "putRecord" : "createRecord"
        return Request(
            actor: actor, method: "com.atproto.repo.\(method)", key: "\(number)-\(count)", body: DataModelJSON.encode(.map(input)),
            texts: texts)
    }

    private static func post(_ text: String) -> Value {
        [
            "$type": "zone.stratos.feed.post", "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": [["value": .string("\(ServedDirectory.service)/general")]]],
        ]
    }

    /// Sends it again, on new connections, for as long as nobody says what came of it; nil after a minute.
    private func sendUntilAnswered(_ request: Request) -> HTTPAnswer? {
        let headers = [
            ("Authorization", "Bearer \(request.actor)"), ("Content-Type", "application/json"), ("Idempotency-Key", request.key),
        ]
        let end = ContinuousClock.now + .seconds(60)
        var isRepeat = false
        while ContinuousClock.now < end {
            if isRepeat { repeats += 1 }
            isRepeat = true
            do throws(HTTPConnection.Failure) {
                if connection == nil { connection = try HTTPConnection(port: port) }
                let answer = try connection!.ask("POST", "/xrpc/\(request.method)", headers: headers, body: request.body)
                // What says "later" is no answer yet.
                if answer.status != 429, answer.status < 500 { return answer }
            } catch {
                connection = nil
            }
            Thread.sleep(forTimeInterval: 0.005)
        }
        fail("\(request.method) got no answer within a minute")
        return nil
    }
}

/// Compares what the service holds with what was asked for.
private struct OnceJudge {
    let done: [DoneRequest]
    private(set) var failures: [String] = []
    private(set) var records = 0

    var requests: Int { done.count }

    init(done: [DoneRequest]) { self.done = done }

    mutating func compare(with served: ServedDirectory) async throws {
        for number in 0..<OnceProof.actors {
            let actor = OnceProof.actor(number)
            let port = served.port
            let listed = try await onThread { try Self.list(actor, port: port) }
            records += listed.count
            var byText: [String: [(uri: String, cid: String)]] = [:]
            for record in listed { byText[record.text, default: []].append((record.uri, record.cid)) }
            for request in done where request.actor == actor {
                let results = request.answer["results"]?.arrayValue ?? [request.answer]
                for (text, result) in zip(request.texts, results) {
                    let found = byText.removeValue(forKey: text) ?? []
                    if found.count != 1 { failures.append("\(actor): \(text) is there \(found.count) times") }
                    let uri = result["uri"]?.stringValue, cid = result["cid"]?.stringValue
                    if let one = found.first, uri != one.uri || cid != one.cid {
                        failures.append("\(actor): \(text) was answered as \(uri ?? "") \(cid ?? "") and stands as \(one.uri) \(one.cid)")
                    }
                }
                if results.count != request.texts.count { failures.append("\(actor): \(results.count) results for \(request.texts)") }
            }
            for text in byText.keys { failures.append("\(actor): \(text) is there, and no request for it was answered") }
        }
    }

    private static func list(_ actor: String, port: UInt16) throws -> [(text: String, uri: String, cid: String)] {
        let connection = try HTTPConnection(port: port)
        var found: [(text: String, uri: String, cid: String)] = []
        var cursor = ""
        while true {
            let target = "/xrpc/com.atproto.repo.listRecords?repo=\(actor)&collection=zone.stratos.feed.post&limit=100" + cursor
            let answer = try connection.ask("GET", target, headers: [("Authorization", "Bearer \(actor)")])
            let page = try DataModelJSON.decode(answer.body)
            for record in page["records"]?.arrayValue ?? [] {
                found.append(
                    (record["value"]?["text"]?.stringValue ?? "", record["uri"]?.stringValue ?? "", record["cid"]?.stringValue ?? ""))
            }
            guard let next = page["cursor"]?.stringValue else { return found }
            cursor = "&cursor=\(next)"
        }
    }
}
