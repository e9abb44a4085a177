package import ATProto
package import Commands
package import EventLog

/// One actor's rows in memory: what a digest at an earlier position is folded into, and what the stored rows are compared with.
package final class MemoryActorRows: ActorRows {
    package var memory: AnyObject?
    private var standing: ActorState?
    private var rows: [RecordPath: RecordRow] = [:]
    private var blocks: [CID: [UInt8]] = [:]
    private var usage: [NSID: Usage] = [:]
    private var reads: [AdminReadRow] = []

    package init() {}

    package func state() -> ActorState? { standing }
    package func record(_ path: RecordPath) -> RecordRow? { rows[path] }
    package func record(_ path: RecordPath, _ selection: RecordSelection) -> RecordRow? {
        rows[path].flatMap { Self.isSelected($0, selection) ? $0 : nil }
    }
    package func collections() -> [NSID: Usage] { usage }
    package func node(_ cid: CID) -> [UInt8]? { blocks[cid] }
    package func nodes() -> [CID: [UInt8]] { blocks }
    package func everyRecordHasBoundary() -> Bool { rows.values.allSatisfy { !$0.boundaries.isEmpty } }

    package func adminReads(before: UInt64?, limit: Int) -> [AdminReadRow] {
        Array(reads.reversed().filter { read in before.map { read.sequence < $0 } ?? true }.prefix(limit))
    }

    package func records(_ collection: NSID, _ selection: RecordSelection, in range: KeyRange) -> [RecordRow] {
        let selected = rows.values.filter { $0.path.collection == collection && Self.isSelected($0, selection) }
        let ordered = selected.sorted { ($0.path.recordKey.description < $1.path.recordKey.description) != range.reversed }
        guard let after = range.after?.description else { return Array(ordered.prefix(range.limit)) }
        return Array(
            ordered.filter { range.reversed ? $0.path.recordKey.description < after : $0.path.recordKey.description > after }
                .prefix(range.limit))
    }

    private static func isSelected(_ row: RecordRow, _ selection: RecordSelection) -> Bool {
        switch selection {
        case .all: true
        case .bounded: !row.boundaries.isEmpty
        case .sharing(let boundaries): row.boundaries.contains(where: boundaries.contains)
        }
    }

    // I9: from where the rows stand, or not at all.
    package func apply(_ changes: ActorChanges) throws {
        precondition(changes.from == standing?.head.sequence ?? 0, "I9: changes from \(changes.from) upon \(standing?.head.sequence ?? 0)")
        if changes.clears { (rows, blocks, usage, reads) = ([:], [:], [:], []) }
        reads += changes.adminReads
        for row in changes.created { rows[row.path] = row }
        for (path, row) in changes.records { rows[path] = row }
        blocks.merge(changes.nodesAdded) { old, _ in old }
        for cid in changes.nodesRemoved { blocks[cid] = nil }
        for (collection, total) in changes.usage { usage[collection] = total.records > 0 ? total : nil }
        standing = changes.state
    }

    package func forEachRow(_ visit: (_ projection: String, _ key: String, _ row: Value) throws -> Void) throws {
        guard let standing else { return }
        for read in reads { try visit("adminRead", read.key, read.row) }
        for (cid, bytes) in blocks.sorted(by: { $0.key < $1.key }) { try visit("node", cid.description, .bytes(bytes)) }
        let records = rows.values.map { (path: [$0.path.collection.description, $0.path.recordKey.description], row: $0) }
        for record in records.sorted(by: { $0.path.lexicographicallyPrecedes($1.path) }) {
            try visit("record", record.row.path.description, record.row.row)
        }
        try visit("state", "", standing.row)
        for (collection, total) in usage.sorted(by: { $0.key.description < $1.key.description }) {
            try visit("usage", collection.description, ["records": .integer(Int64(total.records)), "bytes": .integer(Int64(total.bytes))])
        }
    }
}
