public import ATProto
import EventLog

/// Why a message of a stream is none. The same server would send it again, so it ends the subscription.
public enum FrameFault: Error, Hashable, Sendable {
    /// Not two values of canonical DAG-CBOR from the first byte to the last, or over a limit.
    case encoding(DAGCBORError)
    /// A header that is not a map with `op`.
    case header
    /// The named field is missing, or has the wrong type, syntax or size.
    case field(String)
    /// More operations than one message may have.
    case tooManyOperations(max: Int)
    /// Two operations on one record in a commit.
    case repeatedPath(String)
    /// A record that does not hash to the CID beside it.
    case recordMismatch(path: String)
    /// A cursor before one that was given already.
    case cursorWentBack
}

/// One binary message: a header, then a body. (atproto spec: event streams; wire contract, section 7.1)
///
/// Strict, but for what the reference implementation does otherwise: a path may begin with a slash, a CID may be text, and the type
/// may be a full reference that ends in ours.
enum StreamFrame: Hashable {
    case message(StreamMessage)
    case error(name: String, message: String?)
    /// Of a type or an operation that did not exist when this was written.
    case unknown

    static func decode(_ bytes: [UInt8], limits: StreamLimits) throws(FrameFault) -> StreamFrame {
        let (header, start) = try value(in: bytes, at: 0, DecodingLimits(bytesMax: 1024, depthMax: 2, countMax: 8, keyBytesMax: 64))
        guard case .map(let fields) = header, let operation = fields["op"]?.integerValue else { throw .header }
        // A record may be as deep as records are, within the body, the list of operations and the operation.
        let bodyLimits = DecodingLimits(bytesMax: limits.messageBytesMax, depthMax: 35, totalMax: 1 << 19)
        let (body, end) = try value(in: bytes, at: start, bodyLimits)
        guard end == bytes.count else { throw .field("the end") }
        switch operation {
        case -1: return try error(body)
        case 1:
            guard let type = fields["t"]?.stringValue else { throw .header }
            return try message(type, FieldsOfBody(body), limits)
        default: return .unknown
        }
    }

    private static func value(in bytes: [UInt8], at offset: Int, _ limits: DecodingLimits) throws(FrameFault) -> (Value, Int) {
        do throws(DAGCBORError) { return try DAGCBOR.decodePrefix(bytes, at: offset, limits: limits) } catch { throw .encoding(error) }
    }

    private static func error(_ body: Value) throws(FrameFault) -> StreamFrame {
        guard let name = body["error"]?.stringValue, (1...128).contains(name.utf8.count) else { throw .field("error") }
        return .error(name: name, message: body["message"]?.stringValue.map { String($0.prefix(1024)) })
    }

    private static func message(_ type: String, _ body: FieldsOfBody, _ limits: StreamLimits) throws(FrameFault) -> StreamFrame {
        switch type.utf8.lastIndex(of: UInt8(ascii: "#")).map({ String(type[$0...]) }) {
        case "#commit": .message(.commit(try commit(body, limits)))
        case "#enrollment": .message(.enrollment(try enrollment(body)))
        case "#info": .message(.notice(StreamNotice(name: try body.text("name", bytesMax: 128), message: try body.optionalText("message"))))
        default: .unknown
        }
    }

    private static func enrollment(_ body: FieldsOfBody) throws(FrameFault) -> StreamEnrollment {
        guard let action = StreamEnrollment.Action(rawValue: try body.text("action", bytesMax: 32)) else { throw .field("action") }
        var boundaries: [String]?
        if let list = try body.optional("boundaries") {
            guard let items = list.arrayValue, items.count <= BoundarySet.countMax else { throw .field("boundaries") }
            boundaries = []
            for item in items {
                guard let name = item.stringValue, (1...BoundarySet.nameBytesMax).contains(name.utf8.count) else {
                    throw .field("boundaries")
                }
                boundaries?.append(name)
            }
        }
        return StreamEnrollment(
            sequence: try body.optional("seq") == nil ? nil : try body.sequence(), account: try body.did(), action: action,
            boundaries: boundaries, service: try body.optionalText("service"), time: try body.time())
    }
}

