import Simulation
import Testing

@testable import Authorization

@Suite(.timeLimit(.minutes(1))) struct AnswerCacheTests {
    private typealias Cache = AnswerCache<String, Int, IdentityError>

    private static let rules = CacheRules(
        freshFor: 300_000_000, keptFor: 3_600_000_000, refreshInterval: 10_000_000, answersMax: 100, bytesMax: 10_000)

    private let clock = TestClock()
    private let fetches = Counter()

    private func cache(_ rules: CacheRules = rules) -> Cache { Cache(rules: rules, now: clock.now) }

    private func ask(
        _ cache: Cache, key: String = "a", refresh: Bool = false, _ outcome: Result<Int, IdentityError>
    ) async -> Result<Int, IdentityError> {
        do throws(IdentityError) {
            return .success(
                try await cache.value(for: key, refresh: refresh) { [fetches] in
                    fetches.add()
                    return outcome.map { .init(value: $0, bytes: 10) }
                })
        } catch {
            return .failure(error)
        }
    }

    @Test("a fresh answer is used, and a stale one is fetched again")
    func freshness() async {
        let cache = cache()
        #expect(await ask(cache, .success(1)) == .success(1))
        clock.advance(seconds: 299)
        #expect(await ask(cache, .success(2)) == .success(1))
        clock.advance(seconds: 1)
        #expect(await ask(cache, .success(3)) == .success(3))
        #expect(fetches.value == 2)
    }

    @Test("while the other side cannot be reached the stale answer stands, until it is gone")
    func staleWhileUnreachable() async {
        let cache = cache()
        _ = await ask(cache, .success(1))
        clock.advance(seconds: 300)
        #expect(await ask(cache, .failure(.unreachable("down"))) == .success(1))
        clock.advance(seconds: 4)
        #expect(await ask(cache, .success(2)) == .success(1), "an attempt that failed is not repeated at once")
        #expect(fetches.value == 2)
        clock.advance(seconds: 3295)
        #expect(await ask(cache, .failure(.unreachable("down"))) == .success(1))
        clock.advance(seconds: 5)
        #expect(await ask(cache, .failure(.unreachable("down"))) == .failure(.unreachable("down")))
        clock.advance(seconds: 5)
        #expect(await ask(cache, .success(3)) == .success(3), "and when it is back its answer counts")
    }

    @Test("when the other side says that there is none, what it said before is void")
    func settledFailure() async {
        let cache = cache()
        _ = await ask(cache, .success(1))
        clock.advance(seconds: 300)
        #expect(await ask(cache, .failure(.notFound)) == .failure(.notFound))
        clock.advance(seconds: 29)
        #expect(await ask(cache, .success(2)) == .failure(.notFound))
        clock.advance(seconds: 1)
        #expect(await ask(cache, .failure(.unreachable("down"))) == .failure(.unreachable("down")), "no answer came back to life")
    }

    @Test("our own overload is not held against the other side")
    func overload() async {
        let cache = cache()
        #expect(await ask(cache, .failure(.overloaded)) == .failure(.overloaded))
        #expect(await ask(cache, .success(1)) == .success(1))
        clock.advance(seconds: 300)
        #expect(await ask(cache, .failure(.overloaded)) == .success(1))
        #expect(cache.counts.failures == 0)
    }

    @Test("a refresh asks again, and within its interval it does not", arguments: [true, false])
    func refresh(firstFails: Bool) async {
        let cache = cache()
        _ = await ask(cache, firstFails ? .failure(.notFound) : .success(1))
        clock.advance(seconds: 9)
        #expect(await ask(cache, refresh: true, .success(2)) == (firstFails ? .failure(.notFound) : .success(1)))
        clock.advance(seconds: 1)
        #expect(await ask(cache, refresh: true, .success(3)) == .success(3))
        #expect(await ask(cache, refresh: true, .success(4)) == .success(3))
        #expect(fetches.value == 2)
    }

    @Test("a clock that is set back makes answers stale, not eternal")
    func clockSetBack() async {
        let cache = cache()
        _ = await ask(cache, .success(1))
        clock.advance(seconds: -1)
        #expect(await ask(cache, .success(2)) == .success(2))
    }

    @Test("however many ask at a time, one fetch is made and all get what it brings", arguments: [true, false])
    func singleFlight(succeeds: Bool) async throws {
        let cache = cache()
        let gate = AsyncGate()
        // Overload is not kept, so whoever came too late for this fetch would make another.
        let outcome: Result<Cache.Fetched, IdentityError> = succeeds ? .success(.init(value: 1, bytes: 1)) : .failure(.overloaded)
        let results = await withTaskGroup(of: Int?.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    try? await cache.value(for: "a") { [fetches] in
                        fetches.add()
                        await gate.wait()
                        return outcome
                    }
                }
            }
            while cache.waitingCount(for: "a") != 49 { await Task.yield() }
            gate.open()
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(results == [Int?](repeating: succeeds ? 1 : nil, count: 50))
        #expect(fetches.value == 1)
    }

    /// The rules in the course of time: seconds in, steps as texts out.
    private final class Course {
        var state = Cache.State(rules: rules)

        func begin(_ seconds: Int64, refresh: Bool = false) -> String {
            switch state.begin("a", now: seconds * 1_000_000, refresh: refresh) {
            case .answer(.success(let value)): "\(value)"
            case .answer(.failure(let error)): "\(error)"
            case .fetch: "fetch"
            case .wait: "wait"
            }
        }
    }

    @Test("while an answer is fetched that somebody doubts, it is used by everybody who does not, for as long as it is fresh")
    func doubted() {
        let course = Course()
        #expect(course.begin(0) == "fetch")
        #expect(course.begin(0) == "wait", "there is nothing yet")
        _ = course.state.end("a", .success(.init(value: 1, bytes: 10)), now: 0)
        #expect(course.begin(20, refresh: true) == "fetch")
        #expect(course.begin(20) == "1")
        #expect(course.begin(20, refresh: true) == "wait")
        #expect(course.begin(299) == "1")
        #expect(course.begin(300) == "wait")
        _ = course.state.end("a", .success(.init(value: 2, bytes: 10)), now: 300_000_000)
        #expect(course.begin(300) == "2")
    }

    @Test("a fetch that did not reach the other side takes nothing from what is still fresh")
    func doubtedInVain() {
        let course = Course()
        #expect(course.begin(0) == "fetch")
        _ = course.state.end("a", .success(.init(value: 1, bytes: 10)), now: 0)
        #expect(course.begin(20, refresh: true) == "fetch")
        let result = course.state.end("a", .failure(.unreachable("down")), now: 25_000_000).0
        #expect(result == .success(1))
        for seconds: Int64 in [25, 29, 30, 31, 299] { #expect(course.begin(seconds) == "1", "\(seconds)") }
        #expect(course.begin(31, refresh: true) == "1", "not asked again so soon")
        #expect(course.begin(300) == "fetch")
    }

    @Test("callers beyond the bound of one fetch are refused")
    func waitingBound() async throws {
        var rules = Self.rules
        rules.waitingMax = 3
        let cache = cache(rules)
        let gate = AsyncGate()
        await withTaskGroup(of: IdentityError?.self) { group in
            for _ in 0..<10 {
                group.addTask {
                    do throws(IdentityError) {
                        _ = try await cache.value(for: "a") {
                            await gate.wait()
                            return .success(.init(value: 1, bytes: 1))
                        }
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            for _ in 0..<6 { #expect(await group.next() == .some(.overloaded)) }
            gate.open()
            for await error in group { #expect(error == nil) }
        }
    }

    @Test("a caller that is cancelled does not take the answer from the others")
    func cancelledLeader() async throws {
        let cache = cache()
        let gate = AsyncGate()
        let leader = Task {
            try await cache.value(for: "a") { () async -> Result<Cache.Fetched, IdentityError> in
                await gate.wait()
                return Task.isCancelled ? .failure(.overloaded) : .success(.init(value: 1, bytes: 1))
            }
        }
        while cache.waitingCount(for: "a") == nil { await Task.yield() }
        let follower = Task { await ask(cache, .success(2)) }
        while cache.waitingCount(for: "a") != 1 { await Task.yield() }
        leader.cancel()
        gate.open()
        #expect(await follower.value == .success(1))
    }

    @Test("neither answers nor failures outgrow their rooms, and failures drive out no answer")
    func bounds() async {
        let cache = cache()
        for number in 0..<1000 { _ = await ask(cache, key: "answer \(number)", .success(number)) }
        #expect(50...100 ~= cache.counts.answers)
        for number in 0..<10_000 { _ = await ask(cache, key: "failure \(number)", .failure(.notFound)) }
        #expect(cache.counts.failures <= Self.rules.failuresMax)
        #expect(cache.counts.bytes <= Self.rules.bytesMax * 5 / 4)
        #expect(await ask(cache, key: "answer 999", .success(-1)) == .success(999))
    }

    @Test("the bounded map keeps within entries and bytes, and finds what it kept", arguments: [1000, 300])
    func boundedMap(bytesMax: Int) {
        var random = SeededGenerator(seed: TestFiles.seed)
        var map = BoundedMap<Int, Int>(entriesMax: 20, bytesMax: bytesMax)
        var last: [Int: Int] = [:]
        var used: [Int] = []
        for step in 0..<2000 {
            let key = Int.random(in: 0..<60, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                map.set(key, step, bytes: Int.random(in: 1...40, using: &random))
                last[key] = step
                used = used.filter { $0 != key } + [key]
            case 5..<9:
                if let found = map[key] {
                    #expect(found == last[key], "seed \(TestFiles.seed) step \(step)")
                    used = used.filter { $0 != key } + [key]
                }
            default:
                map.remove(key)
                last[key] = nil
            }
            #expect(map.count <= 20 && map.bytes <= bytesMax, "seed \(TestFiles.seed) step \(step)")
            // Ten entries of at most 40 bytes fit in half of 1000, so there the ten used last are never forgotten.
            for key in used.suffix(bytesMax == 1000 ? 10 : 0) {
                var copy = map
                #expect(copy[key] == last[key], "seed \(TestFiles.seed) step \(step)")
            }
        }
        map.set(1, 1, bytes: bytesMax / 2 + 1)
        let tooLarge = map[1]
        #expect(tooLarge == nil, "more than half of all bytes is not kept")
        map.set(1, 2, bytes: bytesMax / 2)
        let largest = map[1]
        #expect(largest == 2)
    }
}
