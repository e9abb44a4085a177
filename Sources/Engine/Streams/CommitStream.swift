import ATProto
import Authorization
import Commands
import EventLog
import Projections

/// The commits of one actor as one audience may see them, read from that actor's log.
///
/// I12: what is told is judged as late as can be, by the read policy and by the records as they then are. Nothing is told of an actor
/// who has left; of a record that was deleted since, or that the audience may not read now; of an older version that was already
/// superseded when it grew older than the retention. An audience that could read the version before and may not read the one after
/// is told that the record is gone, and one that comes to see it is told that it is new: each is given a history that is whole in
/// itself, and nothing of the one that is hidden. A commit of which nothing is told makes no message.
struct CommitStream: Sendable {
    let engine: Engine
    let owner: DID
    let viewer: Viewer
    /// Only records with this boundary.
    let domain: String?
    let retentionMilliseconds: Int64

    /// Of one message.
    static let operationsMax = 200
    static let messageBytesMax = 2 << 20
    /// Of one batch, but for a single event that has more.
    private static let eventsAtOnce = 256
    private static let operationsAtOnce = 400
    private static let bytesAtOnce = 512 << 10

    /// Events as they stand in the log, read and decoded, and not judged.
    struct Page: Sendable {
        /// The number of the event before them.
        let after: UInt64
        /// One import, or others; none at the end of the log.
        fileprivate(set) var events: [CommitEvent] = []
        /// Of the records that they wrote.
        fileprivate(set) var recordBytes = 0

        /// The event behind which the next page begins; nil where that is not known yet.
        var next: UInt64? { events.last.flatMap { $0.bulk == nil ? $0.sequence : nil } }
    }

    func load(after event: UInt64) async throws -> Page {
        var page = Page(after: event)
        var operations = 0
        for stored in try await engine.log.events(of: owner, after: event, limit: Self.eventsAtOnce) {
            // Nothing has a place in the order that has no position yet.
            guard let event = try CommitEvent(stored) else { break }
            operations += event.operations.count
            page.recordBytes += event.byteCount
            let isFull = event.bulk != nil || operations > Self.operationsAtOnce || page.recordBytes > Self.bytesAtOnce
            if !page.events.isEmpty, isFull { break }
            page.events.append(event)
            if event.bulk != nil { break }
        }
        return page
    }

    /// - Parameter page: what `load` gave behind the place.
    func batch(of page: Page, after place: StreamPlace) async throws -> Readable<StreamBatch> {
        guard let first = page.events.first else { return try release([], [], place, isAtEnd: true) }
        return try await first.bulk == nil ? batch(of: page.events, after: place) : batch(of: first, after: place)
    }

    private func batch(of events: [CommitEvent], after place: StreamPlace) async throws -> Readable<StreamBatch> {
        let judgement = try await judge(events)
        let events = events.prefix { $0.sequence <= judgement.head }
        guard let last = events.last else { return try release([], [], place, isAtEnd: true) }
        let told = zip(events, judgement.told).map { event, told in (event: event, told: told.compactMap { $0 }) }
        var records = try await records(of: told.flatMap(\.told))[...]
        var frames: [[UInt8]] = []
        frames.reserveCapacity(told.count)
        for (event, told) in told where !told.isEmpty {
            var message = CommitMessage(event.commit)
            for entry in told {
                var record: [UInt8]?
                if entry.told.cid != nil {
                    record = try present(records.removeFirst(), entry, at: event.sequence)
                    if record == nil { continue }
                }
                if let full = message.add(entry.told, record) { frames.append(full) }
            }
            if !message.isEmpty { frames.append(message.last()) }
        }
        return try release(
            frames, told.flatMap { $0.told.map(\.scope) }, StreamPlace(after: last.sequence), isAtEnd: last.sequence == judgement.head)
    }

