/// Reads lexicon documents into the table of `Lexicons`: first every document gives a place to each of its definitions, then all are
/// read, so that a reference finds its target whichever comes first. Members that version 1 does not know are passed over.
struct LexiconLoader {
    private(set) var ids: [NSID] = []
    private(set) var schemas: [LexiconSchema] = []
    private(set) var records: [NSID: RecordRule] = [:]
    private(set) var methods: [NSID: LexiconMethod] = [:]
    private var documents: [NSID: ValueMap] = [:]
    /// By full name, `com.example.defs#name` or `com.example.record`.
    private var definitions: [String: Definition] = [:]

    private struct Definition {
        let type: String
        let schema: Int
    }

    /// Where the loader reads: the document and the JSON pointer in it.
    private struct Place {
        let document: NSID
        var path = ""

        func at(_ member: String) -> Place { Place(document: document, path: path + "/" + Violation.escaped(member)) }
        func error(_ problem: String) -> LexiconError { .badDocument(id: document.description, path: path, problem: problem) }
    }

    private static let schemaTypes: Set<String> = [
        "boolean", "integer", "string", "bytes", "cid-link", "blob", "array", "object", "token",
    ]
    private static let primaryTypes: Set<String> = ["record", "query", "procedure", "subscription", "permission-set"]

    /// - Parameter number: of the document, from 1, to name it while its identifier is unknown.
    mutating func add(_ json: [UInt8], number: Int) throws(LexiconError) {
        let unnamed = "document \(number)"
        let document: Value
        do {
            document = try DataModelJSON.decode(json)
        } catch {
            throw .badDocument(id: unnamed, path: "", problem: "is no JSON of the data model: \(error)")
        }
        guard document["lexicon"] == 1 else { throw .badDocument(id: unnamed, path: "/lexicon", problem: "must be 1") }
        guard let text = document["id"]?.stringValue, let id = try? NSID(text) else {
            throw .badDocument(id: unnamed, path: "/id", problem: "must be an NSID: \(SyntaxKind.nsid.shape)")
        }
        let place = Place(document: id)
        guard documents[id] == nil else { throw place.error("is given twice") }
        guard case .map(let defs)? = document["defs"], !defs.isEmpty else {
            throw place.at("defs").error("must be an object with a definition")
        }
        ids.append(id)
        documents[id] = defs
        for (name, definition) in defs { try reserve(name, definition, place.at("defs").at(name)) }
    }

    private mutating func reserve(_ name: String, _ definition: Value, _ place: Place) throws(LexiconError) {
        guard !name.isEmpty, name.utf8.allSatisfy({ $0.isLetterOrDigit || $0 == 0x2D || $0 == 0x5F }) else {
            throw place.error("must be named with letters and digits")
        }
        guard let type = definition["type"]?.stringValue else { throw place.at("type").error("must be a string") }
        guard Self.schemaTypes.contains(type) || Self.primaryTypes.contains(type) else {
            throw place.at("type").error("must be a type that can be defined, not \"\(type)\"")
        }
        guard name == "main" || !Self.primaryTypes.contains(type) else { throw place.error("must be the main definition to be a \(type)") }
        definitions[Self.fullName(place.document, name)] = Definition(type: type, schema: append(.unknown))
    }

    private static func fullName(_ id: NSID, _ name: String) -> String { name == "main" ? id.description : "\(id)#\(name)" }

    private mutating func append(_ schema: LexiconSchema) -> Int {
        schemas.append(schema)
        return schemas.count - 1
    }

    /// Reads every definition; to be called once, when all documents are there.
    mutating func resolve() throws(LexiconError) {
        for id in ids {
            for (name, definition) in documents[id] ?? [:] {
                guard let reserved = definitions[Self.fullName(id, name)] else { continue }
                try resolve(definition, reserved, name, Place(document: id).at("defs").at(name))
            }
        }
    }

