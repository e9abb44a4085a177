import Synchronization

/// Whether requests are answered. While projections are dropped or rebuilt they are not: the server says so with 503.
package final class MaintenanceGate: Sendable {
    private let closures = Mutex(0)

    package var isOpen: Bool { closures.withLock { $0 == 0 } }

    package func closed<Result>(_ body: () async throws -> Result) async rethrows -> Result {
        closures.withLock { $0 += 1 }
        defer { closures.withLock { $0 -= 1 } }
        return try await body()
    }
}
