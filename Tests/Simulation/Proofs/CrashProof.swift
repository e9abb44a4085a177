import ATProto
import EventLog
import Foundation
import Synchronization

/// Whatever ends the process or the power, the log that is opened again holds every acknowledged event, none that nobody was writing,
/// and is whole.
///
/// Two halves. One ends a real process with SIGKILL while many writers append to real files, over and over on the same log. The other
/// runs short histories on a disk in memory that wrote down every operation, and opens what a loss of power at any of its moments may
/// leave: with unsynced writes kept, dropped and torn, independently of each other. What was recovered is gone on from, and cut again.
package enum CrashProof {
    package static let proof = Proof(
        name: "crash",
        claim: "after kill -9 and after a loss of power every acknowledged event is there, nothing else, and the log is whole"
    ) { request in
        try await run(request, cycles: request.small ? 3 : 2000, cuts: request.small ? 150 : 200_000, workers: 2)
    }

    package static func run(_ request: ProofRequest, cycles: Int, cuts: Int, workers: Int) async throws -> ProofResult {
        var totals = Totals()
        try await withThrowingTaskGroup(of: Totals.self) { group in
            for number in 0..<workers {
                let share = cuts / workers + (number < cuts % workers ? 1 : 0)
                group.addTask {
                    var worker = PowerCuts(
                        seed: request.seed &+ UInt64(number) &* 0x9E37_79B9, directory: "\(request.directory)/power-\(number)")
                    try await worker.run(cuts: share)
                    return worker.totals
                }
            }
            if let program = KillCycles.program {
                group.addTask {
                    var worker = KillCycles(program: program, seed: request.seed, directory: request.directory + "/kill")
                    try await worker.run(cycles: cycles)
                    return worker.totals
                }
            } else {
                TestFiles.note("skipped: stratos-prove is not beside this program, so no process was killed")
            }
            for try await part in group { totals.add(part) }
        }
        return ProofResult(
            counts: totals.counts.sorted { $0.key < $1.key }.map { (name: $0.key, count: $0.value) },
            failures: totals.failures.map { "\($0) (seed \(request.seed))" })
    }

    struct Totals: Sendable {
        private(set) var counts: [String: Int] = [:]
        private(set) var failures: [String] = []

        mutating func count(_ name: String, _ count: Int = 1) { counts[name, default: 0] += count }

        /// Of names that begin with `slowest` the largest counts.
        mutating func slowest(_ name: String, milliseconds: Double) {
            let name = "slowest \(name), ms"
            counts[name] = max(counts[name] ?? 0, Int(milliseconds.rounded(.up)))
        }

        mutating func fail(_ problems: [String], _ place: String) {
            // Enough to see what is wrong; a log that is broken is broken at every moment after.
            if failures.count < 100 { failures += problems.map { "\(place): \($0)" } }
        }

        mutating func add(_ other: Totals) {
            counts.merge(other.counts) { one, other in one + other }
            for (name, count) in other.counts where name.hasPrefix("slowest") { counts[name] = max(counts[name]! - count, count) }
            failures += other.failures
        }
    }
}

/// The people of a log that loses its newest events again and again: each goes on from where the log says that he is.
struct Cast: Sendable {
    var service: SimulatedService
    private(set) var actors: [SimulatedActor]
    /// Everybody as he was after an event, by its CID.
    private var moments: [CID: SimulatedActor] = [:]
    private let first: [SimulatedActor]

    init(seed: UInt64, actors count: Int) throws {
        let service = try SimulatedService(seed: seed)
        self.service = service
        actors = try (0..<count).map { try SimulatedActor(number: $0, seed: seed, service: service) }
        first = actors
    }

    /// Puts everybody where the log has him.
    mutating func find(in store: any EventStore, diverging number: UInt64) async throws {
        service.head = try await store.head(of: service.did)
        for index in actors.indices {
            let head = try await store.head(of: actors[index].did)
            var actor = head.event.flatMap { moments[$0] } ?? first[index]
            guard actor.head == head else { throw EventLogError.headMoved(to: head) }
            actor.diverge(number &+ UInt64(index))
            actors[index] = actor
        }
    }

    /// Remembers an actor as he is after his append, whether or not it comes to anything.
    mutating func remember(_ actor: SimulatedActor) {
        if let cid = actor.head.event { moments[cid] = actor }
    }

    mutating func set(_ actor: SimulatedActor, at index: Int) { actors[index] = actor }
}
