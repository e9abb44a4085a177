package import ATProto
package import EventLog

/// How a reply's parent was judged: found and readable by the author, with its boundaries; or unknown, which is also what a parent
/// looks like that the author may not read.
package struct JudgedParent: Hashable, Sendable {
    package let parent: RecordOperation.Parent
    package let boundaries: BoundarySet

    package init(parent: RecordOperation.Parent, boundaries: BoundarySet) {
        self.parent = parent
        self.boundaries = boundaries
    }
}

/// The rules that a record must keep whatever `validate` says (wire contract, section 4.1): its collection, its type, its
/// boundaries, and for a post what it replies to and what it embeds. Lexicons are checked apart.
package struct RecordRules: Sendable {
    package static let postCollection = "zone.stratos.feed.post"
    package static let enrollmentCollection = "zone.stratos.actor.enrollment"

    let terms: ServiceTerms
    /// The qualified boundaries that the author holds now.
    let held: BoundarySet

    package init(terms: ServiceTerms, held: BoundarySet) {
        self.terms = terms
        self.held = held
    }

    /// The record as it is stored: with the `$type` of its collection, and with that of its `boundary` where a writer left it out.
    package static func completed(_ record: Value, collection: NSID) throws(Refusal) -> Value {
        guard case .map(var fields) = record else { throw .invalidRecord("a record must be an object") }
        switch fields["$type"] {
        case nil: fields["$type"] = .string(collection.description)
        case .string(let type) where type == collection.description: break
        default: throw .invalidRecord("$type must be \(collection)")
        }
        if isStratos(collection), case .map(var boundary) = fields["boundary"], boundary["$type"] == nil {
            boundary["$type"] = .string("zone.stratos.boundary.defs#Domains")
            fields["boundary"] = .map(boundary)
        }
        return .map(fields)
    }

    /// Whether a record has all that `completed` would add.
    package static func isComplete(_ record: Value, collection: NSID) throws(Refusal) -> Bool {
        let completed = try completed(record, collection: collection)
        return completed["$type"] == record["$type"] && completed["boundary"]?["$type"] == record["boundary"]?["$type"]
    }

    /// The URI of the record that this one replies to, where it names one.
    package static func parentURI(of record: Value) -> ATURI? {
        guard let text = record["reply"]?["parent"]?["uri"]?.stringValue else { return nil }
        return try? ATURI(text)  // best effort: a text that is no URI is refused by `check`, with its own message.
    }

    /// Checks a completed record of an allowed collection. The order of the rules is that of the wire contract, since a record that
    /// breaks several is answered with the first.
    /// - Parameter parent: the reply's parent, if it is known here and the author may read it.
    /// - Returns: the boundaries of the record, qualified.
    package func check(_ record: Value, collection: NSID, parent: JudgedParent?) throws(Refusal) -> BoundarySet {
        guard Self.isStratos(collection) else { throw .invalidCollection }
        guard collection.description != Self.enrollmentCollection else {
            throw .invalidRecord("an enrollment record is kept on the user's own server, not here")
        }
        guard !terms.allowedBoundaries.isEmpty else { throw .invalidRecord("Stratos namespace is not enabled on this service") }
        let isPost = collection.description == Self.postCollection
        let names = try names(in: record, required: isPost)
        if isPost {
            try checkNames(names)
            try checkReply(of: record, boundaries: names, parent: parent)
            if let embed = record["embed"] { try checkEmbed(embed) }
        }
        if let stranger = names.first(where: { BoundaryName.service(of: $0) != terms.serviceDID.description }) {
            throw .serviceMismatch(
                boundary: stranger, service: BoundaryName.service(of: stranger) ?? "(unqualified)", expected: terms.serviceDID.description)
        }
        // A name that is allowed no more takes no new records, whatever the collection.
        try checkAllowed(names)
        guard let boundaries = try? BoundarySet(names) else {
            throw .invalidRecord("a record names at most \(BoundarySet.countMax) boundaries")
        }
        let denied = boundaries.filter { !held.contains($0) }
        guard denied.isEmpty else { throw .forbiddenBoundary(denied: denied, held: Array(held)) }
        return boundaries
    }

    /// Whether records of this collection are kept here at all.
    package static func isStratos(_ collection: NSID) -> Bool { collection.description.hasPrefix(prefix) }
    private static let prefix = "zone.stratos."

    /// The boundaries as the record names them. Only posts must have one; a record of another collection without any is its
    /// owner's alone.
    private func names(in record: Value, required: Bool) throws(Refusal) -> [String] {
        guard let boundary = record["boundary"] else {
            guard !required else { throw .invalidRecord("must have a boundary") }
            return []
        }
        guard let values = boundary["values"]?.arrayValue, !values.isEmpty || !required else {
            throw .invalidRecord("must have a boundary")
        }
        var names: [String] = []
        for value in values {
            guard let name = value["value"]?.stringValue else { throw .invalidRecord("a boundary must have a value") }
            names.append(name)
        }
        return names
    }

    private func checkNames(_ names: [String]) throws(Refusal) {
        for name in names {
            guard !name.hasPrefix("did:") || name.hasPrefix("\(terms.serviceDID)/") else {
                throw .invalidRecord("Boundary '\(name)' does not belong to this service")
            }
            try checkAllowed([name])
        }
    }

    /// A bare name passes where the qualified one is allowed: what is wrong with it is said by a later rule.
    private func checkAllowed(_ names: [String]) throws(Refusal) {
        for name in names where !terms.allowedBoundaries.contains(name) {
            let qualified = BoundaryName.qualified(BoundaryName.bare(of: name), service: terms.serviceDID.description)
            guard terms.allowedBoundaries.contains(qualified) else {
                throw .invalidRecord("Domain '\(BoundaryName.bare(of: name))' is not allowed")
            }
        }
    }

    private func checkReply(of record: Value, boundaries: [String], parent: JudgedParent?) throws(Refusal) {
        guard let reply = record["reply"] else { return }
        guard Self.isStratos(reply["parent"]?["uri"]) else { throw .invalidRecord("cannot reply to a non-stratos record") }
        if let root = reply["root"], !Self.isStratos(root["uri"]) { throw .invalidRecord("cannot have a non-stratos root") }
        guard let parent else { return }
        let wider = boundaries.filter { !parent.boundaries.contains($0) }
        guard wider.isEmpty else {
            throw .invalidRecord(Self.widerThanParent(wider))
        }
    }

    package static func widerThanParent(_ boundaries: [String]) -> String {
        "Reply boundaries must be a subset of the parent's boundaries. Domains not in parent: \(boundaries.joined(separator: ", "))"
    }

    /// Whether a record names a boundary of another service.
    package func isForeign(_ record: Value) -> Bool {
        (record["boundary"]?["values"]?.arrayValue ?? []).contains { value in
            let service = value["value"]?.stringValue.flatMap(BoundaryName.service)
            return service != nil && service != terms.serviceDID.description
        }
    }

    private static func isStratos(_ uri: Value?) -> Bool {
        // In place: most posts of a thread name two URIs, and parts that are cut out are not needed here.
        guard let text = uri?.stringValue, ATURI.verdict(text.utf8Span.span) == .accepted else { return false }
        let path = text.utf8.dropFirst("at://".utf8.count).drop { $0 != UInt8(ascii: "/") }.dropFirst()
        return path.starts(with: prefix.utf8)
    }

    /// A private record must not quote public posts: the embed, what it carries beside it, and a record inside a record.
    /// The decoder's bound on nesting bounds the recursion.
    private func checkEmbed(_ embed: Value) throws(Refusal) {
        for quoted in [embed["record"], embed["record"]?["record"]] {
            // Cut by hand and in any case: what is not quite a URI, which lexicons would refuse, must not pass where they are skipped.
            guard let parts = quoted?["uri"]?.stringValue?.split(separator: "/", omittingEmptySubsequences: false) else { continue }
            guard parts.count <= 3 || !parts[3].lowercased().hasPrefix("app.bsky.") else {
                throw .invalidRecord("cannot embed bsky content")
            }
        }
        if let media = embed["media"] { try checkEmbed(media) }
    }
}
