import ATProto
import Commands
import HTTPTypes
import Simulation
import Testing

@testable import Server

@Suite("HTTP: the limit on writes")
struct WriteRateTests {
    private let actor: DID
    private let start = ContinuousClock.now
    private let rate = WriteRate(writesMax: 10, window: .seconds(60), cooldown: .seconds(10), jitter: .seconds(1))

    init() throws { actor = try DID("did:plc:alice") }

    private func at(_ seconds: Double) -> ContinuousClock.Instant { start + .milliseconds(Int64((seconds * 1000).rounded())) }

    @Test("so many writes pass in any window, and not one more; each leaves the window as it came")
    func window() {
        let limiter = WriteRateLimiter(WriteRate(writesMax: 10, window: .seconds(60), cooldown: .zero, jitter: .zero))
        for second in 0..<10 { #expect(limiter.admit(actor, cost: 1, now: at(Double(second))) == nil) }
        #expect(limiter.admit(actor, cost: 1, now: at(59.999)) == .milliseconds(1))
        #expect(limiter.admit(actor, cost: 1, now: at(60)) == nil)
        #expect(limiter.admit(actor, cost: 2, now: at(60.5)) == .milliseconds(1500))
        #expect(limiter.admit(actor, cost: 1, now: at(61)) == nil)
        #expect(limiter.admit(actor, cost: 8, now: at(1000)) == nil)
        #expect(limiter.admit(actor, cost: 3, now: at(1000)) != nil)
        #expect(limiter.admit(actor, cost: 2, now: at(1000)) == nil, "without a cooldown, what fits passes at once")
    }

    @Test("whoever passes the limit waits for the cooldown and a part of the jitter, and asking meanwhile does not make it longer")
    func cooldown() {
        for (random, wait) in [(0.0, 10.0), (0.5, 10.5), (1.0, 11.0)] {
            let limiter = WriteRateLimiter(WriteRate(writesMax: 10, window: .seconds(1), cooldown: .seconds(10), jitter: .seconds(1)))
            #expect(limiter.admit(actor, cost: 10, now: at(0)) == nil)
            #expect(limiter.admit(actor, cost: 1, now: at(0.5), random: random) == .seconds(wait))
            for second in [1.0, 5, 9] {
                #expect(limiter.admit(actor, cost: 1, now: at(0.5 + second), random: random) == .seconds(wait - second))
            }
            #expect(limiter.admit(actor, cost: 1, now: at(0.5 + wait) - .milliseconds(1)) == .milliseconds(1))
            #expect(limiter.admit(actor, cost: 10, now: at(0.5 + wait)) == nil)
        }
    }

    @Test("a cooldown that ends within the window gives no new writes: the wait says when there is room")
    func cooldownWithinWindow() {
        let limiter = WriteRateLimiter(rate)
        #expect(limiter.admit(actor, cost: 10, now: at(0)) == nil)
        #expect(limiter.admit(actor, cost: 1, now: at(1), random: 0) == .seconds(59))
        #expect(limiter.admit(actor, cost: 1, now: at(12), random: 0) == .seconds(48))
        #expect(limiter.admit(actor, cost: 10, now: at(60)) == nil)
    }

    @Test("a batch costs as much as it writes; one that never fits is told the cooldown; who was refused used nothing up")
    func cost() {
        let limiter = WriteRateLimiter(rate)
        #expect(limiter.admit(actor, cost: 11, now: at(0), random: 0) == .seconds(10))
        #expect(limiter.admit(actor, cost: 10, now: at(10)) == nil)
    }

    @Test("actors do not share a limit, and those whose writes are past are forgotten")
    func actors() throws {
        let limiter = WriteRateLimiter(rate)
        let other = try DID("did:plc:bob")
        #expect(limiter.admit(actor, cost: 10, now: at(0)) == nil)
        #expect(limiter.admit(actor, cost: 1, now: at(0)) != nil)
        #expect(limiter.admit(other, cost: 10, now: at(0)) == nil)
        for number in 0..<10_050 { _ = limiter.admit(try DID("did:plc:n\(number)"), cost: 1, now: at(1)) }
        #expect(limiter.count > 10_000)
        _ = limiter.admit(actor, cost: 1, now: at(100))
        #expect(limiter.count < 10)
    }

    @Test("in random histories no window ever holds more than the limit")
    func histories() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        for _ in 0..<50 {
            let rate = WriteRate(
                writesMax: Int.random(in: 1...20, using: &generator), window: .milliseconds(Int.random(in: 1...100, using: &generator)),
                cooldown: .milliseconds(Int.random(in: 0...50, using: &generator)),
                jitter: .milliseconds(Int.random(in: 0...10, using: &generator)))
            let limiter = WriteRateLimiter(rate)
            var now = start
            var admitted: [(at: ContinuousClock.Instant, cost: Int)] = []
            var promised: ContinuousClock.Instant?
            for _ in 0..<300 {
                now += .milliseconds(Int.random(in: 0...20, using: &generator))
                if let promise = promised, Bool.random(using: &generator) { now = max(now, promise) }
                let cost = Int.random(in: 1...rate.writesMax, using: &generator)
                if let wait = limiter.admit(actor, cost: cost, now: now, random: 0) {
                    #expect(wait > .zero, "seed \(TestFiles.seed)")
                    promised = now + wait
                    #expect(limiter.admit(actor, cost: cost, now: now, random: 0) == wait, "seed \(TestFiles.seed)")
                    // Whoever comes back when told is let in.
                    let copy = now + wait
                    now = copy
                    #expect(limiter.admit(actor, cost: cost, now: now, random: 0) == nil, "seed \(TestFiles.seed)")
                }
                admitted.append((now, cost))
                let inWindow = admitted.filter { now - $0.at < rate.window }.reduce(0) { $0 + $1.cost }
                #expect(inWindow <= rate.writesMax, "seed \(TestFiles.seed)")
            }
        }
    }

