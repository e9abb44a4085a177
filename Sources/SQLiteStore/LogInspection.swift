internal import ATProto
internal import EventLog

/// Looks at everything in `log.sqlite` that a walk along the chains would not see: the file's own structure, indexes against
/// tables, rows that nothing leads to, blocks, actors, requests, and the mark.
struct LogInspection {
    let reader: LogReader
    let directory: String
    let vfs: String?

    private static let findingsMax = 100

    /// Reads the whole log. Never throws: what cannot be read is a finding.
    func run() -> [Finding] {
        var findings: [Finding] = []
        let checks: [() throws(EventLogError) -> [Finding]] = [structure, mark, owners, bodies, actors, blocks, requests, uses, erasures]
        for check in checks {
            do { findings += try check() } catch { findings.append(finding(error)) }
        }
        return findings
    }

    private func structure() throws(EventLogError) -> [Finding] {
        let lines = try reader.sql { connection throws(SQLiteError) in
            try connection.all("PRAGMA integrity_check(\(LogInspection.findingsMax))") { $0.text(0) }
        }
        return lines == ["ok"] ? [] : lines.map { finding($0) }
    }

    private func mark() throws(EventLogError) -> [Finding] {
        let found: MarkFile.Mark?
        do throws(SQLiteError) {
            guard try MarkFile.exists(directory: directory, vfs: vfs) else {
                return [Finding(file: MarkFile.fileName, invariant: "storage", message: "the file is missing")]
            }
            found = try MarkFile(directory: directory, vfs: vfs).mark
        } catch {
            throw EventLogError(error)
        }
        guard let found else { return [Finding(file: MarkFile.fileName, invariant: "storage", message: "no copy in it can be read")] }
        guard found.position > 0 else { return [] }
        let event = try reader.sql { connection throws(SQLiteError) in
            try connection.single("SELECT event FROM events WHERE position = ?", .integer(Int64(bitPattern: found.position))) { $0.blob(0) }
        }
        guard let event, CID(hashing: event).digest == found.digest else {
            return [
                Finding(
                    position: found.position, file: LogStore.fileName, invariant: "I6",
                    message: "the event that \(MarkFile.fileName) names is not there")
            ]
        }
        return []
    }

    /// An event is found by its actor's number, which nothing signs: it must be that of the actor whom the event itself names.
    private func owners() throws(EventLogError) -> [Finding] {
        var findings: [Finding] = []
        try reader.sql { connection throws(SQLiteError) in
            let statement = try connection.statement(
                "SELECT e.position, e.actor, e.event, a.did FROM events e LEFT JOIN actors a ON a.id = e.actor ORDER BY e.position")
            defer { statement.reset() }
            while try statement.step(), findings.count < LogInspection.findingsMax {
                let isOwn = statement.withBlob(2) { event in
                    statement.withBlob(3) { did in EventEnvelope(event)?.isOf(did, in: event) ?? false }
                }
                if isOwn { continue }
                findings.append(
                    Finding(
                        position: statement.unsigned(0), file: LogStore.fileName, invariant: "I2",
                        message: "the row is of actor \(statement.integer(1)), the event is not"))
            }
        }
        return findings
    }

    /// Every event was compared with its body by whoever walked the chains; here the bodies that belong to no event.
    private func bodies() throws(EventLogError) -> [Finding] {
        try reader.sql { connection throws(SQLiteError) in
            try connection.all(
                """
                SELECT b.position FROM bodies b LEFT JOIN events e ON e.position = b.position WHERE e.position IS NULL LIMIT \(LogInspection.findingsMax)
                """
            ) { Finding(position: $0.unsigned(0), file: LogStore.fileName, invariant: "I13", message: "a body stands here and no event") }
        }
    }

