import Authorization

/// Places on the network, each in one form: small letters in scheme and host, no default port, no slash at the end. So
/// `HTTPS://PDS.Example.com:443/` is `https://pds.example.com`, wherever the one or the other is compared.
extension SettingRules {
    /// Scheme, host and port, and nothing else.
    static let origin: SettingRule = { text throws(NotAllowed) in
        guard let origin = WebOrigin(text) else { throw NotAllowed("http or https URLs of a host, with a port or without, and no path") }
        return origin.description
    }

    /// A place that others are put behind: an origin, perhaps with a path, whose slashes at the end say nothing.
    static let url: SettingRule = { text throws(NotAllowed) in
        guard let (origin, path) = split(text), !path.contains("?") else {
            throw NotAllowed("an http or https URL without credentials, query or fragment")
        }
        return origin + path.dropLast(path.reversed().prefix { $0 == "/" }.count)
    }

    /// A page: its path and query are its own, to the last slash.
    static let page: SettingRule = { text throws(NotAllowed) in
        guard let (origin, path) = split(text) else { throw NotAllowed("an http or https URL without credentials or fragment") }
        return origin + path
    }

    /// A host as PostgreSQL is given one: a name, an address, or the directory of a socket.
    static let databaseHost: SettingRule = { text throws(NotAllowed) in
        if text.hasPrefix("/"), let path = try? line(bytesMax: 100, "")(text) { return path }
        // An address of IPv6 stands without brackets here.
        let isAddress = text.utf8.count(where: { $0 == UInt8(ascii: ":") }) > 1
        guard isAddress || !text.contains(":"), let origin = WebOrigin("http://" + (isAddress ? "[\(text)]" : text)) else {
            throw NotAllowed("the name or address of a host, without a port, or the directory of a socket")
        }
        return isAddress ? text.lowercased() : origin.host
    }

    /// A URL of PostgreSQL, whose parts are percent-encoded: what stands for itself in a password given alone is written `%40`, `%2F`
    /// or `%25` here.
    static let databaseURL: SettingRule = { text throws(NotAllowed) in
        let scheme = ["postgres://", "postgresql://"].first { text.hasPrefix($0) }
        guard let scheme, isDatabase(text.dropFirst(scheme.count)) else {
            throw NotAllowed("postgres://user:password@host:port/database, user, password and database percent-encoded")
        }
        return text
    }

    /// A URL at the end of its host; nil for what is none, or has credentials or a fragment.
    private static func split(_ text: String) -> (origin: String, path: String)? {
        guard let separator = text.firstRange(of: "://") else { return nil }
        let rest = text[separator.upperBound...]
        let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        guard let origin = WebOrigin(String(text[..<end])), isEncoded(rest[end...], allowing: "/?:@!$&'()*+,;=") else { return nil }
        return (origin.description, String(rest[end...]))
    }

    /// `[user[:password]@]host[:port][,host[:port]…]/database[?parameters]`, behind the scheme.
    private static func isDatabase(_ text: Substring) -> Bool {
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let place = parts[0].split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        let credentials = place[0].split(separator: "@", omittingEmptySubsequences: false)
        guard credentials.count <= 2, let hosts = credentials.last, !databaseHosts(hosts).isEmpty else { return false }
        if credentials.count == 2, !isEncoded(credentials[0], allowing: ":!$&'()*+,;=") { return false }
        guard place.count == 2, !place[1].isEmpty, isEncoded(place[1], allowing: "") else { return false }
        return parts.count == 1 || isEncoded(parts[1], allowing: "&=/:,+")
    }

    /// Hosts with their ports, between commas; empty where one of them is none.
    private static func databaseHosts(_ text: Substring) -> [WebOrigin] {
        let hosts = text.split(separator: ",", omittingEmptySubsequences: false).map { WebOrigin("http://\($0)") }
        return hosts.contains { $0 == nil } || text.contains("/") ? [] : hosts.compactMap { $0 }
    }

    /// Whether a part of a URL has only characters that stand for themselves, those of `others`, and whole `%XX`.
    private static func isEncoded(_ text: Substring, allowing others: String) -> Bool {
        var rest = text.utf8
        while let byte = rest.popFirst() {
            let character = Character(UnicodeScalar(byte))
            if byte == UInt8(ascii: "%") {
                guard let first = rest.popFirst(), let second = rest.popFirst(),
                    [first, second].allSatisfy({ Character(UnicodeScalar($0)).isHexDigit })
                else { return false }
            } else {
                let isPlain = character.isASCII && (character.isLetter || character.isNumber || "-._~".contains(character))
                guard isPlain || others.contains(character) else { return false }
            }
        }
        return true
    }
}
