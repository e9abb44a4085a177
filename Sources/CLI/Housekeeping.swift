import EventLog
import Logging
import SQLiteStore
import ServiceLifecycle

/// Removes rows of the log that no longer count, at the start and then once an hour: old requests, and credentials that have expired.
struct Housekeeping: Service {
    let store: LogStore
    let now: @Sendable () -> Timestamp
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do {
                    while try await store.expire(now: now()) > 0 {}
                } catch {
                    // The rows stay, and count for nothing; the next hour tries again.
                    logger.warning("rows that have expired were not removed", metadata: ["error": "\(error)"])
                }
                // best effort: a sleep that is cancelled ends the loop.
                try? await Task.sleep(for: .seconds(3600))
            }
        }
    }
}
