/// Walks a value along the rules of a lexicon and stops at the first that is broken. Texts are compared byte by byte: to Swift's `==`
/// the Kelvin sign is a K.
struct LexiconCheck {
    let schemas: [LexiconSchema]

    func check(_ value: Value, _ schema: Int, depth: Int) throws(Violation) {
        guard depth <= Lexicons.depthMax else { throw Violation("must not nest deeper than \(Lexicons.depthMax) levels") }
        switch schemas[schema] {
        case .boolean(let rule): try check(value, rule)
        case .integer(let rule): try check(value, rule)
        case .string(let rule): try check(value, rule)
        case .bytes(let lengths):
            guard case .bytes(let bytes) = value else { throw mismatch("bytes, {\"$bytes\": …} in JSON", value) }
            try Self.check(count: bytes.count, within: lengths, "byte")
        case .cidLink:
            guard case .link = value else { throw mismatch("a link, {\"$link\": …} in JSON", value) }
        case .blob(let rule): try check(value, rule)
        case .array(let rule): try check(value, rule, depth: depth)
        case .object(let rule):
            guard case .map(let members) = value else { throw mismatch("an object", value) }
            try check(members, rule, depth: depth)
        case .union(let rule): try check(value, rule, depth: depth)
        case .unknown:
            guard case .map(let members) = value else { throw mismatch("an object", value) }
            if Self.type(of: members) == "blob" { throw Violation("must be an object, not a blob") }
        case .token(let name):
            guard case .string(let string) = value, CanonicalOrder.areEqual(string, name) else { throw Violation("must be \"\(name)\"") }
        }
    }

    private func check(_ members: ValueMap, _ rule: ObjectRule, depth: Int) throws(Violation) {
        // Both lists are in canonical order.
        var position = 0
        for property in rule.properties {
            var order = -1
            while position < members.count {
                order = CanonicalOrder.compare(members[position].key, property.name)
                if order >= 0 { break }
                position += 1
            }
            guard position < members.count, order == 0 else {
                if property.isRequired { throw Violation("must have the property \"\(property.name)\"") }
                continue
            }
            let value = members[position].value
            position += 1
            if case .null = value, property.isNullable { continue }
            do throws(Violation) {
                try check(value, property.schema, depth: depth + 1)
            } catch {
                throw error.inside(property.name)
            }
        }
    }

    private func check(_ value: Value, _ rule: ArrayRule, depth: Int) throws(Violation) {
        guard case .array(let items) = value else { throw mismatch("an array", value) }
        try Self.check(count: items.count, within: rule.lengths, "element")
        for (index, item) in items.enumerated() {
            do throws(Violation) {
                try check(item, rule.items, depth: depth + 1)
            } catch {
                throw error.inside(index)
            }
        }
    }

    private func check(_ value: Value, _ rule: UnionRule, depth: Int) throws(Violation) {
        guard case .map(let members) = value else { throw mismatch("an object with a \"$type\"", value) }
        guard var type = Self.type(of: members), !type.isEmpty else { throw Violation("must have a \"$type\"") }
        if type.utf8.count > 5, type.hasSuffix("#main") { type.removeLast(5) }
        if let member = rule.members.first(where: { CanonicalOrder.areEqual($0.type, type) }) {
            try check(value, member.schema, depth: depth)
        } else if rule.isClosed {
            throw Violation("must have a \"$type\" of \(rule.members.map(\.type).joined(separator: ", "))").inside("$type")
        }
    }

    private func check(_ value: Value, _ rule: BooleanRule) throws(Violation) {
        guard case .bool(let bool) = value else { throw mismatch("a boolean", value) }
        if let constant = rule.constant, bool != constant { throw Violation("must be \(constant)") }
    }

