import ATProto
import Commands
import EventLog
import Keys

/// Goes through the file of an import once, in pieces: verifies it and gives its records as they are found, in the order of their keys.
/// What it gives is not to be believed before `report` is.
struct ImportScan: ~Copyable {
    /// Records that were found, and where their blocks lie.
    struct Batch: Sendable {
        struct Record: Sendable {
            let path: RecordPath
            let cid: CID
            let offset: Int
            let count: Int
        }

        var records: [Record] = []
        /// Of their blocks together.
        var bytes = 0
        /// How much of the file had been read, at the most.
        var end = 0
    }

    private static let pieceBytes = 256 << 10
    /// Of a batch: what is judged, and staged in one transaction. CIDs are random, so each transaction writes nearly every page of the
    /// log's index of them, however few blocks are in it; and other writers wait for its end.
    private static let (recordsMax, bytesMax) = (8192, 3 << 20)

    private let source: ImportSource
    private let actor: DID
    private var verifier: RepoVerifier
    private let found = Found()
    private var offset = 0
    private var step: RepoVerifier.Step?

    /// - Parameter verifyingKey: the did:key that must have signed the commit; nil: any.
    init(_ source: ImportSource, of actor: DID, verifyingKey: String?) throws(Refusal) {
        let key: PublicKey?
        do { key = try verifyingKey.map { text throws(KeysError) in try PublicKey(didKey: text) } } catch {
            throw .invalidRequest("the key to verify with is no did:key of P-256 or secp256k1")
        }
        self.source = source
        self.actor = actor
        verifier = RepoVerifier(key: key, visit: { [found] in found.records.append($0) })
    }

    /// The next records; nil where the file was read to its end and nothing is wrong with it.
    mutating func next() throws -> Batch? {
        var batch = Batch()
        while batch.records.count < Self.recordsMax, batch.bytes < Self.bytesMax {
            guard let record = found.next() else {
                guard try readOn() else { break }
                continue
            }
            batch.records.append(try Self.place(of: record, after: batch.records.last))
            batch.bytes += record.count
        }
        batch.end = offset
        return batch.records.isEmpty ? nil : batch
    }

    /// What the file was found to be, once `next` has given all.
    func report() throws(Refusal) -> RepoReport {
        guard case .done(let report)? = step else { preconditionFailure("a file is reported on when it has been read") }
        guard report.did == actor else { throw .invalidCAR("Commit DID does not match authenticated user") }
        return report
    }

    /// - Returns: false at the end.
    private mutating func readOn() throws -> Bool {
        do {
            switch step {
            case .done: return false
            case .read(let offset, let count): step = try verifier.answer(try source.read(offset, count))
            case nil where offset < source.size:
                let count = min(Self.pieceBytes, source.size - offset)
                try verifier.push(try source.read(offset, count))
                offset += count
            case nil: step = try verifier.finish()
            }
            return true
        } catch let error as RepoError {
            throw Refusal.invalidCAR("\(error)")
        }
    }

    private static func place(of record: RepoRecord, after last: Batch.Record?) throws(Refusal) -> Batch.Record {
        let name = record.key.collection
        // Neighbours are mostly of one collection, and then share its name.
        let collection = if let last, last.path.collection.description == name { last.path.collection } else { try? NSID(name) }
        guard let collection, let recordKey = try? RecordKey(record.key.recordKey) else {
            throw .invalidCAR("\(record.key) is not a collection and a record key")
        }
        return Batch.Record(
            path: RecordPath(collection: collection, recordKey: recordKey), cid: record.cid, offset: record.offset, count: record.count)
    }

    /// What the verifier has found and nobody has taken. On one thread at a time, that of the scan.
    private final class Found {
        var records: [RepoRecord] = []
        private var taken = 0

        func next() -> RepoRecord? {
            guard taken < records.count else {
                records.removeAll(keepingCapacity: true)
                taken = 0
                return nil
            }
            defer { taken += 1 }
            return records[taken]
        }
    }
}

extension ImportScan.Batch {
    /// The blocks of the records, compared with their CIDs again: nobody promises that the file stood still. Where they lie close
    /// together, as in a file that was written in order, they are read at once.
    func blocks(of source: ImportSource) throws -> [Block] {
        let start = records.reduce(Int.max) { min($0, $1.offset) }
        let end = records.reduce(0) { max($0, $1.offset + $1.count) }
        let span = end - start <= 2 * bytes ? try source.read(start, end - start) : nil
        return try records.map { record in
            let bytes =
                if let span { Array(span[record.offset - start..<record.offset - start + record.count]) } else {
                    try source.read(record.offset, record.count)
                }
            guard CID(hashing: bytes) == record.cid else { throw Refusal.invalidCAR("the file changed while it was read") }
            return Block(cid: record.cid, bytes: bytes)
        }
    }
}
