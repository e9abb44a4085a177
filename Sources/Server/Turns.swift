import Synchronization

/// Lets so much work go on at a time, in order of arrival. What waits must be bounded by what calls.
final class Turns: Sendable {
    private struct State {
        var working = 0
        var waiting: [(weight: Int, turn: CheckedContinuation<Void, Never>)] = []
    }

    private let weightMax: Int
    private let state = Mutex(State())

    init(weightMax: Int) { self.weightMax = weightMax }

    /// Runs `work` once there is room for its weight. Work that is heavier than all that may go on goes on alone.
    func run<Result>(weight: Int = 1, _ work: () async throws -> Result) async rethrows -> Result {
        await begin(weight)
        defer { end(weight) }
        return try await work()
    }

    private func begin(_ weight: Int) async {
        await withCheckedContinuation { (turn: CheckedContinuation<Void, Never>) in
            let isFree = state.withLock { state in
                guard state.waiting.isEmpty, fits(weight, state.working) else {
                    state.waiting.append((weight, turn))
                    return false
                }
                state.working += weight
                return true
            }
            if isFree { turn.resume() }
        }
    }

    private func end(_ weight: Int) {
        let next = state.withLock { state in
            state.working -= weight
            var next: [CheckedContinuation<Void, Never>] = []
            while let first = state.waiting.first, fits(first.weight, state.working) {
                state.working += first.weight
                next.append(first.turn)
                state.waiting.removeFirst()
            }
            return next
        }
        for turn in next { turn.resume() }
    }

    private func fits(_ weight: Int, _ working: Int) -> Bool { working == 0 || working + weight <= weightMax }
}
