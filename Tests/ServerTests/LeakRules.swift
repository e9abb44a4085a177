/// Who asks, in the matrix of what may be seen by whom.
enum MatrixCaller: String, CaseIterable, Sendable {
    case anonymous
    /// Proves who it is, and is no member.
    case stranger
    /// A member of another boundary than any that the secret is ever in.
    case outsider
    /// A member of the boundary that the shared secret is in.
    case member
    case owner
    case appView
    case administrator
}

/// What became of the one record that the matrix is about.
enum RecordState: String, CaseIterable, Sendable {
    /// It was never there.
    case absent
    /// In a boundary that neither the member nor the outsider holds.
    case lacked
    /// In a boundary that the member holds.
    case shared
    /// In no boundary.
    case ownerOnly
    /// It was shared, and is no more.
    case deleted
    /// It was shared, and its owner has left: the content is kept here…
    case ownerLeft
    /// …or went with the leave.
    case ownerLeftErased
    /// It was shared, its owner left with the content kept, and has come back to the same boundaries.
    case ownerBack
    /// The same, and the content went with the leave.
    case ownerBackErased

    var ownerHasLeft: Bool { self == .ownerLeft || self == .ownerLeftErased }
    /// Whether there is somebody who may see it.
    var exists: Bool { ![.absent, .deleted, .ownerLeft, .ownerLeftErased, .ownerBackErased].contains(self) }
}

/// What an answer must be.
enum Cell: Sendable {
    /// The same as where the record was never there, byte for byte.
    case hidden
    /// The same as for an account that nobody has.
    case noRepo
    /// With the record in it.
    case shown
    /// Given, of what the caller may see of the repo, and with nothing of the record in it.
    case without
    /// Whatever: the caller may know of the record, and nothing of it is in this answer.
    case free
}

/// The rules of the read policy (architecture, section 5), as they are said there and not as the code has them.
enum LeakRule: Sendable {
    /// Says nothing of records to anybody.
    case blind
    /// The record itself: in an answer of its own, or in a list.
    case record
    /// The record with its way through the tree. The owner gets one also of a record that is not there.
    case proof
    /// All of a repo, or of its head: the owner's, and an AppView's where every record has a boundary.
    case repo
    /// The owner's alone.
    case account
    /// What the log gives to administrators, against a receipt.
    case receipt
    /// A write to the caller's own repo, that may be judged by the record where the caller sees it.
    case ownWrite

    var isBlind: Bool { if case .blind = self { true } else { false } }

    /// I12. A record leaves only for its owner, for a caller who shares a boundary with it, and for an AppView where it has one.
    private static let sees: [MatrixCaller: Set<RecordState>] = [
        .anonymous: [],
        .stranger: [],
        .outsider: [],
        .member: [.shared, .ownerBack],
        .owner: [.shared, .lacked, .ownerOnly, .ownerBack],
        .appView: [.shared, .lacked, .ownerBack],
        .administrator: [],
    ]

    func cell(_ caller: MatrixCaller, _ state: RecordState) -> Cell {
        // Who has left is a stranger to everybody, themselves too.
        guard !state.ownerHasLeft else { return .hidden }
        let sees = Self.sees[caller, default: []].contains(state)
        let exists = state.exists
        return switch self {
        case .blind: .hidden
        case .record: sees ? .shown : .hidden
        case .proof: sees ? .shown : caller == .owner ? .without : .hidden
        case .repo:
            switch (caller, state) {
            case (.owner, _): exists ? .shown : .without
            case (.appView, .ownerOnly): .noRepo
            case (.appView, _): exists ? .shown : .without
            default: .hidden
            }
        case .account: caller == .owner ? (exists ? .shown : .without) : .hidden
        case .receipt: caller == .administrator && exists ? .shown : .hidden
        case .ownWrite: sees ? .free : .hidden
        }
    }
}

/// Whom a route lets in at all; whoever is kept out is told so whatever the route is asked for.
enum Opening: Sendable {
    case everybody, members, administrators
    /// Looks at no credential.
    case anybody

    /// What a caller who is kept out is told; nil for one who is let in.
    func refusal(of caller: MatrixCaller, _ state: RecordState) -> ExpectedAnswer? {
        switch (self, caller) {
        case (.anybody, _): nil
        case (.administrators, .administrator): nil
        case (.administrators, _): ExpectedAnswer(401, "AuthRequired")
        case (_, .owner) where state.ownerHasLeft: ExpectedAnswer(401, "AuthenticationRequired")
        case (_, .stranger): ExpectedAnswer(400, "NotEnrolled")
        case (.members, .anonymous), (.members, .appView), (.members, .administrator): ExpectedAnswer(401, "AuthenticationRequired")
        default: nil
        }
    }
}

struct ExpectedAnswer: Equatable, Sendable {
    let status: Int
    /// Of the error envelope; nil for an answer that has none.
    let error: String?

    init(_ status: Int, _ error: String? = nil) {
        self.status = status
        self.error = error
    }
}
