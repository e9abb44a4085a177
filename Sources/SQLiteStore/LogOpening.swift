internal import ATProto
internal import EventLog

/// A log that was found whole, and what its writer goes on from.
struct OpenedLog {
    let connection: SQLiteConnection
    let mark: MarkFile
    let next: LogNumbers
    let events: UInt64
    let actors: UInt64
    /// Staged blocks of an earlier process that a full disk kept from being removed.
    let orphans: [ClosedRange<Int64>]
}

/// Opens `log.sqlite` and its mark, and refuses what cannot be shown to be complete.
///
/// Nothing is changed before the log was compared with its mark: SQLite would copy a WAL that it has silently cut into the file, and
/// remove it. Only then is what was found made durable, since a process that died may have left commits that were never synced.
struct LogOpening {
    let directory: String
    let options: LogStoreOptions

    /// How many of the last events are compared with their hashes.
    private static let tailMax = 64
    private static let walHeadBytes = 32
    /// How much of the WAL is in memory at once while it is written again.
    private static let pieceBytes = 1 << 20

    private var path: String { directory + "/" + LogStore.fileName }

    func open() throws(LogStoreError) -> OpenedLog {
        let mark = try sql { () throws(SQLiteError) in
            try MarkFile.exists(directory: directory, vfs: options.vfs) ? try openMark() : nil
        }
        try checkFiles(mark?.mark)
        let connection = try sql { () throws(SQLiteError) in try openConnection() }
        let isNew = try sql { () throws(SQLiteError) in try LogSchema.isAbsent(on: connection) }
        if isNew {
            if let position = mark?.mark?.position, position > 0 { throw shorter(than: position, at: 0) }
            try sql { () throws(SQLiteError) in try LogSchema.create(on: connection) }
        } else {
            try LogSchema.check(on: connection)
        }
        let last = try lastEvent(on: connection)
        try compare(mark?.mark, with: last, on: connection)
        let staged = try stagedRanges(on: connection)
        let figures = try sql { () throws(SQLiteError) in try self.figures(on: connection, last: last) }
        guard figures.next.lastActor <= LogNumbers.rowMax, figures.next.lastBlock <= LogNumbers.rowMax else {
            throw damage("an actor or a block has a number that this service gives to none")
        }
        return try sql { () throws(SQLiteError) in
            let (mark, orphans) = try settle(connection, mark: mark, last: last, staged: staged)
            return OpenedLog(
                connection: connection, mark: mark, next: figures.next, events: figures.events, actors: figures.actors, orphans: orphans)
        }
    }

    private func openMark() throws(SQLiteError) -> MarkFile { try MarkFile(directory: directory, vfs: options.vfs) }

    private func openConnection() throws(SQLiteError) -> SQLiteConnection {
        try SQLiteConnection(path: path, options: options.connection(.readWriteCreate, cacheKiB: options.writerCacheKiB))
    }

    /// SQLite removes the WAL of an empty file, so a log that has gone missing is noticed before it is opened. A WAL that is no longer than
    /// its head has no commit: the power went while the log was being made.
    private func checkFiles(_ mark: MarkFile.Mark?) throws(LogStoreError) {
        let isEmpty = try sql { () throws(SQLiteError) in try byteCount(path) == 0 }
        guard isEmpty else { return }
        if let mark, mark.position > 0 { throw shorter(than: mark.position, at: 0) }
        guard try sql({ () throws(SQLiteError) in try byteCount(path + "-wal") <= LogOpening.walHeadBytes }) else {
            throw .damaged(file: LogStore.fileName, position: nil, message: "the file is missing or empty, yet its WAL is not")
        }
    }

    private func byteCount(_ path: String) throws(SQLiteError) -> Int {
        guard try VirtualFile.exists(path, vfs: options.vfs) else { return 0 }
        return try VirtualFile(path: path, create: false, vfs: options.vfs).byteCount()
    }

    /// The last event of the log, with those before it compared with their hashes; `empty` in a log without events.
    private func lastEvent(on connection: SQLiteConnection) throws(LogStoreError) -> MarkFile.Mark {
        let rows = try sql { () throws(SQLiteError) in
            try connection.all(
                "SELECT \(LogRow.columns) FROM \(LogRow.tables) ORDER BY e.position DESC LIMIT \(LogOpening.tailMax)", read: LogRow.init)
        }
        var later: UInt64?
        for row in rows {
            guard row.position > 0, StreamCursor(rawValue: row.position) != nil else {
                throw .damaged(file: LogStore.fileName, position: nil, message: "I13: an event stands at what is no position")
            }
            try check(row)
            if let later, !LogReader.follows(later, row.position) {
                throw .damaged(file: LogStore.fileName, position: later, message: "I13: the position before it is missing")
            }
            later = row.position
        }
        guard let last = rows.first else { return .empty }
        return MarkFile.Mark(position: last.position, digest: CID(hashing: last.event).digest)
    }

    private func check(_ row: LogRow) throws(LogStoreError) {
        do { _ = try row.stored(of: nil) } catch {
            throw .damaged(file: LogStore.fileName, position: row.position, message: "\(error)")
        }
    }

    /// What was acknowledged last must be there, and be what it was.
    private func compare(_ mark: MarkFile.Mark?, with last: MarkFile.Mark, on connection: SQLiteConnection) throws(LogStoreError) {
        guard let mark else {
            guard last.position == 0 else { throw .markMissing(file: MarkFile.fileName) }
            return
        }
        guard mark.position <= last.position else { throw shorter(than: mark.position, at: last.position) }
        guard mark.position > 0 else { return }
        let event = try sql { () throws(SQLiteError) in
            try connection.single("SELECT event FROM events WHERE position = ?", .integer(Int64(bitPattern: mark.position))) { $0.blob(0) }
        }
        guard let event, CID(hashing: event).digest == mark.digest else {
            throw .otherThanMark(file: LogStore.fileName, position: mark.position)
        }
    }

