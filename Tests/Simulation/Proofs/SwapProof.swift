import ATProto
import Commands
import Engine
import EventLog
import SQLiteStore
import Synchronization

/// Writers race for one repo with `swapCommit`: of those who name the same commit exactly one wins, and what all of them saw is what
/// one writer after the other would have seen, in an order that contradicts no clock.
package enum SwapProof {
    package struct Size: Sendable {
        package var actors: Int
        /// Writers of one actor at a time.
        package var racers: Int
        package var rounds: Int
        /// Attempts of each racer who goes at its own pace.
        package var attempts: Int

        package static let small = Size(actors: 4, racers: 4, rounds: 6, attempts: 6)
        package static let full = Size(actors: 32, racers: 8, rounds: 60, attempts: 60)
    }

    package static let proof = Proof(
        name: "swap", claim: "of writers that name the same commit exactly one wins, and every history of races is linearizable"
    ) { request in
        let size: Size = request.small ? .small : .full
        var result = ProofResult(counts: [])
        // One service on SQLite, as it is deployed; and three services on one log, where losing is left to the log's own check.
        let store = try LogStore(directory: request.directory + "/log") { error in preconditionFailure("\(error)") }
        result.add(try await Race(size: size, seed: request.seed, directory: request.directory, services: 1, log: store).run(), "")
        store.close()
        let shared = try await Race(
            size: size, seed: request.seed, directory: request.directory + "/shared", services: 3, log: MemoryEventStore()
        ).run()
        result.add(shared, "with three services: ")
        return result
    }

    /// What somebody did and what came of it. Everything that was seen is the commit at one place of the repo's history: a write
    /// made it, a refused write and a read were told of it.
    struct Action: Sendable {
        enum Kind: Hashable, Sendable { case won, lost, read }

        let kind: Kind
        /// What a writer took the commit to be.
        let expected: CID?
        /// What the commit was, or is from now on.
        let seen: CID
        let start: Int
        let end: Int
    }

    struct Outcome: Sendable {
        var counts: [(name: String, count: Int)] = []
        var failures: [String] = []
    }

    struct Race: Sendable {
        let size: Size
        let seed: UInt64
        let directory: String
        let services: Int
        let log: any EventStore

        func run() async throws -> Outcome {
            var deployments: [SimulatedDeployment] = []
            for number in 0..<services {
                let options = SimulatedDeployment.Options(seed: seed)
                deployments.append(
                    try await SimulatedDeployment.open(log, in: "\(directory)/\(number)", options: options, clock: VirtualClock()))
            }
            defer { for deployment in deployments { deployment.close() } }
            for number in 0..<size.actors {
                let did = SimulatedDeployment.actor(number)
                try await deployments[0].enroll(did)
                guard let key = try deployments[0].files.signingKey(of: did) else { continue }
                for other in deployments.dropFirst() { try other.files.keep(key, of: did) }
            }
            let services = deployments
            let outcomes = try await withThrowingTaskGroup { group in
                for number in 0..<size.actors { group.addTask { try await race(SimulatedDeployment.actor(number), services) } }
                return try await group.reduce(into: [Outcome]()) { $0.append($1) }
            }
            var total = Outcome()
            for outcome in outcomes { total.add(outcome) }
            let report = await ChainVerifier(log, options: ChainVerifier.Options()).verify()
            if !report.isWhole { total.failures.append("the log: \(report.findings.first.map { "\($0)" } ?? ""), seed \(seed)") }
            return total
        }

        private func race(_ did: DID, _ services: [SimulatedDeployment]) async throws -> Outcome {
            let actor = RacedActor(did: did, services: services, seed: seed)
            var failures = try await rounds(actor)
            try await freely(actor)
            let commits = try await SimulatedState(of: did, in: log).commits.map { $0.commit(of: did).cid }
            let history = History(commits: commits, actions: actor.actions)
            failures += history.violations().map { "\(did): \($0), seed \(seed)" }
            return Outcome(
                counts: [
                    ("racing writes", actor.actions.count { $0.kind != .read }), ("rounds", size.rounds),
                    ("won", actor.actions.count { $0.kind == .won }), ("lost", actor.actions.count { $0.kind == .lost }),
                    ("reads", actor.actions.count { $0.kind == .read }),
                ], failures: failures)
        }

        /// All name the same commit at once.
        private func rounds(_ actor: RacedActor) async throws -> [String] {
            var failures: [String] = []
            for round in 0..<size.rounds {
                let commit = try await actor.read(by: 0)
                let wins = try await withThrowingTaskGroup { group in
                    for racer in 0..<size.racers { group.addTask { try await actor.write(by: racer, swap: commit) } }
                    return try await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
                }
                if wins != 1 { failures.append("\(actor.did): \(wins) winners in round \(round), seed \(seed)") }
            }
            return failures
        }

        /// Everybody reads and writes at their own pace; now and then a writer names a commit that is long gone.
        private func freely(_ actor: RacedActor) async throws {
            try await withThrowingTaskGroup { group in
                for racer in 0..<size.racers {
                    group.addTask {
                        var generator = SeededGenerator(seed: seed &* 31 &+ UInt64(racer))
                        var known = try await actor.read(by: racer)
                        for _ in 0..<size.attempts {
                            if Int.random(in: 0..<4, using: &generator) > 0 { known = try await actor.read(by: racer) }
                            if Int.random(in: 0..<3, using: &generator) == 0 { await Task.yield() }
                            _ = try await actor.write(by: racer, swap: known)
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    /// One repo and what was done to it, timed by a clock that only counts.
    final class RacedActor: Sendable {
        let did: DID
        private let services: [SimulatedDeployment]
        private let clock = Atomic<Int>(0)
        private let noted = Mutex<[Action]>([])
        private let numbers = Atomic<Int>(0)

        init(did: DID, services: [SimulatedDeployment], seed: UInt64) {
            self.did = did
            self.services = services
        }

        var actions: [Action] { noted.withLock { $0 } }

        private func tick() -> Int { clock.add(1, ordering: .sequentiallyConsistent).newValue }

        private func note(_ kind: Action.Kind, expected: CID?, seen: CID, since start: Int) {
            let action = Action(kind: kind, expected: expected, seen: seen, start: start, end: tick())
            noted.withLock { $0.append(action) }
        }

        func read(by racer: Int) async throws -> CID {
            let start = tick()
            let service = services[racer % services.count]
            // What a service says of a repo that another one writes to may be a moment old; it is no part of the history then.
            guard let latest = try await service.engine.latestCommit(of: did, to: .user(did)) else { throw Refusal.notEnrolled }
            if services.count == 1 { note(.read, expected: nil, seen: latest.content.commit, since: start) }
            return latest.content.commit
        }

        /// - Returns: whether this writer won.
        func write(by racer: Int, swap: CID) async throws -> Bool {
            let service = services[racer % services.count]
            let number = numbers.add(1, ordering: .relaxed).newValue
            while true {
                let start = tick()
                do {
                    let receipt = try await service.write(did, [.create(["n": .integer(Int64(number))], in: .note)], swapCommit: swap)
                    note(.won, expected: swap, seen: receipt.commit, since: start)
                    return true
                } catch Refusal.invalidSwap(let text) {
                    note(.lost, expected: swap, seen: try CID(String(text.split(separator: " ").last ?? "")), since: start)
                    return false
                } catch Refusal.overloaded {
                    await Task.yield()  // Other services were faster every time; nothing was decided.
                }
            }
        }
    }

    /// Whether there is one order of everything that was done, in which each saw what those before had left, and in which nothing
    /// comes before what had ended when it began. Every value is written once and the log says in which order, so the order is
    /// known but for clocks: a write of commit *n*, then whoever saw commit *n*, then the write of *n* + 1.
    struct History {
        /// As the log has them; the first is that of the enrollment.
        let commits: [CID]
        let actions: [Action]

        func violations() -> [String] {
            var found: [String] = []
            let places = Dictionary(uniqueKeysWithValues: commits.enumerated().map { ($1, $0) })
            var ranked: [(action: Action, rank: Int)] = []
            var winners: [Int: Int] = [:]
            for action in actions {
                guard let place = places[action.seen] else {
                    found.append("\(action.kind) saw \(action.seen), which is in no event")
                    continue
                }
                switch action.kind {
                case .won:
                    winners[place, default: 0] += 1
                    if place == 0 || action.expected != commits[place - 1] {
                        found.append("the winner of commit \(place) did not name the one before")
                    }
                case .lost: if action.expected == action.seen { found.append("a loser named the commit that it was told of") }
                case .read: break
                }
                ranked.append((action, action.kind == .won ? 2 * place : 2 * place + 1))
            }
            for place in 1..<commits.count where winners[place] != 1 {
                found.append("commit \(place) has \(winners[place] ?? 0) winners")
            }
            return found + contradictedClocks(ranked)
        }

        /// Pairs where what had ended before the other began stands behind it.
        private func contradictedClocks(_ ranked: [(action: Action, rank: Int)]) -> [String] {
            let byEnd = ranked.sorted { $0.action.end < $1.action.end }
            var (ended, highest) = (0, -1)
            var found: [String] = []
            for (action, rank) in ranked.sorted(by: { $0.action.start < $1.action.start }) {
                while ended < byEnd.count, byEnd[ended].action.end < action.start {
                    highest = max(highest, byEnd[ended].rank)
                    ended += 1
                }
                if highest > rank {
                    found.append("\(action.kind) at \(action.start)…\(action.end) saw less than one that had ended before it")
                }
            }
            return found
        }
    }
}

extension SwapProof.Outcome {
    fileprivate mutating func add(_ other: SwapProof.Outcome) {
        failures += other.failures
        for count in other.counts {
            if let index = counts.firstIndex(where: { $0.name == count.name }) {
                counts[index].count += count.count
            } else {
                counts.append(count)
            }
        }
    }
}

extension ProofResult {
    fileprivate mutating func add(_ outcome: SwapProof.Outcome, _ prefix: String) {
        counts += outcome.counts.map { (name: prefix + $0.name, count: $0.count) }
        failures += outcome.failures.map { prefix + $0 }
    }
}

extension SwapProof {
    /// Histories that break the claim, each in one way, and how many violations were found in them.
    package static func selfTest() -> [(name: String, violations: Int)] {
        let commits = (0..<4).map { CID(hashing: [UInt8($0)]) }
        func won(_ place: Int, _ start: Int, _ end: Int, over expected: Int? = nil) -> Action {
            Action(kind: .won, expected: commits[expected ?? place - 1], seen: commits[place], start: start, end: end)
        }
        func read(_ place: Int, _ start: Int, _ end: Int) -> Action {
            Action(kind: .read, expected: nil, seen: commits[place], start: start, end: end)
        }
        let sound = [won(1, 1, 4), read(0, 2, 3), won(2, 5, 9), read(1, 6, 8), read(2, 7, 10), won(3, 11, 12)]
        let stranger = Action(kind: .lost, expected: commits[0], seen: CID(hashing: [99]), start: 20, end: 21)
        let told = Action(kind: .lost, expected: commits[3], seen: commits[3], start: 20, end: 21)
        let broken: [(String, [Action])] = [
            ("two winners", sound + [won(2, 20, 21)]), ("no winner", Array(sound.dropLast())),
            ("a winner over another commit", Array(sound.dropLast()) + [won(3, 11, 12, over: 1)]),
            ("a commit of nobody", sound + [stranger]), ("a loser without a reason", sound + [told]),
            ("a read of what was replaced before", sound + [read(1, 13, 14)]), ("a read of what is yet to come", [read(3, 0, 0)] + sound),
            ("a write that took effect before it began", [won(1, 10, 11), won(2, 2, 3), won(3, 12, 13)]),
        ]
        precondition(History(commits: commits, actions: sound).violations().isEmpty, "a sound history is sound")
        return broken.map { ($0.0, History(commits: commits, actions: $0.1).violations().count) }
    }
}
