import ATProto
import Foundation
import Synchronization

/// The real service as a child process, under everything hostile that can be sent to it: each request gets the answer that it must
/// get, others are served meanwhile, nothing is written, and the service's memory stays within a bound of what it was before.
package enum HostileProof {
    package static let growthMax = 64 << 20

    package static let proof = Proof(
        name: "hostile",
        claim: "no input over the network is answered wrongly, written, or makes the service hold more than 64 MiB above what it had"
    ) { request in
        guard let program = Program.built else {
            return ProofResult(counts: [], failures: ["the program `stratos` was not built beside this one"])
        }
        var counts: [(name: String, count: Int)] = []
        var failures: [String] = []
        for attack in try attacks(request) {
            let directory = request.directory + "/" + attack.name.replacing(" ", with: "-")
            let result = try await carryOut(attack, program: program, directory: directory)
            counts += [("\(attack.name), requests", result.requests), ("\(attack.name), bytes above", result.growth)]
            failures += result.failures.map { "\(attack.name), seed \(request.seed): \($0)" }
        }
        return ProofResult(counts: counts, failures: failures)
    }

    /// What is done to a fresh service; it notes what it sent, and what was answered wrongly.
    struct Attack: Sendable {
        let name: String
        var importBytesMax = 1 << 20
        let run: @Sendable (UInt16, AttackNotes) throws -> Void
    }

    private static func carryOut(
        _ attack: Attack, program: Program, directory: String
    ) async throws -> (requests: Int, growth: Int, failures: [String]) {
        let served = try ServedDirectory(program, path: directory)
        served.environment["STRATOS_IMPORT_MAX_BYTES"] = String(attack.importBytesMax)
        for member in members { try await served.succeed("enroll", member) }
        try await served.start()
        let port = served.port
        // What a service holds that has served a little.
        for _ in 0..<20 { try await onThread { _ = try listed(port) } }
        let before = try served.memory("VmHWM")
        let notes = AttackNotes()
        try await onThread { try attack.run(port, notes) }
        let growth = try served.memory("VmHWM") - before
        var failures = notes.failures
        if growth > growthMax { failures.append("\(growth >> 20) MiB above \(before >> 20) MiB") }
        let after = try await onThread { try listed(port) }
        if after.text != "{\"records\":[]}" { failures.append("afterwards a list is \(after.status) \(after.text.prefix(200))") }
        let outcome = try await served.stop()
        if outcome?.status != 0 {
            failures.append("the service ended with \(outcome?.status ?? -1): \(outcome?.errorText.suffix(500) ?? "")")
        }
        return (notes.requests, max(0, growth), failures)
    }

    private static func listed(_ port: UInt16) throws -> HTTPAnswer {
        try HTTPConnection(port: port).ask(
            "GET", "/xrpc/com.atproto.repo.listRecords?repo=\(HostileRequest.actor)&collection=\(HostileRequest.thing)",
            headers: [("Authorization", "Bearer \(HostileRequest.actor)")])
    }
}

/// What an attack has sent, and what was answered wrongly. Several threads note.
final class AttackNotes: Sendable {
    private let state = Mutex((requests: 0, failures: [String]()))

    var requests: Int { state.withLock { $0.requests } }
    var failures: [String] { state.withLock { $0.failures } }
    func sent() { state.withLock { $0.requests += 1 } }
    func fail(_ message: String) { state.withLock { $0.failures.append(message) } }

    /// - Parameter busy: whether 429 is right too, as others ask at the same time.
    func judge(_ answer: HTTPAnswer, of request: HostileRequest, busy: Bool) {
        sent()
        if busy, answer.status == 429, answer["retry-after"] != nil { return }
        guard answer.status != request.status || !answer.text.contains("\"error\":\"\(request.error)\"") else { return }
        fail("\(request.name): \(answer.status) \(answer.text.prefix(200)) and not \(request.status) \(request.error)")
    }
}

// The attacks.
extension HostileProof {
    /// Who asks: each has a share of what the service bounds.
    private static let members = [HostileRequest.actor] + "bcdefghijklm".map { "did:plc:" + String(repeating: $0, count: 24) }

    private static func bearer(_ number: Int) -> (String, String) { ("Authorization", "Bearer \(members[number % members.count])") }
    private static let create = "/xrpc/com.atproto.repo.createRecord"

