package import ATProto

/// Why a user's own server did not do what it was asked to.
package enum PDSError: Error, Hashable, Sendable {
    /// No session is held for this account: it never gave one, or the session was given back.
    case noSession
    /// The server has ended the session: only the user can begin another.
    case sessionEnded
    /// The server says no, and would say it again: its status and error name.
    case refused(status: Int, name: String)
    /// It could not be asked, or was not able to answer: ask again later.
    /// - Parameter after: what it said about when.
    case unavailable(reason: String, after: Duration? = nil)
}

/// A record as a user's public repo holds it.
package struct PDSRecord: Hashable, Sendable {
    package let key: RecordKey
    package let cid: CID
    package let value: Value

    package init(key: RecordKey, cid: CID, value: Value) {
        self.key = key
        self.cid = cid
        self.value = value
    }
}

/// The records of users on their own public servers, read and written in the users' names with the sessions that they gave. Each
/// write may be repeated: it says how the record is to be, not how it is to change.
package struct PDSRecords: Sendable {
    /// Puts a record there, whether or not there is one already.
    package let put: @Sendable (_ value: Value, _ collection: NSID, _ key: RecordKey, _ account: DID) async throws(PDSError) -> CID
    /// There is none afterwards; none before is no error.
    package let delete: @Sendable (_ collection: NSID, _ key: RecordKey, _ account: DID) async throws(PDSError) -> Void
    /// At most the first hundred of a collection.
    package let list: @Sendable (_ collection: NSID, _ account: DID) async throws(PDSError) -> [PDSRecord]

    package init(
        put: @escaping @Sendable (Value, NSID, RecordKey, DID) async throws(PDSError) -> CID,
        delete: @escaping @Sendable (NSID, RecordKey, DID) async throws(PDSError) -> Void,
        list: @escaping @Sendable (NSID, DID) async throws(PDSError) -> [PDSRecord]
    ) {
        self.put = put
        self.delete = delete
        self.list = list
    }
}
