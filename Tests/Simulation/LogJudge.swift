package import EventLog
package import SQLiteStore
import Synchronization

/// What became of a log whose files were damaged. The last is a counterexample.
package enum LogVerdict: Sendable {
    /// Opening refused, and said why.
    case refused(LogStoreError)
    /// It opened, and `verify` names what is wrong. Whatever reads gave before was what had been appended, or less.
    case found([Finding], isIncomplete: Bool)
    /// Every event, body, block and row of a request is what was appended, and `verify` is content.
    case whole
    /// The same of an earlier state, so many events long, that is not older than its mark: no machine can tell by itself.
    case wholeEarlier(events: Int)
    case failed(String)
}

/// Opens a log, reads everything, verifies, and compares with what was appended.
package struct LogJudge: Sendable {
    /// Where the mark itself is an older one: how many events there were when it was written.
    package var markedEvents: Int?
    /// Left out where hashes and chains cover every byte that was changed, since they cost more than all the rest.
    package var signatures = false
    /// The whole of `verify`, also where every read gave what had been appended. Without it only that part is run then which looks at
    /// the file itself: the rest of `verify` sees nothing but those same reads.
    package var thorough = true

    package init() {}

    /// Small numbers, so that a small log goes through everything: one reader, imports staged, no checkpoint unless asked for.
    package static let options: LogStoreOptions = {
        var options = LogStoreOptions()
        options.readers = 1
        options.hasCheckpointer = false
        options.groupBytesMax = 4096
        options.idleMilliseconds = 600_000
        options.writerCacheKiB = 256
        options.readerCacheKiB = 256
        return options
    }()

    package func judge(_ directory: String, recorded now: RecordedLog) async -> LogVerdict {
        let fatal = Mutex<EventLogError?>(nil)
        let store: LogStore
        do throws(LogStoreError) {
            store = try LogStore(directory: directory, options: Self.options) { error in fatal.withLock { $0 = error } }
        } catch {
            return isNamed(error) ? .refused(error) : .failed("refused without a reason: \(error)")
        }
        defer { store.close() }
        let verdict = await verdict(of: store, now)
        if let error = fatal.withLock({ $0 }) { return .failed("reading ended the store: \(error)") }
        return verdict
    }

    private func verdict(of store: LogStore, _ now: RecordedLog) async -> LogVerdict {
        let recorded: RecordedLog
        var differences: RecordedLog.Differences
        do throws(EventLogError) {
            let statistics = try await store.statistics()
            recorded = earlierState(events: Int(statistics.events), now) ?? now
            differences = try await store.read { reader throws(EventLogError) in
                recorded.differences(reading: reader, upTo: statistics.position)
            }
            if statistics.events != UInt64(recorded.events.count) || statistics.actors != UInt64(recorded.logs.count) {
                differences.incomplete.append("the counts \(statistics)")
            }
        } catch {
            return .failed("the store cannot be asked: \(error)")
        }
        let findings = thorough || !differences.areNone ? await verified(store) : await store.inspect()
        guard differences.altered.isEmpty else { return .failed("served what was never appended: \(differences.altered)") }
        guard findings.isEmpty else {
            let unnamed = findings.filter { $0.file.isEmpty || $0.invariant.isEmpty || $0.message.isEmpty }
            guard unnamed.isEmpty else { return .failed("findings without a name: \(unnamed)") }
            return .found(findings, isIncomplete: !differences.incomplete.isEmpty)
        }
        guard differences.areNone else { return .failed("verify is content, yet: \(differences.refused + differences.incomplete)") }
        return recorded.events.count == now.events.count ? .whole : .wholeEarlier(events: recorded.events.count)
    }

    private func verified(_ store: LogStore) async -> [Finding] {
        var options = ChainVerifier.Options()
        options.signatures = signatures
        options.shards = 1
        return await ChainVerifier(store, options: options).verify().findings
    }

    private func earlierState(events count: Int, _ now: RecordedLog) -> RecordedLog? {
        guard let markedEvents, count >= markedEvents, count < now.events.count else { return nil }
        return now.prefix(events: count)
    }

    /// A refusal says which file, and what about it.
    private func isNamed(_ error: LogStoreError) -> Bool {
        guard let finding = error.finding else { return false }
        return !finding.file.isEmpty && !finding.message.isEmpty
    }
}