    /// Of an import, as many messages as come to one batch.
    private func batch(of event: CommitEvent, after place: StreamPlace) async throws -> Readable<StreamBatch> {
        var frames: [[UInt8]] = []
        var scopes: [RecordScope] = []
        var message = CommitMessage(event.commit)
        var bytes = 0
        var head = event.sequence
        for chunk in place.chunk..<max(place.chunk, event.bulk?.chunks.count ?? 0) {
            let operations = try await operations(of: event, chunk: chunk)
            var next = chunk == place.chunk ? place.operation : 0
            while next < operations.count {
                let some = operations[next..<min(next + Self.operationsMax, operations.count)]
                let judgement = try await judge([event.with(some.compactMap { $0 })])
                head = judgement.head
                guard event.sequence <= head else { return try release([], [], place, isAtEnd: true) }
                var told = judgement.told[0][...]
                let pieces = try await records(of: told.compactMap { $0 })
                var records = pieces[...]
                for (offset, operation) in some.enumerated() where operation != nil {
                    guard let entry = told.removeFirst() else { continue }
                    var record: [UInt8]?
                    if entry.told.cid != nil {
                        record = try present(records.removeFirst(), entry, at: event.sequence)
                        if record == nil { continue }
                    }
                    if !message.hasRoom(for: record) {
                        frames.append(message.part())
                        bytes += frames[frames.count - 1].count
                        guard bytes < Self.bytesAtOnce else {
                            let next = StreamPlace(after: place.event, chunk: chunk, operation: next + offset)
                            return try release(frames, scopes, next, isAtEnd: false)
                        }
                    }
                    _ = message.add(entry.told, record)
                    scopes.append(entry.scope)
                }
                next += some.count
            }
        }
        // A subscriber who has got parts is told of their end, also where what would have come behind them is hidden by now.
        if !message.isEmpty || place.isInside { frames.append(message.last()) }
        return try release(frames, scopes, StreamPlace(after: event.sequence), isAtEnd: event.sequence == head)
    }

    private func operations(of event: CommitEvent, chunk: Int) async throws -> [RecordOperation?] {
        guard let bulk = event.bulk, let bytes = try await engine.log.block(bulk.chunks[chunk], of: owner) else { return [] }
        return try RepoImport.Chunk(bytes: bytes).operations
    }

    private func release(
        _ frames: [[UInt8]], _ scopes: [RecordScope], _ place: StreamPlace, isAtEnd: Bool
    ) throws -> Readable<StreamBatch> {
        let batch = StreamBatch(frames: frames, place: place, isAtEnd: isAtEnd)
        guard let released = ReadPolicy.releasePage(batch, of: scopes, to: viewer) else {
            preconditionFailure("I12: only what the viewer may read was put into a batch")
        }
        return released
    }

    // MARK: What is told

    /// One operation of which something is told.
    private struct Entry: Sendable {
        let told: StreamFrames.Told
        /// By which it may be told.
        let scope: RecordScope
        /// Whether the record is still this version of it.
        let isCurrent: Bool
    }

    private struct Judgement: Sendable {
        /// For each event, for each operation: nil where nothing is told.
        var told: [[Entry?]] = []
        /// The event that the actor's rows stood at: what is behind it cannot be judged yet.
        let head: UInt64
    }

    /// On the actor's own thread, by the rows as they stand.
    private func judge(_ events: [CommitEvent]) async throws -> Judgement {
        let (stream, now) = (self, engine.now.milliseconds)
        return try await engine.withCurrent(owner) { context, rows in
            guard context.state.membership != nil else { throw StreamRefusal.notFound }
            var judgement = Judgement(head: context.state.head.sequence)
            for event in events where event.sequence <= judgement.head {
                let isFresh = event.commit.time.milliseconds > now - stream.retentionMilliseconds
                judgement.told.append(
                    try event.operations.map { operation in
                        try stream.judge(operation, at: event.sequence, isFresh: isFresh, rows)
                    })
            }
            return judgement
        }
    }

    private func judge(_ operation: RecordOperation, at sequence: UInt64, isFresh: Bool, _ rows: any ActorRows) throws -> Entry? {
        let before = operation.previous.map { RecordScope(owner: owner, boundaries: $0.boundaries) }
        let wasSeen = before.map(sees) ?? false
        guard let written = operation.written else { return wasSeen ? delete(operation, before) : nil }
        let after = RecordScope(owner: owner, boundaries: written.boundaries)
        guard sees(after) else { return wasSeen ? delete(operation, before) : nil }
        guard let row = try rows.record(operation.path), row.created <= sequence else { return nil }
        let isCurrent = row.sequence == sequence
        // An older version is told to those who may read both what it was and what it has become.
        guard isCurrent || (isFresh && ReadPolicy.mayRead(row.scope(owner), as: viewer)) else { return nil }
        let told: StreamFrames.Told = wasSeen ? .update(operation.path, written.cid) : .create(operation.path, written.cid)
        return Entry(told: told, scope: after, isCurrent: isCurrent)
    }

