/// The parameters of a request arrive as text; their types stand in the lexicon.
extension Lexicons {
    /// The parameters of a method, typed, checked, and with the lexicon's defaults for those that are missing.
    ///
    /// `true` and `false` are booleans, decimal digits with an optional minus are integers, a parameter given several times is an array.
    /// A parameter that is no array may be given once. Parameters that the lexicon does not name are left out, as newer clients may
    /// send them.
    /// - Parameter pairs: names and values of the query in order, percent-decoded.
    public func coerceParameters(of id: NSID, from pairs: [(String, String)]) throws(LexiconError) -> ValueMap {
        guard let schema = try defined(id).parameters, case .object(let rule) = schemas[schema] else { return [:] }
        var parameters = ValueMap()
        for property in rule.properties {
            let texts = pairs.filter { $0.0 == property.name }.map(\.1)
            do throws(Violation) {
                parameters[property.name] = try texts.isEmpty ? preset(property.schema) : coerce(texts, property.schema)
            } catch {
                throw error.inside(property.name).error(in: .parameters)
            }
        }
        try check(.map(parameters), schema, as: .parameters)
        return parameters
    }

    private func preset(_ schema: Int) -> Value? {
        switch schemas[schema] {
        case .boolean(let rule): rule.preset.map(Value.bool)
        case .integer(let rule): rule.preset.map(Value.integer)
        case .string(let rule): rule.preset.map(Value.string)
        default: nil
        }
    }

    private func coerce(_ texts: [String], _ schema: Int) throws(Violation) -> Value {
        if case .array(let rule) = schemas[schema] {
            var items: [Value] = []
            for (index, text) in texts.enumerated() {
                do throws(Violation) {
                    items.append(try coerce(text, rule.items))
                } catch {
                    throw error.inside(index)
                }
            }
            return .array(items)
        }
        guard texts.count == 1 else { throw Violation("must be given once, not \(texts.count) times") }
        return try coerce(texts[0], schema)
    }

    private func coerce(_ text: String, _ schema: Int) throws(Violation) -> Value {
        switch schemas[schema] {
        case .boolean:
            switch text {
            case "true": return true
            case "false": return false
            default: throw Violation("must be true or false")
            }
        case .integer:
            let digits = text.utf8.first == 0x2D ? text.utf8.dropFirst() : text.utf8[...]
            guard !digits.isEmpty, digits.allSatisfy(\.isDigit), let integer = Int64(text), -(1 << 53) < integer, integer < 1 << 53 else {
                throw Violation("must be an integer in decimal digits")
            }
            return .integer(integer)
        default:
            return .string(text)
        }
    }
}