    @Test("over HTTP: 429 with Retry-After and the words of the wire; reads go on; refused and repeated requests count too")
    func http() async throws {
        let service = try await Service(Service.Settings(rate: rate))
        let place: ValueMap = ["repo": .string(Service.alice), "collection": .string(Service.post)]
        func create(_ text: String) async throws -> Answer {
            var input = place
            input["record"] = Service.postRecord(text, in: "general")
            return try await service.call("com.atproto.repo.createRecord", .map(input), as: Service.alice)
        }
        for _ in 0..<4 { #expect(try await create("x").status == 200) }
        for _ in 0..<4 { expect(try await create(String(repeating: "x", count: 301)), 400, "InvalidRecord") }
        let delete = Value.map(
            ["repo": .string(Service.alice), "collection": .string(Service.post), "rkey": "3lq2222222222"])
        #expect(try await service.call("com.atproto.repo.deleteRecord", delete, as: Service.alice).status == 200)
        let pair: [Value] = (0..<2).map { _ in
            ["action": "create", "collection": .string(Service.post), "record": Service.postRecord("x", in: "general")]
        }
        let batch: Value = ["repo": .string(Service.alice), "writes": .array(pair)]
        let refused = try await service.call("com.atproto.repo.applyWrites", batch, as: Service.alice)
        #expect(refused.status == 429)
        let seconds = try #require(refused[header: .retryAfter].flatMap(Int.init))
        #expect((59...60).contains(seconds), "\(seconds)")
        expect(refused, 429, "RateLimitExceeded", "Write rate limit exceeded. Try again in \(seconds)s.")
        #expect(try await create("x").status == 429, "all is refused during the cooldown, also what would fit")
        let list = [("repo", Service.alice), ("collection", Service.post)]
        #expect(try await service.get("com.atproto.repo.listRecords", list, as: Service.alice).status == 200)
        service.clock.advance(by: .seconds(9))
        #expect(try await create("x").status == 429)
        service.clock.advance(by: .seconds(3))
        #expect(try await create("x").status == 200, "one more write fits into the window")
        #expect(try await create("x").status == 429)
        service.clock.advance(by: .seconds(60))
        #expect(try await create("x").status == 200)
    }
}
