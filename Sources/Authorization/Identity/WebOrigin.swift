/// Scheme, host and port of a web server, and nothing else (RFC 6454). PDSes and authorization servers are named by one.
///
/// Its text has one form: small letters, no default port, no slash at the end. So two origins are the same when their texts are.
package struct WebOrigin: Hashable, Sendable, CustomStringConvertible {
    package let isSecure: Bool
    /// In small letters; an IPv6 address stands in brackets.
    package let host: String
    /// nil for the scheme's own, 443 or 80.
    package let port: UInt16?
    package let description: String

    /// - Parameter text: `scheme://host[:port]`, a slash at the end or none; what has a user, a path, a query or a fragment is none.
    package init?(_ text: String) {
        let bytes = [UInt8](text.utf8)
        guard bytes.count <= 300, let isSecure = Self.isSecure(bytes) else { return nil }
        var rest = bytes.dropFirst(isSecure ? 8 : 7)
        if rest.last == UInt8(ascii: "/") { rest.removeLast() }
        let hostEnd = Self.hostEnd(rest)
        guard let host = Self.host(rest[..<hostEnd]) else { return nil }
        self.isSecure = isSecure
        self.host = host
        if hostEnd == rest.endIndex {
            port = nil
        } else {
            guard let number = Self.port(rest[hostEnd...]) else { return nil }
            port = number == (isSecure ? 443 : 80) ? nil : number
        }
        description = (isSecure ? "https://" : "http://") + host + (port.map { ":\($0)" } ?? "")
    }

    /// The origin of a URL with any path and query: its authority ends at the first slash or question mark behind the scheme.
    package init?(ofURL url: String) {
        let bytes = [UInt8](url.utf8)
        guard bytes.count <= 4096, bytes.allSatisfy({ 0x21...0x7E ~= $0 && $0 != UInt8(ascii: "#") && $0 != UInt8(ascii: "\\") }),
            let isSecure = Self.isSecure(bytes)
        else { return nil }
        let start = isSecure ? 8 : 7
        let end = bytes[start...].firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") } ?? bytes.endIndex
        self.init(String(decoding: bytes[..<end], as: UTF8.self))
    }

    /// As a did:web, which names a host and perhaps a port.
    package var webDID: String { "did:web:" + host + (port.map { "%3A\($0)" } ?? "") }

    /// Whether the name can only stand for this machine: RFC 6761 keeps `localhost` and all below it for that.
    package var isLoopback: Bool {
        host == "localhost" || host.hasSuffix(".localhost") || host == "127.0.0.1" || host == "[::1]"
    }

    /// Whether what is read from there can be trusted not to have been changed on the way.
    /// - Parameter allowingHTTP: also without TLS, where there is no way: on this machine.
    package func isTrustworthy(allowingHTTP: Bool) -> Bool { isSecure || (allowingHTTP && isLoopback) }

    /// The same for a URL, which must have a path.
    static func isTrustworthy(url: String, allowingHTTP: Bool) -> Bool {
        let slashes = url.utf8.count { $0 == UInt8(ascii: "/") }
        return url.utf8.count <= 2048 && slashes >= 3 && WebOrigin(ofURL: url)?.isTrustworthy(allowingHTTP: allowingHTTP) ?? false
    }

    private static func isSecure(_ bytes: [UInt8]) -> Bool? {
        let scheme = bytes.prefix { $0 != UInt8(ascii: ":") }.map(lowercased)
        guard bytes.dropFirst(scheme.count).starts(with: "://".utf8) else { return nil }
        if scheme.elementsEqual("https".utf8) { return true }
        return scheme.elementsEqual("http".utf8) ? false : nil
    }

    /// Where the port's colon stands, or the end.
    private static func hostEnd(_ bytes: ArraySlice<UInt8>) -> Int {
        guard bytes.first == UInt8(ascii: "[") else { return bytes.firstIndex(of: UInt8(ascii: ":")) ?? bytes.endIndex }
        return bytes.firstIndex(of: UInt8(ascii: "]")).map { $0 + 1 } ?? bytes.endIndex
    }

    private static func host(_ bytes: ArraySlice<UInt8>) -> String? {
        if bytes.first == UInt8(ascii: "[") {
            guard bytes.last == UInt8(ascii: "]"), 4...47 ~= bytes.count, bytes.dropFirst().dropLast().allSatisfy(isOfIPv6) else {
                return nil
            }
        } else {
            guard 1...253 ~= bytes.count else { return nil }
            let labels = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
            guard labels.allSatisfy(isLabel) else { return nil }
        }
        return String(decoding: bytes.map(lowercased), as: UTF8.self)
    }

    private static func isLabel(_ label: ArraySlice<UInt8>) -> Bool {
        1...63 ~= label.count && label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-")
            && label.allSatisfy { isDigit($0) || isSmallLetter(lowercased($0)) || $0 == UInt8(ascii: "-") }
    }

    private static func isOfIPv6(_ byte: UInt8) -> Bool {
        isDigit(byte) || UInt8(ascii: "a")...UInt8(ascii: "f") ~= lowercased(byte) || byte == UInt8(ascii: ":") || byte == UInt8(ascii: ".")
    }

    /// - Parameter bytes: a colon and the number, 1…65535 with no zero before it.
    private static func port(_ bytes: ArraySlice<UInt8>) -> UInt16? {
        let digits = bytes.dropFirst()
        guard bytes.first == UInt8(ascii: ":"), 1...5 ~= digits.count, digits.allSatisfy(isDigit), digits.first != UInt8(ascii: "0") else {
            return nil
        }
        return UInt16(String(decoding: digits, as: UTF8.self))
    }

    private static func isDigit(_ byte: UInt8) -> Bool { UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte }
    private static func isSmallLetter(_ byte: UInt8) -> Bool { UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte }
    private static func lowercased(_ byte: UInt8) -> UInt8 { UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte ? byte | 0x20 : byte }
}
