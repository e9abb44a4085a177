import ATProto
import Logging
import Simulation
import Synchronization
import Testing

@testable import Server

@Suite("HTTP: how often health is looked after")
struct HealthTests {
    private struct Broken: Error {}

    /// A component that answers when its gate is open.
    private final class Component: Sendable {
        let gate = AsyncGate()
        let isBroken = Mutex(false)
        private let asked = Mutex(0)

        var askedCount: Int { asked.withLock { $0 } }

        func probe() async throws {
            asked.withLock { $0 += 1 }
            await gate.wait()
            if isBroken.withLock({ $0 }) { throw Broken() }
        }
    }

    @Test("however many want to know, it is asked once; that all is well stands for a second, and that something is not for no time")
    func once() async {
        let (component, clock, watch) = (Component(), TestClock(), LogWatch())
        let health = Health(
            [("disk", { try await component.probe() })], logger: Logger(label: "test", factory: watch.handler), now: { clock.instant() })
        await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<20 { group.addTask { await health.finding().isSound } }
            while component.askedCount == 0 { await Task.yield() }
            component.gate.open()
            for await isSound in group { #expect(isSound) }
        }
        #expect(component.askedCount == 1)
        component.isBroken.withLock { $0 = true }
        clock.set(.milliseconds(999))
        #expect(await health.finding().isSound)
        #expect(component.askedCount == 1)
        clock.set(.seconds(1))
        let finding = await health.finding()
        #expect(!finding.isSound && finding.components["disk"] == "error")
        component.isBroken.withLock { $0 = false }
        #expect(await health.finding().isSound, "asked again at once")
        #expect(component.askedCount == 3)
        #expect(watch.hasLine { $0.contains("not healthy") && $0.contains("component=disk") })
    }
}
