package import EventLog
import ATProto

/// A short history that goes through every way into a log: first events, one operation and many, blocks that are staged, requests, an
/// import, several writers at once, a generation. Signed once, and appended to as many logs as a proof likes.
package struct TrialHistory: Sendable {
    /// One after the other; what stands in one step is sent at once.
    package let steps: [[Append]]
    private let seed: UInt64
    /// Blocks of more bytes than this are staged.
    package static let groupBytesMax = 6000

    package init(seed: UInt64) throws {
        var service = try SimulatedService(seed: seed)
        var steps = [[try service.start()]]
        var actors = try (0..<4).map { try SimulatedActor(number: $0, seed: seed, service: service) }
        steps.append([try actors[0].enroll()])
        steps.append(try (1..<4).map { try actors[$0].enroll() })
        steps.append([try actors[0].write()])
        steps.append([try actors[1].importing(records: 10)])
        steps.append([try actors[2].putBlob(idempotencyKey: "1")])
        steps.append([try actors[0].write(operations: 9, recordBytes: 1600)])
        steps.append([try actors[3].putBlob(), try actors[2].write(operations: 2), try actors[1].changeKey(), try actors[0].write()])
        steps.append([try actors[0].putBlob(idempotencyKey: "2")])
        steps.append([try actors[2].importing(records: 60), try actors[3].write()])
        steps.append([try actors[1].changeBoundaries(["general"])])
        let count = steps.reduce(0) { $0 + $1.reduce(0) { $0 + $1.events.count } }
        steps.append([try service.start(opening: 1, before: UInt64(count))])
        steps.append([try actors[1].leave(.kept), try actors[0].write(), try actors[3].write(), try actors[2].putBlob()])
        self.steps = steps
        self.seed = seed
    }

    package var appendCount: Int { steps.reduce(0) { $0 + $1.count } }

    /// An append that a log with any part of the history refuses.
    package var stale: Append { steps[0][0] }

    /// One more append for a log that holds any part of the history: the service starts again.
    package func next(in store: any EventStore) async throws -> Append {
        var service = try SimulatedService(seed: seed)
        service.head = try await store.head(of: service.did)
        let position = try await store.statistics().position
        return try service.start(opening: StreamCursor(rawValue: position)?.generation ?? 0)
    }
}
