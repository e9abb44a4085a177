@testable import Client
import ATProto
import Simulation
import Testing

@Suite("A subscription's state")
struct SubscriptionStateTests {
    /// Commits with gaps between their numbers, and how a service sends them.
    struct Service {
        /// What the parts of a commit carry in place of its own number.
        enum Parts: CaseIterable, Sendable {
            /// The number of the commit before it in this stream.
            case lastSent
            /// The place right before its own, whoever's it is.
            case placeBefore
        }

        let commits: [(sequence: UInt64, rev: TID, parts: [[StreamOperation]])]
        let parts: Parts

        init(using generator: inout SeededGenerator, parts: Parts) throws {
            var commits: [(UInt64, TID, [[StreamOperation]])] = []
            var sequence: UInt64 = 0
            for number in 0..<30 {
                sequence += .random(in: 1...4, using: &generator)
                let count = Bool.random(using: &generator) ? 1 : Int.random(in: 2...5, using: &generator)
                let parts = try (0..<count).map { part in
                    try (0..<Int.random(in: 0...4, using: &generator)).map { index in
                        StreamOperation(
                            collection: try NSID("a.b.c"), recordKey: try RecordKey("\(number)-\(part)-\(index)"), action: .delete)
                    }
                }
                commits.append((sequence, StreamSample.rev(UInt64(number)), parts))
            }
            self.commits = commits
            self.parts = parts
        }

        var paths: [String] { commits.flatMap { $0.parts.flatMap { $0.map(\.path) } } }

        func messages(after cursor: UInt64) throws -> [StreamMessage] {
            var messages: [StreamMessage] = []
            var previous = cursor
            for commit in commits where commit.sequence > cursor {
                for (index, operations) in commit.parts.enumerated() {
                    let isLast = index == commit.parts.count - 1
                    let number = isLast ? commit.sequence : parts == .lastSent ? previous : commit.sequence - 1
                    messages.append(
                        .commit(
                            StreamCommit(
                                sequence: number, account: StreamSample.account, time: try Datetime(StreamSample.time), rev: commit.rev,
                                operations: operations)))
                }
                previous = commit.sequence
            }
            return messages
        }
    }

    private func state(_ position: StreamPosition, operationsMax: Int = 1000) -> SubscriptionState {
        SubscriptionState(position: position, backoff: Backoff(), operationsMax: operationsMax)
    }

    @Test("over connections that break anywhere each operation is told once and in order", arguments: Service.Parts.allCases)
    func brokenConnections(parts: Service.Parts) throws {
        let seed = TestFiles.seed
        for round in 0..<200 {
            var generator = SeededGenerator(seed: seed &+ UInt64(round))
            let service = try Service(using: &generator, parts: parts)
            var state = state(.start)
            var told: [String] = []
            var left = 100
            connections: while left > 0 {
                left -= 1
                let length = left == 0 ? Int.max : Int.random(in: 0...12, using: &generator)
                for message in try service.messages(after: state.position.cursor ?? 0).prefix(length) {
                    told += try state.take(message).told
                }
            }
            #expect(told == service.paths, "seed \(seed), round \(round)")
            #expect(state.position.cursor == service.commits.last?.sequence, "seed \(seed), round \(round)")
        }
    }

    @Test(
        "stopped after any operation and gone on with from the saved position, each operation is told once and in order",
        arguments: Service.Parts.allCases)
    func savedPositions(parts: Service.Parts) throws {
        let seed = TestFiles.seed
        for round in 0..<200 {
            var generator = SeededGenerator(seed: seed &+ UInt64(round))
            let service = try Service(using: &generator, parts: parts)
            var saved = StreamPosition.start
            var told: [String] = []
            for run in 0..<100 {
                var state = state(saved)
                let stopsAfter = run == 99 ? Int.max : Int.random(in: 0...20, using: &generator)
                var count = 0
                messages: for message in try service.messages(after: saved.cursor ?? 0) {
                    let event = try state.take(message)
                    for (index, path) in event.told.enumerated() {
                        guard count < stopsAfter else { break messages }
                        told.append(path)
                        count += 1
                        saved = event.position(afterOperations: index + 1)
                    }
                    if event.told.isEmpty { saved = event.position(afterOperations: 0) }
                }
            }
            #expect(told == service.paths, "seed \(seed), round \(round)")
            #expect(saved.cursor == service.commits.last?.sequence, "seed \(seed), round \(round)")
        }
    }

    private func message(_ sequence: UInt64, rev: UInt64 = 9, _ keys: [String]) throws -> StreamMessage {
        .commit(
            StreamCommit(
                sequence: sequence, account: StreamSample.account, time: try Datetime(StreamSample.time), rev: StreamSample.rev(rev),
                operations: try keys.map {
                    StreamOperation(collection: try NSID("a.b.c"), recordKey: try RecordKey($0), action: .delete)
                }))
    }

    private func recent(_ keys: [String], gaveCursor: Bool) -> StreamPosition.Recent {
        .init(rev: StreamSample.rev(9), paths: Set(keys.map { "a.b.c/\($0)" }), gaveCursor: gaveCursor)
    }

