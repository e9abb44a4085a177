import ATProto
import EventLog
import Foundation
import Keys
import SQLiteStore
import Synchronization

/// People join the real service, write, leave and come back, again and again, while readers loop over every route and the service is
/// killed in between. Each text names the account and the enrollment that it was written in, so an answer tells by itself what it is made
/// of: nothing that went with a leave may be in an answer to what was asked after the leave was answered, and what was kept only
/// once its owner had set out to come back.
package enum LeaveProof {
    package struct Size: Sendable {
        var actors: Int
        var leaves: Int
        var records: Int
        var readers: Int
        /// Between two kills.
        var milliseconds: ClosedRange<Int>

        static let small = Size(actors: 3, leaves: 3, records: 4, readers: 2, milliseconds: 150...400)
        static let full = Size(actors: 24, leaves: 20, records: 12, readers: 6, milliseconds: 100...1200)
    }

    package static let proof = Proof(
        name: "leave",
        claim: """
            who leaves is served no more from the answer on, what is erased never again, and revs rise through returns and kill -9; \
            the chain stays whole and gives the same digest
            """
    ) { request in
        guard let program = Program.built else {
            return ProofResult(counts: [], failures: ["the program `stratos` was not built beside this one"])
        }
        return try await run(request, program: program, request.small ? .small : .full)
    }

    static let password = "leave-proof"
    /// A member who reads and never leaves.
    static let reader = "did:web:reader.example.com"
    static let collection = "zone.stratos.feed.post"

    static func actor(_ number: Int) -> String { "did:web:actor\(number).example.com" }

    static func run(_ request: ProofRequest, program: Program, _ size: Size) async throws -> ProofResult {
        var random = SeededGenerator(seed: request.seed)
        let served = try ServedDirectory(program, path: request.directory + "/data")
        served.environment["STRATOS_ADMIN_PASSWORD"] = password
        try await served.succeed("enroll", reader, "--boundary", "general")
        let ledger = LeaveLedger()
        let people = (0..<size.actors).map { number in
            LeavePerson(
                number: number, port: served.port, size: size, random: SeededGenerator(seed: request.seed &+ UInt64(number + 1) << 32),
                ledger: ledger)
        }
        let readers = (0..<size.readers).map { number in
            LeaveReader(
                port: served.port, actors: size.actors, random: SeededGenerator(seed: request.seed &+ UInt64(number + 1) << 48),
                ledger: ledger)
        }
        for person in people { person.start() }
        for reader in readers { reader.start() }
        var kills = 0
        while !people.allSatisfy(\.isDone), ledger.failures.isEmpty {
            try await served.start()
            let end = ContinuousClock.now + .milliseconds(Int.random(in: size.milliseconds, using: &random))
            while ContinuousClock.now < end, !people.allSatisfy(\.isDone) { try await Task.sleep(for: .milliseconds(5)) }
            guard !people.allSatisfy(\.isDone) else { break }
            try await served.kill()
            kills += 1
        }
        if served.running == nil { try await served.start() }
        ledger.stop()
        for person in people { try await person.finished() }
        for reader in readers { try await reader.finished() }
        var failures = ledger.failures
        if failures.isEmpty { failures += try await judge(served, people, ledger) }
        let counts = [
            ("accounts", size.actors), ("leaves", ledger.leaves), ("of them erased", ledger.erasures), ("kills", kills),
            ("answers looked at", ledger.answers), ("texts in them", ledger.texts), ("blocks looked for", ledger.erasedBlocks.count),
        ]
        return ProofResult(counts: counts.map { (name: $0.0, count: $0.1) }, failures: failures.map { "seed \(request.seed): \($0)" })
    }

    /// What the files say when all is over.
    private static func judge(_ served: ServedDirectory, _ people: [LeavePerson], _ ledger: LeaveLedger) async throws -> [String] {
        var failures: [String] = []
        try await served.stop()
        // A command that changes something carries out first what a kill has interrupted.
        try await served.succeed("enroll", "did:web:last.example.com", "--boundary", "general")
        let verified = try await served.command(["verify", "--json"], timeout: .seconds(600))
        if verified.status != 0 { failures.append("verify: \(verified.outputText)") }
        func digest(_ arguments: [String]) async throws -> String {
            let outcome = try await served.command(arguments + ["--json"], timeout: .seconds(600))
            let answer = try DataModelJSON.decode(Array((outcome.lines.last ?? "{}").utf8))
            return answer["digest"]?.stringValue ?? "none: \(outcome.outputText) \(outcome.errorText)"
        }
        let digests = [
            try await digest(["digest"]), try await digest(["digest", "--until", "1000000000"]), try await digest(["rebuild"]),
            try await digest(["digest"]),
        ]
        if Set(digests).count != 1 { failures.append("digests differ: \(digests)") }
        let store = try LogStore(directory: served.path) { TestFiles.note("the log gives up: \($0)") }
        defer { store.close() }
        for (actor, cid) in ledger.erasedBlocks where try await store.block(cid, of: actor) != nil {
            failures.append("block \(cid) of \(actor) is still given out by the store")
        }
        let due = try await store.erasuresDue()
        if !due.isEmpty { failures.append("erasures are still due: \(due)") }
        let files = ActorDirectory(dataDirectory: served.path)
        for person in people {
            let key = try files.signingKey(of: try DID(person.did))?.publicKey.didKey
            let expected = person.isErased ? nil : person.keys.last
            if key != expected { failures.append("\(person.did) has the key \(key ?? "none") where \(expected ?? "none") is due") }
            if Set(person.keys).count != person.keys.count { failures.append("\(person.did) got a key twice") }
        }
        return failures
    }
}

