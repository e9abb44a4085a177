/// What proves to a service who asks.
///
/// It prints and reflects as a placeholder, so it reaches no log by accident.
public struct Credential: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// What the token is, which says where it travels.
    public enum Kind: Hashable, Sendable {
        /// An inter-service JWT of an account or an AppView (`com.atproto.server.getServiceAuth`), for one method of one service; in the
        /// `Authorization` header, so that it stands in no access log on the way.
        case bearer
        /// The service's own sync token. It opens streams and nothing else, and is sent to nothing else; in the query, where alone every
        /// service reads it (wire contract, section 2.7).
        case syncToken
    }

    let token: String
    let kind: Kind

    public static let tokenBytesMax = 8192

    /// - Parameter token: 1…8,192 bytes of visible ASCII, a sync token also with spaces within; nil for anything else.
    public init?(_ token: String, as kind: Kind) {
        let least: UInt8 = kind == .syncToken ? 0x20 : 0x21
        guard (1...Self.tokenBytesMax).contains(token.utf8.count), token.utf8.allSatisfy({ least...0x7E ~= $0 }) else { return nil }
        self.token = token
        self.kind = kind
    }

    /// The value of the `Authorization` header; nil for what is sent in none.
    var authorization: String? { kind == .bearer ? "Bearer \(token)" : nil }

    public var description: String { "(credential)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
