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
        let checks: [() throws(EventLogError) -> [Finding]] = [structure, mark, bodies, actors, blocks, requests, uses]
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
        do { found = try MarkFile(directory: directory, vfs: vfs).mark } catch { throw EventLogError(error) }
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
                guard !statement.isNull(3) else { continue }
                let sealed = try? SealedRow(stored: statement.blob(3), slot: statement.isNull(2) ? nil : statement.integer(2))
                guard let content = try? sealed?.opened(), CID(hashing: content, codec: cid.codec) == cid else {
                    findings.append(finding("block row \(row): its bytes do not match \(cid)"))
                    continue
                }
            }
        }
        return findings
    }

    private func requests() throws(EventLogError) -> [Finding] {
        let scopes = try reader.sql { connection throws(SQLiteError) in
            try connection.all("SELECT scope FROM requests ORDER BY id") { $0.blob(0) }
        }
        var findings: [Finding] = []
        for scope in scopes {
            guard scope.count == 32 else {
                findings.append(finding("the row of a request has a scope of \(scope.count) bytes"))
                continue
            }
            do { _ = try reader.request(scope) } catch { findings.append(finding(error)) }
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

    private func finding(_ error: EventLogError) -> Finding {
        guard case .damaged(let file, let position, let message) = error else { return finding(error.description) }
        return Finding(position: position, file: file, invariant: "storage", message: message)
    }

    private func finding(_ message: String) -> Finding { Finding(file: LogStore.fileName, invariant: "storage", message: message) }
}