    @Test("a position keeps what came of a commit until no more of it can come")
    func positions() throws {
        var state = state(StreamPosition(cursor: 4))
        let first = try state.take(try message(6, ["a", "b"]))
        #expect(first.position == StreamPosition(cursor: 6, recent: recent(["a", "b"], gaveCursor: true)))
        #expect(first.position(afterOperations: 0) == StreamPosition(cursor: 4))
        #expect(first.position(afterOperations: 1) == StreamPosition(cursor: 4, recent: recent(["a"], gaveCursor: false)))
        let last = try state.take(try message(7, ["c"]))
        #expect(last.told == ["a.b.c/c"] && last.position == StreamPosition(cursor: 7))
        #expect(throws: StreamError.malformed(.cursorWentBack)) { try state.take(try message(6, [])) }
        let next = try state.take(try message(9, rev: 10, ["a"]))
        #expect(next.told == ["a.b.c/a"])
    }

    @Test("a part under the number where the stream is already moves no cursor")
    func partUnderOldNumber() throws {
        var state = state(StreamPosition(cursor: 4))
        #expect(try state.take(try message(4, ["a"])).position == StreamPosition(cursor: 4, recent: recent(["a"], gaveCursor: false)))
        #expect(try state.take(try message(7, ["b"])).position == StreamPosition(cursor: 7, recent: recent(["a", "b"], gaveCursor: true)))
    }

    @Test("of one commit as many operations are remembered as are allowed, and no more")
    func commitBound() throws {
        func take(_ count: Int) throws {
            var state = state(.start, operationsMax: 6)
            for part in 0..<count {
                let operation = StreamOperation(collection: try NSID("a.b.c"), recordKey: try RecordKey("k\(part)"), action: .delete)
                _ = try state.take(
                    .commit(
                        StreamCommit(
                            sequence: 0, account: StreamSample.account, time: try Datetime(StreamSample.time), rev: StreamSample.rev(1),
                            operations: [operation])))
            }
        }
        #expect(throws: Never.self) { try take(6) }
        #expect(throws: StreamError.commitTooLarge(operationsMax: 6)) { try take(7) }
    }

    @Test("what passes is waited out, what lasts ends the subscription")
    func ends() {
        var generator = SeededGenerator(seed: 1)
        func step(_ end: ConnectionEnd) -> SubscriptionState.Step {
            var state = state(.start)
            return state.connectionEnded(end, using: &generator)
        }
        for end in [
            ConnectionEnd.closed(code: 1000), .closed(code: 1008), .lost, .silent, .handshakeTimedOut, .unreachable,
            .refusedUpgrade(status: 429), .refusedUpgrade(status: 500), .refusedUpgrade(status: 503),
        ] {
            guard case .reconnect(let wait) = step(end) else {
                Issue.record("\(end) passes")
                continue
            }
            #expect(wait >= .zero && wait <= .seconds(1))
        }
        for end in [
            ConnectionEnd.refusedAddress, .untrusted, .refusedUpgrade(status: 302), .refusedUpgrade(status: 401),
            .refusedUpgrade(status: 404),
            .handshake(.notWebSocket), .fault(.masked),
        ] { #expect(step(end) == .end(.unusable(end))) }
        for name in ["FutureCursor", "AuthenticationRequired", "AuthRequired", "NotFound", "InvalidRequest", "SomethingNew"] {
            #expect(state(.start).refusal(name, "why") == .refused(name: name, message: "why"))
        }
        #expect(state(.start).refusal("ConsumerTooSlow", nil) == nil)
    }

    @Test("it gives up after as many failures in a row as it may have; a message between them counts from the start")
    func givingUp() throws {
        var generator = SeededGenerator(seed: 1)
        var state = SubscriptionState(position: .start, backoff: Backoff(failuresMax: 2), operationsMax: 10)
        func fails() -> Bool { if case .end = state.connectionEnded(.lost, using: &generator) { true } else { false } }
        #expect(!fails() && !fails())
        _ = try state.take(.notice(StreamNotice(name: "OutdatedCursor", message: nil)))
        #expect(!fails() && !fails() && fails())
    }

    @Test("a service that was never reached is an error at once, where that was asked for")
    func neverReached() {
        var generator = SeededGenerator(seed: 1)
        var state = SubscriptionState(position: .start, backoff: Backoff(waitsForFirst: false), operationsMax: 10)
        #expect(state.connectionEnded(.unreachable, using: &generator) == .end(.gaveUp(.unreachable)))
        state.connected()
        guard case .reconnect = state.connectionEnded(.unreachable, using: &generator) else {
            Issue.record("it was reached once")
            return
        }
    }
}

@Suite("Waiting before a stream is asked for again")
struct BackoffTests {
    @Test("the waits double up to the longest, and are anything up to that: full jitter")
    func fullJitter() {
        let seed = TestFiles.seed
        var generator = SeededGenerator(seed: seed)
        let backoff = Backoff(first: .milliseconds(100), longest: .seconds(5))
        for (failures, most) in [(1, 100), (2, 200), (3, 400), (6, 3200), (7, 5000), (40, 5000), (Int.max, 5000)] {
            var waits: [Duration] = []
            for _ in 0..<400 { waits.append(backoff.wait(afterFailures: failures, using: &generator)) }
            #expect(waits.allSatisfy { $0 >= .zero && $0 <= .milliseconds(most) }, "seed \(seed), \(failures) failures")
            #expect(waits.contains { $0 < .milliseconds(most / 10) }, "seed \(seed), \(failures) failures")
            #expect(waits.contains { $0 > .milliseconds(most * 9 / 10) }, "seed \(seed), \(failures) failures")
        }
    }
}
