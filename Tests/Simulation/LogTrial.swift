package import ATProto
package import EventLog
package import SQLiteStore
import Synchronization

/// A log on a faulty disk, and what was asked of it, on the clock of the disk's operations: so it can be said of any moment what a
/// log that is opened from it must hold.
package final class LogTrial: Sendable {
    /// The moment at which the log gave up.
    package struct Fatality: Sendable {
        package let error: EventLogError
        package let operations: UInt64
    }

    private struct Attempt: Sendable {
        let append: Append
        let begun: UInt64
        /// Nil while it runs.
        var ended: UInt64?
        var result: Result<[Appended], EventLogError>?
    }

    private struct State: Sendable {
        var attempts: [Attempt] = []
        var fatality: Fatality?
        /// What was known before, and what of it was found: from the opening on, nothing else can come or go.
        var settled: LogLedger?
    }

    package let files: FaultyFiles
    package let store: LogStore
    private let state: Witness
    /// Operations after which the log was open.
    package let openedAt: UInt64
    private let before: LogLedger

    /// A mutex that the store's callback can hold before there is a trial.
    private final class Witness: Sendable {
        let state = Mutex(State())
    }

    /// Opens the log that the files hold, or makes one.
    /// - Parameters:
    ///   - directory: a real one, for the lock.
    ///   - before: what is known of the log.
    package init(
        _ files: FaultyFiles, directory: String, options: LogStoreOptions = LogTrial.options, before: LogLedger = LogLedger()
    ) throws(LogStoreError) {
        var options = options
        options.vfs = files.name
        let witness = Witness()
        store = try LogStore(directory: directory, options: options) { error in
            let operations = files.operationCount
            witness.state.withLock { $0.fatality = $0.fatality ?? Fatality(error: error, operations: operations) }
        }
        self.files = files
        self.before = before
        state = witness
        openedAt = files.operationCount
    }

    /// Small bounds, so that a short history meets them all; nothing happens by a clock.
    package static var options: LogStoreOptions {
        var options = LogStoreOptions()
        options.readers = 1
        options.groupBytesMax = TrialHistory.groupBytesMax
        options.headsMax = 2
        options.checkpointPages = 24
        options.hasCheckpointer = false
        options.idleMilliseconds = 1 << 30
        // Some ten pages: what is not at hand is read from the disk.
        options.writerCacheKiB = 40
        options.readerCacheKiB = 40
        return options
    }

    package var fatality: Fatality? { state.state.withLock { $0.fatality } }

    package func append(_ append: Append) async -> Result<[Appended], EventLogError> {
        let begun = files.operationCount
        let index = state.state.withLock { state in
            state.attempts.append(Attempt(append: append, begun: begun))
            return state.attempts.count - 1
        }
        let result: Result<[Appended], EventLogError>
        do throws(EventLogError) { result = .success(try await store.append(append)) } catch { result = .failure(error) }
        let ended = files.operationCount
        state.state.withLock { state in
            state.attempts[index].ended = ended
            state.attempts[index].result = result
        }
        return result
    }

    /// Sends the appends at once. - Returns: what became of each.
    package func send(_ appends: [Append]) async -> [Result<[Appended], EventLogError>] {
        await withTaskGroup(of: (Int, Result<[Appended], EventLogError>).self) { group in
            for (number, append) in appends.enumerated() { group.addTask { (number, await self.append(append)) } }
            var results = [Result<[Appended], EventLogError>?](repeating: nil, count: appends.count)
            for await (number, result) in group { results[number] = result }
            return results.compactMap(\.self)
        }
    }

    /// What was in the log when it was opened. Whoever opens it makes that durable.
    package func found(_ present: Set<CID>) {
        var ledger = before
        ledger.settle(present)
        let settled = ledger
        state.state.withLock { $0.settled = settled }
    }

    /// Returns when the writer has done all that follows an append, by an append that it refuses after that.
    package func settle(_ stale: Append) async { _ = try? await store.append(stale) }

    /// What a log must hold that is opened from the moment after so many operations.
    package func ledger(after operations: UInt64) -> LogLedger {
        let (attempts, settled) = state.state.withLock { ($0.attempts, $0.settled) }
        var ledger = operations >= openedAt ? settled ?? before : before
        for attempt in attempts where attempt.begun < operations {
            let hasEnded = attempt.ended.map { $0 <= operations } ?? false
            let known = ledger.outcome(of: attempt.append)
            switch attempt.result {
            case .success: ledger.set(attempt.append, hasEnded || known == .present ? .present : .open)
            case .failure(.headMoved(let head)) where head == attempt.append.head && hasEnded: ledger.set(attempt.append, .present)
            case .failure(.noSpace), .failure(.headMoved), .failure(.overloaded), .failure(.closed), .failure(.malformed):
                if known == nil { ledger.set(attempt.append, .absent) }
            case .failure, nil: if known != .present { ledger.set(attempt.append, .open) }
            }
        }
        return ledger
    }

    package var ledger: LogLedger { ledger(after: .max) }
}

/// Opens logs and compares them with what is known of them.
package struct LogReopening: Sendable {
    package let directory: String
    package private(set) var opened = 0
    package private(set) var slowestMilliseconds = 0.0

    package init(directory: String) { self.directory = directory }

    /// Opens the log of `files`, reads all of it, does `more` to it, and closes it.
    /// - Returns: what is wrong with it, and what was opened, where it could be.
    package mutating func check(
        _ files: FaultyFiles, _ ledger: LogLedger, more: (LogTrial) async throws -> Void = { _ in }
    ) async -> (problems: [String], trial: LogTrial?) {
        let start = Clocks.wall()
        let trial: LogTrial
        do { trial = try LogTrial(files, directory: directory, before: ledger) } catch { return (["does not open: \(error)"], nil) }
        slowestMilliseconds = max(slowestMilliseconds, (Clocks.wall() - start) * 1000)
        opened += 1
        let reading = await ledger.read(trial.store)
        var problems = reading.problems
        trial.found(reading.present)
        do { try await more(trial) } catch { problems.append("\(error)") }
        trial.store.close()
        if let fatality = trial.fatality { problems.append("gives up: \(fatality.error)") }
        return (problems, trial)
    }
}