    private mutating func resolve(_ definition: Value, _ reserved: Definition, _ name: String, _ place: Place) throws(LexiconError) {
        let id = place.document
        switch reserved.type {
        case "record":
            let key = try recordKey(definition, place)
            guard definition["record"]?["type"] == "object" else { throw place.at("record").error("must be of type object") }
            // A reference to a record means its object, so the object takes the definition's own place.
            schemas[reserved.schema] = .object(try object(definition["record"] ?? [:], place.at("record")))
            records[id] = RecordRule(key: key, schema: reserved.schema)
        case "query", "procedure", "subscription":
            methods[id] = try method(definition, reserved.type, place)
        case "permission-set":
            try checkPermissions(definition, place)
        case "token":
            schemas[reserved.schema] = .token(Self.fullName(id, name))
        default:
            schemas[reserved.schema] = try schema(definition, place)
        }
    }

    private func recordKey(_ definition: Value, _ place: Place) throws(LexiconError) -> RecordRule.Key {
        let text = definition["key"]?.stringValue
        switch text {
        case "any": return .any
        case "tid": return .tid
        case "nsid": return .nsid
        default:
            guard let text, text.hasPrefix("literal:"), let literal = try? RecordKey(String(text.dropFirst(8))) else {
                throw place.at("key").error("must be any, tid, nsid or literal: and a record key")
            }
            return .literal(literal.description)
        }
    }

    private mutating func method(_ definition: Value, _ type: String, _ place: Place) throws(LexiconError) -> LexiconMethod {
        guard let kind = LexiconMethod.Kind(rawValue: type) else { throw place.error("must be a method") }
        let input = kind == .procedure ? try body(definition["input"], place.at("input")) : nil
        let output = kind == .subscription ? nil : try body(definition["output"], place.at("output"))
        var message: Int?
        if kind == .subscription, let schema = definition["message"]?["schema"] {
            message = try self.reference(schema, place.at("message").at("schema"), among: ["union", "ref", "object"])
        }
        var errors: [String] = []
        for error in try array(definition["errors"], place.at("errors")) {
            guard let name = error["name"]?.stringValue else { throw place.at("errors").error("must have a name for each") }
            errors.append(name)
        }
        return LexiconMethod(
            kind: kind, inputEncoding: input?.encoding, outputEncoding: output?.encoding, errors: errors,
            parameters: try parameters(definition["parameters"], place.at("parameters")), input: input?.schema, output: output?.schema,
            message: message)
    }

    private mutating func body(_ value: Value?, _ place: Place) throws(LexiconError) -> (encoding: String, schema: Int?)? {
        guard let value else { return nil }
        guard let encoding = value["encoding"]?.stringValue, encoding.contains("/") else {
            throw place.at("encoding").error("must be a media type")
        }
        guard let schema = value["schema"] else { return (encoding, nil) }
        return (encoding, try self.reference(schema, place.at("schema"), among: ["object", "ref", "union"]))
    }

    private mutating func parameters(_ value: Value?, _ place: Place) throws(LexiconError) -> Int? {
        guard let value else { return nil }
        guard value["type"] == "params" else { throw place.at("type").error("must be params") }
        for (name, property) in value["properties"]?.mapValue ?? [:] {
            let type = property["type"] == "array" ? property["items"]?["type"] : property["type"]
            guard let type = type?.stringValue, ["boolean", "integer", "string", "unknown"].contains(type) else {
                throw place.at("properties").at(name).error("must be a boolean, an integer, a string, or an array of one of them")
            }
        }
        return append(.object(try object(value, place)))
    }

    /// Permissions are read by authorisation servers, who pass over what they do not know: only the outline is checked here.
    private func checkPermissions(_ definition: Value, _ place: Place) throws(LexiconError) {
        guard case .array(let permissions)? = definition["permissions"] else { throw place.at("permissions").error("must be an array") }
        for permission in permissions {
            guard permission["type"] == "permission", permission["resource"]?.stringValue?.isEmpty == false else {
                throw place.at("permissions").error("must be of type permission, each with its resource")
            }
        }
    }

