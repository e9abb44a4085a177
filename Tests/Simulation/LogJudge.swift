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

    package var failure: String? {
        if case .failed(let text) = self { text } else { nil }
    }
}

/// Opens a log, reads everything, verifies, and compares with what was appended.
package enum LogJudge {
    /// Small numbers, so that a small log goes through everything: one reader, imports staged, no checkpoint unless asked for.
    package static let options: LogStoreOptions = {
        var options = LogStoreOptions()
        options.readers = 1
        options.groupBytesMax = 4096
        options.idleMilliseconds = 600_000
        options.writerCacheKiB = 256
        options.readerCacheKiB = 256
        return options
    }()

    /// - Parameters:
    ///   - markedEvents: where the mark itself is an older one, how many events there were when it was written.
    ///   - signatures: left out where hashes and chains cover every byte that was changed, since they cost more than all the rest.
    package static func judge(
        _ directory: String, recorded now: RecordedLog, markedEvents: Int? = nil, signatures: Bool = false
    ) async -> LogVerdict {
        let fatal = Mutex<EventLogError?>(nil)
        let store: LogStore
        do throws(LogStoreError) {
            store = try LogStore(directory: directory, options: options) { error in fatal.withLock { $0 = error } }
        } catch {
            return isNamed(error) ? .refused(error) : .failed("refused without a reason: \(error)")
        }
        defer { store.close() }
        let recorded = await earlierState(of: store, now, markedEvents: markedEvents) ?? now
        let differences = await recorded.differences(of: store)
        var choices = ChainVerifier.Options()
        choices.signatures = signatures
        choices.shards = 1
        let report = await ChainVerifier(store, options: choices).verify()
        if let error = fatal.withLock({ $0 }) { return .failed("reading ended the store: \(error)") }
        guard differences.altered.isEmpty else { return .failed("served what was never appended: \(differences.altered)") }
        guard report.isWhole else {
            let unnamed = report.findings.filter { $0.file.isEmpty || $0.invariant.isEmpty || $0.message.isEmpty }
            guard unnamed.isEmpty, !report.findings.isEmpty else { return .failed("findings without a name: \(report.findings)") }
            return .found(report.findings, isIncomplete: !differences.incomplete.isEmpty)
        }
        guard differences.areNone else { return .failed("verify is content, yet: \(differences.refused + differences.incomplete)") }
        return recorded.events.count == now.events.count ? .whole : .wholeEarlier(events: recorded.events.count)
    }

    private static func earlierState(of store: LogStore, _ now: RecordedLog, markedEvents: Int?) async -> RecordedLog? {
        guard let markedEvents, let count = try? await store.statistics().events, count >= markedEvents, count < now.events.count else {
            return nil
        }
        return now.prefix(events: Int(count))
    }

    /// A refusal says which file, and what about it.
    private static func isNamed(_ error: LogStoreError) -> Bool {
        guard let finding = error.finding else { return false }
        return !finding.file.isEmpty && !finding.message.isEmpty
    }
}
