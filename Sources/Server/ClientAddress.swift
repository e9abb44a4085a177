import HTTPTypes
import NIOCore

/// Where a request comes from, as far as it can be told: what callers are counted by.
enum ClientAddress {
    /// The peer's address, or its network of 64 bits where that is IPv6, since one host has all of it. Behind a proxy on this machine or
    /// its network it is the last that the proxy names; what a client says of itself before that counts for nothing.
    /// - Returns: nil where it cannot be told.
    static func find(peer: SocketAddress?, headers: HTTPFields) -> String? {
        guard let peer, let bytes = peer.addressBytes else { return nil }
        guard isNear(bytes) else { return text(bytes) }
        guard let named = headers[values: .forwardedFor].joined(separator: ",").split(separator: ",").last else { return nil }
        return named.utf8.count <= 64 ? parse(named.drop { $0 == " " }).map(text) : nil
    }

    private static func text(_ bytes: [UInt8]) -> String {
        if bytes.count == 4 { return "\(bytes)" }
        return isMapped(bytes) ? "\(bytes[12...])" : "\(bytes[..<8])"
    }

    /// As proxies write it: bare, with a port, and IPv6 in brackets.
    private static func parse(_ text: Substring) -> [UInt8]? {
        var host = text.drop { $0 == "[" }.prefix { $0 != "]" }
        if !text.hasPrefix("["), let colon = text.firstIndex(of: ":"), text[text.index(after: colon)...].allSatisfy({ $0 != ":" }) {
            host = text[..<colon]
        }
        return try? SocketAddress(ipAddress: String(host), port: 0).addressBytes
    }

    /// Loopback and private networks.
    private static func isNear(_ bytes: [UInt8]) -> Bool {
        guard bytes.count == 4 else {
            return bytes == loopback || bytes[0] & 0xFE == 0xFC || (isMapped(bytes) && isNear(Array(bytes[12...])))
        }
        return bytes[0] == 127 || bytes[0] == 10 || (bytes[0] == 172 && bytes[1] & 0xF0 == 16) || (bytes[0] == 192 && bytes[1] == 168)
    }

    /// An IPv4 address that an IPv6 socket took.
    private static func isMapped(_ bytes: [UInt8]) -> Bool {
        bytes[..<10].allSatisfy { $0 == 0 } && bytes[10...11].allSatisfy { $0 == 0xFF }
    }

    private static let loopback: [UInt8] = [UInt8](repeating: 0, count: 15) + [1]
}

extension HTTPField.Name {
    fileprivate static let forwardedFor = HTTPField.Name("X-Forwarded-For")!
}

extension SocketAddress {
    fileprivate var addressBytes: [UInt8]? {
        switch self {
        case .v4(let address): withUnsafeBytes(of: address.address.sin_addr) { Array($0) }
        case .v6(let address): withUnsafeBytes(of: address.address.sin6_addr) { Array($0) }
        case .unixDomainSocket: nil
        }
    }
}
