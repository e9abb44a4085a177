/// A closed set of lexicon documents, ready to check values: every reference leads to a definition of the set. (atproto spec: lexicon v1)
///
/// Checking follows the value, not the schema, so it ends with the value; nesting beyond `depthMax` is refused.
public struct Lexicons: Sendable {
    /// How deep a checked value may nest.
    public static let depthMax = 64

    /// The identifiers of all documents, sorted.
    public let ids: [NSID]
    let schemas: [LexiconSchema]
    let records: [NSID: RecordRule]
    let methods: [NSID: LexiconMethod]

    /// - Parameter documents: the JSON of each, UTF-8, one per identifier.
    /// - Throws: `badDocument`, also for a reference that no document of the set defines.
    public init(documents: [[UInt8]]) throws(LexiconError) {
        var loader = LexiconLoader()
        for (number, document) in documents.enumerated() { try loader.add(document, number: number + 1) }
        try loader.resolve()
        ids = loader.ids.sorted()
        schemas = loader.schemas
        records = loader.records
        methods = loader.methods
    }

    /// The lexicons compiled into the program: `zone.stratos.*` and what they refer to.
    public static let embedded: Lexicons = {
        do {
            return try Lexicons(documents: EmbeddedLexicons.documents.map { Array($0.text.utf8) })
        } catch {
            preconditionFailure("the compiled-in lexicons do not load: \(error)")
        }
    }()

    public func definesRecord(_ collection: NSID) -> Bool { records[collection] != nil }

    public func method(_ id: NSID) -> LexiconMethod? { methods[id] }

    /// Checks a record, its `$type` and its key.
    /// - Parameter rkey: nil when it is yet to be made.
    /// - Throws: `notDefined` for a collection of no document, `invalid` for a broken rule.
    public func validate(record: Value, collection: NSID, rkey: RecordKey?) throws(LexiconError) {
        guard let rule = records[collection] else { throw .notDefined(collection, as: "record") }
        if let rkey { try check(rkey, against: rule.key) }
        guard case .map(let members) = record else { throw .invalid(.record, path: "", problem: "must be an object") }
        guard let type = members["$type"]?.stringValue, CanonicalOrder.areEqual(type, collection.description) else {
            throw .invalid(.record, path: "/$type", problem: "must be \"\(collection)\"")
        }
        try check(record, rule.schema, as: .record)
    }

    /// Checks parameters that have their types already; see `coerceParameters(of:from:)` for those of a request.
    public func validate(parameters: Value, of id: NSID) throws(LexiconError) {
        guard let schema = try defined(id).parameters else { return }
        try check(parameters, schema, as: .parameters)
    }

    /// Checks the decoded body of a procedure. A body without a schema, such as a CAR, passes.
    public func validate(input: Value, of id: NSID) throws(LexiconError) {
        guard let schema = try defined(id).input else { return }
        try check(input, schema, as: .input)
    }

    /// Checks the answer before it is encoded. An answer without a schema, such as a CAR, passes.
    public func validate(output: Value, of id: NSID) throws(LexiconError) {
        guard let schema = try defined(id).output else { return }
        try check(output, schema, as: .output)
    }

    /// Checks a message of a subscription as it stands in a frame: without `$type`, which the frame's header holds.
    /// - Parameter name: of the header, `#commit`.
    public func validate(message: Value, named name: String, of id: NSID) throws(LexiconError) {
        guard let schema = try defined(id).message, case .union(let union) = schemas[schema] else {
            throw .notDefined(id, as: "subscription with messages")
        }
        guard let member = union.members.first(where: { $0.type == id.description + name }) else {
            throw .invalid(.message, path: "", problem: "must not be named \(name)")
        }
        try check(message, member.schema, as: .message)
    }

    /// The record as its rules need it where a client may leave types out: `$type` of the record itself, and of each of its members
    /// that is a union of a single type, where one is missing. What is there stays, right or wrong. Records of unknown collections only
    /// get their own `$type`; what is no object comes back as it is.
    public func addingTypes(to record: Value, collection: NSID) -> Value {
        guard case .map(var members) = record else { return record }
        if members["$type"] == nil { members["$type"] = .string(collection.description) }
        guard let rule = records[collection], case .object(let object) = schemas[rule.schema] else { return .map(members) }
        for property in object.properties {
            guard case .union(let union) = schemas[property.schema], union.members.count == 1,
                case .map(var member)? = members[property.name], member["$type"] == nil
            else { continue }
            member["$type"] = .string(union.members[0].type)
            members[property.name] = .map(member)
        }
        return .map(members)
    }

    func defined(_ id: NSID) throws(LexiconError) -> LexiconMethod {
        guard let method = methods[id] else { throw .notDefined(id, as: "method") }
        return method
    }

    func check(_ value: Value, _ schema: Int, as part: LexiconPart) throws(LexiconError) {
        do throws(Violation) {
            try LexiconCheck(schemas: schemas).check(value, schema, depth: 0)
        } catch {
            throw error.error(in: part)
        }
    }

    private func check(_ key: RecordKey, against rule: RecordRule.Key) throws(LexiconError) {
        let problem: String? =
            switch rule {
            case .any: nil
            case .tid: StringFormat.tid.problem(with: key.description)
            case .nsid: StringFormat.nsid.problem(with: key.description)
            case .literal(let literal): key.description == literal ? nil : "must be \"\(literal)\""
            }
        if let problem { throw .invalid(.recordKey, path: "", problem: problem) }
    }
}