    /// The index of a schema inside another: that of its target for a reference, a new one for anything else.
    private mutating func reference(_ value: Value, _ place: Place, among types: Set<String>? = nil) throws(LexiconError) -> Int {
        let type = value["type"]?.stringValue
        if let types, !types.contains(type ?? "") {
            throw place.at("type").error("must be one of \(types.sorted().joined(separator: ", "))")
        }
        guard type == "ref" else { return append(try schema(value, place)) }
        guard let name = value["ref"]?.stringValue else { throw place.at("ref").error("must be a string") }
        return try target(of: name, place.at("ref")).schema
    }

    private func target(of reference: String, _ place: Place) throws(LexiconError) -> (name: String, type: String, schema: Int) {
        var name = reference.hasPrefix("#") ? place.document.description + reference : reference
        if name.hasSuffix("#main") { name.removeLast(5) }
        guard let definition = definitions[name] else { throw place.error("refers to \(name), which no document defines") }
        guard definition.type == "record" || Self.schemaTypes.contains(definition.type) else {
            throw place.error("must not refer to a \(definition.type)")
        }
        return (name, definition.type, definition.schema)
    }

    private mutating func schema(_ value: Value, _ place: Place) throws(LexiconError) -> LexiconSchema {
        switch value["type"]?.stringValue {
        case "boolean": .boolean(BooleanRule(constant: try bool(value, "const", place), preset: try bool(value, "default", place)))
        case "integer": .integer(try integer(value, place))
        case "string": .string(try string(value, place))
        case "bytes": .bytes(lengths: try lengths(value, "minLength", "maxLength", place))
        case "cid-link": .cidLink
        case "blob": .blob(try blob(value, place))
        case "array":
            .array(
                ArrayRule(
                    items: try reference(value["items"] ?? .null, place.at("items")),
                    lengths: try lengths(value, "minLength", "maxLength", place)))
        case "object": .object(try object(value, place))
        case "union": .union(try union(value, place))
        case "unknown": .unknown
        case let type: throw place.at("type").error("must be the type of a schema\(type.map { ", not \"\($0)\"" } ?? "")")
        }
    }

    private mutating func object(_ value: Value, _ place: Place) throws(LexiconError) -> ObjectRule {
        let members: ValueMap
        switch value["properties"] {
        case nil: members = [:]
        case .map(let map)?: members = map
        case _?: throw place.at("properties").error("must be an object")
        }
        let required = try strings(value, "required", place) ?? []
        let nullable = try strings(value, "nullable", place) ?? []
        for (name, list) in [("required", required), ("nullable", nullable)] {
            for member in list where members[member] == nil { throw place.at(name).error("names \"\(member)\", which is no property") }
        }
        var properties: [ObjectRule.Property] = []
        for (name, property) in members {
            let schema = try reference(property, place.at("properties").at(name))
            properties.append(
                ObjectRule.Property(name: name, schema: schema, isRequired: required.contains(name), isNullable: nullable.contains(name)))
        }
        return ObjectRule(properties: properties)
    }

    private mutating func union(_ value: Value, _ place: Place) throws(LexiconError) -> UnionRule {
        guard let references = try strings(value, "refs", place) else { throw place.at("refs").error("must be an array") }
        let isClosed = try bool(value, "closed", place) ?? false
        guard !(isClosed && references.isEmpty) else { throw place.at("refs").error("must not be empty when the union is closed") }
        var members: [UnionRule.Member] = []
        for reference in references {
            let target = try target(of: reference, place.at("refs"))
            guard target.type == "object" || target.type == "record" else {
                throw place.at("refs").error("must name objects or records, which can hold a $type; \(target.name) is a \(target.type)")
            }
            members.append(UnionRule.Member(type: target.name, schema: target.schema))
        }
        return UnionRule(members: members, isClosed: isClosed)
    }

    private func integer(_ value: Value, _ place: Place) throws(LexiconError) -> IntegerRule {
        let minimum = try int(value, "minimum", place) ?? .min
        let maximum = try int(value, "maximum", place) ?? .max
        guard minimum <= maximum else { throw place.at("minimum").error("must not exceed maximum") }
        var choices: [Int64]?
        if value["enum"] != nil {
            choices = []
            for choice in try array(value["enum"], place.at("enum")) {
                guard let integer = choice.integerValue else { throw place.at("enum").error("must hold integers") }
                choices?.append(integer)
            }
        }
        let rule = IntegerRule(
            range: minimum...maximum, choices: choices, constant: try int(value, "const", place), preset: try int(value, "default", place))
        try checkPreset(rule.preset.map(Value.integer), .integer(rule), place)
        return rule
    }

    private func string(_ value: Value, _ place: Place) throws(LexiconError) -> StringRule {
        var format: StringFormat?
        if let name = try text(value, "format", place) {
            format = StringFormat(rawValue: name)
            guard format != nil else {
                throw place.at("format").error("must be one of \(StringFormat.allCases.map(\.rawValue).joined(separator: ", "))")
            }
        }
        _ = try strings(value, "knownValues", place)
        let hasGraphemes = value["minGraphemes"] != nil || value["maxGraphemes"] != nil
        let rule = StringRule(
            format: format, bytes: try lengths(value, "minLength", "maxLength", place),
            graphemes: hasGraphemes ? try lengths(value, "minGraphemes", "maxGraphemes", place) : nil,
            choices: try strings(value, "enum", place), constant: try text(value, "const", place), preset: try text(value, "default", place)
        )
        try checkPreset(rule.preset.map(Value.string), .string(rule), place)
        return rule
    }

    private func blob(_ value: Value, _ place: Place) throws(LexiconError) -> BlobRule {
        let accept = try strings(value, "accept", place)
        for pattern in accept ?? [] where pattern.split(separator: "/").count != 2 || pattern.hasPrefix("*") && pattern != "*/*" {
            throw place.at("accept").error("must hold media types, such as image/png, image/* or */*")
        }
        let sizeMax = try int(value, "maxSize", place) ?? .max
        guard sizeMax >= 0 else { throw place.at("maxSize").error("must not be negative") }
        return BlobRule(accept: accept?.map(asciiLowercased), sizeMax: sizeMax)
    }

    /// A default that its own rule refuses would turn every request without the parameter into an error.
    private func checkPreset(_ value: Value?, _ schema: LexiconSchema, _ place: Place) throws(LexiconError) {
        guard let value else { return }
        do throws(Violation) {
            try LexiconCheck(schemas: [schema]).check(value, 0, depth: 0)
        } catch {
            throw place.at("default").error(error.problem)
        }
    }

    private func lengths(_ value: Value, _ minimum: String, _ maximum: String, _ place: Place) throws(LexiconError) -> ClosedRange<Int> {
        let least = try int(value, minimum, place) ?? 0
        let most = try int(value, maximum, place) ?? .max
        guard 0 <= least, least <= most else { throw place.at(minimum).error("must be between 0 and \(maximum)") }
        return Int(least)...Int(most)
    }

    private func int(_ value: Value, _ name: String, _ place: Place) throws(LexiconError) -> Int64? {
        guard let member = value[name] else { return nil }
        guard let integer = member.integerValue else { throw place.at(name).error("must be an integer") }
        return integer
    }

    private func bool(_ value: Value, _ name: String, _ place: Place) throws(LexiconError) -> Bool? {
        guard let member = value[name] else { return nil }
        guard let bool = member.boolValue else { throw place.at(name).error("must be a boolean") }
        return bool
    }

    private func text(_ value: Value, _ name: String, _ place: Place) throws(LexiconError) -> String? {
        guard let member = value[name] else { return nil }
        guard let text = member.stringValue else { throw place.at(name).error("must be a string") }
        return text
    }

    private func array(_ value: Value?, _ place: Place) throws(LexiconError) -> [Value] {
        guard let value else { return [] }
        guard let array = value.arrayValue else { throw place.error("must be an array") }
        return array
    }

    private func strings(_ value: Value, _ name: String, _ place: Place) throws(LexiconError) -> [String]? {
        guard let member = value[name] else { return nil }
        var strings: [String] = []
        for item in try array(member, place.at(name)) {
            guard let text = item.stringValue else { throw place.at(name).error("must hold strings") }
            strings.append(text)
        }
        return strings
    }
}
