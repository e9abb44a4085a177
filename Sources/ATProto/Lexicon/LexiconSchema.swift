/// One rule of a lexicon, as the loader leaves it: names are resolved, a reference is the index of the rule it leads to in the table of
/// `Lexicons`. Larger rules are immutable objects, so that walking them copies one pointer.
enum LexiconSchema: Sendable {
    case boolean(BooleanRule)
    case integer(IntegerRule)
    case string(StringRule)
    case bytes(lengths: ClosedRange<Int>)
    case cidLink
    case blob(BlobRule)
    case array(ArrayRule)
    case object(ObjectRule)
    case union(UnionRule)
    case unknown
    /// The value is the text of the token's own name.
    case token(String)
}

struct BooleanRule: Sendable {
    var constant: Bool?
    var preset: Bool?
}

final class IntegerRule: Sendable {
    let range: ClosedRange<Int64>
    let choices: [Int64]?
    let constant: Int64?
    let preset: Int64?

    init(range: ClosedRange<Int64>, choices: [Int64]?, constant: Int64?, preset: Int64?) {
        self.range = range
        self.choices = choices
        self.constant = constant
        self.preset = preset
    }
}

/// The formats that a lexicon may ask of a string.
enum StringFormat: String, Sendable, CaseIterable {
    case atIdentifier = "at-identifier"
    case atURI = "at-uri"
    case cid, datetime, did, handle, language, nsid
    case recordKey = "record-key"
    case tid, uri

    /// What the string is missing, or nil when it has the format.
    func problem(with string: String) -> String? {
        switch self {
        case .atIdentifier: Self.problem(ATIdentifier.verdict(string.utf8Span.span), .atIdentifier)
        case .atURI: Self.problem(ATURI.verdict(string.utf8Span.span), .atURI)
        case .cid: CID.isSyntacticallyValid(string) ? nil : "must be a CID in text, such as bafyrei…"
        case .datetime: Self.problem(Datetime.verdict(string.utf8Span.span), .datetime)
        case .did: Self.problem(DID.verdict(string.utf8Span.span), .did)
        case .handle: Self.problem(Handle.verdict(string.utf8Span.span), .handle)
        case .language: Self.problem(LanguageTag.verdict(string.utf8Span.span), .language)
        case .nsid: Self.problem(NSID.verdict(string.utf8Span.span), .nsid)
        case .recordKey: Self.problem(RecordKey.verdict(string.utf8Span.span), .recordKey)
        case .tid: Self.problem(TID.verdict(string.utf8Span.span), .tid)
        case .uri: Self.problem(URIString.verdict(string), .uri)
        }
    }

    static func problem(_ verdict: SyntaxVerdict, _ kind: SyntaxKind) -> String? {
        verdict == .accepted ? nil : "must be a \(kind.rawValue): \(kind.shape)"
    }
}

final class StringRule: Sendable {
    let format: StringFormat?
    /// Of UTF-8.
    let bytes: ClosedRange<Int>
    /// Of extended grapheme clusters (UAX 29).
    let graphemes: ClosedRange<Int>?
    let choices: [String]?
    let constant: String?
    let preset: String?

    init(
        format: StringFormat?, bytes: ClosedRange<Int>, graphemes: ClosedRange<Int>?, choices: [String]?, constant: String?, preset: String?
    ) {
        self.format = format
        self.bytes = bytes
        self.graphemes = graphemes
        self.choices = choices
        self.constant = constant
        self.preset = preset
    }
}

final class BlobRule: Sendable {
    /// Media types in small letters, `image/*` and `*/*` among them; nil takes any.
    let accept: [String]?
    /// In bytes.
    let sizeMax: Int64

    init(accept: [String]?, sizeMax: Int64) {
        self.accept = accept
        self.sizeMax = sizeMax
    }
}

final class ArrayRule: Sendable {
    let items: Int
    let lengths: ClosedRange<Int>

    init(items: Int, lengths: ClosedRange<Int>) {
        self.items = items
        self.lengths = lengths
    }
}

final class ObjectRule: Sendable {
    struct Property: Sendable {
        let name: String
        let schema: Int
        let isRequired: Bool
        let isNullable: Bool
    }

    /// In canonical order, so that an object is checked by walking both lists once.
    let properties: [Property]

    init(properties: [Property]) {
        self.properties = properties.sorted { CanonicalOrder.compare($0.name, $1.name) < 0 }
    }
}

final class UnionRule: Sendable {
    struct Member: Sendable {
        /// What `$type` says: `com.example.defs#name`, or `com.example.record` for a main definition.
        let type: String
        let schema: Int
    }

    let members: [Member]
    let isClosed: Bool

    init(members: [Member], isClosed: Bool) {
        self.members = members
        self.isClosed = isClosed
    }
}

/// A definition of type `record`.
struct RecordRule: Sendable {
    enum Key: Sendable, Equatable { case any, tid, nsid, literal(String) }

    let key: Key
    /// Always an object.
    let schema: Int
}

/// What a lexicon says about a method, for the routes that serve it.
public struct LexiconMethod: Sendable {
    public enum Kind: String, Sendable { case query, procedure, subscription }

    public let kind: Kind
    /// The media type of the body that a procedure takes; nil when it takes none. `*/*` takes any.
    public let inputEncoding: String?
    /// The media type of the answer; nil when it has no body.
    public let outputEncoding: String?
    /// The names of errors that the document announces.
    public let errors: [String]

    /// An object of the table, or nil without parameters.
    let parameters: Int?
    let input: Int?
    let output: Int?
    let message: Int?
}
