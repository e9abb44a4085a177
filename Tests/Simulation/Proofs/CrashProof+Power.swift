import ATProto
import EventLog
import Foundation
import SQLiteStore

/// Short histories on a disk in memory, and losses of power at their moments.
///
/// A history is a few sessions. Each opens the log, appends one after the other and several at once, and ends: closed, killed, or
/// without power. The next goes on with what the last one's end left. Of each session many moments are cut.
struct PowerCuts: Sendable {
    private var files = FaultyFiles()
    private var next = FaultyFiles()
    private let cut = FaultyFiles()
    private let seed: UInt64
    private let directory: String
    private var random: SeededGenerator
    private var reopening: LogReopening
    private(set) var totals = CrashProof.Totals()

    private static let sessionsMax = 4
    private static let cutsPerSession = 60

    init(seed: UInt64, directory: String) {
        self.seed = seed
        self.directory = directory
        random = SeededGenerator(seed: seed)
        reopening = LogReopening(directory: directory)
        cut.record(false)
    }

    mutating func run(cuts: Int) async throws {
        var left = cuts
        while left > 0 { try await history(&left) }
        totals.count("logs opened again", reopening.opened)
        totals.slowest("restart after a loss of power", milliseconds: reopening.slowestMilliseconds)
    }

    private mutating func history(_ left: inout Int) async throws {
        files.clear()
        var cast = try Cast(seed: random.next(), actors: 4)
        var ledger = LogLedger(requestsExpire: true)
        var begun: UInt64 = 0
        for number in 0..<Self.sessionsMax where left > 0 {
            let place = "history \(cast.service.head.sequence == 0 ? "new" : "\(number)")"
            let session: Session
            do { session = try await self.session(&cast, ledger, number) } catch {
                totals.fail(["\(error)"], place)
                return
            }
            totals.count("sessions")
            totals.count("events acknowledged", session.trial.ledger(after: .max).presentCount - ledger.presentCount)
            guard session.problems.isEmpty else { return totals.fail(session.problems, place) }
            let count = min(left, Self.cutsPerSession)
            left -= count
            for _ in 0..<count {
                let moment = UInt64.random(in: begun...session.end, using: &random)
                guard await look(session.trial, at: moment) else { return }
            }
            (begun, ledger) = end(session, begun)
        }
    }

    // MARK: A session

    private struct Session {
        let trial: LogTrial
        var problems: [String]
        /// Operations after it: with those of the closing, or without.
        var end: UInt64 = 0
    }

    private mutating func session(_ cast: inout Cast, _ ledger: LogLedger, _ number: Int) async throws -> Session {
        var options = LogTrial.options
        options.idleMilliseconds = [0, 1, 1 << 30].randomElement(using: &random)!
        options.checkpointPages = [1, 12, 40, 1000].randomElement(using: &random)!
        options.hasCheckpointer = Bool.random(using: &random)
        options.checkpointRestPages = [0, 4].randomElement(using: &random)!
        let trial = try LogTrial(files, directory: directory, options: options, before: ledger)
        let reading = await ledger.read(trial.store)
        trial.found(reading.present)
        var session = Session(trial: trial, problems: reading.problems)
        if session.problems.isEmpty {
            try await cast.find(in: trial.store, diverging: random.next())
            for _ in 0..<Int.random(in: 3...7, using: &random) { session.problems += try await step(trial, &cast) }
        }
        session.end = files.operationCount
        trial.store.close()
        if Int.random(in: 0..<3, using: &random) == 0 { session.end = files.operationCount }
        if let fatality = trial.fatality { session.problems.append("gives up: \(fatality.error)") }
        return session
    }

    private mutating func step(_ trial: LogTrial, _ cast: inout Cast) async throws -> [String] {
        if cast.service.head.sequence == 0 || Int.random(in: 0..<12, using: &random) == 0 {
            return try await start(trial, &cast)
        }
        switch Int.random(in: 0..<10, using: &random) {
        case 0: return try await race(trial, &cast)
        case 1...4: return try await together(trial, &cast, count: Int.random(in: 2...4, using: &random))
        case 5:
            _ = try await trial.store.expire(
                now: Timestamp(milliseconds: cast.actors[0].now.milliseconds + RequestRow.millisecondsMax))
            return []
        default: return try await together(trial, &cast, count: 1)
        }
    }

