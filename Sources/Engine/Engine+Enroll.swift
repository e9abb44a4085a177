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
        let boundaries = try grant(names, terms: authority.terms)
        return try await lanes.run(actor) {
            let append = try await withCurrentInLane(actor) { [self] context, rows in
                try prepareEnrollment(of: actor, boundaries: boundaries, pds: pds, agent: agent, context: context)
            }
            try await self.append(append)
            guard let summary = try await withCurrentInLane(actor, { context, _ in EnrollmentSummary(context.state) }) else {
                throw EventLogError.brokenChain(actor: actor, at: append.head.sequence)
            }
            return summary
        }
    }

    private func grant(_ names: [String], terms: ServiceTerms) throws -> BoundarySet {
        try BoundarySet(names.isEmpty ? terms.autoEnrollBoundaries : qualified(allowed: names, terms: terms))
    }

    /// On the actor's thread. The key is kept before the event that names it: a key without an event is harmless, and is taken up
    /// by the next attempt.
    private func prepareEnrollment(
        of actor: DID, boundaries: BoundarySet, pds: String?, agent: Agent, context: ActorContext
    ) throws -> Append {
        let state = context.state
        let authority = try requireAuthority()
        guard state.membership == nil else { throw Refusal.alreadyEnrolled }
        let key = try keys.read(actor) ?? PrivateKey.generate(.p256)
        if try keys.read(actor) == nil { try keys.keep(key, actor) }
        let (rev, time) = try next(upon: state, now: surroundings.now())
        let tagKey = surroundings.random(Leaf.tagKeyByteCount)
        let enroll = AccountEnroll(
            provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), boundaries: boundaries,
            key: key.publicKey,
            attestation: try Attestation.sign(did: actor, boundaries: boundaries, actorKey: key.publicKey, with: authority.key), pds: pds,
            recordKey: try? RecordKey(authority.terms.serviceDID.description.replacingPercentColons), tagKey: tagKey,
            commit: try ActorCommit.sign(did: actor, rev: rev, data: context.tree.root(), with: key))
        let event = try SignedEvent.sign(.accountEnroll(enroll), after: state.head, of: actor, time: time, with: try signing(tagKey))
        context.signingKey = nil
        return Append(actor: actor, after: state.head, events: [event])
    }

    /// The enrollment of an actor, or nil.
    package func enrollment(of actor: DID) async throws -> EnrollmentSummary? {
        guard try await log.head(of: actor).sequence > 0 else { return nil }  // A stranger gets no files.
        return try await withCurrent(actor) { context, _ in EnrollmentSummary(context.state) }
    }

    package func isEnrolled(_ actor: DID) async throws -> Bool { try await enrollment(of: actor) != nil }
}

extension EnrollmentSummary {
    /// Nil for a state without membership.
    init?(_ state: ActorState) {
        guard let membership = state.membership, let signingKey = state.signingKey, let repo = state.repo else { return nil }
        self.init(did: state.did, membership: membership, signingKey: signingKey, repo: repo)
    }
}

extension String {
    /// A service DID as the key of a record: `%3A` is written as a colon (wire contract, section 3.5).
    var replacingPercentColons: String {
        split(separator: "%3A", omittingEmptySubsequences: false).joined(separator: ":")
            .split(separator: "%3a", omittingEmptySubsequences: false).joined(separator: ":")
    }
}
