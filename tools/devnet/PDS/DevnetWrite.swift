package import ATProto

/// A write that a client made on the PDS, as its journal remembers it.
package struct DevnetWrite: Hashable, Sendable {
    package enum Action: String, Hashable, Sendable, CaseIterable { case create, update, delete }

    /// 1…n over all accounts, without a gap, in the order in which the server accepted them.
    package let sequence: Int
    package let did: DID
    package let action: Action
    package let collection: NSID
    package let key: RecordKey
    /// Of the record as it is afterwards; nil where there is none.
    package let cid: CID?
    /// Whether the repo is another than before. A record put as it already was, and the deletion of one that is not there, are
    /// accepted and change nothing.
    package let isChange: Bool

    package var uri: String { "at://\(did)/\(collection)/\(key)" }
}
