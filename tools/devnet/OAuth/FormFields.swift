import ATProto
import HTTPTypes
import Hummingbird

/// The parameters of a form or a query: each at most once.
struct FormFields: Sendable {
    private var fields: [String: String] = [:]

    /// - Throws: `invalid_request` for a parameter that comes twice (RFC 6749, section 3.1), and for broken escapes.
    init(encoded text: some StringProtocol) throws(OAuthRefusal) {
        for (name, value) in try Self.pairs(text) {
            guard fields.updateValue(value, forKey: name) == nil else { throw .invalidRequest("\(name) must be given once") }
        }
    }

    /// Reads a body that is a form, or JSON whose members are strings, as the public server takes both.
    static func read(_ request: Request) async throws -> FormFields {
        switch request.headers[.contentType]?.split(separator: ";").first?.lowercased() {
        case "application/x-www-form-urlencoded":
            let body = try await request.body.collect(upTo: 1 << 16)
            return try FormFields(encoded: String(decoding: body.readableBytesView, as: UTF8.self))
        case "application/json": return try FormFields(try await request.jsonObject())
        case let type: throw OAuthRefusal.invalidRequest("Unsupported content type: \(type ?? "none")")
        }
    }

    private init(_ object: ValueMap) throws(OAuthRefusal) {
        for (name, value) in object {
            guard let text = value.stringValue else { throw .invalidRequest("\(name) must be a string") }
            fields[name] = text
        }
    }

    subscript(name: String) -> String? { fields[name] }

    func required(_ name: String) throws(OAuthRefusal) -> String {
        guard let value = fields[name], !value.isEmpty else { throw .invalidRequest("\(name) is missing") }
        return value
    }

    /// Every name with its value, in the order of the text.
    static func pairs(_ text: some StringProtocol) throws(OAuthRefusal) -> [(name: String, value: String)] {
        var pairs: [(String, String)] = []
        for part in text.split(separator: "&") {
            let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decoded(sides[0]), let value = decoded(sides.count > 1 ? sides[1] : "") else {
                throw .invalidRequest("a parameter is not properly escaped")
            }
            pairs.append((name, value))
        }
        return pairs
    }

    private static func decoded(_ text: some StringProtocol) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "+"): bytes.append(UInt8(ascii: " "))
            case UInt8(ascii: "%"):
                guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else { return nil }
                bytes.append(value)
                rest = rest.dropFirst(2)
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// Escapes all but the unreserved characters of RFC 3986.
    static func encoded(_ text: String) -> String {
        text.utf8.reduce(into: "") { result, byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }
        }
    }

    static func encoded(_ pairs: [(name: String, value: String)]) -> String {
        pairs.map { "\(encoded($0.name))=\(encoded($0.value))" }.joined(separator: "&")
    }
}
