import EventLog
import Foundation
import SQLiteStore

/// Each file call of a short history fails in turn, in every way that a disk has. Nothing is acknowledged after the first failed write
/// or sync, a full disk refuses appends and nothing else, and the log that is opened again is whole.
package enum FaultProof {
    package static let proof = Proof(
        name: "fault",
        claim: "with any one file call failing, no acknowledged event is lost, no refused one appears, and the log verifies"
    ) { request in
        try await run(request, workers: 2, sample: request.small ? 40 : nil)
    }

    /// A way to fail.
    struct Variant: Sendable {
        let name: String
        let fault: FaultyFiles.Fault

        static let all: [Variant] = [
            Variant("fails once", .inputOutput, .none, FaultyFiles.Call.allCases),
            Variant("fails for ever", .inputOutput, .none, FaultyFiles.Call.allCases, isForever: true),
            Variant("half done, fails", .inputOutput, .half, [.write, .sync]),
            Variant("done, fails", .inputOutput, .whole, [.open, .write, .truncate, .sync, .delete]),
            Variant("done, fails for ever", .inputOutput, .whole, [.write, .sync], isForever: true),
            Variant("no space once", .noSpace, .none, [.open, .write, .map]),
            Variant("no space, half done", .noSpace, .half, [.write]),
            Variant("no space at a sync", .noSpace, .none, [.sync]),
            Variant("over quota once", .overQuota, .none, [.write]),
            Variant("full until there is space", .noSpace, .none, [.open, .write], isForever: true, needsRoom: true),
            Variant("full until there is space, writes cut short", .noSpace, .half, [.write], isForever: true, needsRoom: true),
        ]

        init(
            _ name: String, _ cause: FaultyFiles.Cause, _ effect: FaultyFiles.Effect, _ calls: [FaultyFiles.Call], isForever: Bool = false,
            needsRoom: Bool = false
        ) {
            self.name = name
            fault = FaultyFiles.Fault(
                first: 0, isForever: isForever, cause: cause, effect: effect, calls: Set(calls), needsRoom: needsRoom)
        }

        func fault(at call: UInt64) -> FaultyFiles.Fault {
            var fault = fault
            fault.first = call
            return fault
        }
    }

    /// - Parameter sample: so many faults by seed; nil: every one.
    package static func run(_ request: ProofRequest, workers: Int, sample: Int?) async throws -> ProofResult {
        let history = try TrialHistory(seed: request.seed)
        var random = SeededGenerator(seed: request.seed)
        let clean = FaultTrial(history, directory: request.directory + "/clean", random: random)
        let calls = try await clean.calls()
        var cases: [(Variant, UInt64)] = []
        for variant in Variant.all {
            for (index, call) in calls.enumerated() where variant.fault.calls.contains(call) { cases.append((variant, UInt64(index + 1))) }
        }
        if let sample { cases = Array(cases.shuffled(using: &random).prefix(sample)) }

        var totals = FaultTrial.Totals()
        try await withThrowingTaskGroup(of: FaultTrial.Totals.self) { group in
            for worker in 0..<workers {
                let mine = cases.enumerated().filter { $0.offset % workers == worker }.map(\.element)
                let seed = random.next()
                group.addTask {
                    var trial = FaultTrial(history, directory: "\(request.directory)/\(worker)", random: SeededGenerator(seed: seed))
                    for (variant, call) in mine { await trial.run(variant, at: call) }
                    return trial.finish()
                }
            }
            for try await part in group { totals.add(part) }
        }
        totals.counts["file calls"] = calls.count
        return ProofResult(
            counts: totals.counts.sorted { $0.key < $1.key }.map { (name: $0.key, count: $0.value) },
            failures: totals.failures.map { "\($0) (seed \(request.seed))" })
    }
}

/// One disk on which the history is appended again and again, each time with another fault.
struct FaultTrial: Sendable {
    struct Totals: Sendable {
        var counts: [String: Int] = [:]
        var failures: [String] = []

