import ATProto
import Commands
import EventLog
import HTTPTypes
import Simulation
import Synchronization
import Testing

@Suite("HTTP: overload and a full disk")
struct OverloadTests {
    private let create: Value = [
        "repo": .string(Service.alice), "collection": .string(Service.post), "record": Service.postRecord("x", in: "general"),
    ]

    /// A service whose log refuses every append while `fault` holds one.
    private final class Switch: Sendable {
        let fault = Mutex<EventLogError?>(nil)
        func service() async throws -> Service {
            try await Service(
                Service.Settings(log: { store in FaultyEventStore(store) { _ in self.fault.withLock { $0 }.map { .refused($0) } } }))
        }
    }

    @Test("when too much waits for the log, a write is 429 with Retry-After, and passes later")
    func overloaded() async throws {
        let faults = Switch()
        let service = try await faults.service()
        faults.fault.withLock { $0 = .overloaded }
        let answer = try await service.call("com.atproto.repo.createRecord", create, as: Service.alice)
        expect(answer, 429, "RateLimitExceeded", "Too many writes are waiting")
        #expect(answer[header: .retryAfter] == "1")
        faults.fault.withLock { $0 = nil }
        #expect(try await service.call("com.atproto.repo.createRecord", create, as: Service.alice).status == 200)
    }

    @Test("on a full disk a write is 507 with Retry-After, reads go on, and the service is healthy")
    func fullDisk() async throws {
        let faults = Switch()
        let service = try await faults.service()
        try await service.write(Service.postRecord("before", in: "general"), at: "3lq2222222222")
        faults.fault.withLock { $0 = .noSpace }
        let answer = try await service.call("com.atproto.repo.createRecord", create, as: Service.alice)
        expect(answer, 507, "InsufficientStorage", "The service has no space left for writes")
        #expect(answer[header: .retryAfter] == "60")
        let read = try await service.get(
            "com.atproto.repo.getRecord", [("repo", Service.alice), ("collection", Service.post), ("rkey", "3lq2222222222")],
            as: Service.bob)
        #expect(read.status == 200)
        #expect(try await service.ask(.get, "/health").status == 200)
        faults.fault.withLock { $0 = nil }
        #expect(try await service.call("com.atproto.repo.createRecord", create, as: Service.alice).status == 200)
    }

    @Test("what nobody foresaw is 500, and says nothing of itself")
    func unforeseen() async throws {
        let faults = Switch()
        let service = try await faults.service()
        faults.fault.withLock { $0 = .storage(operation: "secret detail", code: 5) }
        let answer = try await service.call("com.atproto.repo.createRecord", create, as: Service.alice)
        expect(answer, 500, "InternalServerError", "Internal Server Error")
        #expect(!answer.text.contains("secret"))
    }

    @Test("of writes to one actor that come all at once, some 128 wait and the rest is 429; each that was taken is there once")
    func lane() async throws {
        let service = try await Service()
        let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<300 {
                group.addTask { try await service.call("com.atproto.repo.createRecord", create, as: Service.alice).status }
            }
            return try await group.reduce(into: [Int]()) { $0.append($1) }
        }
        let taken = statuses.filter { $0 == 200 }.count
        #expect(statuses.allSatisfy { $0 == 200 || $0 == 429 })
        #expect(taken > 0)
        #expect(try await service.events(of: Service.alice) == UInt64(taken) + 1)
    }
}
