package import ATProto
package import EventLog
internal import Glibc
internal import Synchronization

/// How a log store works. The defaults are the design's; tests make them small.
package struct LogStoreOptions: Sendable {
    /// The name of a registered SQLite file layer; nil = the operating system's.
    package var vfs: String?
    package var readers = 2
    /// Appends, and reads, that may wait; beyond: `overloaded`.
    package var waitingMax = 4096
    package var groupEventsMax = 512
    package var groupBytesMax = 1 << 20
    /// Pages of 4 KiB in the WAL from which it is checkpointed although events wait: by the checkpointer as far as may be, and at four
    /// times as many by the writer.
    package var checkpointPages = 4 << 8
    /// Pages that the writer may copy between two groups.
    package var checkpointRestPages = 128
    /// Without it all checkpoints are the writer's, and the order of all file calls follows from that of the appends.
    package var hasCheckpointer = true
    /// How long nothing must have waited before the WAL is checkpointed.
    package var idleMilliseconds = 100
    /// Actors whose head is remembered.
    package var headsMax = 65_536
    package var writerCacheKiB: Int64 = 32_768
    package var readerCacheKiB: Int64 = 8192

    package init() {}

    /// None of them checkpoints by itself, not even when it is closed: the writer does, and only where the log is sound.
    func connection(_ access: SQLiteOptions.Access, cacheKiB: Int64) -> SQLiteOptions {
        var options = SQLiteOptions(access: access, synchronous: .full, autocheckpointPages: 0, cacheKiB: cacheKiB, vfs: vfs)
        options.checkpointsWhenClosed = false
        return options
    }
}