    private func actors() throws(EventLogError) -> [Finding] {
        try reader.sql { connection throws(SQLiteError) in
            let rows = try connection.all("SELECT id, did, checksum FROM actors ORDER BY id") { ($0.integer(0), $0.text(1), $0.integer(2)) }
            return rows.compactMap { id, did, checksum in
                LogSchema.actorChecksum(id: id, did: did) == checksum ? nil : finding("the row of actor \(id) does not match its checksum")
            }
        }
    }

    private func blocks() throws(EventLogError) -> [Finding] {
        var findings: [Finding] = []
        try reader.sql { connection throws(SQLiteError) in
            let statement = try connection.statement("SELECT id, cid, slot, block FROM blocks ORDER BY id")
            defer { statement.reset() }
            while try statement.step(), findings.count < LogInspection.findingsMax {
                let row = statement.integer(0)
                guard let cid = BlockKey.cid(statement.blob(1)) else {
                    findings.append(finding("block row \(row): its CID cannot be read"))
                    continue
                }
                let opened: [UInt8]?
                do { opened = try SealedCells(statement, slot: 2, bytes: 3).opened() } catch {
                    findings.append(finding("block row \(row): \(error)"))
                    continue
                }
                if let content = opened, CID(hashing: content, codec: cid.codec) != cid {
                    findings.append(finding("block row \(row): its bytes do not match \(cid)"))
                }
            }
        }
        return findings
    }

    /// Every row is what the body of its event says. That every event has its row is for whoever reads the bodies.
    private func requests() throws(EventLogError) -> [Finding] {
        var findings: [Finding] = []
        var last = Int64.min
        while findings.count < LogInspection.findingsMax {
            let rows = try reader.sql { connection throws(SQLiteError) in
                try connection.all(
                    "SELECT \(StoredRequest.columns), id FROM requests WHERE id > ? ORDER BY id LIMIT 500", .integer(last)
                ) { (StoredRequest($0), $0.integer(6)) }
            }
            guard let end = rows.last?.1 else { break }
            for (row, _) in rows {
                do { try check(row) } catch { findings.append(finding(error)) }
            }
            last = end
        }
        return findings
    }

    private func uses() throws(EventLogError) -> [Finding] {
        try reader.sql { connection throws(SQLiteError) in
            let rows = try connection.all("SELECT id, scope, expires, checksum FROM uses ORDER BY id") {
                ($0.integer(0), $0.blob(1), $0.integer(2), $0.integer(3))
            }
            return rows.compactMap { id, scope, expires, checksum in
                let isSound = scope.count == 32 && LogSchema.useChecksum(SingleUse(scope: scope, expires: expires)) == checksum
                return isSound ? nil : finding("the row of use \(id) does not match its checksum")
            }
        }
    }

    private func erasures() throws(EventLogError) -> [Finding] {
        _ = try reader.erasuresDue()
        return []
    }

    private func check(_ stored: StoredRequest) throws(EventLogError) {
        let row = try stored.checked()
        let found = try reader.sql { connection throws(SQLiteError) in
            try connection.single(
                "SELECT \(LogRow.columns) FROM \(LogRow.tables) WHERE e.position = ?", .integer(Int64(bitPattern: stored.position))
            ) { LogRow($0) }
        }
        guard let found else { throw unlike("no event stands there", stored) }
        let event = try Event(bytes: found.event)
        guard let bytes = try found.stored(of: nil).body else { throw unlike("the event's body is erased", stored) }
        let expected = RequestRow(of: event, saying: try EventBody(kind: event.kind, bytes: bytes))
        guard row == expected else { throw unlike("the event there is of another", stored) }
    }

    private func unlike(_ message: String, _ stored: StoredRequest) -> EventLogError {
        .damaged(file: LogStore.fileName, position: stored.position, message: "the row of a request: \(message)")
    }

    private func finding(_ error: EventLogError) -> Finding {
        guard case .damaged(let file, let position, let message) = error else { return finding(error.description) }
        return Finding(position: position, file: file, invariant: "storage", message: message)
    }

    private func finding(_ message: String) -> Finding { Finding(file: LogStore.fileName, invariant: "storage", message: message) }
}