/// What readers and leavers know of each other.
final class LeaveLedger: Sendable {
    /// Of one enrollment's texts: from which on they are in no answer. Two numbers that are the same at the beginning and the end of a
    /// request say that they were gone all the while.
    private struct State {
        var gone: [String: Int] = [:]
        var last = 0
        var failures: [String] = []
        var erasedBlocks: [(actor: DID, cid: CID)] = []
        var (leaves, erasures, answers, texts) = (0, 0, 0, 0)
        var isStopped = false
    }

    private let state = Mutex(State())

    var failures: [String] { state.withLock { $0.failures } }
    var leaves: Int { state.withLock { $0.leaves } }
    var erasures: Int { state.withLock { $0.erasures } }
    var answers: Int { state.withLock { $0.answers } }
    var texts: Int { state.withLock { $0.texts } }
    var erasedBlocks: [(actor: DID, cid: CID)] { state.withLock { $0.erasedBlocks } }
    var isStopping: Bool { state.withLock { $0.isStopped || !$0.failures.isEmpty } }

    func stop() { state.withLock { $0.isStopped = true } }
    func fail(_ message: String) { state.withLock { $0.failures.append(message) } }

    /// The leave was answered.
    func left(_ tenures: [String], erased: [(actor: DID, cid: CID)]?) {
        state.withLock { state in
            for tenure in tenures where state.gone[tenure] == nil {
                state.last += 1
                state.gone[tenure] = state.last
            }
            state.leaves += 1
            if let erased {
                state.erasures += 1
                state.erasedBlocks += erased
            }
        }
    }

    /// The owner sets out to come back to what was kept.
    func comesBack(_ tenures: [String]) { state.withLock { state in for tenure in tenures { state.gone[tenure] = nil } } }

    func gone() -> [String: Int] { state.withLock { $0.gone } }

    /// Looks at the texts of an answer to a request that was sent when `before` was gone.
    func look(at answer: HTTPAnswer, to request: String, _ before: [String: Int]) {
        let found = Self.tenures(in: answer.body)
        let after = gone()
        state.withLock { state in
            state.answers += 1
            state.texts += found.count
            for tenure in found where before[tenure] != nil && before[tenure] == after[tenure] {
                state.failures.append("a text of \(tenure), which is gone, is in the answer to \(request) (\(answer.status))")
            }
        }
    }

    /// `<account>-<enrollment>` behind each mark.
    private static func tenures(in body: [UInt8]) -> Set<String> {
        let mark = Array(LeavePerson.mark.utf8)
        var found: Set<String> = []
        var index = 0
        while index + mark.count < body.count {
            guard body[index] == mark[0], body[index..<index + mark.count].elementsEqual(mark) else {
                index += 1
                continue
            }
            index += mark.count
            found.insert(String(decoding: body[index...].prefix { $0 != UInt8(ascii: "/") }.prefix(40), as: UTF8.self))
        }
        return found
    }
}
