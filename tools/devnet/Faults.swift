import Synchronization

/// What a part of the devnet does wrong, until it is told to stop.
package enum DevnetFault: Hashable, Sendable {
    /// Answers only after this long.
    case slow(Duration)
    /// Answers with this status and no useful body.
    case error(Int)
    /// The right bytes, called `text/html`.
    case wrongContentType
    /// The OAuth documents name an issuer that is not this server. On other parts it changes nothing.
    case wrongIssuer
}

/// The parts of the devnet that can be made to fail, one by one.
package enum DevnetPart: String, Hashable, Sendable, CaseIterable {
    case plc
    /// `/.well-known/atproto-did`.
    case handles
    /// `/.well-known/oauth-protected-resource`.
    case protectedResource
    /// `/.well-known/oauth-authorization-server`.
    case authorizationServer
    case jwks
    case xrpc

    /// The part that a path of the PDS belongs to; nil for `/devnet/…`, which never fails on purpose.
    init?(pdsPath path: String) {
        switch path {
        case "/.well-known/atproto-did": self = .handles
        case "/.well-known/oauth-protected-resource": self = .protectedResource
        case "/.well-known/oauth-authorization-server": self = .authorizationServer
        case "/oauth/jwks": self = .jwks
        case _ where path.hasPrefix("/xrpc/"): self = .xrpc
        default: return nil
        }
    }
}

/// The faults in force: one a part.
final class Faults: Sendable {
    private let active = Mutex<[DevnetPart: DevnetFault]>([:])

    subscript(part: DevnetPart) -> DevnetFault? {
        get { active.withLock { $0[part] } }
        set { active.withLock { $0[part] = newValue } }
    }

    func clear() { active.withLock { $0.removeAll() } }
}
