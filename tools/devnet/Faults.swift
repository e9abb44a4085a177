import Synchronization

/// What a part of the devnet does wrong, until it is told to stop.
package enum DevnetFault: Hashable, Sendable {
    /// Closes the connection, and neither does anything nor answers.
    case down
    /// Does what it was asked to, and closes the connection in place of the answer, so that the client cannot know.
    case afterwards
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
    /// `/oauth/par`.
    case par
    /// `/oauth/authorize` and what its forms send; a scripted consent does not pass here.
    case authorize
    /// `/oauth/token`.
    case token
    /// `/oauth/revoke`.
    case revoke
    /// `createRecord`, `putRecord` and `deleteRecord`.
    case writes
    /// The other methods under `/xrpc/`.
    case xrpc

    /// Everything but the directory: what is gone when the PDS is.
    package static let pds = allCases.filter { $0 != .plc }

    /// The part that a path of the PDS belongs to; nil for `/devnet/…`, which never fails on purpose.
    init?(pdsPath path: String) {
        switch path {
        case "/.well-known/atproto-did": self = .handles
        case "/.well-known/oauth-protected-resource": self = .protectedResource
        case "/.well-known/oauth-authorization-server": self = .authorizationServer
        case "/oauth/jwks": self = .jwks
        case "/oauth/par": self = .par
        case "/oauth/token": self = .token
        case "/oauth/revoke": self = .revoke
        case _ where path.hasPrefix("/oauth/authorize"): self = .authorize
        case "/xrpc/com.atproto.repo.createRecord", "/xrpc/com.atproto.repo.putRecord", "/xrpc/com.atproto.repo.deleteRecord":
            self = .writes
        case _ where path.hasPrefix("/xrpc/"): self = .xrpc
        default: return nil
        }
    }
}

/// The faults in force, one a part, and how often each part was asked.
final class Faults: Sendable {
    private struct State: Sendable {
        var active: [DevnetPart: (fault: DevnetFault, left: Int?)] = [:]
        var requests: [DevnetPart: Int] = [:]
    }

    private let state = Mutex(State())

    /// - Parameter count: how many requests it lasts for; without it, and for `wrongIssuer`, until it is ended.
    func set(_ fault: DevnetFault?, on part: DevnetPart, count: Int? = nil) {
        state.withLock { $0.active[part] = fault.map { ($0, count) } }
    }

    /// The fault that is in force, of which this uses up nothing.
    subscript(part: DevnetPart) -> DevnetFault? { state.withLock { $0.active[part]?.fault } }

    /// Counts a request, and gives the fault that it meets.
    func meet(_ part: DevnetPart) -> DevnetFault? {
        state.withLock { state in
            state.requests[part, default: 0] += 1
            guard let (fault, left) = state.active[part] else { return nil }
            if let left, fault != .wrongIssuer { state.active[part] = left > 1 ? (fault, left - 1) : nil }
            return fault
        }
    }

    func requests(to part: DevnetPart) -> Int { state.withLock { $0.requests[part] ?? 0 } }

    func clear() { state.withLock { $0.active.removeAll() } }
}
