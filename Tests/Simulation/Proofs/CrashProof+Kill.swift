import ATProto
import EventLog
import Foundation
import Glibc
import SQLiteStore
import Synchronization

/// Ends a process with SIGKILL while it appends, and looks at what it left.
///
/// The process is this program again, under another name: it opens the log, and many writers append. It says what it is about to
/// append before, and what was acknowledged after, one line each. So what the log may hold, and what it must, is known to whoever reads
/// along, up to the moment of the end. A log is gone on with for some cycles and then verified whole, signatures too.
struct KillCycles: Sendable {
    private let program: String
    private let directory: String
    private var random: SeededGenerator
    private(set) var totals = CrashProof.Totals()

    private static let cyclesPerLog = 50

    init(program: String, seed: UInt64, directory: String) {
        self.program = program
        self.directory = directory
        random = SeededGenerator(seed: seed)
    }

    /// The program that has the writers: this one, or the one that was built beside these tests.
    static var program: String? {
        guard let own = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else { return nil }
        let path = URL(filePath: own).deletingLastPathComponent().appending(path: "stratos-prove").path
        return FileManager.default.isExecutableFile(atPath: path) ? path : nil
    }

    mutating func run(cycles: Int) async throws {
        var left = cycles
        while left > 0 {
            let count = min(left, Self.cyclesPerLog)
            left -= count
            try await log(cycles: count)
        }
    }

    /// What is known of one log.
    private struct Known {
        var submitted: Set<String> = []
        var acknowledged: Set<String> = []
        var present: Set<String> = []
        var heads: [DID: Head] = [:]
        var position: UInt64 = 0
        var killsSinceLooked = 0
    }

    private mutating func log(cycles: Int) async throws {
        let seed = random.next()
        let path = "\(directory)/\(seed)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var known = Known()
        for cycle in 1...cycles {
            let moment: KilledProcess.Moment =
                Int.random(in: 0..<4, using: &random) == 0
                ? .afterStart(milliseconds: Int.random(in: 0...60, using: &random))
                : .afterAcknowledgement(milliseconds: Int.random(in: 0...30, using: &random))
            let process = KilledProcess(program: program, arguments: [CrashWriters.name, "--data-dir", path, "--seed", "\(seed)"])
            let output = try await process.run(until: moment)
            totals.count("processes killed", output.wasKilled ? 1 : 0)
            totals.count("processes that ended by themselves", output.wasKilled ? 0 : 1)
            if let status = output.failure { return totals.fail(["the writers failed: \(status)"], path) }
            known.submitted.formUnion(output.submitted)
            known.acknowledged.formUnion(output.acknowledged)
            known.killsSinceLooked += 1
            totals.count("kill: events acknowledged", output.acknowledged.count)
            // Now and then the next process finds the log as the last one left it.
            guard cycle == cycles || Int.random(in: 0..<3, using: &random) > 0 else { continue }
            let problems = await look(path, &known, whole: cycle == cycles)
            guard problems.isEmpty else { return totals.fail(problems, "\(path), cycle \(cycle)") }
        }
        try FileManager.default.removeItem(atPath: path)
    }

    private mutating func look(_ path: String, _ known: inout Known, whole: Bool) async -> [String] {
        var problems: [String] = []
        let start = Clocks.wall()
        let store: LogStore
        do {
            store = try LogStore(directory: path) { TestFiles.note("the log gives up: \($0)") }
        } catch {
            return ["does not open: \(error)"]
        }
        let milliseconds = (Clocks.wall() - start) * 1000
        totals.count("kill: logs opened again")
        totals.slowest("restart after a kill", milliseconds: milliseconds)
        if milliseconds >= 2000 { problems.append("takes \(Int(milliseconds)) ms to open") }
        do throws(EventLogError) { problems += try await follow(store, &known) } catch { problems.append("reading: \(error)") }
        let missing = known.acknowledged.subtracting(known.present)
        if !missing.isEmpty { problems.append("\(missing.count) of \(known.acknowledged.count) acknowledged events are gone") }
        if whole {
            let report = await ChainVerifier(store).verify()
            problems += report.findings.prefix(5).map { "verify: \($0)" }
            totals.count("kill: events verified", Int(report.events))
        }
        store.close()
        return problems
    }

