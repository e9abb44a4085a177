internal import ATProto
internal import EventLog

/// What an actor's leave takes out of `log.sqlite`: its blocks. That they are to go is written with the leave itself, into `erasing`, so
/// that a start after a crash knows where to go on; the table tells where to look, and what is removed is decided upon the log.
extension LogWriter {
    /// What one transaction removes: writers wait for its end, and the pages of long blocks are read as they are given back.
    private static let (erasedRowsMax, erasedBytesMax) = (2000, 4 << 20)

    /// Notes, in the transaction of an append, that the actor's blocks are to go.
    func insertErasure(of actor: Int64, at sequence: UInt64) throws(SQLiteError) {
        try connection.run(
            "INSERT OR REPLACE INTO erasing(actor, sequence, checksum) VALUES (?, ?, ?)", .integer(actor),
            .integer(Int64(bitPattern: sequence)), .integer(LogSchema.erasureChecksum(actor: actor, sequence: sequence)))
    }

    /// Removes some blocks of an actor whose log ends at `head`. Those of an append that is to come stay: it was not decided when the log
    /// ended here, and is refused, or it will be decided later and needs them.
    func eraseBlocks(of did: DID, at head: Head) -> Result<Int, EventLogError> {
        let actor: Int64
        do throws(EventLogError) {
            let known = try entry(of: did)
            let end = known?.head ?? .empty
            guard end.sequence == head.sequence, end.event == head.event else { return .failure(.headMoved(to: end)) }
            guard let known else { return .success(0) }
            actor = known.actor
        } catch {
            return .failure(error)
        }
        var isCommitting = false
        do throws(SQLiteError) {
            let rows = try erasableRows(of: actor)
            guard !rows.isEmpty else { return .success(0) }
            let transaction = try SQLiteTransaction(on: connection)
            for row in rows { try connection.run("DELETE FROM blocks WHERE id = ?", .integer(row)) }
            isCommitting = true
            try transaction.commit()
            return .success(rows.count)
        } catch {
            return .failure(refuse(error, isCommitting: isCommitting))
        }
    }

    private func erasableRows(of actor: Int64) throws(SQLiteError) -> [Int64] {
        let statement = try connection.statement(
            """
            SELECT id, ifnull(length(block), 0) FROM blocks WHERE actor = ? \
            AND NOT EXISTS (SELECT 1 FROM staged WHERE blocks.id BETWEEN first AND last)
            """)
        try statement.bind(1, actor)
        defer { statement.reset() }
        var rows: [Int64] = []
        var bytes = 0
        while rows.count < Self.erasedRowsMax, bytes < Self.erasedBytesMax, try statement.step() {
            rows.append(statement.integer(0))
            bytes += Int(statement.integer(1))
        }
        return rows
    }

    func endErasure(of did: DID) -> Result<Void, EventLogError> {
        do throws(EventLogError) {
            guard let actor = try entry(of: did)?.actor else { return .success(()) }
            do throws(SQLiteError) {
                try connection.transaction { () throws(SQLiteError) in
                    try connection.run("DELETE FROM erasing WHERE actor = ?", .integer(actor))
                }
                return .success(())
            } catch {
                return .failure(refuse(error, isCommitting: true))
            }
        } catch {
            return .failure(error)
        }
    }
}

extension LogReader {
    /// In the order of the DIDs.
    func erasuresDue() throws(EventLogError) -> [DID] {
        let rows = try sql { connection throws(SQLiteError) in
            try connection.all(
                "SELECT a.did, a.id, a.checksum, e.sequence, e.checksum FROM erasing e LEFT JOIN actors a ON a.id = e.actor ORDER BY a.did"
            ) { row in
                (did: row.text(0), actor: row.integer(1), checksum: row.integer(2), sequence: row.unsigned(3), own: row.integer(4))
            }
        }
        return try rows.map { row throws(EventLogError) in
            guard LogSchema.actorChecksum(id: row.actor, did: row.did) == row.checksum,
                LogSchema.erasureChecksum(actor: row.actor, sequence: row.sequence) == row.own, let did = try? DID(row.did)
            else {
                throw .damaged(file: LogStore.fileName, position: nil, message: "a row that says whose blocks are to go is not one")
            }
            return did
        }
    }
}
