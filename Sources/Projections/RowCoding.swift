package import ATProto
package import Commands
import EventLog
import Keys

/// Rows as canonical values: what the digest covers, and how the state is stored.
extension ActorState {
    package var row: Value {
        var row: ValueMap = [
            "did": .string(did.description), "sequence": .integer(Int64(head.sequence)), "tagKey": .bytes(tagKey),
            "event": head.event.map(Value.link) ?? .null, "time": .optional(head.time?.description),
            "signingKey": .optional(signingKey?.didKey), "revFloor": .optional(revFloor?.description),
            "erasedThrough": .integer(Int64(erasedThrough)),
        ]
        if let membership {
            row["membership"] = [
                "enrolledAt": .string(membership.enrolledAt.description), "sequence": .integer(Int64(membership.sequence)),
                "boundaries": .array(membership.boundaries.map(Value.string)),
                "pds": .optional(membership.pds), "recordKey": .optional(membership.recordKey?.description),
                "attestation": [
                    "signature": .bytes(membership.attestation.signature),
                    "signingKey": .string(membership.attestation.signingKey.didKey),
                ],
            ]
        }
        if let repo {
            row["repo"] = [
                "commit": .link(repo.commit), "rev": .string(repo.rev.description), "data": .link(repo.data),
                "signature": .bytes(repo.signature), "sequence": .integer(Int64(repo.sequence)),
            ]
        }
        return .map(row)
    }

    /// Reads a stored row; nil where it is not one of this version.
    package init?(row: Value) {
        guard let didText = row["did"]?.stringValue, let did = try? DID(didText), let sequence = row["sequence"]?.integerValue,
            let tagKey = row["tagKey"]?.bytesValue, let erasedThrough = row["erasedThrough"]?.integerValue, erasedThrough >= 0
        else { return nil }
        self.init(did: did)
        self.tagKey = tagKey
        self.erasedThrough = UInt64(erasedThrough)
        if sequence > 0 {
            guard let event = row["event"]?.linkValue, let time = row["time"]?.stringValue.flatMap({ try? Timestamp($0) }) else {
                return nil
            }
            head = Head(sequence: UInt64(sequence), event: event, time: time)
        }
        signingKey = row["signingKey"]?.stringValue.flatMap { try? PublicKey(didKey: $0) }
        revFloor = row["revFloor"]?.stringValue.flatMap { try? TID($0) }
        if let value = row["membership"] {
            guard let membership = Membership(row: value) else { return nil }
            self.membership = membership
        }
        if let value = row["repo"] {
            guard let repo = RepoHead(row: value) else { return nil }
            self.repo = repo
        }
    }
}

extension Membership {
    fileprivate init?(row: Value) {
        guard let enrolledAt = row["enrolledAt"]?.stringValue.flatMap({ try? Timestamp($0) }),
            let sequence = row["sequence"]?.integerValue, sequence > 0,
            let names = row["boundaries"]?.arrayValue?.compactMap(\.stringValue), let boundaries = try? BoundarySet(names),
            let signature = row["attestation"]?["signature"]?.bytesValue, signature.count == 64,
            let signingKey = row["attestation"]?["signingKey"]?.stringValue.flatMap({ try? PublicKey(didKey: $0) })
        else { return nil }
        self.init(
            enrolledAt: enrolledAt, sequence: UInt64(sequence), boundaries: boundaries, pds: row["pds"]?.stringValue,
            recordKey: row["recordKey"]?.stringValue.flatMap { try? RecordKey($0) },
            attestation: Attestation(signature: signature, signingKey: signingKey))
    }
}

extension RepoHead {
    fileprivate init?(row: Value) {
        guard let commit = row["commit"]?.linkValue, let rev = row["rev"]?.stringValue.flatMap({ try? TID($0) }),
            let data = row["data"]?.linkValue, let signature = row["signature"]?.bytesValue, let sequence = row["sequence"]?.integerValue,
            sequence > 0
        else { return nil }
        self.init(commit: commit, rev: rev, data: data, signature: signature, sequence: UInt64(sequence))
    }
}

extension RecordRow {
    package var row: Value {
        [
            "cid": .link(cid), "rev": .string(rev.description), "size": .integer(Int64(size)), "sequence": .integer(Int64(sequence)),
            "boundaries": .array(boundaries.map(Value.string)), "created": .integer(Int64(created)),
        ]
    }
}

extension AdminReadRow {
    /// The event's number with leading zeros, so that the order of texts is that of the events.
    package var key: String {
        let digits = String(sequence)
        return String(repeating: "0", count: max(0, 16 - digits.count)) + digits
    }

    package var row: Value {
        [
            "time": .string(time.description), "administrator": .string(administrator), "uri": .string(uri.description),
            "reason": .string(reason),
        ]
    }
}

extension Value {
    /// A text, or null.
    package static func optional(_ text: String?) -> Value { text.map(Value.string) ?? .null }
}
