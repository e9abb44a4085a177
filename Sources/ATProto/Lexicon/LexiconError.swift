/// What of a request or a repo was held against its lexicon. The raw value begins the sentence of an error.
public enum LexiconPart: String, Hashable, Sendable {
    case record = "Record"
    case recordKey = "Record key"
    case parameters = "Params"
    case input = "Input"
    case output = "Output"
    case message = "Message"
}

public enum LexiconError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A lexicon document that cannot be used: our own is a bug, another's is refused. `path` is a JSON pointer into it.
    case badDocument(id: String, path: String, problem: String)
    /// No document defines this as what it was asked for: the caller decides whether unknown collections or methods are welcome.
    case notDefined(NSID, as: String)
    /// The value breaks a rule: the client's fault, told to him by `description`. `path` is a JSON pointer, empty for the whole value.
    /// Nothing of the value is repeated but member names and sizes.
    case invalid(LexiconPart, path: String, problem: String)

    public var description: String {
        switch self {
        case .badDocument(let id, let path, let problem): "lexicon \(id)\(path.isEmpty ? "" : " at \(path)") \(problem)"
        case .notDefined(let id, let kind): "no lexicon defines \(id) as a \(kind)"
        case .invalid(let part, let path, let problem): "\(part.rawValue)\(path) \(problem)"
        }
    }
}

/// A broken rule on its way up to the value's root: each level adds its member or index.
struct Violation: Error {
    /// From the innermost outwards, each escaped as in a JSON pointer.
    private var steps: [String] = []
    let problem: String

    init(_ problem: String) { self.problem = problem }

    func inside(_ member: String) -> Violation {
        var outer = self
        outer.steps.append(Self.escaped(member))
        return outer
    }

    func inside(_ index: Int) -> Violation {
        var outer = self
        outer.steps.append(String(index))
        return outer
    }

    func error(in part: LexiconPart) -> LexiconError {
        .invalid(part, path: steps.reversed().map { "/" + $0 }.joined(), problem: problem)
    }

    /// RFC 6901: `~` as `~0`, `/` as `~1`. At most 64 characters of a name are shown.
    static func escaped(_ member: String) -> String {
        var text = ""
        for character in member.prefix(64) {
            switch character {
            case "~": text += "~0"
            case "/": text += "~1"
            default: text.append(character)
            }
        }
        return text
    }
}
