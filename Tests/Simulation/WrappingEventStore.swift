package import ATProto
package import EventLog

/// A store around another, which does all that it does not do itself. It leaves what is not asked of every backend as `EventStore` has it.
package protocol WrappingEventStore: EventStore {
    /// The store that is wrapped.
    var base: any EventStore { get }
}

extension WrappingEventStore {
    package var file: String { base.file }

    package func append(_ append: Append) async throws(EventLogError) -> [Appended] { try await base.append(append) }
    package func head(of actor: DID) async throws(EventLogError) -> Head { try await base.head(of: actor) }
    package func events(of actor: DID, after sequence: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent] {
        try await base.events(of: actor, after: sequence, limit: limit)
    }
    package func events(afterPosition position: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent] {
        try await base.events(afterPosition: position, limit: limit)
    }
    package func actors(after: DID?, limit: Int) async throws(EventLogError) -> [DID] { try await base.actors(after: after, limit: limit) }
    package func block(_ cid: CID, of actor: DID) async throws(EventLogError) -> [UInt8]? { try await base.block(cid, of: actor) }
    package func blocks(_ cids: [CID], of actor: DID) async throws(EventLogError) -> [CID: [UInt8]] {
        try await base.blocks(cids, of: actor)
    }
    package func eraseBlocks(of actor: DID, at head: Head) async throws(EventLogError) -> Int {
        try await base.eraseBlocks(of: actor, at: head)
    }
    package func erasuresDue() async throws(EventLogError) -> [DID] { try await base.erasuresDue() }
    package func endErasure(of actor: DID) async throws(EventLogError) { try await base.endErasure(of: actor) }
    package func request(_ scope: [UInt8]) async throws(EventLogError) -> RequestRow? { try await base.request(scope) }
    package func requestsKeptFrom() async throws(EventLogError) -> Timestamp { try await base.requestsKeptFrom() }
    package func statistics() async throws(EventLogError) -> LogStatistics { try await base.statistics() }
    package func inspect() async -> [Finding] { await base.inspect() }
}
