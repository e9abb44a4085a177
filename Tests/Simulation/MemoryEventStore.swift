package import ATProto
package import EventLog
import Synchronization

/// A log in memory that acknowledges an append before it decides positions, as a store with several nodes does: a sequencer
/// gives them out later, in the order of the acknowledgements. The model that other stores are compared with.
package final class MemoryEventStore: EventStore {
    /// Who runs the sequencer: whoever reads the order, or the test.
    package enum Sequencing: Sendable { case onRead, manual }

    private struct Row {
        var stored: StoredEvent
        let head: Head
        let opensGeneration: UInt64?
    }

    private struct Place {
        let actor: DID
        let index: Int
    }

    private struct State {
        var logs: [DID: [Row]] = [:]
        /// Events in the order of acknowledgement; the first `order.count` of them have positions.
        var acknowledged: [Place] = []
        var order: [(position: StreamCursor, place: Place)] = []
        var blocks: [DID: [CID: [UInt8]]] = [:]
        var requests: [[UInt8]: RequestRow] = [:]
        var uses: Set<[UInt8]> = []
        var erasing: Set<DID> = []
        var bytes: UInt64 = 0
    }

    private let state = Mutex(State())
    private let sequencing: Sequencing
    package let file = "memory"

    package init(sequencing: Sequencing = .onRead) { self.sequencing = sequencing }

    package func append(_ append: Append) async throws(EventLogError) -> [Appended] {
        let refusal: EventLogError? = state.withLock { state in
            let head = state.logs[append.actor]?.last?.head ?? .empty
            guard head.sequence == append.after.sequence, head.event == append.after.event else { return .headMoved(to: head) }
            if let use = append.use { guard state.uses.insert(use.scope).inserted else { return .alreadyUsed } }
            for signed in append.events {
                let index = state.logs[append.actor]?.count ?? 0
                let stored = StoredEvent(position: nil, bytes: signed.bytes, cid: signed.cid, body: signed.bodyBytes, leaf: signed.leaf)
                let row = Row(stored: stored, head: signed.head, opensGeneration: signed.opensGeneration)
                state.logs[append.actor, default: []].append(row)
                state.acknowledged.append(Place(actor: append.actor, index: index))
                state.bytes += UInt64(signed.bytes.count + signed.bodyBytes.count)
            }
            for block in append.blocks where state.blocks[append.actor]?[block.cid] == nil {
                state.blocks[append.actor, default: [:]][block.cid] = block.bytes
                state.bytes += UInt64(block.bytes.count)
            }
            if let request = append.request { state.requests[request.scope] = request }
            if append.erasesBlocks { state.erasing.insert(append.actor) }
            return nil
        }
        if let refusal { throw refusal }
        return append.appended
    }

    /// Gives positions to acknowledged events that have none.
    /// - Parameter limit: to so many at most.
    package func sequence(limit: Int = .max) {
        state.withLock { state in sequence(&state, limit: limit) }
    }

    private func sequence(_ state: inout State, limit: Int) {
        for place in state.acknowledged.dropFirst(state.order.count).prefix(limit) {
            var position = (state.order.last?.position ?? .start).next
            var row = state.logs[place.actor]![place.index]
            if let generation = row.opensGeneration, let opened = StreamCursor(generation: generation, position: 1) { position = opened }
            row.stored = row.stored.with(position: position.rawValue)
            state.logs[place.actor]![place.index] = row
            state.order.append((position, place))
        }
    }

    package func head(of actor: DID) async throws(EventLogError) -> Head {
        state.withLock { $0.logs[actor]?.last?.head ?? .empty }
    }

    package func events(of actor: DID, after sequence: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent] {
        state.withLock { state in
            guard let log = state.logs[actor], sequence < log.count else { return [] }
            return log[Int(sequence)...].prefix(limit).map(\.stored)
        }
    }

    package func events(afterPosition position: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent] {
        state.withLock { state in
            if sequencing == .onRead { sequence(&state, limit: .max) }
            var (low, high) = (0, state.order.count)
            while low < high {
                let middle = (low + high) / 2
                if state.order[middle].position.rawValue <= position { low = middle + 1 } else { high = middle }
            }
            return state.order[low...].prefix(limit).map { state.logs[$0.place.actor]![$0.place.index].stored }
        }
    }

    package func actors(after: DID?, limit: Int) async throws(EventLogError) -> [DID] {
        state.withLock { state in
            let sorted = state.logs.keys.sorted { $0.description.utf8.lexicographicallyPrecedes($1.description.utf8) }
            guard let after else { return Array(sorted.prefix(limit)) }
            return Array(sorted.drop { !after.description.utf8.lexicographicallyPrecedes($0.description.utf8) }.prefix(limit))
        }
    }

    package func block(_ cid: CID, of actor: DID) async throws(EventLogError) -> [UInt8]? {
        state.withLock { $0.blocks[actor]?[cid] }
    }

    package func blocks(_ cids: [CID], of actor: DID) async throws(EventLogError) -> [CID: [UInt8]] {
        state.withLock { state in
            var found: [CID: [UInt8]] = [:]
            for cid in cids { found[cid] = state.blocks[actor]?[cid] }
            return found
        }
    }

    /// So few that whoever erases has to call again.
    private static let erasedAtOnce = 3

    package func eraseBlocks(of actor: DID, at head: Head) async throws(EventLogError) -> Int {
        let outcome: Result<Int, EventLogError> = state.withLock { state in
            let end = state.logs[actor]?.last?.head ?? .empty
            guard end.sequence == head.sequence, end.event == head.event else { return .failure(.headMoved(to: end)) }
            let erased = (state.blocks[actor] ?? [:]).keys.prefix(Self.erasedAtOnce)
            for cid in erased { state.blocks[actor]![cid] = nil }
            return .success(erased.count)
        }
        return try outcome.get()
    }

    package func erasuresDue() async throws(EventLogError) -> [DID] {
        state.withLock { $0.erasing.sorted { $0.description < $1.description } }
    }

    package func endErasure(of actor: DID) async throws(EventLogError) { _ = state.withLock { $0.erasing.remove(actor) } }

    package func request(_ scope: [UInt8]) async throws(EventLogError) -> RequestRow? { state.withLock { $0.requests[scope] } }

    package func requestsKeptFrom() async throws(EventLogError) -> Timestamp { Timestamp(milliseconds: 0) }

    package func statistics() async throws(EventLogError) -> LogStatistics {
        state.withLock { state in
            if sequencing == .onRead { sequence(&state, limit: .max) }
            return LogStatistics(
                events: UInt64(state.acknowledged.count), actors: UInt64(state.logs.count), bytes: state.bytes,
                position: state.order.last?.position.rawValue ?? 0)
        }
    }

    package func inspect() async -> [Finding] { [] }

    // What a damaged disk or an erasure does, for tests of whoever must notice.

    /// Puts another event in the place of a stored one.
    package func tamper(_ actor: DID, sequence: UInt64, _ change: (StoredEvent) -> StoredEvent) {
        state.withLock { state in
            let row = state.logs[actor]![Int(sequence) - 1]
            state.logs[actor]![Int(sequence) - 1].stored = change(row.stored)
        }
    }

    /// Replaces or, with nil, removes a block.
    package func tamper(_ actor: DID, block: CID, _ bytes: [UInt8]?) {
        state.withLock { $0.blocks[actor]?[block] = bytes }
    }

    /// Says of an actor, without an append, that its blocks are to go.
    package func markErasing(_ actor: DID) { state.withLock { _ = $0.erasing.insert(actor) } }

    /// Exchanges the positions of two events.
    package func swapPositions(_ first: Int, _ second: Int) {
        state.withLock { state in
            let places = (state.order[first].place, state.order[second].place)
            let positions = (state.order[first].position, state.order[second].position)
            state.order[first] = (positions.0, places.1)
            state.order[second] = (positions.1, places.0)
            for entry in [state.order[first], state.order[second]] {
                let row = state.logs[entry.place.actor]![entry.place.index]
                state.logs[entry.place.actor]![entry.place.index].stored = row.stored.with(position: entry.position.rawValue)
            }
        }
    }
}

extension StoredEvent {
    package func with(position: UInt64?) -> StoredEvent {
        StoredEvent(position: position, bytes: bytes, cid: cid, body: body, leaf: leaf)
    }

    package func with(body: [UInt8]?) -> StoredEvent {
        StoredEvent(position: position, bytes: bytes, cid: cid, body: body, leaf: leaf)
    }

    package func with(bytes: [UInt8]) -> StoredEvent {
        StoredEvent(position: position, bytes: bytes, cid: cid, body: body, leaf: leaf)
    }

    package func with(leaf: [UInt8]) -> StoredEvent {
        StoredEvent(position: position, bytes: bytes, cid: cid, body: body, leaf: leaf)
    }
}