/// Commits.
extension StreamFrame {
    private static func commit(_ body: FieldsOfBody, _ limits: StreamLimits) throws(FrameFault) -> StreamCommit {
        guard let rev = try? TID(try body.text("rev", bytesMax: 13)) else { throw .field("rev") }
        guard let items = body["ops"]?.arrayValue else { throw .field("ops") }
        guard items.count <= limits.operationsMax else { throw .tooManyOperations(max: limits.operationsMax) }
        var operations: [StreamOperation] = []
        var paths: Set<String> = []
        for item in items {
            let operation = try operation(FieldsOfBody(item))
            guard paths.insert(operation.path).inserted else { throw .repeatedPath(operation.path) }
            operations.append(operation)
        }
        return StreamCommit(
            sequence: try body.sequence(), account: try body.did(), time: try body.time(), rev: rev, operations: operations)
    }

    private static func operation(_ fields: FieldsOfBody) throws(FrameFault) -> StreamOperation {
        let text = try fields.text("path", bytesMax: 1 + RecordPath.bytesMax)
        guard let path = RecordPath(text.utf8.first == UInt8(ascii: "/") ? String(text.dropFirst()) : text) else { throw .field("path") }
        let action: StreamOperation.Action
        switch try fields.text("action", bytesMax: 32) {
        case "create":
            let (cid, record) = try content(fields, path)
            action = .create(cid, record: record)
        case "update":
            let (cid, record) = try content(fields, path)
            action = .update(cid, record: record)
        case "delete": action = .delete
        default: throw .field("action")
        }
        return StreamOperation(collection: path.collection, recordKey: path.recordKey, action: action)
    }

    /// The record with its CID, which must be its own.
    private static func content(_ fields: FieldsOfBody, _ path: RecordPath) throws(FrameFault) -> (CID, Value) {
        let cid: CID
        switch fields["cid"] {
        case .link(let link): cid = link
        case .string(let text):
            guard let parsed = try? CID(text) else { throw .field("cid") }
            cid = parsed
        default: throw .field("cid")
        }
        guard let record = fields["record"], case .map = record else { throw .field("record") }
        let block = DAGCBOR.encode(record)
        guard block.count <= DecodingLimits.record.bytesMax else { throw .field("record") }
        guard CID(hashing: block) == cid else { throw .recordMismatch(path: path.description) }
        return (cid, record)
    }
}

/// The fields of a body by their kinds. Others than those that are asked for may be there.
private struct FieldsOfBody {
    private let fields: ValueMap

    init(_ value: Value) throws(FrameFault) {
        guard case .map(let fields) = value else { throw .field("body") }
        self.fields = fields
    }

    subscript(name: String) -> Value? { fields[name] }

    /// Nil for null too, as encoders of other languages write what is not there.
    func optional(_ name: String) throws(FrameFault) -> Value? {
        guard let value = fields[name], !value.isNull else { return nil }
        return value
    }

    func text(_ name: String, bytesMax: Int) throws(FrameFault) -> String {
        guard let text = fields[name]?.stringValue, (1...bytesMax).contains(text.utf8.count) else { throw .field(name) }
        return text
    }

    func optionalText(_ name: String) throws(FrameFault) -> String? {
        guard let value = try optional(name) else { return nil }
        guard let text = value.stringValue, text.utf8.count <= 8192 else { throw .field(name) }
        return text
    }

    func sequence() throws(FrameFault) -> UInt64 {
        guard let number = fields["seq"]?.integerValue, 0...DataModelJSON.integerMax ~= number else { throw .field("seq") }
        return UInt64(number)
    }

    func did() throws(FrameFault) -> DID {
        guard let did = fields["did"]?.stringValue.flatMap({ try? DID($0) }) else { throw .field("did") }
        return did
    }

    func time() throws(FrameFault) -> Datetime {
        guard let time = fields["time"]?.stringValue.flatMap({ try? Datetime($0) }) else { throw .field("time") }
        return time
    }
}