        mutating func count(_ name: String, _ count: Int = 1) { counts[name, default: 0] += count }

        mutating func add(_ other: Totals) {
            counts.merge(other.counts) { one, other in one + other }
            failures += other.failures
        }
    }

    private let history: TrialHistory
    private let files = FaultyFiles()
    private let killed = FaultyFiles()
    private let cut = FaultyFiles()
    private let directory: String
    private var random: SeededGenerator
    private var reopening: LogReopening
    private var totals = Totals()

    init(_ history: TrialHistory, directory: String, random: SeededGenerator) {
        self.history = history
        self.directory = directory
        self.random = random
        reopening = LogReopening(directory: directory)
        cut.record(false)
    }

    /// The file calls of a run in which nothing fails.
    func calls() async throws -> [FaultyFiles.Call] {
        files.clear()
        let trial = try LogTrial(files, directory: directory)
        for step in history.steps {
            for result in await trial.send(step) { _ = try result.get() }
            await trial.settle(history.stale)
        }
        trial.store.close()
        return (1...files.callCount).compactMap { files.call($0) }
    }

    func finish() -> Totals {
        var totals = totals
        totals.count("logs opened again", reopening.opened)
        return totals
    }

    /// What a run came to, beside what the log holds after it.
    private struct Course {
        var problems: [String] = []
        var openedAfter: UInt64 = 0
        var closedAfter: UInt64 = .max
        var refusals = 0
        var hasFailedToOpen = false
    }

    mutating func run(_ variant: FaultProof.Variant, at call: UInt64) async {
        files.clear()
        files.fail(variant.fault(at: call))
        totals.count("faults")
        var course = Course()
        let trial: LogTrial?
        do { trial = try LogTrial(files, directory: directory) } catch {
            trial = nil
            course.hasFailedToOpen = true
            if files.hit == nil { course.problems.append("does not open without a fault: \(error)") }
        }
        if let trial {
            course.openedAfter = files.callCount
            await write(to: trial, variant, &course)
            course.closedAfter = files.callCount
            trial.store.close()
        }
        let hit = files.hit
        files.fail(nil)
        if files.isOpen { return fail(["a file is left open"], variant, hit) }
        if let trial { judge(trial, variant, hit, &course) }
        totals.count(course.hasFailedToOpen ? "opens refused" : trial?.fatality != nil ? "logs that gave up" : "logs that went on")
        totals.count("appends refused for space", course.refusals)
        course.problems += await look(trial)
        fail(course.problems, variant, hit)
    }

    private mutating func fail(_ problems: [String], _ variant: FaultProof.Variant, _ hit: FaultyFiles.Hit?) {
        totals.failures += problems.map { "\(variant.name), \(hit?.description ?? "no call"): \($0)" }
    }

    // MARK: The run

    private func write(to trial: LogTrial, _ variant: FaultProof.Variant, _ course: inout Course) async {
        for step in history.steps {
            var left = step
            for _ in 0..<5 where !left.isEmpty {
                let hadGivenUp = trial.fatality != nil
                let hitBefore = files.hit
                let results = await trial.send(left)
                let hit = hitBefore == nil ? files.hit : nil
                await trial.settle(history.stale)
                // What is on the way of an answer alone: others in the same step may have been on theirs.
                if left.count == 1, case .success = results[0], let hit, Self.isOnTheWay(hit) {
                    course.problems.append("acknowledged although a call on its way failed")
                }
                left = await again(zip(left, results), hadGivenUp, trial, &course)
            }
        }
    }

    /// A checkpoint syncs the WAL too, but only an append writes to it or to the mark.
    private static func isOnTheWay(_ hit: FaultyFiles.Hit) -> Bool {
        hit.file == "log.mark" || (hit.file == "log.sqlite-wal" && hit.call == .write)
    }

