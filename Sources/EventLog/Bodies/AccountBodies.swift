package import ATProto
package import Keys

/// The service's statement that an actor is a member of these boundaries under this key: what anybody can check in the
/// actor's enrollment record.
package struct Attestation: Hashable, Sendable {
    /// secp256k1 over SHA-256 of the payload: 64 bytes, low-S.
    package let signature: [UInt8]
    /// The service key that signed.
    package let signingKey: PublicKey

    package init(signature: [UInt8], signingKey: PublicKey) {
        precondition(signature.count == 64, "a signature has 64 bytes")
        self.signature = signature
        self.signingKey = signingKey
    }

    package static func sign(
        did: DID, boundaries: BoundarySet, actorKey: PublicKey, with key: PrivateKey
    ) throws(EventLogError) -> Attestation {
        let payload = payload(did: did, boundaries: boundaries, actorKey: actorKey)
        let signature: [UInt8]
        do { signature = try key.sign(payload) } catch { throw .signing("\(error)") }
        return Attestation(signature: signature, signingKey: key.publicKey)
    }

    /// The DAG-CBOR map `{did, boundaries, signingKey}`, the boundaries in order, the key the actor's did:key.
    package static func payload(did: DID, boundaries: BoundarySet, actorKey: PublicKey) -> [UInt8] {
        DAGCBOR.encode([
            "did": .string(did.description), "boundaries": boundaries.encoded(), "signingKey": .string(actorKey.didKey),
        ])
    }

    package func verifies(did: DID, boundaries: BoundarySet, actorKey: PublicKey) -> Bool {
        signingKey.verifies(signature, of: Attestation.payload(did: did, boundaries: boundaries, actorKey: actorKey))
    }

    init(_ value: Value) throws(EventLogError) {
        var fields = try FieldReader(value, in: "attestation")
        signature = try fields.bytes("sig", count: 64)
        signingKey = try fields.key("signingKey", .k256)
        try fields.finish()
    }

    func encoded() -> Value { ["sig": .bytes(signature), "signingKey": .string(signingKey.didKey)] }
}

/// `account.enroll`: membership begins, with a new key and a new tag key, also when somebody comes back.
package struct AccountEnroll: Hashable, Sendable {
    package let provenance: Provenance
    package let boundaries: BoundarySet
    /// The P-256 key that signs the actor's commits from here on.
    package let key: PublicKey
    package let attestation: Attestation
    /// The actor's PDS, where it is known.
    package let pds: String?
    /// The record key of the enrollment record on that PDS.
    package let recordKey: RecordKey?
    /// 32 random bytes for the leaves of this log from this event on.
    package let tagKey: [UInt8]
    /// Over the empty tree, or over the kept one.
    package let commit: ActorCommit

    package static let pdsBytesMax = 2048

    package init(
        provenance: Provenance, boundaries: BoundarySet, key: PublicKey, attestation: Attestation, pds: String? = nil,
        recordKey: RecordKey? = nil, tagKey: [UInt8], commit: ActorCommit
    ) {
        precondition(tagKey.count == Leaf.tagKeyByteCount, "a tag key has 32 bytes")
        self.provenance = provenance
        self.boundaries = boundaries
        self.key = key
        self.attestation = attestation
        self.pds = pds
        self.recordKey = recordKey
        self.tagKey = tagKey
        self.commit = commit
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        boundaries = try fields.boundaries("boundaries")
        key = try fields.key("key", .p256)
        attestation = try Attestation(try fields.required("attestation"))
        pds = try fields.optionalText("pds", bytesMax: AccountEnroll.pdsBytesMax)
        if let text = try fields.optionalText("rkey", bytesMax: 512) {
            do { recordKey = try RecordKey(text) } catch { throw fields.failure("rkey", "\(error)") }
        } else {
            recordKey = nil
        }
        tagKey = try fields.bytes("tagKey", count: Leaf.tagKeyByteCount)
        commit = try ActorCommit(try fields.required("commit"))
    }

    func encode(into map: inout ValueMap) {
        map["boundaries"] = boundaries.encoded()
        map["key"] = .string(key.didKey)
        map["attestation"] = attestation.encoded()
        if let pds { map["pds"] = .string(pds) }
        if let recordKey { map["rkey"] = .string(recordKey.description) }
        map["tagKey"] = .bytes(tagKey)
        map["commit"] = commit.encoded()
    }
}

/// `account.boundaries`: membership changes; in force once the event is durable.
package struct AccountBoundaries: Hashable, Sendable {
    package let provenance: Provenance
    package let before: BoundarySet
    package let after: BoundarySet
    package let attestation: Attestation

    package init(provenance: Provenance, before: BoundarySet, after: BoundarySet, attestation: Attestation) {
        self.provenance = provenance
        self.before = before
        self.after = after
        self.attestation = attestation
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        before = try fields.boundaries("before")
        after = try fields.boundaries("after")
        attestation = try Attestation(try fields.required("attestation"))
    }

    func encode(into map: inout ValueMap) {
        map["before"] = before.encoded()
        map["after"] = after.encoded()
        map["attestation"] = attestation.encoded()
    }
}

/// `account.attest`: the same membership, attested anew, as after a change of the service's key.
package struct AccountAttest: Hashable, Sendable {
    package let provenance: Provenance
    package let reason: String
    package let attestation: Attestation

    package init(provenance: Provenance, reason: String, attestation: Attestation) {
        self.provenance = provenance
        self.reason = reason
        self.attestation = attestation
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        reason = try fields.reason()
        attestation = try Attestation(try fields.required("attestation"))
    }

    func encode(into map: inout ValueMap) {
        map["reason"] = .string(reason)
        map["attestation"] = attestation.encoded()
    }
}

/// `account.key`: a new key for the actor's commits; its first commit has the same `data`.
package struct AccountKey: Hashable, Sendable {
    package let provenance: Provenance
    package let key: PublicKey
    package let old: PublicKey
    package let attestation: Attestation
    /// Signed by the new key.
    package let commit: ActorCommit

    package init(provenance: Provenance, key: PublicKey, old: PublicKey, attestation: Attestation, commit: ActorCommit) {
        self.provenance = provenance
        self.key = key
        self.old = old
        self.attestation = attestation
        self.commit = commit
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        key = try fields.key("key", .p256)
        old = try fields.key("old", .p256)
        attestation = try Attestation(try fields.required("attestation"))
        commit = try ActorCommit(try fields.required("commit"))
    }

    func encode(into map: inout ValueMap) {
        map["key"] = .string(key.didKey)
        map["old"] = .string(old.didKey)
        map["attestation"] = attestation.encoded()
        map["commit"] = commit.encoded()
    }
}

/// `account.leave`: membership ends, and from here nothing of the actor is served.
package struct AccountLeave: Hashable, Sendable {
    package enum Content: String, Sendable { case kept, erase }

    package let provenance: Provenance
    package let content: Content
    package let reason: String

    package init(provenance: Provenance, content: Content, reason: String) {
        self.provenance = provenance
        self.content = content
        self.reason = reason
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        content = try fields.choice("content", Content.self)
        reason = try fields.reason()
    }

    func encode(into map: inout ValueMap) {
        map["content"] = .string(content.rawValue)
        map["reason"] = .string(reason)
    }
}

extension FieldReader {
    /// 0–2,000 bytes: why somebody did this, in their words.
    mutating func reason() throws(EventLogError) -> String { try text("reason", bytesMax: reasonBytesMax, bytesMin: 0) }
}

package let reasonBytesMax = 2000
