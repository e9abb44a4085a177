/// The parts of an absolute URL that this server compares; nothing is decoded.
struct WebURL: Hashable, Sendable {
    /// In small letters, as the host.
    let scheme: String
    /// An IPv6 address in its brackets.
    let host: String
    let port: Int?
    /// At least `/`.
    let path: String
    /// What follows the first `?`, up to a fragment.
    let query: String?
    let hasFragment: Bool

    /// nil for what is no URL with an authority, or has credentials in it.
    init?(_ text: String) {
        guard text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }), let mark = text.firstRange(of: "://") else { return nil }
        scheme = text[..<mark.lowerBound].lowercased()
        let parts = text[mark.upperBound...].split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
        hasFragment = parts.count > 1
        let authority = parts[0].prefix { $0 != "/" && $0 != "?" }
        let rest = parts[0][authority.endIndex...].split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        path = rest.first.map { $0.isEmpty ? "/" : String($0) } ?? "/"
        query = rest.count > 1 ? String(rest[1]) : nil
        guard !scheme.isEmpty, !authority.contains("@") else { return nil }
        let hostEnd = authority.hasPrefix("[") ? authority.firstIndex(of: "]").map(authority.index(after:)) : authority.firstIndex(of: ":")
        host = authority[..<(hostEnd ?? authority.endIndex)].lowercased()
        let portText = authority[(hostEnd ?? authority.endIndex)...]
        guard !host.isEmpty, portText.isEmpty || portText.hasPrefix(":") else { return nil }
        guard portText.count > 1 else {
            port = nil
            return
        }
        guard let number = Int(portText.dropFirst()), (0...65535).contains(number) else { return nil }
        port = number
    }

    /// An address of this machine and no name for it.
    var isLoopbackAddress: Bool { host == "127.0.0.1" || host == "[::1]" }

    var isLoopback: Bool { isLoopbackAddress || host == "localhost" }

    /// Whether nothing but the port differs (RFC 8252, section 7.3).
    func matchesButForPort(_ other: WebURL) -> Bool {
        scheme == other.scheme && host == other.host && path == other.path && query == other.query && hasFragment == other.hasFragment
    }
}
