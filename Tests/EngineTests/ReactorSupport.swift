import ATProto
import Engine
import Simulation
import Synchronization

/// Randomness by seed, for whoever asks from wherever.
final class SeededBytes: Sendable {
    private let generator: Mutex<SeededGenerator>

    init(seed: UInt64) { generator = Mutex(SeededGenerator(seed: seed)) }

    func bytes(_ count: Int) -> [UInt8] { generator.withLock { $0.bytes(count) } }
    func below(_ bound: Int) -> Int { generator.withLock { Int.random(in: 0..<bound, using: &$0) } }
}

final class Switch: Sendable {
    private let state: Mutex<Bool>

    init(_ isOn: Bool) { state = Mutex(isOn) }

    var isOn: Bool { state.withLock { $0 } }
    func set(_ isOn: Bool) { state.withLock { $0 = isOn } }
}

final class Counter: Sendable {
    private let count = Mutex(0)

    var value: Int { count.withLock { $0 } }

    @discardableResult
    func next() -> Int {
        count.withLock { count in
            count += 1
            return count
        }
    }
}

/// What happens while a call to a server is under way, as a test says after it made what it needs for it.
final class Hook: Sendable {
    private let body = Mutex<(@Sendable (Int, SimulatedPDS.Call) async -> Void)?>(nil)

    func set(_ body: (@Sendable (Int, SimulatedPDS.Call) async -> Void)?) { self.body.withLock { $0 = body } }
    func run(_ number: Int, _ call: SimulatedPDS.Call) async { await body.withLock { $0 }?(number, call) }
}

final class Lines: Sendable {
    private let lines = Mutex<[Value]>([])

    var all: [Value] { lines.withLock { $0 } }

    func take(_ output: OperatorOutput) {
        if case .object(let value) = output { lines.withLock { $0.append(value) } }
    }
}