    private func check(_ value: Value, _ rule: IntegerRule) throws(Violation) {
        guard case .integer(let integer) = value else { throw mismatch("an integer", value) }
        if let constant = rule.constant, integer != constant { throw Violation("must be \(constant)") }
        if integer < rule.range.lowerBound { throw Violation("must not be less than \(rule.range.lowerBound)") }
        if integer > rule.range.upperBound { throw Violation("must not be greater than \(rule.range.upperBound)") }
        if let choices = rule.choices, !choices.contains(integer) {
            throw Violation("must be one of \(choices.map(String.init).joined(separator: ", "))")
        }
    }

    private func check(_ value: Value, _ rule: StringRule) throws(Violation) {
        guard case .string(let string) = value else { throw mismatch("a string", value) }
        let bytes = string.utf8.count
        if bytes > rule.bytes.upperBound { throw Violation("must not be longer than \(rule.bytes.upperBound) bytes (has \(bytes))") }
        if bytes < rule.bytes.lowerBound { throw Violation("must not be shorter than \(rule.bytes.lowerBound) bytes (has \(bytes))") }
        // A grapheme has a byte or more: a short string need not be segmented to be short enough.
        if let graphemes = rule.graphemes, bytes > graphemes.upperBound || graphemes.lowerBound > 0 {
            let count = string.count
            if count > graphemes.upperBound { throw Violation("must not be longer than \(graphemes.upperBound) graphemes (has \(count))") }
            if count < graphemes.lowerBound { throw Violation("must not be shorter than \(graphemes.lowerBound) graphemes (has \(count))") }
        }
        if let problem = rule.format?.problem(with: string) { throw Violation(problem) }
        if let constant = rule.constant, !CanonicalOrder.areEqual(string, constant) { throw Violation("must be \"\(constant)\"") }
        if let choices = rule.choices, !choices.contains(where: { CanonicalOrder.areEqual($0, string) }) {
            throw Violation("must be one of \(choices.map { "\"\($0)\"" }.joined(separator: ", "))")
        }
    }

    private func check(_ value: Value, _ rule: BlobRule) throws(Violation) {
        let shape = "a blob {\"$type\": \"blob\", \"ref\": link, \"mimeType\": text, \"size\": bytes}"
        guard case .map(let members) = value, Self.type(of: members) == "blob", case .link? = members["ref"],
            case .string(let mimeType)? = members["mimeType"], !mimeType.isEmpty, case .integer(let size)? = members["size"], size > 0
        else { throw mismatch(shape, value) }
        if size > rule.sizeMax { throw Violation("must not be larger than \(rule.sizeMax) bytes (has \(size))").inside("size") }
        if let accept = rule.accept, !accept.contains(where: { Self.accepts($0, mimeType) }) {
            throw Violation("must be of type \(accept.joined(separator: ", "))").inside("mimeType")
        }
    }

    /// True when the media type without its parameters, in whatever case, falls under `pattern`.
    private static func accepts(_ pattern: String, _ mimeType: String) -> Bool {
        if pattern == "*/*" { return true }
        let essence = asciiLowercased(String(mimeType.prefix { $0 != ";" && $0 != " " }))
        return pattern.hasSuffix("/*") ? essence.hasPrefix(pattern.dropLast()) : essence == pattern
    }

    private static func type(of members: ValueMap) -> String? { members["$type"]?.stringValue }

    private static func check(count: Int, within lengths: ClosedRange<Int>, _ unit: String) throws(Violation) {
        if count > lengths.upperBound { throw Violation("must not have more than \(lengths.upperBound) \(unit)s (has \(count))") }
        if count < lengths.lowerBound { throw Violation("must not have fewer than \(lengths.lowerBound) \(unit)s (has \(count))") }
    }

    private func mismatch(_ expected: String, _ value: Value) -> Violation {
        let found =
            switch value {
            case .null: "null"
            case .bool: "a boolean"
            case .integer: "an integer"
            case .string: "a string"
            case .bytes: "bytes"
            case .link: "a link"
            case .array: "an array"
            case .map: "an object"
            }
        return Violation(expected.hasSuffix(found) ? "must be \(expected)" : "must be \(expected), not \(found)")
    }
}