    /// The events since the last look: known, chained, and no more unacknowledged ones than writers were at work.
    private func follow(_ store: LogStore, _ known: inout Known) async throws(EventLogError) -> [String] {
        var problems: [String] = []
        var unacknowledged = 0
        while true {
            let page = try await store.events(afterPosition: known.position, limit: 1000)
            guard let end = page.last?.position else { break }
            for stored in page {
                let event = try Event(bytes: stored.bytes)
                let cid = stored.cid.description
                let head = known.heads[event.did] ?? .empty
                if event.sequence != head.sequence + 1 || event.prev != head.event {
                    problems.append("I3: event \(event.sequence) of \(event.did) follows \(head.sequence)")
                }
                known.heads[event.did] = Head(sequence: event.sequence, event: stored.cid, time: event.time)
                known.present.insert(cid)
                if !known.submitted.contains(cid) { problems.append("nobody submitted event \(event.sequence) of \(event.did)") }
                if !known.acknowledged.contains(cid) { unacknowledged += 1 }
            }
            known.position = end
        }
        if unacknowledged > CrashWriters.count * known.killsSinceLooked {
            problems.append(
                "\(unacknowledged) unacknowledged events after \(known.killsSinceLooked) kills of \(CrashWriters.count) writers")
        }
        known.killsSinceLooked = 0
        return Array(problems.prefix(10))
    }
}

/// What the killed process does.
package enum CrashWriters {
    /// The name under which the program does this.
    package static let name = "crash-writers"
    package static let count = 64
    private static let actors = 24

    /// Appends for ever, or in some cycles for a while, and says so on standard output.
    package static func run(directory: String, seed: UInt64) async throws {
        var service = try SimulatedService(seed: seed)
        let options = options(cycle: 0)
        var store = try LogStore(directory: directory, options: options, onFatal: fail)
        service.head = try await store.head(of: service.did)
        let cycle = service.head.sequence + 1
        if cycle % 2 == 0 {
            store.close()
            store = try LogStore(directory: directory, options: self.options(cycle: cycle), onFatal: fail)
        }
        try await send(try service.start(), to: store)
        // Every sixth process ends by itself after a while, so that some are killed while they close the log.
        let budget = Budget(cycle % 6 == 0 ? Int(cycle * 7 % 400) : .max)
        let (open, begun) = (store, service)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<count {
                group.addTask { try await write(to: open, number, seed, begun, cycle, budget) }
            }
            try await group.waitForAll()
        }
        store.close()
    }

    /// How many appends are left, to all writers together.
    private final class Budget: Sendable {
        private let left: Mutex<Int>

        init(_ count: Int) { left = Mutex(count) }

        func take() -> Bool {
            left.withLock { left in
                left -= 1
                return left >= 0
            }
        }
    }

    /// As it ships in odd cycles; in even ones so small that it stages and checkpoints all the time.
    private static func options(cycle: UInt64) -> LogStoreOptions {
        var options = LogStoreOptions()
        guard cycle > 0 else { return options }
        options.groupBytesMax = 32 << 10
        options.groupEventsMax = 40
        options.checkpointPages = 100
        options.checkpointRestPages = 10
        options.idleMilliseconds = 1
        return options
    }

    @Sendable private static func fail(_ error: EventLogError) {
        TestFiles.note("the log gives up: \(error)")
        exit(4)
    }

    private static func write(
        to store: LogStore, _ number: Int, _ seed: UInt64, _ service: SimulatedService, _ cycle: UInt64, _ budget: Budget
    ) async throws {
        var actor = try SimulatedActor(number: number % actors, seed: seed, service: service)
        var random = SeededGenerator(seed: seed &+ cycle &* 1000 &+ UInt64(number))
        actor.diverge(random.next())
        try await follow(try await store.head(of: actor.did), &actor)
        while budget.take() {
            let append = try something(&actor, &random)
            do throws(EventLogError) {
                try await send(append, to: store)
            } catch {
                switch error {
                case .headMoved(let head): try await follow(head, &actor)
                case .overloaded: try await follow(append.after, &actor)
                default: throw error
                }
            }
        }
    }

    /// Goes on from where the log is: later than all that is in it, so that a commit's rev rises.
    private static func follow(_ head: Head, _ actor: inout SimulatedActor) async throws {
        actor.head = head
        if let time = head.time { actor.now = Timestamp(milliseconds: max(actor.now.milliseconds, time.milliseconds + 1)) }
    }

    private static func something(_ actor: inout SimulatedActor, _ random: inout SeededGenerator) throws -> Append {
        if actor.head.sequence == 0 { return try actor.enroll() }
        switch Int.random(in: 0..<20, using: &random) {
        case 0: return try actor.write(operations: 20, recordBytes: 2500)
        case 1...6: return try actor.write()
        default: return try actor.putBlob()
        }
    }

    private static func send(_ append: Append, to store: LogStore) async throws(EventLogError) {
        for signed in append.events { say("S", signed.cid) }
        for appended in try await store.append(append) { say("A", appended.event) }
    }

    /// One call of the system for a line: what was said before the end is whole.
    private static func say(_ what: String, _ cid: CID) {
        let line = Array("\(what)\(cid)\n".utf8)
        if Glibc.write(STDOUT_FILENO, line, line.count) != line.count { exit(5) }
    }
}
