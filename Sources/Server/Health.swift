import ATProto
import HTTPTypes
import Hummingbird
import Logging
import Synchronization

/// Whether the service works: each component is asked for what only a working one can do.
///
/// Anybody may want to know, and asking goes to the disk that writes wait for. So however many want to know, it is asked once at a time,
/// and that all was well stands for a second. What was not well is asked again at once, so that it is seen when it is well again.
final class Health: Sendable {
    /// What each component answered.
    struct Finding: Sendable {
        var components = ValueMap()
        var isSound = true

        func response(version: String, isReady: Bool) -> Response {
            let isSound = isSound && isReady
            let body: Value = [
                "status": isSound ? "ok" : "error", "components": .map(components), "version": .string(version),
            ]
            return Response.json(body, status: isSound ? .ok : .serviceUnavailable)
        }
    }

    private struct State {
        /// Under way, or over and all well.
        var asking: Task<Finding, Never>?
        /// When all was well; nil while it is under way.
        var soundAt: ContinuousClock.Instant?
    }

    private static let soundFor: Duration = .seconds(1)

    private let probes: [(name: String, probe: @Sendable () async throws -> Void)]
    private let logger: Logger
    private let now: @Sendable () -> ContinuousClock.Instant
    private let state = Mutex(State())

    init(
        _ probes: [(name: String, probe: @Sendable () async throws -> Void)], logger: Logger,
        now: @escaping @Sendable () -> ContinuousClock.Instant
    ) {
        self.probes = probes
        self.logger = logger
        self.now = now
    }

    /// Asks to the end though its caller be cancelled, because others wait for it.
    func finding() async -> Finding {
        let time = now()
        let asking = state.withLock { state -> Task<Finding, Never> in
            if let asking = state.asking, state.soundAt.map({ time - $0 < Self.soundFor }) ?? true { return asking }
            let asking = Task { await self.ask() }
            state = State(asking: asking)
            return asking
        }
        return await asking.value
    }

    private func ask() async -> Finding {
        var finding = Finding()
        for (name, probe) in probes {
            do {
                try await probe()
                finding.components[name] = "ok"
            } catch {
                logger.error("not healthy", metadata: ["component": .string(name), "error": "\(error)"])
                finding.components[name] = "error"
                finding.isSound = false
            }
        }
        let (isSound, time) = (finding.isSound, now())
        state.withLock { state in
            if isSound { state.soundAt = time } else { state.asking = nil }
        }
        return finding
    }
}
