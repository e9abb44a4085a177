/// The parameters of a request's target, decoded strictly (RFC 3986; `+` is a space, as forms have it): what is not UTF-8, or
/// not percent-encoded as it must be, is refused and never repaired.
enum QueryString {
    /// - Returns: names and values in their order; empty without a query.
    static func pairs(in target: String) throws(XRPCError) -> [(String, String)] {
        let target = target.utf8.prefix { $0 != UInt8(ascii: "#") }
        guard let mark = target.firstIndex(of: UInt8(ascii: "?")) else { return [] }
        var pairs: [(String, String)] = []
        for part in target[target.index(after: mark)...].split(separator: UInt8(ascii: "&")) {
            let sign = part.firstIndex(of: UInt8(ascii: "=")) ?? part.endIndex
            pairs.append((try decoded(part[..<sign]), try decoded(part[sign...].dropFirst())))
        }
        return pairs
    }

    private static func decoded(_ text: Substring.UTF8View) throws(XRPCError) -> String {
        if text.allSatisfy({ 0x21...0x7E ~= $0 && $0 != UInt8(ascii: "%") && $0 != UInt8(ascii: "+") }) { return String(Substring(text)) }
        var bytes: [UInt8] = []
        var rest = text[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "+"): bytes.append(UInt8(ascii: " "))
            case UInt8(ascii: "%"):
                guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { throw malformed }
                bytes.append(high << 4 | low)
            case 0x21...0x7E: bytes.append(byte)
            default: throw malformed  // Not ASCII: whoever read the target may have repaired it already.
            }
        }
        do { return String(copying: try UTF8Span(validating: bytes.span)) } catch { throw malformed }
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        Character(UnicodeScalar(byte)).hexDigitValue.map { UInt8($0) }
    }

    private static var malformed: XRPCError { .invalidRequest("the query string is not percent-encoded UTF-8") }
}