    /// The rows of blocks that may be removed. A row of this table that is wrong would remove blocks that events refer to, so that
    /// each has a checksum, and the table's own structure is looked at too: one wrong bit brings a row back that was deleted.
    private func stagedRanges(on connection: SQLiteConnection) throws(LogStoreError) -> [ClosedRange<Int64>] {
        let rows = try sql { () throws(SQLiteError) in
            try connection.all("SELECT first, last, checksum FROM staged ORDER BY first") { ($0.integer(0), $0.integer(1), $0.integer(2)) }
        }
        guard !rows.isEmpty else { return [] }
        let structure = try sql { () throws(SQLiteError) in try connection.all("PRAGMA integrity_check(staged)") { $0.text(0) } }
        guard structure == ["ok"] else { throw damage("the table of staged blocks: \(structure.joined(separator: "; "))") }
        return try rows.map { first, last, checksum throws(LogStoreError) in
            guard first <= last, LogSchema.stagedChecksum(first...last) == checksum else {
                throw damage("the row of staged blocks from \(first) does not match its checksum")
            }
            return first...last
        }
    }

    private func damage(_ message: String) -> LogStoreError { .damaged(file: LogStore.fileName, position: nil, message: message) }

    /// Makes durable what was found, moves the mark there, and removes what was staged for appends that never came.
    /// - Returns: the mark, and those ranges that a full disk kept from being removed.
    private func settle(
        _ connection: SQLiteConnection, mark: MarkFile?, last: MarkFile.Mark, staged: [ClosedRange<Int64>]
    ) throws(SQLiteError) -> (MarkFile, [ClosedRange<Int64>]) {
        try tolerateFullDisk { () throws(SQLiteError) in
            try rewriteWAL()
            try connection.checkpoint()
        }
        let mark = if let mark { mark } else { try openMark() }
        do throws(SQLiteError) { try mark.begin(last) } catch {
            // An older mark is still true; without any, the next start could not tell that the log is complete.
            guard error.isNoSpace, mark.mark != nil else { throw error }
        }

        var orphans: [ClosedRange<Int64>] = []
        for range in staged {
            orphans.append(range)
            try tolerateFullDisk { () throws(SQLiteError) in
                try LogStaging.sweep(range, on: connection)
                orphans.removeLast()
            }
        }
        connection.watchWAL()
        try connection.gatherWAL()
        return (mark, orphans)
    }

    /// What the writer counts on from. Read before anything is changed: a table that cannot be read refuses the log as it was found.
    private func figures(
        on connection: SQLiteConnection, last: MarkFile.Mark
    ) throws(SQLiteError) -> (next: LogNumbers, events: UInt64, actors: UInt64) {
        let next = LogNumbers(
            position: last.position, lastActor: try lastActor(on: connection),
            lastBlock: try connection.single("SELECT max(id) FROM blocks") { $0.integer(0) } ?? 0)
        return (next, try countEvents(on: connection), try connection.single("SELECT count(*) FROM actors") { $0.unsigned(0) } ?? 0)
    }

    /// Writes the bytes of the WAL again where they stand. After a sync that failed, the system shows what was written and takes
    /// it for clean: the checkpoint's own sync of the WAL would then do nothing, pages would go into the file from a WAL that a loss of
    /// power shortens, and what is left of it would lay older pages over them.
    private func rewriteWAL() throws(SQLiteError) {
        let path = path + "-wal"
        guard try VirtualFile.exists(path, vfs: options.vfs) else { return }
        let file = try VirtualFile(path: path, create: false, vfs: options.vfs)
        let count = try file.byteCount()
        var offset = 0
        while offset < count {
            let bytes = try file.read(min(LogOpening.pieceBytes, count - offset), at: offset)
            try file.write(bytes, at: offset)
            offset += bytes.count
        }
    }

    /// Staged blocks may stand under the number of an actor that never came, where a full disk keeps them from being removed.
    private func lastActor(on connection: SQLiteConnection) throws(SQLiteError) -> Int64 {
        let listed = try connection.single("SELECT max(id) FROM actors") { $0.integer(0) } ?? 0
        let staged = try connection.single("SELECT max(actor) FROM blocks") { $0.integer(0) } ?? 0
        return max(listed, staged)
    }

    /// A log on a full disk opens and can be read.
    private func tolerateFullDisk(_ body: () throws(SQLiteError) -> Void) throws(SQLiteError) {
        do { try body() } catch {
            guard error.isNoSpace else { throw error }
        }
    }

    /// The sum of the last positions of the generations: positions have no gaps (I13).
    private func countEvents(on connection: SQLiteConnection) throws(SQLiteError) -> UInt64 {
        var count: UInt64 = 0
        var bound = Int64.max
        while let last = try connection.single(
            "SELECT position FROM events WHERE position < ? ORDER BY position DESC LIMIT 1", .integer(bound), read: { $0.integer(0) })
        {
            let position = UInt64(bitPattern: last)
            count += position & StreamCursor.positionMax
            bound = Int64(bitPattern: position & ~StreamCursor.positionMax)
        }
        return count
    }

    private func shorter(than mark: UInt64, at position: UInt64) -> LogStoreError {
        .shorterThanMark(file: LogStore.fileName, position: position, mark: mark)
    }

    private func sql<Value>(_ body: () throws(SQLiteError) -> Value) throws(LogStoreError) -> Value {
        do { return try body() } catch { throw .storage(error) }
    }
}
