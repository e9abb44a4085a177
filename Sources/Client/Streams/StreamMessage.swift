public import ATProto

/// What a service's stream says, one message of `zone.stratos.sync.subscribeRecords`. (wire contract, section 7.1)
public enum StreamMessage: Hashable, Sendable {
    case commit(StreamCommit)
    case enrollment(StreamEnrollment)
    case notice(StreamNotice)
}

/// A commit of one account, or a part of it: a commit that is too long for one message comes in several, which carry the cursor from
/// before it until the last.
public struct StreamCommit: Hashable, Sendable {
    /// The cursor to come back with once this was dealt with: 0…2^53 − 1.
    public let sequence: UInt64
    public let account: DID
    public let time: Datetime
    public let rev: TID
    /// In the commit's order; no path twice. Empty where nothing of it is for this reader.
    public internal(set) var operations: [StreamOperation]
}

/// What a commit did to one record.
public struct StreamOperation: Hashable, Sendable {
    public enum Action: Hashable, Sendable {
        /// `record` is a map whose DAG-CBOR hashes to `cid`: checked.
        case create(CID, record: Value)
        case update(CID, record: Value)
        case delete
    }

    public let collection: NSID
    public let recordKey: RecordKey
    public let action: Action

    /// `collection/record-key`.
    public var path: String { "\(collection)/\(recordKey)" }
}

/// Somebody joined a service, left it, or got other boundaries.
public struct StreamEnrollment: Hashable, Sendable {
    public enum Action: String, Hashable, Sendable {
        case enroll, update, unenroll
    }

    /// The cursor to come back with; nil from services that cannot be resumed.
    public let sequence: UInt64?
    public let account: DID
    public let action: Action
    /// Those that the account now belongs to; nil where the message has none.
    public let boundaries: [String]?
    /// Where the service answers, as it says itself.
    public let service: String?
    public let time: Datetime
}

/// A notice about the stream itself.
public struct StreamNotice: Hashable, Sendable {
    /// `OutdatedCursor`: what lay between the cursor and the oldest message that is still served is lost.
    public let name: String
    /// For people; nil where there is none.
    public let message: String?
}