    private func delete(_ operation: RecordOperation, _ before: RecordScope?) -> Entry? {
        before.map { Entry(told: .delete(operation.path), scope: $0, isCurrent: false) }
    }

    private func sees(_ scope: RecordScope) -> Bool {
        ReadPolicy.mayRead(scope, as: viewer) && domain.map(scope.boundaries.contains) ?? true
    }

    // MARK: Records

    /// The blocks that go with what is told, in order; nil where one is not there.
    private func records(of told: [Entry]) async throws -> [[UInt8]?] {
        var cids = told.compactMap(\.told.cid)[...]
        var records: [[UInt8]?] = []
        records.reserveCapacity(cids.count)
        while !cids.isEmpty {
            let some = try await engine.log.blocks(inOrder: Array(cids), of: owner, bytesMax: Self.messageBytesMax)
            records += some
            cids = cids.dropFirst(some.count)
        }
        return records
    }

    /// Nil for an older version that was erased.
    private func present(_ record: [UInt8]?, _ entry: Entry, at sequence: UInt64) throws -> [UInt8]? {
        if record == nil, entry.isCurrent { throw EventLogError.brokenChain(actor: owner, at: sequence) }
        return record
    }
}

/// An event of an actor's log as a stream looks at it.
struct CommitEvent: Sendable {
    let sequence: UInt64
    let commit: StreamFrames.Commit
    /// None where the event is no commit, or its body is erased.
    var operations: [RecordOperation] = []
    /// For an import, whose operations stand in chunks.
    var bulk: RepoImport?

    /// Nil for an event that has no position yet.
    init?(_ stored: StoredEvent) throws {
        guard let position = stored.position else { return nil }
        let event = try Event(bytes: stored.bytes)
        sequence = event.sequence
        var rev = TID(microseconds: 0, clockID: 0)
        if let body = stored.body {
            switch event.kind {
            case .repoWrite:
                guard case .repoWrite(let write) = try EventBody(kind: event.kind, bytes: body) else { break }
                (operations, rev) = (write.operations, write.commit.rev)
            case .repoImport:
                guard case .repoImport(let bulk) = try EventBody(kind: event.kind, bytes: body) else { break }
                (self.bulk, rev) = (bulk, bulk.commit.rev)
            default: break
            }
        }
        commit = StreamFrames.Commit(did: event.did, rev: rev, time: event.time, cursor: position)
    }

    /// The same event with some of its operations.
    func with(_ operations: [RecordOperation]) -> CommitEvent {
        var event = self
        event.operations = operations
        return event
    }

    /// Of the records that it wrote.
    var byteCount: Int { operations.reduce(0) { $0 + ($1.written?.size ?? 0) } }
}

/// A message that fills up. A commit that is longer than one goes out in several, all but the last under the cursor before it: so
/// whoever loses the connection between them asks for all of them again.
private struct CommitMessage {
    private let commit: StreamFrames.Commit
    private var told: [StreamFrames.Told] = []
    private var records: [[UInt8]] = []
    private var bytes = 0

    init(_ commit: StreamFrames.Commit) { self.commit = commit }

    var isEmpty: Bool { told.isEmpty }

    func hasRoom(for record: [UInt8]?) -> Bool {
        told.isEmpty || (told.count < CommitStream.operationsMax && bytes + (record?.count ?? 0) <= CommitStream.messageBytesMax)
    }

    /// - Returns: what had filled up before this.
    mutating func add(_ operation: StreamFrames.Told, _ record: [UInt8]?) -> [UInt8]? {
        let full = hasRoom(for: record) ? nil : part()
        told.append(operation)
        if let record {
            records.append(record)
            bytes += record.count
        }
        return full
    }

    /// A part of the commit, more of which is to come.
    mutating func part() -> [UInt8] { take(cursor: commit.cursor - 1) }

    mutating func last() -> [UInt8] { take(cursor: commit.cursor) }

    private mutating func take(cursor: UInt64) -> [UInt8] {
        defer { (told, records, bytes) = ([], [], 0) }
        return StreamFrames.commit(commit, cursor: cursor, told, records: records[...])
    }
}
