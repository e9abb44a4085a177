package import Projections
import Synchronization

/// A store whose transactions fail as a plan says, before or after they are kept: what a process finds that was killed there.
package final class FaultyReactorStore: ReactorStore {
    package enum Fault: Sendable { case before, after }
    package struct Killed: Error {}

    private let base: any ReactorStore
    private let plan: @Sendable (Int) -> Fault?
    private let count = Mutex(0)

    /// - Parameter plan: what happens to the n-th transaction, from 1; nil: it goes through.
    package init(_ base: any ReactorStore, plan: @escaping @Sendable (Int) -> Fault?) {
        self.base = base
        self.plan = plan
    }

    package var transactions: Int { count.withLock { $0 } }

    package func transaction<Result: Sendable>(_ body: @escaping @Sendable (any ReactorRows) throws -> Result) async throws -> Result {
        let number = count.withLock { count in
            count += 1
            return count
        }
        switch plan(number) {
        case nil: return try await base.transaction(body)
        case .before: throw Killed()
        case .after:
            _ = try await base.transaction(body)
            throw Killed()
        }
    }
}
