import Synchronization

/// How many flows may begin: anybody can begin them for nothing, and each makes this service ask another server. So many a minute in
/// all, and fewer from one address, so that one alone does not take the place of everybody; and few from one address that are asking at
/// a time, since a server that answers slowly holds each of them for long.
package final class FlowRate: Sendable {
    private struct State {
        var began: ContinuousClock.Instant?
        var count = 0
        var counts: [String: Int] = [:]
        /// Of each address, those that have not begun yet.
        var beginning: [String: Int] = [:]
    }

    private let state = Mutex(State())
    private let flowsMax: Int
    private let flowsOfAddressMax: Int
    private static let window: Duration = .seconds(60)
    private static let beginningMax = 4

    package init(flowsMax: Int = 600, flowsOfAddressMax: Int = 30) {
        self.flowsMax = flowsMax
        self.flowsOfAddressMax = flowsOfAddressMax
    }

    /// Counts a flow that is to begin; `end` has to follow where it may.
    /// - Parameter address: nil where it is not known: then it counts among all alone.
    /// - Returns: how long to wait, where it may not begin now.
    func begin(_ address: String?, now: ContinuousClock.Instant) -> Duration? {
        state.withLock { state in
            if state.began.map({ now - $0 >= Self.window }) ?? true { state = State(began: now, beginning: state.beginning) }
            let ofAddress = address.map { state.counts[$0] ?? 0 } ?? 0
            guard state.count < flowsMax, ofAddress < flowsOfAddressMax else { return Self.window - (now - (state.began ?? now)) }
            let beginning = address.map { state.beginning[$0] ?? 0 } ?? 0
            guard beginning < Self.beginningMax else { return .seconds(1) }
            state.count += 1
            if let address {
                state.counts[address] = ofAddress + 1
                state.beginning[address] = beginning + 1
            }
            return nil
        }
    }

    /// The flow has begun, or was refused.
    func end(_ address: String?) {
        guard let address else { return }
        state.withLock { state in
            let left = (state.beginning[address] ?? 0) - 1
            state.beginning[address] = left > 0 ? left : nil
        }
    }
}