    private mutating func start(_ trial: LogTrial, _ cast: inout Cast) async throws -> [String] {
        var service = cast.service
        let result = await trial.append(try service.start())
        cast.service = service
        return problems([result])
    }

    /// Different actors at once, so that they may become one group.
    private mutating func together(_ trial: LogTrial, _ cast: inout Cast, count: Int) async throws -> [String] {
        var appends: [Append] = []
        for index in cast.actors.indices.shuffled(using: &random).prefix(count) {
            var actor = cast.actors[index]
            appends.append(try something(&actor))
            cast.remember(actor)
            cast.set(actor, at: index)
        }
        return problems(await trial.send(appends))
    }

    /// Two writers of one actor: one of them loses.
    private mutating func race(_ trial: LogTrial, _ cast: inout Cast) async throws -> [String] {
        let index = Int.random(in: 0..<cast.actors.count, using: &random)
        var one = cast.actors[index]
        var other = one
        other.diverge(random.next())
        let appends = [try something(&one), try something(&other)]
        cast.remember(one)
        cast.remember(other)
        let results = await trial.send(appends)
        let winners = results.indices.filter { if case .success = results[$0] { true } else { false } }
        guard winners.count == 1 else { return ["\(winners.count) of two writers of one actor won: \(results)"] }
        cast.set(winners[0] == 0 ? one : other, at: index)
        return []
    }

    private func problems(_ results: [Result<[Appended], EventLogError>]) -> [String] {
        results.compactMap { if case .failure(let error) = $0 { "an append fails without a fault: \(error)" } else { nil } }
    }

    private mutating func something(_ actor: inout SimulatedActor) throws -> Append {
        guard actor.isMember else { return try actor.enroll() }
        switch Int.random(in: 0..<12, using: &random) {
        case 0: return try actor.changeKey()
        case 1: return try actor.leave(.kept)
        case 2, 3:
            return try actor.putBlob(idempotencyKey: String(UInt8.random(in: 0...255, using: &random)))
        // Blocks of more than one group, staged in several transactions.
        case 4: return try actor.write(operations: 7, recordBytes: 2500)
        case 5 where actor.records.isEmpty: return try actor.importing(records: 40)
        case 6: return try actor.write(operations: 3)
        default: return try actor.write()
        }
    }

    // MARK: Moments

    /// - Returns: whether the log held.
    private mutating func look(_ trial: LogTrial, at moment: UInt64) async -> Bool {
        let seed = random.next()
        files.cut(after: moment, seed: seed, to: cut)
        let problems = await reopening.check(cut, trial.ledger(after: moment)).problems
        totals.count("losses of power")
        guard !problems.isEmpty else { return true }
        files.cut(after: moment, seed: seed, to: cut)
        totals.fail(problems, "power lost after operation \(moment) of \(files.operationCount), the files are in \(keep(cut))")
        return false
    }

    /// Leaves the files of a counterexample for whoever looks into it.
    private func keep(_ files: FaultyFiles) -> String {
        let folder = URL(filePath: directory).appending(path: "counterexample-\(totals.failures.count)")
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            for (name, bytes) in files.contents { try Data(bytes).write(to: folder.appending(path: name)) }
        } catch {
            return "nowhere: \(error)"
        }
        return folder.path
    }

    /// Makes the disk what the session's end leaves. - Returns: operations so far, and what is known of the log.
    private mutating func end(_ session: Session, _ begun: UInt64) -> (UInt64, LogLedger) {
        let moment = UInt64.random(in: begun...session.end, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: return (files.operationCount, session.trial.ledger(after: .max))
        case 1:
            files.copy(after: moment, to: next)
            swap(&files, &next)
            totals.count("processes ended")
            return (files.operationCount, session.trial.ledger(after: moment))
        default:
            files.cut(after: moment, seed: random.next(), to: next)
            swap(&files, &next)
            return (0, session.trial.ledger(after: moment))
        }
    }
}
