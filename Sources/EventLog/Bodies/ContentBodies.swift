package import ATProto

/// `blob.put`: bytes arrived; nobody sees them until a record refers to them.
package struct BlobPut: Hashable, Sendable {
    package let provenance: Provenance
    /// Of the raw bytes.
    package let cid: CID
    package let mimeType: String
    package let size: UInt64

    package static let mimeTypeBytesMax = 255

    package init(provenance: Provenance, cid: CID, mimeType: String, size: UInt64) {
        self.provenance = provenance
        self.cid = cid
        self.mimeType = mimeType
        self.size = size
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        cid = try fields.link("cid", codec: .raw)
        mimeType = try fields.text("mimeType", bytesMax: BlobPut.mimeTypeBytesMax)
        size = try fields.integer("size")
    }

    func encode(into map: inout ValueMap) {
        map["cid"] = .link(cid)
        map["mimeType"] = .string(mimeType)
        map["size"] = .integer(Int64(size))
    }
}

/// `blob.state`: a blob moves from one state to another for a reason that no record shows.
package struct BlobState: Hashable, Sendable {
    package enum State: String, Sendable, CaseIterable { case temporary, visible, quarantined, gone }

    package let provenance: Provenance
    package let cid: CID
    package let from: State
    package let to: State
    package let reason: String

    package init(provenance: Provenance, cid: CID, from: State, to: State, reason: String) {
        self.provenance = provenance
        self.cid = cid
        self.from = from
        self.to = to
        self.reason = reason
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        cid = try fields.link("cid", codec: .raw)
        from = try fields.choice("from", State.self)
        to = try fields.choice("to", State.self)
        reason = try fields.reason()
    }

    func encode(into map: inout ValueMap) {
        map["cid"] = .link(cid)
        map["from"] = .string(from.rawValue)
        map["to"] = .string(to.rawValue)
        map["reason"] = .string(reason)
    }
}

/// `moderation.takedown` and `moderation.restore`: what the actor has is withheld everywhere, or given back.
package struct Moderation: Hashable, Sendable {
    /// Of the actor whose log this is.
    package enum Subject: Hashable, Sendable {
        case account
        /// Every version of the record, or with a CID this one.
        case record(RecordPath, cid: CID?)
        case blob(CID)
    }

    package let provenance: Provenance
    package let subject: Subject
    /// The moderator's own number or link for the case: 0–1,000 bytes.
    package let reference: String
    package let reason: String

    package static let referenceBytesMax = 1000

    package init(provenance: Provenance, subject: Subject, reference: String, reason: String) {
        self.provenance = provenance
        self.subject = subject
        self.reference = reference
        self.reason = reason
    }

    private enum SubjectType: String { case account, record, blob }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        var subjectFields = try FieldReader(try fields.required("subject"), in: "subject")
        subject =
            switch try subjectFields.choice("type", SubjectType.self) {
            case .account: .account
            case .record: .record(try subjectFields.path("path"), cid: try subjectFields.optionalLink("cid"))
            case .blob: .blob(try subjectFields.link("cid", codec: .raw))
            }
        try subjectFields.finish()
        reference = try fields.text("reference", bytesMax: Moderation.referenceBytesMax, bytesMin: 0)
        reason = try fields.reason()
    }

    func encode(into map: inout ValueMap) {
        var encoded = ValueMap()
        switch subject {
        case .account: encoded["type"] = .string(SubjectType.account.rawValue)
        case .record(let path, let cid):
            encoded["type"] = .string(SubjectType.record.rawValue)
            encoded["path"] = .string(path.description)
            if let cid { encoded["cid"] = .link(cid) }
        case .blob(let cid):
            encoded["type"] = .string(SubjectType.blob.rawValue)
            encoded["cid"] = .link(cid)
        }
        map["subject"] = .map(encoded)
        map["reference"] = .string(reference)
        map["reason"] = .string(reason)
    }
}

/// `admin.read`: an administrator looked at a record of this actor, who can list it.
package struct AdminRead: Hashable, Sendable {
    /// `by` is the administrator.
    package let provenance: Provenance
    package let uri: ATURI
    /// The version that was given out; absent where there was none.
    package let cid: CID?
    package let reason: String

    package init(provenance: Provenance, uri: ATURI, cid: CID?, reason: String) {
        self.provenance = provenance
        self.uri = uri
        self.cid = cid
        self.reason = reason
    }

    init(_ fields: inout FieldReader) throws(EventLogError) {
        provenance = try Provenance(&fields)
        uri = try fields.uri("uri")
        cid = try fields.optionalLink("cid")
        reason = try fields.reason()
    }

    func encode(into map: inout ValueMap) {
        map["uri"] = .string(uri.description)
        if let cid { map["cid"] = .link(cid) }
        map["reason"] = .string(reason)
    }
}
