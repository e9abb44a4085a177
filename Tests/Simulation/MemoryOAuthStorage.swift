package import ATProto
package import Authorization
import Synchronization

/// Flows and sessions in memory, with a write that can be made to fail.
package final class MemoryOAuthStorage: Sendable {
    package struct Failure: Error {
        package init() {}
    }

    private struct State {
        var flows: [[UInt8]: [UInt8]] = [:]
        var sessions: [DID: OAuthStorage.StoredSession] = [:]
        var writesUntilFailure: Int?
    }

    private let state = Mutex(State())
    private let flowsMax: Int

    package init(flowsMax: Int = 100) { self.flowsMax = flowsMax }

    package var storage: OAuthStorage {
        OAuthStorage(
            keepFlow: { [self] id, sealed, _ in
                state.withLock { state in
                    guard state.flows.count < flowsMax else { return false }
                    state.flows[id] = sealed
                    return true
                }
            },
            flow: { [self] id in state.withLock { $0.flows[id] } },
            takeFlow: { [self] id in state.withLock { $0.flows.removeValue(forKey: id) != nil } },
            session: { [self] account in state.withLock { $0.sessions[account] } },
            keepSession: { [self] account, session in
                try state.withLock { state in
                    if let left = state.writesUntilFailure {
                        state.writesUntilFailure = left == 0 ? nil : left - 1
                        if left == 0 { throw Failure() }
                    }
                    state.sessions[account] = session
                }
            },
            removeSession: { [self] account in state.withLock { $0.sessions[account] = nil } })
    }

    package var flowCount: Int { state.withLock { $0.flows.count } }
    package func session(of account: DID) -> OAuthStorage.StoredSession? { state.withLock { $0.sessions[account] } }
    package func set(_ session: OAuthStorage.StoredSession?, of account: DID) { state.withLock { $0.sessions[account] = session } }

    /// The write of a session after so many that succeed fails, and it alone.
    package func failWrite(after count: Int) { state.withLock { $0.writesUntilFailure = count } }

    /// Everything that lies here, as whoever reads the file would see it.
    package var bytes: [[UInt8]] {
        state.withLock { state in
            state.flows.map { $0.key + $0.value }
                + state.sessions.values.map { session in if case .sealed(let bytes) = session { bytes } else { [] } }
        }
    }

    /// Puts each flow's bytes under another's identifier.
    package func exchangeFlows() {
        state.withLock { state in
            let keys = Array(state.flows.keys)
            guard keys.count > 1 else { return }
            let values = keys.map { state.flows[$0] }
            for (index, key) in keys.enumerated() { state.flows[key] = values[(index + 1) % keys.count] }
        }
    }
}
