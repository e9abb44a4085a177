import Authorization

/// Where a Stratos service answers: the origin of a web server. Over TLS, or on this machine without.
///
/// One that the program makes is the caller's own choice and is connected to wherever it stands. One that was read in a stranger's
/// record or document is connected to on public addresses alone, so a record can send nobody into a private network.
public struct ServiceAddress: Hashable, Sendable, CustomStringConvertible {
    let origin: WebOrigin
    let isNamedByStranger: Bool

    /// - Parameter text: `https://host[:port]`, or `http://` with a name or address of this machine; a slash at the end or none.
    ///   Nil for anything else.
    public init?(_ text: String) {
        guard let origin = WebOrigin(text), origin.isTrustworthy(allowingHTTP: true) else { return nil }
        self.origin = origin
        isNamedByStranger = false
    }

    init?(namedByStranger text: String) {
        guard let origin = WebOrigin(text), origin.isTrustworthy(allowingHTTP: true) else { return nil }
        self.origin = origin
        isNamedByStranger = true
    }

    /// The origin in its one form: small letters, no default port, no slash at the end.
    public var description: String { origin.description }

    func method(_ nsid: String, _ parameters: [(name: String, value: String)] = []) -> String {
        description + target(nsid, parameters)
    }

    /// The path and query of a method.
    func target(_ nsid: String, _ parameters: [(name: String, value: String)]) -> String {
        "/xrpc/" + nsid + (parameters.isEmpty ? "" : "?")
            + parameters.map { "\($0.name)=\(PercentEncoding.encode($0.value))" }.joined(separator: "&")
    }

    public static func == (left: ServiceAddress, right: ServiceAddress) -> Bool { left.origin == right.origin }
    public func hash(into hasher: inout Hasher) { hasher.combine(origin) }
}

enum PercentEncoding {
    /// All but the unreserved characters of RFC 3986 as `%XX`.
    static func encode(_ text: String) -> String {
        var encoded: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                encoded.append(byte)
            default:
                encoded.append(UInt8(ascii: "%"))
                encoded.append(digits[Int(byte >> 4)])
                encoded.append(digits[Int(byte & 15)])
            }
        }
        return String(decoding: encoded, as: UTF8.self)
    }

    private static let digits = [UInt8]("0123456789ABCDEF".utf8)
}
