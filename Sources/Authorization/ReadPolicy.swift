package import ATProto
package import EventLog
package import Projections

/// What the read policy needs to know of a record: nothing of its content.
package struct RecordScope: Hashable, Sendable {
    package let owner: DID
    /// The qualified boundaries that the record names; empty: the owner alone.
    package let boundaries: BoundarySet

    package init(owner: DID, boundaries: BoundarySet) {
        self.owner = owner
        self.boundaries = boundaries
    }
}

/// Something that the read policy has released for one viewer. Only `ReadPolicy` makes one, so a function that takes a
/// `Readable` cannot be given a record that nobody judged.
package struct Readable<Content: Sendable>: Sendable {
    package let content: Content

    fileprivate init(_ content: Content) { self.content = content }
}

/// The one place that decides who sees what (I12). A record leaves only for its owner, for a viewer who shares a boundary with
/// it at this moment, or for an allow-listed AppView where it has a boundary at all. Everybody else gets nil, and a caller of
/// these functions answers nil exactly as it answers absence.
package enum ReadPolicy {
    /// I12: the rule itself.
    package static func mayRead(_ scope: RecordScope, as viewer: Viewer) -> Bool {
        switch viewer.caller {
        case .user(let did) where did == scope.owner: true
        case .user: scope.boundaries.contains(where: viewer.boundaries.contains)
        case .appView: !scope.boundaries.isEmpty
        case .anonymous, .administrator: false
        }
    }

    /// I12: the same rule over all records of an owner, for whoever looks them up: what is not selected is not even read.
    package static func selection(of owner: DID, for viewer: Viewer) -> RecordSelection {
        switch viewer.caller {
        case .user(let did) where did == owner: .all
        case .user: .sharing(viewer.boundaries)
        case .appView: .bounded
        case .anonymous, .administrator: .sharing(.empty)
        }
    }

    /// Releases one record, or nil.
    package static func release<Content>(_ content: Content, of scope: RecordScope, to viewer: Viewer) -> Readable<Content>? {
        mayRead(scope, as: viewer) ? Readable(content) : nil
    }

    /// Releases a page of records, or nil if any one of them is not for this viewer.
    package static func releasePage<Content>(_ content: Content, of scopes: [RecordScope], to viewer: Viewer) -> Readable<Content>? {
        scopes.allSatisfy { mayRead($0, as: viewer) } ? Readable(content) : nil
    }

    /// Releases a whole repo (its CAR names every record): to its owner; to an AppView only where every record has a boundary.
    package static func releaseRepo<Content>(
        _ content: Content, of owner: DID, everyRecordHasBoundary: Bool, to viewer: Viewer
    ) -> Readable<Content>? {
        switch viewer.caller {
        case .user(let did) where did == owner: Readable(content)
        case .appView where everyRecordHasBoundary: Readable(content)
        case .user, .appView, .anonymous, .administrator: nil
        }
    }

    /// Releases what is about an account itself and for its owner alone.
    package static func releaseAccount<Content>(_ content: Content, of owner: DID, to viewer: Viewer) -> Readable<Content>? {
        viewer.caller == .user(owner) ? Readable(content) : nil
    }

    /// Releases what is known of a membership: to the member and to AppViews; to everybody where the settings make memberships public.
    package static func releaseMembership<Content>(
        _ content: Content, of member: DID, arePublic: Bool = false, to viewer: Viewer
    ) -> Readable<Content>? {
        switch viewer.caller {
        case .appView: Readable(content)
        case .user(let did): did == member || arePublic ? Readable(content) : nil
        case .anonymous, .administrator: arePublic ? Readable(content) : nil
        }
    }

    /// Whether a viewer may be told that a record exists which is hidden from them, where the service's settings tell at all: only
    /// members, so that nobody learns it from outside.
    package static func mayKnowOfHidden(_ viewer: Viewer) -> Bool {
        if case .user = viewer.caller { true } else { false }
    }

    /// Releases one record to an administrator, whose receipt stands in the owner's log by now (`admin.read`). On every other way an
    /// administrator is a stranger.
    package static func releaseToAdministrator<Content>(_ content: Content) -> Readable<Content> { Readable(content) }

    /// Releases to whoever runs the program on the machine itself: they can read the files, so nothing is kept from them.
    /// Never called on behalf of a request from the network.
    package static func releaseToOperator<Content>(_ content: Content) -> Readable<Content> { Readable(content) }
}
