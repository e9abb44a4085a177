import ATProto
import Foundation
import Simulation
import Synchronization

/// One request of a reader who holds a boundary now and then, and how its answer is judged.
struct ReadingRoute: Sendable {
    enum Shows: Sendable {
        /// The record: held, the answer has something of it; else the answer is the one that a member without the boundary gets.
        case record
        /// The reader's own boundaries: held, it is among them; else it is not.
        case membership
        /// Nothing of it to a member, whatever the member holds.
        case nothing
    }

    let method: String
    var verb = "GET"
    /// The path with its query.
    var target: String
    var body: [UInt8]?
    let shows: Shows

    init(_ method: String, _ parameters: [(String, String)], verb: String = "GET", shows: Shows) {
        self.method = method
        self.verb = verb
        target = Service.target(method, parameters)
        self.shows = shows
    }

    init(_ method: String, input: Value, shows: Shows) {
        self.method = method
        verb = "POST"
        target = Service.target(method)
        body = DataModelJSON.encode(input)
        self.shows = shows
    }

    func ask(over connection: HTTPConnection, as caller: String) throws -> HTTPAnswer {
        let headers = [("Authorization", "Bearer \(caller)")] + (body == nil ? [] : [("Content-Type", "application/json")])
        return try connection.ask(verb, target, headers: headers, body: body)
    }
}

/// What an answer says, as the read policy must have decided it. Anything else is a failure, whenever it comes.
enum Verdict: Sendable, Hashable {
    case shown, denied
    case neither(String)
}

struct ReadingJudge: Sendable {
    /// What nobody may see without the boundary: the record's text, its CID as text and in bytes; for HEAD, whose answers have no
    /// body, the status tells.
    let traces: [[UInt8]]
    /// The qualified boundary.
    let boundary: [UInt8]
    /// By the route's index: what a member without the boundary gets.
    let denied: [HTTPAnswer]

    func verdict(on answer: HTTPAnswer, of route: ReadingRoute, at index: Int) -> Verdict {
        let isDenied = answer.status == denied[index].status && answer.body == denied[index].body
        switch route.shows {
        case .record where route.verb == "HEAD": if answer.status == 200 { return .shown }
        case .record, .nothing: if traces.contains(where: { answer.body.contains($0) }) { return .shown }
        case .membership:
            guard answer.status == 200 else { break }
            return answer.body.contains(boundary) ? .shown : .denied
        }
        return isDenied ? .denied : .neither("\(answer.status) \(answer.text.prefix(200))")
    }
}

/// Readers who ask one route after the other, each over a connection of its own, until they are told to stop.
final class BoundaryReaders: Sendable {
    struct Sample: Sendable {
        let route: Int
        let sent: ContinuousClock.Instant
        let answered: ContinuousClock.Instant
        let verdict: Verdict
    }

    let routes: [ReadingRoute]
    private let port: UInt16
    private let caller: String
    private let judge: ReadingJudge
    private let isStopped = Atomic(false)
    /// A reader's samples, in the order of its requests.
    private let samples: [Samples]

    private final class Samples: Sendable {
        let list = Mutex<[Sample]>([])
    }

    init(_ count: Int, port: UInt16, as caller: String, routes: [ReadingRoute], judge: ReadingJudge) {
        samples = (0..<count).map { _ in Samples() }
        self.port = port
        self.caller = caller
        self.routes = routes
        self.judge = judge
    }

    /// Runs the readers beside `body`, and ends them with it.
    /// - Returns: every reader's samples.
    func run(_ body: () async throws -> Void) async throws -> [[Sample]] {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for reader in samples.indices {
                group.addTask { [self] in try await onThread { [self] in try read(reader) } }
            }
            let result: Result<Void, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            isStopped.store(true, ordering: .releasing)
            try result.get()
            try await group.waitForAll()
        }
        return samples.map { $0.list.withLock { $0 } }
    }

    /// Neighbours begin at different routes, so that each route is under way at any time.
    private func read(_ reader: Int) throws {
        let connection = try HTTPConnection(port: port)
        var index = reader % routes.count
        while !isStopped.load(ordering: .acquiring) {
            let sent = ContinuousClock.now
            let answer = try routes[index].ask(over: connection, as: caller)
            let sample = Sample(
                route: index, sent: sent, answered: .now, verdict: judge.verdict(on: answer, of: routes[index], at: index))
            samples[reader].list.withLock { $0.append(sample) }
            index = (index + 1) % routes.count
        }
    }

    /// Waits until every reader has begun and ended one request on each route from now on.
    /// - Returns: false when that took longer than it ever should.
    func lap(within timeout: Duration = .seconds(30)) async throws -> Bool {
        // The request that is under way has begun before.
        let wanted = samples.map { $0.list.withLock { $0.count } + 1 + routes.count }
        let end = ContinuousClock.now + timeout
        while ContinuousClock.now < end {
            if zip(samples, wanted).allSatisfy({ samples, wanted in samples.list.withLock { $0.count } >= wanted }) { return true }
            try await Task.sleep(for: .milliseconds(2))
        }
        return false
    }
}

extension [UInt8] {
    func contains(_ part: [UInt8]) -> Bool { Data(self).range(of: Data(part)) != nil }
}