    static func attacks(_ request: ProofRequest) throws -> [Attack] {
        let bad = try HostileRequest.json + HostileRequest.queries + HostileRequest.repos(seed: request.seed)
        let large = HostileRequest.large
        let clients = request.small ? 3 : 16
        let car = try RepoSample(records: request.small ? 5_000 : 100_000, seed: request.seed).car()
        return [
            Attack(name: "bad input") { port, notes in try inOrder(bad, port, notes) },
            Attack(name: "large bodies") { port, notes in
                concurrently(clients, notes) { number in
                    for round in 0..<(request.small ? 1 : 4) {
                        for index in large.indices {
                            try alone(large[(index + number + round) % large.count], by: number, port, notes)
                        }
                    }
                }
            },
            Attack(name: "stalled uploads") { port, notes in try stalled(request.small ? 24 : 256, port, notes) },
            Attack(name: "imports", importBytesMax: 256 << 20) { port, notes in
                let body = HostileRequest(
                    name: "a repo of \(car.count) bytes", target: "/xrpc/zone.stratos.repo.importRepo", type: "application/vnd.ipld.car",
                    body: car, error: "InvalidCar")
                concurrently(12, notes) { number in
                    var one = body
                    if number % 2 == 1 { one.body.removeLast(1000) }
                    try alone(one, by: number, port, notes)
                }
            },
            Attack(name: "silent connections") { port, notes in try silent(request.small ? 300 : 1000, port, notes) },
        ]
    }

    /// One after the other, on a connection that goes on as long as the service lets it.
    private static func inOrder(_ requests: [HostileRequest], _ port: UInt16, _ notes: AttackNotes) throws {
        var connection = try HTTPConnection(port: port)
        for request in requests {
            let answer = try send(request, by: 0, on: connection)
            notes.judge(answer, of: request, busy: false)
            if answer["connection"] == "close" { connection = try HTTPConnection(port: port) }
        }
    }

    /// On a connection of its own, which the service may close in the midst of a body that it refuses.
    private static func alone(
        _ request: HostileRequest, by member: Int, _ port: UInt16, _ notes: AttackNotes
    ) throws(HTTPConnection.Failure) {
        let connection = try HTTPConnection(port: port, timeout: .seconds(120))
        let request = request.by(members[member % members.count])
        do {
            notes.judge(try send(request, by: member, on: connection), of: request, busy: true)
        } catch .closed where request.body.count > 2 << 20 {
            notes.sent()
        }
    }

    private static func send(
        _ request: HostileRequest, by member: Int, on connection: HTTPConnection
    ) throws(HTTPConnection.Failure) -> HTTPAnswer {
        let headers = [bearer(member)] + (request.type.map { [("Content-Type", $0)] } ?? [])
        guard request.isChunked else {
            return try connection.ask(request.verb, request.target, headers: headers, body: request.verb == "GET" ? nil : request.body)
        }
        try connection.send(HTTPConnection.head(request.verb, request.target, headers: headers + [("Transfer-Encoding", "chunked")]))
        var start = 0
        while start < request.body.count {
            let piece = request.body[start..<min(start + 100_000, request.body.count)]
            try connection.send(Array("\(String(piece.count, radix: 16))\r\n".utf8) + piece + [0x0D, 0x0A])
            start = piece.endIndex
        }
        try connection.send(Array("0\r\n\r\n".utf8))
        return try connection.answer()
    }

    /// Uploads that stop before their last byte: they cannot be told from slow ones, and hold what they hold. Small requests pass.
    private static func stalled(_ count: Int, _ port: UInt16, _ notes: AttackNotes) throws {
        let almost = [UInt8](repeating: 0x20, count: (2 << 20) - 1)
        let type = ("Content-Type", "application/json")
        let stalled = try (0..<count).map { _ in try HTTPConnection(port: port) }
        concurrently(count, notes) { number in
            let head = HTTPConnection.head("POST", create, headers: [bearer(number), type, ("Content-Length", "\(2 << 20)")])
            do throws(HTTPConnection.Failure) { try stalled[number].send(head + almost) } catch {
                guard error == .closed else { throw error }  // One that was refused may be closed while it sends.
            }
            notes.sent()
        }
        let small = try HTTPConnection(port: port).ask("POST", create, headers: [bearer(0), type], body: Array("{}".utf8))
        if small.status != 400 { notes.fail("a small request is \(small.status) while large ones stall") }
        withExtendedLifetime(stalled) {}
    }

    /// Connections that say nothing, or nearly a whole head of the largest size.
    private static func silent(_ count: Int, _ port: UInt16, _ notes: AttackNotes) throws {
        let fields = (0..<28).map { ("A\($0)", String(repeating: "x", count: 1000)) }
        let half = Array(HTTPConnection.head("GET", "/health", headers: fields).dropLast(2))
        var held: [HTTPConnection] = []
        for number in 0..<count {
            let connection = try HTTPConnection(port: port)
            if number % 2 == 0 { try connection.send(half) }
            held.append(connection)
            notes.sent()
        }
        let health = try HTTPConnection(port: port).ask("GET", "/health")
        if health.status != 200 { notes.fail("health is \(health.status) beside \(count) connections") }
        withExtendedLifetime(held) {}
    }

    /// Runs `body` so many times at once, each on a thread of its own, and waits for all.
    private static func concurrently(_ count: Int, _ notes: AttackNotes, _ body: @escaping @Sendable (Int) throws -> Void) {
        let group = DispatchGroup()
        for number in 0..<count {
            group.enter()
            let thread = Thread {
                do { try body(number) } catch { notes.fail("client \(number): \(error)") }
                group.leave()
            }
            thread.stackSize = 1 << 20
            thread.start()
        }
        group.wait()
    }
}
