import ATProto
import EventLog

/// The messages of a stream as they stand on the wire: two DAG-CBOR maps, header and body (wire contract, section 7.1), written
/// without a value in between, in canonical order. The bytes follow from the log and from what the subscriber may see, so the stream
/// after a rebuild is the stream before it.
package enum StreamFrames {
    /// What is told of one operation.
    enum Told: Sendable {
        case create(RecordPath, CID)
        case update(RecordPath, CID)
        case delete(RecordPath)

        /// The record that goes with it.
        var cid: CID? {
            switch self {
            case .create(_, let cid), .update(_, let cid): cid
            case .delete: nil
            }
        }
    }

    /// What the messages of one commit have in common.
    struct Commit: Sendable {
        let did: DID
        let rev: TID
        let time: Timestamp
        /// Of its event.
        let cursor: UInt64
    }

    /// - Parameters:
    ///   - cursor: where a subscriber goes on who has got this message.
    ///   - records: the blocks of the operations that have one, in order.
    static func commit(_ commit: Commit, cursor: UInt64, _ operations: some Collection<Told>, records: ArraySlice<[UInt8]>) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(160 + operations.count * 160 + records.reduce(0) { $0 + $1.count })
        appendHeader("#commit", to: &bytes)
        DAGCBOR.appendHead(.map, 5, to: &bytes)
        append("did", commit.did.description, to: &bytes)
        DAGCBOR.append(string: "ops", to: &bytes)
        DAGCBOR.appendHead(.array, UInt64(operations.count), to: &bytes)
        var records = records
        for operation in operations { append(operation, record: operation.cid == nil ? nil : records.removeFirst(), to: &bytes) }
        append("rev", commit.rev.description, to: &bytes)
        DAGCBOR.append(string: "seq", to: &bytes)
        DAGCBOR.append(integer: Int64(cursor), to: &bytes)
        append("time", commit.time.description, to: &bytes)
        return bytes
    }

    private static func append(_ operation: Told, record: [UInt8]?, to bytes: inout [UInt8]) {
        DAGCBOR.appendHead(.map, record == nil ? 2 : 4, to: &bytes)
        switch operation {
        case .create(let path, let cid): append("create", path, cid, record, to: &bytes)
        case .update(let path, let cid): append("update", path, cid, record, to: &bytes)
        case .delete(let path): append("delete", path, nil, nil, to: &bytes)
        }
    }

    private static func append(_ action: String, _ path: RecordPath, _ cid: CID?, _ record: [UInt8]?, to bytes: inout [UInt8]) {
        if let cid {
            DAGCBOR.append(string: "cid", to: &bytes)
            DAGCBOR.append(link: cid, to: &bytes)
        }
        append("path", path.description, to: &bytes)
        append("action", action, to: &bytes)
        guard let record else { return }
        DAGCBOR.append(string: "record", to: &bytes)
        bytes += record  // A block is canonical DAG-CBOR already, and was compared with its CID.
    }

    enum Membership: Sendable {
        case enroll(BoundarySet)
        case update(BoundarySet)
        case unenroll

        fileprivate var action: String {
            switch self {
            case .enroll: "enroll"
            case .update: "update"
            case .unenroll: "unenroll"
            }
        }

        fileprivate var boundaries: BoundarySet? {
            switch self {
            case .enroll(let boundaries), .update(let boundaries): boundaries
            case .unenroll: nil
            }
        }
    }

    static func enrollment(_ change: Membership, of did: DID, cursor: UInt64, time: Timestamp, service: String) -> [UInt8] {
        var bytes: [UInt8] = []
        appendHeader("#enrollment", to: &bytes)
        DAGCBOR.appendHead(.map, change.boundaries == nil ? 5 : 6, to: &bytes)
        append("did", did.description, to: &bytes)
        DAGCBOR.append(string: "seq", to: &bytes)
        DAGCBOR.append(integer: Int64(cursor), to: &bytes)
        append("time", time.description, to: &bytes)
        append("action", change.action, to: &bytes)
        append("service", service, to: &bytes)
        if let boundaries = change.boundaries {
            DAGCBOR.append(string: "boundaries", to: &bytes)
            DAGCBOR.appendHead(.array, UInt64(boundaries.count), to: &bytes)
            for name in boundaries { DAGCBOR.append(string: name, to: &bytes) }
        }
        return bytes
    }

    static func info(_ name: String, _ message: String) -> [UInt8] {
        var bytes: [UInt8] = []
        appendHeader("#info", to: &bytes)
        DAGCBOR.encode(["name": .string(name), "message": .string(message)], into: &bytes)
        return bytes
    }

    /// The last message of a stream that was refused or is ended.
    package static func error(_ name: String, _ message: String) -> [UInt8] {
        var bytes: [UInt8] = []
        DAGCBOR.encode(["op": -1], into: &bytes)
        DAGCBOR.encode(["error": .string(name), "message": .string(message)], into: &bytes)
        return bytes
    }

    private static func appendHeader(_ type: String, to bytes: inout [UInt8]) {
        DAGCBOR.appendHead(.map, 2, to: &bytes)
        append("t", type, to: &bytes)
        DAGCBOR.append(string: "op", to: &bytes)
        DAGCBOR.append(integer: 1, to: &bytes)
    }

    private static func append(_ key: String, _ text: String, to bytes: inout [UInt8]) {
        DAGCBOR.append(string: key, to: &bytes)
        DAGCBOR.append(string: text, to: &bytes)
    }
}
