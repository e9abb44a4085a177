package import ATProto
package import EventLog

/// Who is calling, as far as it was proven. Every way of authenticating ends in one of these.
package enum Caller: Hashable, Sendable {
    case anonymous
    /// A person, proven by a credential of their own DID.
    case user(DID)
    /// A service of `STRATOS_ALLOWED_APPVIEWS`, proven by a service JWT.
    case appView(DID)
    /// The operator, on ordinary routes a stranger.
    case administrator(name: String)

    package var isUser: Bool { if case .user = self { true } else { false } }

    /// The DID that acts, where there is one.
    package var did: DID? {
        switch self {
        case .user(let did), .appView(let did): did
        case .anonymous, .administrator: nil
        }
    }
}

/// A caller together with what the caller's own log says at this moment.
package struct Viewer: Sendable {
    package let caller: Caller
    /// The qualified boundaries that the caller holds now; empty for everybody who is not enrolled.
    package let boundaries: BoundarySet

    package init(caller: Caller, boundaries: BoundarySet) {
        self.caller = caller
        self.boundaries = boundaries
    }

    package static let stranger = Viewer(caller: .anonymous, boundaries: .empty)
}
