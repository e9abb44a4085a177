package import ATProto
package import EventLog

/// What a projection keeps of one record: everything but its bytes.
package struct RecordRow: Hashable, Sendable {
    package let path: RecordPath
    package let cid: CID
    /// Qualified; empty: the owner alone.
    package let boundaries: BoundarySet
    /// The number of the event that made the record what it is.
    package let sequence: UInt64
    /// The number of the event that created the record: what stood at its path before was another one, and is deleted.
    package let created: UInt64
    /// The rev of the commit that made it so.
    package let rev: TID
    /// The size of the record's block in bytes.
    package let size: Int

    package init(path: RecordPath, cid: CID, boundaries: BoundarySet, sequence: UInt64, created: UInt64, rev: TID, size: Int) {
        self.path = path
        self.cid = cid
        self.boundaries = boundaries
        self.sequence = sequence
        self.created = created
        self.rev = rev
        self.size = size
    }

    /// The record as an operation names what it replaces.
    package var previous: RecordOperation.Previous { RecordOperation.Previous(cid: cid, boundaries: boundaries) }
}
