import ATProto
import Commands
import EventLog

/// A record of an import that is taken.
struct JudgedRecord: Sendable {
    /// What it replies to. Behind a pointer: most records reply to nothing.
    indirect enum Reply: Sendable {
        case none
        /// As the record names it: not judged, or unknown.
        case named(ATURI)
        /// To a record of the same file, so that it gets the number of the import's own event.
        case here(ATURI, CID)
        case elsewhere(RecordOperation.Parent)
    }

    let path: RecordPath
    let cid: CID
    let size: Int
    let boundaries: BoundarySet
    let blobs: [CID]
    var reply: Reply

    /// What it replies to, where that has to be judged.
    var named: ATURI? {
        if case .named(let uri) = reply { uri } else { nil }
    }

    /// - Parameter sequence: the number of the import's event.
    func operation(sequence: UInt64) -> RecordOperation {
        let against: RecordOperation.Parent? =
            switch reply {
            case .none, .named: nil
            case .here(let uri, let cid): RecordOperation.Parent(uri: uri, cid: cid, sequence: sequence)
            case .elsewhere(let parent): parent
            }
        return RecordOperation(
            path: path, change: .create(.init(cid: cid, size: size, boundaries: boundaries, against: against, blobs: blobs)))
    }
}

/// Judges the records of an import one by one, each for itself; none is written unless all are taken.
struct ImportJudge: Sendable {
    let rules: RecordRules
    let lexicons: Lexicons
    let options: ImportOptions

    struct Outcome: Sendable {
        var records: [JudgedRecord] = []
        var refused: [RefusedRecord] = []
        var blocks: [Block] = []
    }

    /// Lends the thread to whoever waits, every now and then.
    func judge(_ batch: ImportScan.Batch, of source: ImportSource) async throws -> Outcome {
        var outcome = Outcome()
        outcome.blocks = try batch.blocks(of: source)
        outcome.records.reserveCapacity(batch.records.count)
        for (index, (found, block)) in zip(batch.records, outcome.blocks).enumerated() {
            if index % 256 == 255 { await Task.yield() }
            do throws(Refusal) { outcome.records.append(try judge(block, at: found.path)) } catch {
                outcome.refused.append(RefusedRecord(path: found.path.description, reason: error.reason))
            }
        }
        return outcome
    }

    private func judge(_ block: Block, at path: RecordPath) throws(Refusal) -> JudgedRecord {
        let record: Value
        do { record = try DAGCBOR.decode(block.bytes) } catch { throw .invalidRecord("\(error)") }
        let boundaries = try boundaries(of: record, at: path)
        return JudgedRecord(
            path: path, cid: block.cid, size: block.bytes.count, boundaries: boundaries, blobs: try WriteDecider.blobs(of: record),
            reply: boundaries.isEmpty ? .none : RecordRules.parentURI(of: record).map { .named($0) } ?? .none)
    }

    private func boundaries(of record: Value, at path: RecordPath) throws(Refusal) -> BoundarySet {
        guard RecordRules.isStratos(path.collection) else {
            guard options.allowsForeignCollections else { throw .invalidCollection }
            return .empty
        }
        // A record is kept as it is, or its CID would change; so what is missing in it is not added.
        guard try RecordRules.isComplete(record, collection: path.collection) else {
            throw .invalidRecord("$type must be \(path.collection), and that of its boundary must be given")
        }
        let boundaries =
            options.dropsForeignBoundaries && rules.isForeign(record)
            ? .empty : try rules.check(record, collection: path.collection, parent: nil)
        guard lexicons.definesRecord(path.collection) else { return boundaries }
        do { try lexicons.validate(record: record, collection: path.collection, rkey: path.recordKey) } catch {
            throw .invalidRecord("\(error)")
        }
        return boundaries
    }
}
