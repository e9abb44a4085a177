import ATProto
import Commands
import Engine
import EventLog
import Simulation

/// Writers who create posts through the engine, as the server does.
struct EngineLoad: Sendable {
    let engine: Engine
    let actors: [DID]
    private let posts: [ValueMap]
    private let collection: NSID
    private let number = Counter()

    init(engine: Engine, actors: [DID], seed: UInt64) throws {
        self.engine = engine
        self.actors = actors
        var generator = StratosPosts(seed: seed)
        posts = (0..<512).map { _ in generator.next().record }
        collection = try NSID(RecordRules.postCollection)
    }

    /// So many tasks write for so long, each for its share of the actors in turn.
    func write(writers: Int, seconds: Double) async throws -> LogLoad.Outcome {
        let processor = Clocks.processor()
        let wall = Clocks.wall()
        let end = wall + seconds
        var outcome = LogLoad.Outcome()
        try await withThrowingTaskGroup(of: Latencies.self) { group in
            for writer in 0..<writers {
                group.addTask { try await write(writer: writer, of: writers, until: end) }
            }
            for try await latencies in group { outcome.latencies.add(latencies) }
        }
        outcome.events = Int(outcome.latencies.count)
        outcome.seconds = Clocks.wall() - wall
        outcome.processorSeconds = Clocks.processor() - processor
        return outcome
    }

    private func write(writer: Int, of writers: Int, until end: Double) async throws -> Latencies {
        var latencies = Latencies()
        var turn = writer
        while Clocks.wall() < end {
            let actor = actors[turn % actors.count]
            turn += writers
            let began = Clocks.wall()
            _ = try await engine.write(request(for: actor))
            latencies.record(seconds: Clocks.wall() - began)
        }
        return latencies
    }

    private func request(for actor: DID) -> WriteRequest {
        let number = number.next()
        var post = posts[number % posts.count]
        post["text"] = .string("\(number) " + (post["text"]?.stringValue ?? ""))
        return WriteRequest(
            repo: actor, writes: [RecordWrite(action: .create, collection: collection, recordKey: nil, record: .map(post))],
            agent: Agent(did: actor, credential: .dev))
    }
}