    /// Those appends that are sent once more.
    private func again(
        _ results: some Sequence<(Append, Result<[Appended], EventLogError>)>, _ hadGivenUp: Bool, _ trial: LogTrial, _ course: inout Course
    ) async -> [Append] {
        var again: [Append] = []
        for (append, result) in results {
            switch result {
            case .success: if hadGivenUp { course.problems.append("acknowledged after the log gave up") }
            case .failure(.noSpace):
                course.refusals += 1
                await readAll(trial, &course)
                // Space comes back, and nobody tells the log.
                if course.refusals == 3 { files.fail(nil) }
                again.append(append)
            case .failure(.headMoved(let head)) where head == append.head: break
            case .failure: if trial.fatality == nil { again.append(append) }
            }
        }
        return again
    }

    /// While appends are refused for want of space, reads go on.
    private func readAll(_ trial: LogTrial, _ course: inout Course) async {
        do throws(EventLogError) {
            let events = try await trial.store.events(afterPosition: 0, limit: 1000)
            let present = trial.ledger.presentCount
            if events.count < present { course.problems.append("\(events.count) of \(present) events are read while the disk is full") }
            _ = try await trial.store.head(of: history.stale.actor)
        } catch {
            course.problems.append("a read is refused while the disk is full: \(error)")
        }
    }

    /// Whether the log gave up exactly where it must.
    private func judge(_ trial: LogTrial, _ variant: FaultProof.Variant, _ hit: FaultyFiles.Hit?, _ course: inout Course) {
        let isRunning = hit.map { $0.number > course.openedAfter && $0.number <= course.closedAfter } ?? false
        let isForSpace = variant.fault.cause != .inputOutput && hit?.call != .sync && hit?.call != .map
        if isRunning, let hit, hit.call.changesFiles, !isForSpace, trial.fatality == nil {
            course.problems.append("goes on after a failed call")
        }
        if isForSpace, let fatality = trial.fatality { course.problems.append("gives up for want of space: \(fatality.error)") }
        if trial.fatality == nil, trial.ledger.presentCount < history.appendCount {
            course.problems.append("\(trial.ledger.presentCount) of \(history.appendCount) appends went through in the end")
        }
    }

    // MARK: What is left

    /// Opens what the run left: as it is, as a loss of power at some moment leaves it, and, where the log gave up, as the process's end
    /// leaves it, goes on there, and cuts the power on that.
    private mutating func look(_ trial: LogTrial?) async -> [String] {
        var problems: [String] = []
        let ledger = trial?.ledger ?? LogLedger()
        let end = files.operationCount
        let moment = trial?.fatality?.operations ?? UInt64.random(in: 0...end, using: &random)
        let ends = trial?.fatality.map { [$0.operations] } ?? [moment, end]
        for moment in ends {
            files.cut(after: moment, seed: random.next(), to: cut)
            problems += await reopening.check(cut, trial?.ledger(after: moment) ?? ledger).problems.map { "after a loss of power, \($0)" }
            totals.count("losses of power")
        }
        if let fatality = trial?.fatality {
            files.copy(after: fatality.operations, to: killed)
            problems += await restart(after: fatality.operations, ledger)
        }
        problems += await reopening.check(files, ledger, more: goOn).problems.map { "opened again, \($0)" }
        return problems
    }

    /// The process ends where the log gave up, starts again and goes on; then the power fails. A failed sync has left the system
    /// with pages that it takes for clean, and that are not on the disk.
    private mutating func restart(after operations: UInt64, _ ledger: LogLedger) async -> [String] {
        let (found, trial) = await reopening.check(killed, ledger, more: goOn)
        var problems = found.map { "started again, \($0)" }
        guard found.isEmpty, let trial else { return problems }
        for _ in 0..<3 {
            let moment = UInt64.random(in: operations...killed.operationCount, using: &random)
            killed.cut(after: moment, seed: random.next(), to: cut)
            let found = await reopening.check(cut, trial.ledger(after: moment)).problems
            problems += found.map { "after a restart and a loss of power, \($0)" }
            totals.count("losses of power")
        }
        return problems
    }

    /// A log that was found whole takes more.
    private func goOn(_ trial: LogTrial) async throws { _ = try await trial.append(try await history.next(in: trial.store)).get() }
}
