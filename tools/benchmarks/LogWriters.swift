import ATProto
import Commands
import EventLog
import Keys
import SQLiteStore
import Simulation

/// One actor whose events a benchmark signs as the engine does: the commit with the actor's key, the event with the service's.
/// There is no tree behind its commits: their roots are digests of what came before, which is all that a log looks at.
struct LoadActor: Sendable {
    private var actor: SimulatedActor
    private var revs: TIDClock
    private var data: CID
    private var count = 0
    private let posts: [ValueMap]
    private let collection: NSID
    private let boundaries: BoundarySet

    init(number: Int, seed: UInt64, service: SimulatedService, posts: [ValueMap]) throws {
        actor = try SimulatedActor(number: number, seed: seed, service: service)
        revs = TIDClock(clockID: UInt16(number % 1024))
        data = CID(hashing: [UInt8(truncatingIfNeeded: number)])
        self.posts = posts
        collection = try NSID(RecordRules.postCollection)
        boundaries = try BoundarySet([service.boundary("general")])
    }

    var did: DID { actor.did }

    mutating func enroll() throws -> Append { try actor.enroll() }

    /// The next event: a commit that creates one post of about 300 bytes.
    mutating func write(asking client: ClientRequest? = nil) throws -> Append {
        count += 1
        actor.now = Timestamp(milliseconds: actor.now.milliseconds + 20)
        let now = max(actor.now, actor.head.time ?? actor.now)
        var post = posts[count &* 31 % posts.count]
        post["createdAt"] = .string(now.description)
        let block = Block(hashing: DAGCBOR.encode(.map(post)))
        data = CID(hashing: data.bytes + block.cid.bytes)
        let rev = try revs.next(microseconds: now.milliseconds * 1000)
        let path = RecordPath(collection: collection, recordKey: try RecordKey(rev.description))
        let written = RecordOperation.Written(cid: block.cid, size: block.bytes.count, boundaries: boundaries)
        let after = actor.head
        let provenance = actor.provenance(client)
        let commit = try ActorCommit.sign(did: did, rev: rev, data: data, with: actor.key)
        let event = try actor.sign(
            .repoWrite(
                RepoWrite(provenance: provenance, operations: [RecordOperation(path: path, change: .create(written))], commit: commit)))
        actor.head = event.head
        let request = client.map { client in
            RequestRow(
                scope: RequestRow.scope(actor: did, by: provenance.by, request: client), input: client.input,
                sequence: event.event.sequence, time: event.event.time)
        }
        return Append(actor: did, after: after, events: [event], blocks: [block], request: request)
    }
}

/// A log with actors who write to it.
struct LogLoad: Sendable {
    let store: LogStore
    let service: SimulatedService
    var actors: [LoadActor]

    /// A new log in `directory` with its first event and `count` enrolled actors.
    static func make(
        in directory: String, actors count: Int, seed: UInt64, options: LogStoreOptions = LogStoreOptions()
    ) async throws -> LogLoad {
        let store = try LogStore(directory: directory, options: options) { fatalError("the log failed: \($0)") }
        var service = try SimulatedService(seed: seed)
        _ = try await store.append(try service.start())
        var generator = StratosPosts(seed: seed)
        let posts = (0..<512).map { _ in generator.next().record }
        let made = service
        var actors = try (0..<count).map { try LoadActor(number: $0, seed: seed, service: made, posts: posts) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in actors.indices {
                let append = try actors[index].enroll()
                if index >= 256 { try await group.next() }
                group.addTask { _ = try await store.append(append) }
            }
            try await group.waitForAll()
        }
        return LogLoad(store: store, service: service, actors: actors)
    }

    struct Outcome: Sendable {
        var events = 0
        var seconds = 0.0
        var processorSeconds = 0.0
        var latencies = Latencies()

        var rate: Double { Double(events) / seconds }
    }

    /// So many tasks write for so long, each for its share of the actors in turn, the next event when the one before is durable.
    mutating func write(writers: Int, seconds: Double) async throws -> Outcome {
        let end = Clocks.wall() + seconds
        return try await run(writers: writers) { store, actors in
            var latencies = Latencies()
            var turn = 0
            while Clocks.wall() < end {
                let began = Clocks.wall()
                _ = try await store.append(try actors[turn % actors.count].write())
                latencies.record(seconds: Clocks.wall() - began)
                turn += 1
            }
            return latencies
        }
    }

    /// Open load: events are due at fixed times whether or not the ones before are done, and wait from when they were due.
    mutating func write(rate: Double, writers: Int, seconds: Double) async throws -> Outcome {
        let start = Clocks.wall() + 0.05
        let number = Counter()
        return try await run(writers: writers) { store, actors in
            var latencies = Latencies()
            let first = number.next()
            var turn = 0
            while true {
                let due = start + Double(first + turn * writers) / rate
                guard due < start + seconds else { return latencies }
                let wait = due - Clocks.wall()
                if wait > 0 { try await Task.sleep(nanoseconds: UInt64(wait * 1e9)) }
                _ = try await store.append(try actors[turn % actors.count].write())
                latencies.record(seconds: Clocks.wall() - due)
                turn += 1
            }
        }
    }

    /// Gives each writer its share of the actors and takes it back.
    private mutating func run(
        writers: Int, _ body: @escaping @Sendable (LogStore, inout [LoadActor]) async throws -> Latencies
    ) async throws -> Outcome {
        precondition(writers <= actors.count, "every writer has an actor of its own")
        let shares = (0..<writers).map { writer in stride(from: writer, to: actors.count, by: writers).map { actors[$0] } }
        let store = store
        let processor = Clocks.processor()
        let wall = Clocks.wall()
        var outcome = Outcome()
        var back: [LoadActor] = []
        try await withThrowingTaskGroup(of: ([LoadActor], Latencies).self) { group in
            for share in shares {
                group.addTask {
                    var share = share
                    let latencies = try await body(store, &share)
                    return (share, latencies)
                }
            }
            for try await (share, latencies) in group {
                back += share
                outcome.latencies.add(latencies)
            }
        }
        actors = back
        outcome.events = Int(outcome.latencies.count)
        outcome.seconds = Clocks.wall() - wall
        outcome.processorSeconds = Clocks.processor() - processor
        return outcome
    }
}
