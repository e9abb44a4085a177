package import ATProto
package import EventLog
package import Keys

/// That an actor is a member now, and how.
package struct Membership: Hashable, Sendable {
    package let enrolledAt: Timestamp
    /// The number of the event that this enrollment began with.
    package let sequence: UInt64
    /// Qualified.
    package var boundaries: BoundarySet
    package let pds: String?
    /// The key of the enrollment record on the user's own server.
    package let recordKey: RecordKey?
    package var attestation: Attestation

    package init(
        enrolledAt: Timestamp, sequence: UInt64, boundaries: BoundarySet, pds: String?, recordKey: RecordKey?, attestation: Attestation
    ) {
        self.enrolledAt = enrolledAt
        self.sequence = sequence
        self.boundaries = boundaries
        self.pds = pds
        self.recordKey = recordKey
        self.attestation = attestation
    }
}

/// Where an actor's repo stands: its newest commit.
package struct RepoHead: Hashable, Sendable {
    package let commit: CID
    package let rev: TID
    /// The root of the MST.
    package let data: CID
    package let signature: [UInt8]
    /// The number of the event that carries the commit.
    package let sequence: UInt64

    package init(commit: CID, rev: TID, data: CID, signature: [UInt8], sequence: UInt64) {
        self.commit = commit
        self.rev = rev
        self.data = data
        self.signature = signature
        self.sequence = sequence
    }

    /// The commit as it stands in the repo.
    package func commit(of did: DID) -> Commit { Commit(did: did, data: data, rev: rev, signature: signature) }
}

/// Everything that decides for one actor: the fold of that actor's log up to `head`. It is kept as one row beside the rows it
/// decides over and moves with them (I9).
package struct ActorState: Hashable, Sendable {
    package let did: DID
    package var head: Head
    package var membership: Membership?
    /// The key that signs this actor's commits now.
    package var signingKey: PublicKey?
    /// The key of the leaves of this actor's events; 32 bytes once the actor was enrolled.
    package var tagKey: [UInt8]
    package var repo: RepoHead?
    /// No commit of this actor may have this rev or a lower one (I10). It outlives the repo itself.
    package var revFloor: TID?
    /// The number of the last event that took all content before it away; 0 where none did. It never falls.
    package var erasedThrough: UInt64 = 0

    /// Whether nothing that this actor ever kept here is to be here still: the last leave took it away, and nobody came back.
    package var isErased: Bool { membership == nil && repo == nil && erasedThrough > 0 }

    package init(did: DID) {
        self.did = did
        head = .empty
        tagKey = []
    }
}
