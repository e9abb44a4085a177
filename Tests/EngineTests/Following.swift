import ATProto
import Authorization
import Engine
import EventLog
import Simulation

/// Somebody who follows a stream of a trial: what was told so far.
final class Following {
    private let subscription: StreamSubscription
    private(set) var messages: [SeenMessage] = []

    init(_ subscription: StreamSubscription) { self.subscription = subscription }

    var phase: StreamHandover.Phase { subscription.phase }

    /// All that is to be told at this moment and was not before.
    @discardableResult
    func read() async throws -> [SeenMessage] {
        var news: [SeenMessage] = []
        while let batch = try await subscription.next(waits: false) { news += try batch.content.frames.map(SeenMessage.init) }
        messages += news
        return news
    }
}

extension [SeenMessage] {
    /// `create collection/rkey` and so on, in order.
    var told: [String] { flatMap { $0.operations.map { "\($0.action) \($0.path.split(separator: "/").last ?? "")" } } }
}

extension Trial {
    func streams(retentionDays: Int = 30) throws -> Streams {
        Streams(engine: engine, service: try deployment.service, serviceURL: "https://stratos.example", retentionDays: retentionDays)
    }

    static let appView = Caller.appView(SimulatedDeployment.actor(99))

    /// - Parameter domain: bare.
    func follow(
        _ owner: DID?, after cursor: UInt64? = nil, domain: String? = nil, as caller: Caller = Trial.appView, over streams: Streams? = nil
    ) async throws -> Following {
        Following(
            try await (streams ?? self.streams()).subscribe(
                to: owner.map(StreamTopic.commits) ?? .enrollments, after: cursor, domain: domain.map(deployment.boundary), as: caller))
    }
}

func streamRefusal(_ body: () async throws -> some Any) async throws -> StreamRefusal? {
    do {
        _ = try await body()
        return nil
    } catch let refusal as StreamRefusal {
        return refusal
    }
}
