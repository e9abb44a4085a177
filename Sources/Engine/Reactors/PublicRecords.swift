package import ATProto
import Commands
package import EventLog

/// What of this service stands in public, on the servers of its members: their enrollment records and, for each of their records here,
/// a stub (wire contract, sections 3.5 and 5). Pure: the same fold gives the same bytes.
package struct PublicRecords: Sendable {
    /// The service's public URL, as enrollment records name it.
    package let url: String
    package let service: DID
    /// What stubs name behind the service's DID.
    package let fragment: String
    /// Where the enrollment record stands; nil for a service whose DID is no record key, which has no enrollment records.
    package let enrollmentPath: RecordPath?

    package static let enrollments = Self.collection(RecordRules.enrollmentCollection)
    /// The collections with stubs: those that a session's scope covers.
    package static let stubs = [Self.collection(RecordRules.postCollection)]

    package init(url: String, service: DID, fragment: String) {
        self.url = url
        self.service = service
        self.fragment = fragment
        // best effort: enrolling leaves the key out in the same case.
        let key = try? RecordKey(ofEnrollmentAt: service)
        enrollmentPath = key.map { RecordPath(collection: Self.enrollments, recordKey: $0) }
    }

    private static func collection(_ text: String) -> NSID {
        guard let collection = try? NSID(text) else { preconditionFailure("\(text) is an NSID") }
        return collection
    }

    /// What decides the bytes beside the fold.
    var form: String { "1 \(url) \(service)#\(fragment)" }

    func enrollment(_ enrollment: EnrollmentSummary) -> Value {
        let membership = enrollment.membership
        return [
            "$type": .string(RecordRules.enrollmentCollection), "service": .string(url),
            "boundaries": .array(membership.boundaries.map { ["value": .string($0)] }),
            "signingKey": .string(enrollment.signingKey.didKey),
            "attestation": [
                "sig": .bytes(membership.attestation.signature), "signingKey": .string(membership.attestation.signingKey.didKey),
            ],
            "createdAt": .string(membership.enrolledAt.description),
        ]
    }

    /// Says of a record that it is there, and where: nothing else of it, its boundaries neither.
    /// - Parameter createdAt: the record's own, where it is one.
    func stub(of path: RecordPath, _ cid: CID, owner: DID, createdAt: String) -> Value {
        [
            "$type": .string(path.collection.description),
            "source": [
                "vary": "authenticated",
                "subject": ["uri": .string(path.uri(of: owner).description), "cid": .string(cid.description)],
                "service": .string("\(service)#\(fragment)"),
            ],
            "createdAt": .string(createdAt),
        ]
    }

    /// Whether an enrollment record is one of this service, under whatever key: earlier programs used others.
    func isOurs(_ record: Value) -> Bool {
        guard let other = record["service"]?.stringValue else { return false }
        return Self.withoutSlash(other) == Self.withoutSlash(url)
    }

    private static func withoutSlash(_ url: String) -> Substring { url.hasSuffix("/") ? url.dropLast() : url[...] }
}
