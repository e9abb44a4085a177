import Engine
import EventLog
import Logging
import SQLiteStore
import ServiceLifecycle

/// Removes what is no longer to be there, at the start and then once an hour: rows of the log that count no more (old requests, and
/// credentials that have expired), and what an interrupted erasure has left.
struct Housekeeping: Service {
    let store: LogStore
    let engine: Engine
    let now: @Sendable () -> Timestamp
    let logger: Logger

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await engine.carryOutErasures()
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