/// Every actor's log in one SQLite file, `log.sqlite`, beside its mark and the directory's lock.
///
/// One thread writes (`LogWriter`), a few read. The first failed write or sync ends it: `onFatal` is called, the program
/// exits, and until then everything is refused. A full disk refuses appends and nothing else.
package final class LogStore: EventStore {
    package static let fileName = "log.sqlite"
    /// Files beside it that are never there without it.
    package static let companions = [MarkFile.fileName, fileName + "-wal"]

    package var file: String { LogStore.fileName }
    /// `LogRow.stored(of:)` gives no other.
    package var hashesEventsRead: Bool { true }
    package let directory: String
    private let options: LogStoreOptions
    private let lock: DirectoryLock
    private let state: LogState
    private let queue: BlockingQueue<LogWriter.Job>
    private let writer: BackgroundThread
    private let readers: LogReaderPool
    private let lentReaders: LentLogReaders
    private let isClosed = Atomic<Bool>(false)

    /// Opens the log of `directory`, makes both where they are missing, and refuses a log that cannot be shown to be complete.
    /// - Parameter onFatal: called once, on a thread of the store's, when it can no longer be trusted; the program must end.
    package init(
        directory: String, options: LogStoreOptions = LogStoreOptions(), onFatal: @escaping @Sendable (EventLogError) -> Void
    ) throws(LogStoreError) {
        try LogStore.make(directory)
        let lock = try DirectoryLock(directory: directory)
        let opened = try LogOpening(directory: directory, options: options).open()
        let state = LogState(
            LogState.Published(
                heads: HeadCache(countMax: options.headsMax), position: opened.next.position, events: opened.events, actors: opened.actors))
        let queue = BlockingQueue<LogWriter.Job>(waitingMax: options.waitingMax)
        let path = directory + "/" + LogStore.fileName
        let checkpointer: LogCheckpointer?
        do throws(SQLiteError) {
            if options.hasCheckpointer {
                let connection = try SQLiteConnection(
                    path: path, options: options.connection(.readWrite, cacheKiB: options.readerCacheKiB))
                let holder = try SQLiteConnection(path: path, options: options.connection(.readOnly, cacheKiB: 64))
                lentReaders = try LentLogReaders(path: path, options: options)
                readers = try LogReaderPool(path: path, options: options)
                checkpointer = LogCheckpointer(connection: connection, holder: holder, state: state) { error in
                    let error = EventLogError(error)
                    if state.end(with: error) { onFatal(error) }
                }
            } else {
                lentReaders = try LentLogReaders(path: path, options: options)
                readers = try LogReaderPool(path: path, options: options)
                checkpointer = nil
            }
        } catch {
            throw .storage(error)
        }
        let thread = LogWriter(
            opened: opened, state: state, queue: queue, checkpointer: checkpointer, options: options, onFatal: onFatal)
        writer = BackgroundThread { thread.run() }
        self.directory = directory
        self.options = options
        self.lock = lock
        self.state = state
        self.queue = queue
    }

    deinit { close() }

    /// Appends that wait for the writer.
    package var waitingCount: Int { queue.count }

    var isClosing: Bool { isClosed.load(ordering: .acquiring) }

    /// Writes what waits, makes the log one file again, and lets go of the directory. Blocks until that is done.
    package func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        readers.close()
        lentReaders.close()
        queue.close()
        writer.join()
        lock.release()
    }

    /// Makes the directory where it is missing, and makes it durable: a loss of power must not take it away with all that is synced in it.
    private static func make(_ directory: String) throws(LogStoreError) {
        guard mkdir(directory, 0o700) == 0 else {
            guard errno == EEXIST else { throw .noDirectory(path: directory, code: errno) }
            return
        }
        do throws(DirectorySyncError) { try DirectorySync.syncParent(of: directory) } catch {
            throw .noDirectory(path: error.path, code: error.code)
        }
    }

    static func name(ofFileAt path: String) -> String {
        path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[path.index(after: $0)...]) } ?? path
    }

    // MARK: Append

    package func append(_ append: Append) async throws(EventLogError) -> [Appended] {
        try LogStore.check(append)
        let blocks = append.blocks.reduce(0) { $0 + $1.bytes.count }
        let events = append.events.reduce(0) { $0 + $1.bytes.count + $1.bodyBytes.count }
        let isStaged = blocks > options.groupBytesMax
        return try await enqueue { answer in
            .append(PendingAppend(append: append, byteCount: events + (isStaged ? 0 : blocks), isStaged: isStaged, answer: answer))
        }
    }

    package func stage(_ blocks: [Block], of actor: DID) async throws(EventLogError) -> StagedBlocks {
        try LogStore.check(blocks)
        guard !blocks.isEmpty else { return StagedBlocks(held: []) }
        return try await enqueue { .stage(blocks, of: actor, $0) }
    }

    package func abandon(_ staged: [StagedBlocks]) async {
        let rows = staged.compactMap(\.rows)
        // best effort: what is not removed now is at the next start.
        if !rows.isEmpty { _ = queue.push(.abandon(rows)) }
    }

    /// Removes rows that no longer count at `now`, the oldest first and at most 500 of each kind: requests of seven days or more, and
    /// uses of credentials that have expired.
    /// - Returns: how many were removed; 0 ends a clean-up.
    package func expire(now: Timestamp) async throws(EventLogError) -> Int {
        try await enqueue { .expire(now: now, $0) }
    }

    package func eraseBlocks(of actor: DID, at head: Head) async throws(EventLogError) -> Int {
        try await enqueue { .erase(of: actor, at: head, $0) }
    }

    package func endErasure(of actor: DID) async throws(EventLogError) { try await enqueue { .endErasure(of: actor, $0) } }

    package func erasuresDue() async throws(EventLogError) -> [DID] {
        try await read { reader throws(EventLogError) in try reader.erasuresDue() }
    }

    private func enqueue<Value: Sendable>(
        _ job: (CheckedContinuation<Result<Value, EventLogError>, Never>) -> LogWriter.Job
    ) async throws(EventLogError) -> Value {
        try state.checkUsable()
        let result = await withCheckedContinuation { (continuation: CheckedContinuation<Result<Value, EventLogError>, Never>) in
            switch queue.push(job(continuation)) {
            case .queued: break
            case .full: continuation.resume(returning: .failure(.overloaded))
            case .closed: continuation.resume(returning: .failure(.closed))
            }
        }
        return try result.get()
    }

    /// What is about to be stored for ever is what its hashes say.
    private static func check(_ append: Append) throws(EventLogError) {
        for signed in append.events {
            guard CID(hashing: signed.bytes) == signed.cid else { throw .malformed("event: its bytes do not match its CID") }
            guard CID(hashing: signed.bodyBytes) == signed.event.body else { throw .malformed("event: body: its bytes do not match") }
            guard signed.leaf.count == Leaf.byteCount, signed.leaf[0] == Leaf.version, signed.leaf[33...].elementsEqual(signed.cid.digest)
            else {
                throw .malformed("event: the leaf is not the event's")
            }
        }
        if let sequence = append.request?.sequence, !append.events.contains(where: { $0.event.sequence == sequence }) {
            throw .malformed("request: event \(sequence) is not one that it became")
        }
        try check(append.blocks)
    }

    private static func check(_ blocks: [Block]) throws(EventLogError) {
        for block in blocks where CID(hashing: block.bytes, codec: block.cid.codec) != block.cid {
            throw .malformed("block: its bytes do not match \(block.cid)")
        }
    }

    // MARK: Reads

    /// Runs several reads in one turn of a reader's thread.
    package func read<Value: Sendable>(
        _ body: @escaping @Sendable (LogReader) throws(EventLogError) -> Value
    ) async throws(EventLogError) -> Value {
        try state.checkUsable()
        return try await readers.read(body)
    }

    package func head(of actor: DID) async throws(EventLogError) -> Head {
        try state.checkUsable()
        if let entry = state.with({ $0.heads.find(actor) }) { return entry.head }
        return try await read { reader throws(EventLogError) in
            guard let row = try reader.actorRow(actor) else { return Head.empty }
            return try reader.head(of: actor, row: row)
        }
    }

    package func events(of actor: DID, after sequence: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent] {
        let known = state.with { $0.heads.find(actor)?.head.sequence ?? 0 }
        return try await read { reader throws(EventLogError) in
            try reader.events(of: actor, after: sequence, limit: limit, known: known)
        }
    }

    package func events(afterPosition position: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent] {
        let known = state.with { $0.position }
        return try await read { reader throws(EventLogError) in
            try reader.events(afterPosition: position, limit: limit, known: known)
        }
    }

    package func actors(after: DID?, limit: Int) async throws(EventLogError) -> [DID] {
        try await read { reader throws(EventLogError) in try reader.actors(after: after, limit: limit) }
    }

    package func withLog(among actors: [DID]) async throws(EventLogError) -> Set<DID> {
        try await read { reader throws(EventLogError) in
            try reader.withLog(among: actors)
        }
    }

    package func block(_ cid: CID, of actor: DID) async throws(EventLogError) -> [UInt8]? {
        try await blocks([cid], of: actor)[cid]
    }

    package func blocks(_ cids: [CID], of actor: DID) async throws(EventLogError) -> [CID: [UInt8]] {
        let known = state.with { $0.heads.find(actor)?.actor }
        return try await read { reader throws(EventLogError) in try reader.blocks(cids, of: actor, actor: known) }
    }

    package func blocksOnThisThread(_ cids: [CID], of actor: DID) throws(EventLogError) -> [CID: [UInt8]]? {
        try state.checkUsable()
        let known = state.with { $0.heads.find(actor)?.actor }
        return try lentReaders.read { reader throws(EventLogError) in try reader.blocks(cids, of: actor, actor: known) }
    }

    package func blocks(inOrder cids: [CID], of actor: DID, bytesMax: Int) async throws(EventLogError) -> [[UInt8]?] {
        let known = state.with { $0.heads.find(actor)?.actor }
        return try await read { reader throws(EventLogError) in
            try reader.blocks(inOrder: cids, of: actor, actor: known, bytesMax: bytesMax)
        }
    }

    package func request(_ scope: [UInt8]) async throws(EventLogError) -> RequestRow? {
        try await read { reader throws(EventLogError) in try reader.request(scope) }
    }

    package func requestsKeptFrom() async throws(EventLogError) -> Timestamp {
        try await read { reader throws(EventLogError) in try reader.requestsKeptFrom() }
    }

    package func statistics() async throws(EventLogError) -> LogStatistics {
        let known = state.with { ($0.events, $0.actors, $0.position) }
        let bytes = try await read { reader throws(EventLogError) in try reader.byteCount() }
        return LogStatistics(events: known.0, actors: known.1, bytes: bytes, position: known.2)
    }

    package func activity() -> LogActivity { state.with { $0.activity } }

    package func inspect() async -> [Finding] {
        let (directory, vfs) = (directory, options.vfs)
        do {
            return try await read { reader throws(EventLogError) in LogInspection(reader: reader, directory: directory, vfs: vfs).run() }
        } catch {
            return [Finding(file: LogStore.fileName, invariant: "storage", message: error.description)]
        }
    }
}
