internal import Synchronization

/// Answers of other servers: kept for a while, bounded in number and bytes, and fetched once however many ask for them at a time.
///
/// An answer is *fresh* at first and simply used. Then it is *stale*: the next caller fetches it again, and only if the other
/// side cannot be reached the stale answer is used on. After that it is *gone*. Failures are kept briefly too, in a room of their
/// own, so that a flood of names that do not exist drives out no answer.
///
/// A caller who has a reason to doubt an answer may ask for a refresh; more often than `refreshInterval` a key is never asked for. Such a
/// reason can be forged by anybody: so a fresh answer stays good for everybody else, while the fetch runs and when it failed to reach the
/// other side.
final class AnswerCache<Key: Hashable & Sendable & CustomStringConvertible, Value: Sendable, Failure: CacheableFailure>: Sendable {
    /// What a fetch brought, and about how many bytes it takes to keep.
    struct Fetched: Sendable {
        let value: Value
        let bytes: Int
    }

    private let state: Mutex<State>
    private let now: @Sendable () -> Int64

    /// - Parameter now: microseconds; may jump, then answers count as stale.
    init(rules: CacheRules, now: @escaping @Sendable () -> Int64) {
        state = Mutex(State(rules: rules))
        self.now = now
    }

    /// The answer for `key`: from here, from a fetch that is on its way, or from `fetch`.
    ///
    /// The fetch runs to its end though its caller be cancelled, because others wait for it.
    func value(
        for key: Key, refresh: Bool = false, fetch: @escaping @Sendable () async -> Result<Fetched, Failure>
    ) async throws(Failure) -> Value {
        while true {
            switch state.withLock({ $0.begin(key, now: now(), refresh: refresh) }) {
            case .answer(let result): return try result.get()
            case .fetch:
                let outcome = await Task { await fetch() }.value
                let (result, waiting) = state.withLock { $0.end(key, outcome, now: now()) }
                for waiter in waiting { waiter.resume(returning: result) }
                return try result.get()
            case .wait:
                // Between the two locks the fetch may have ended; then nobody would wake us, and we look again.
                let result: Result<Value, Failure>? = await withCheckedContinuation { continuation in
                    switch state.withLock({ $0.join(key, continuation) }) {
                    case .joined: break
                    case .noFetch: continuation.resume(returning: nil)
                    case .full: continuation.resume(returning: .failure(.overloaded))
                    }
                }
                if let result { return try result.get() }
            }
        }
    }

    /// Keys of which something is kept.
    var counts: (answers: Int, failures: Int, bytes: Int) {
        state.withLock { ($0.answers.count, $0.failures.count, $0.answers.bytes + $0.failures.bytes) }
    }

    /// Callers that wait for the fetch of `key`; nil when none is on its way.
    func waitingCount(for key: Key) -> Int? { state.withLock { $0.fetches[key]?.count } }
}

/// How long a failure tells something about the other side.
enum FailureLasting: Sendable {
    /// The other side has spoken: what it said before is void.
    case settled
    /// It could not be asked, so what it said before still stands.
    case passing
    /// It was not asked, by our own doing: nothing is known, and nothing kept.
    case ours
}

protocol CacheableFailure: Error {
    var lasting: FailureLasting { get }
    static var overloaded: Self { get }
}

/// How long answers are used and how much is kept. Times are microseconds.
struct CacheRules: Sendable {
    var freshFor: Int64
    /// An answer older than this is never used.
    var keptFor: Int64
    var settledFailureKeptFor: Int64 = 30_000_000
    var passingFailureKeptFor: Int64 = 5_000_000
    var refreshInterval: Int64
    var answersMax: Int
    var bytesMax: Int
    var failuresMax = 4096
    /// Callers that may wait for one fetch.
    var waitingMax = 1024
}

extension AnswerCache {
    typealias Waiter = CheckedContinuation<Result<Value, Failure>?, Never>

    enum Step {
        case answer(Result<Value, Failure>)
        case fetch
        case wait
    }

    enum Joining { case joined, noFetch, full }

    /// The rules alone: no clock, no network, no lock.
    struct State {
        fileprivate struct Kept<Content> {
            let content: Content
            let at: Int64
        }

        let rules: CacheRules
        fileprivate var answers: BoundedMap<Key, Kept<Value>>
        fileprivate var failures: BoundedMap<Key, Kept<Failure>>
        fileprivate var fetches: [Key: [Waiter]] = [:]

        init(rules: CacheRules) {
            self.rules = rules
            answers = BoundedMap(entriesMax: rules.answersMax, bytesMax: rules.bytesMax)
            failures = BoundedMap(entriesMax: rules.failuresMax, bytesMax: rules.bytesMax / 4)
        }

        mutating func begin(_ key: Key, now: Int64, refresh: Bool) -> Step {
            let answer = answers[key]
            let failure = failures[key]
            if fetches[key] != nil {
                guard !refresh, let fresh = fresh(answer, now: now) else { return .wait }
                return .answer(.success(fresh))
            }
            let asked = max(answer?.at ?? .min, failure?.at ?? .min)
            let mayRefresh = asked == .min || !(0..<rules.refreshInterval ~= now &- asked)
            if !(refresh && mayRefresh), let result = kept(answer, failure, now: now) { return .answer(result) }
            fetches[key] = []
            return .fetch
        }

        /// What can be said without asking.
        private func kept(_ answer: Kept<Value>?, _ failure: Kept<Failure>?, now: Int64) -> Result<Value, Failure>? {
            if let failure {
                let isPassing = failure.content.lasting == .passing
                if 0..<(isPassing ? rules.passingFailureKeptFor : rules.settledFailureKeptFor) ~= now &- failure.at {
                    if isPassing, let usable = usable(answer, now: now) { return .success(usable) }
                    return .failure(failure.content)
                }
            }
            return fresh(answer, now: now).map { .success($0) }
        }

        private func fresh(_ answer: Kept<Value>?, now: Int64) -> Value? {
            guard let answer, 0..<rules.freshFor ~= now &- answer.at else { return nil }
            return answer.content
        }

        private func usable(_ answer: Kept<Value>?, now: Int64) -> Value? {
            guard let answer, 0..<rules.keptFor ~= now &- answer.at else { return nil }
            return answer.content
        }

        mutating func join(_ key: Key, _ waiter: Waiter) -> Joining {
            guard let waiting = fetches[key] else { return .noFetch }
            guard waiting.count < rules.waitingMax else { return .full }
            fetches[key]!.append(waiter)
            return .joined
        }

        mutating func end(_ key: Key, _ outcome: Result<Fetched, Failure>, now: Int64) -> (Result<Value, Failure>, [Waiter]) {
            let waiting = fetches.removeValue(forKey: key) ?? []
            return (settle(key, outcome, now: now), waiting)
        }

        private mutating func settle(_ key: Key, _ outcome: Result<Fetched, Failure>, now: Int64) -> Result<Value, Failure> {
            let keyBytes = key.description.utf8.count
            switch outcome {
            case .success(let fetched):
                failures.remove(key)
                answers.set(key, Kept(content: fetched.value, at: now), bytes: fetched.bytes + keyBytes)
                return .success(fetched.value)
            case .failure(let failure):
                if failure.lasting == .settled { answers.remove(key) }
                if failure.lasting != .ours { failures.set(key, Kept(content: failure, at: now), bytes: keyBytes + 64) }
                guard failure.lasting != .settled, let usable = usable(answers[key], now: now) else { return .failure(failure) }
                return .success(usable)
            }
        }
    }
}
