package import ATProto
package import Commands
package import EventLog
package import Keys
import Projections

/// An enrollment, as the operator and the account itself see it.
package struct EnrollmentSummary: Hashable, Sendable {
    package let did: DID
    package let membership: Membership
    package let signingKey: PublicKey
    package let repo: RepoHead
    /// The number of the event that took all content before it away; 0 where none did.
    package let erasedThrough: UInt64
}

extension Engine {
    /// Enrolls an actor: a key, a tag key, an attestation, and the first commit, in one event. Somebody who left and comes back
    /// gets new ones on the same log.
    /// - Parameter names: bare or qualified boundaries; none: the service's default for new members.
    /// - Throws: `Refusal.alreadyEnrolled`, `.invalidRequest` for a boundary that is not allowed.
    package func enroll(_ actor: DID, boundaries names: [String], pds: String?, by agent: Agent) async throws -> EnrollmentSummary {
        let authority = try requireAuthority()
        guard actor != authority.terms.serviceDID else { throw Refusal.invalidRequest("the service itself is no member") }
        guard actor.description.utf8.count <= Event.didBytesMax else {
            throw Refusal.invalidRequest("a DID that is enrolled has at most \(Event.didBytesMax) bytes")
        }
        if let pds, !Self.isServer(pds) {
            throw Refusal.invalidRequest("the PDS is named by an http or https URL of at most \(AccountEnroll.pdsBytesMax) bytes")
        }
        let boundaries = try grant(names, terms: authority.terms)
        return try await inLane(actor) {
            // What an earlier leave has taken away goes first, so that nothing new is among it.
            try await erase(actor)
            let append = try await withCurrentInLane(actor) { [self] context, rows in
                try prepareEnrollment(of: actor, boundaries: boundaries, pds: pds, agent: agent, context: context, rows: rows)
            }
            try await self.append(append)
            guard let summary = try await withCurrentInLane(actor, { context, _ in EnrollmentSummary(context.state) }) else {
                throw EventLogError.brokenChain(actor: actor, at: append.head.sequence)
            }
            return summary
        }
    }

    private static func isServer(_ url: String) -> Bool {
        let hosts = ["https://", "http://"].filter(url.hasPrefix).map { url.dropFirst($0.count) }
        return url.utf8.count <= AccountEnroll.pdsBytesMax && hosts.contains { !$0.isEmpty && $0.first != "/" }
            && url.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }

    private func grant(_ names: [String], terms: ServiceTerms) throws -> BoundarySet {
        // What the settings give to everybody need not be among what may be given by name.
        try granted(names.isEmpty ? terms.autoEnrollBoundaries : qualified(allowed: names, terms: terms))
    }

    /// On the actor's thread. The key is always a new one, also of somebody who comes back, and is kept before the event that names
    /// it: a key without an event is harmless, and the next attempt puts another in its place.
    private func prepareEnrollment(
        of actor: DID, boundaries: BoundarySet, pds: String?, agent: Agent, context: ActorContext, rows: any ActorRows
    ) throws -> Append {
        let state = context.state
        let authority = try requireAuthority()
        guard state.membership == nil else { throw Refusal.alreadyEnrolled }
        let now = surroundings.now()
        var clock = revClock(upon: state, now: now)
        let rev = try clock.next()
        let key = try keys.make()
        let tagKey = surroundings.random(Leaf.tagKeyByteCount)
        let enroll = AccountEnroll(
            provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), boundaries: boundaries,
            key: key.publicKey,
            attestation: try Attestation.sign(did: actor, boundaries: boundaries, actorKey: key.publicKey, with: authority.key), pds: pds,
            // best effort: a service whose DID is no record key has no enrollment records.
            recordKey: try? RecordKey(ofEnrollmentAt: authority.terms.serviceDID), tagKey: tagKey,
            commit: try ActorCommit.sign(did: actor, rev: rev, data: context.tree.root(), with: key))
        let event = try SignedEvent.sign(
            .accountEnroll(enroll), after: state.head, of: actor, time: eventTime(upon: state, now: now, rev: rev),
            with: try signing(tagKey))
        let append = Append(actor: actor, after: state.head, events: [event])
        try context.prepare(append, upon: rows)
        try keys.keep(key, actor)
        context.signingKey = nil
        return append
    }

    /// The enrollment of an actor, or nil.
    package func enrollment(of actor: DID) async throws -> EnrollmentSummary? {
        if !isDoubted(actor), case .known(let enrollment) = enrollments.find(actor) { return enrollment }
        guard try await mayBeMember(actor) else { return nil }
        return try await withCurrent(actor) { [enrollments] context, _ in
            let enrollment = EnrollmentSummary(context.state)
            enrollments.set(enrollment, of: actor)
            return enrollment
        }
    }

    package func isEnrolled(_ actor: DID) async throws -> Bool { try await enrollment(of: actor) != nil }
}

extension EnrollmentSummary {
    /// Nil for a state without membership.
    init?(_ state: ActorState) {
        guard let membership = state.membership, let signingKey = state.signingKey, let repo = state.repo else { return nil }
        self.init(
            did: state.did, membership: membership, signingKey: signingKey, repo: repo, erasedThrough: state.erasedThrough)
    }
}
