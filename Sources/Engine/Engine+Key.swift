package import ATProto
import Commands
package import EventLog
import Keys
import Projections

/// The key that signs an actor's commits is not where it should be, or another one is.
struct LostKey: Error {
    let actor: DID
}

/// How an actor's commit key is replaced: by an event that names the old key and the new one, with a commit over the same tree.
///
/// The service holds these keys for its members and vouches for each in the attestation, so it can give a new one without the old. Whoever
/// loses a key file has lost nothing that the log cannot make good; a member's next write does it, and the log says so. A key that
/// is there and cannot be read is not lost: that is for the operator to put right, or to replace.
extension Engine {
    /// Gives a member a new key.
    /// - Throws: `Refusal.notEnrolled`.
    package func changeKey(of actor: DID, by agent: Agent) async throws -> EnrollmentSummary {
        guard try await mayBeMember(actor) else { throw Refusal.notEnrolled }
        return try await inMembersLane(actor) {
            try await appendKey(of: actor, by: agent)
            guard let summary = try await withCurrentInLane(actor, { context, _ in EnrollmentSummary(context.state) }) else {
                throw Refusal.notEnrolled
            }
            return summary
        }
    }

    /// The lane for what only members do. Where the member's key turns out to be lost it is replaced, and `body` begins again.
    func inMembersLane<Result>(_ actor: DID, _ body: () async throws -> Result) async throws -> Result {
        try await inLane(actor) {
            // Asked again: many commands wait here, and the one before may have been a leave.
            guard try await mayBeMember(actor) else { throw Refusal.notEnrolled }
            do { return try await body() } catch is LostKey {
                logger.warning("the key of an actor is lost and is replaced", metadata: ["actor": .string(actor.description)])
                try await appendKey(of: actor, by: Agent(did: try requireAuthority().terms.serviceDID, credential: .system))
                return try await body()
            }
        }
    }

    private func appendKey(of actor: DID, by agent: Agent) async throws {
        try await append(
            try await withCurrentInLane(actor) { [self] context, rows in
                try prepareKey(of: actor, agent: agent, context: context, rows: rows)
            })
    }

    /// On the actor's thread. The key is kept before the event that names it, in the place of the old one: where the event does not follow,
    /// the next write finds another key than the log's, and replaces it as a lost one.
    private func prepareKey(of actor: DID, agent: Agent, context: ActorContext, rows: any ActorRows) throws -> Append {
        let state = context.state
        let authority = try requireAuthority()
        guard let membership = state.membership, let old = state.signingKey, let repo = state.repo else { throw Refusal.notEnrolled }
        let now = surroundings.now()
        var clock = revClock(upon: state, now: now)
        let rev = try clock.next()
        let key = try keys.make()
        let change = AccountKey(
            provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), key: key.publicKey, old: old,
            attestation: try Attestation.sign(
                did: actor, boundaries: membership.boundaries, actorKey: key.publicKey, with: authority.key),
            commit: try ActorCommit.sign(did: actor, rev: rev, data: repo.data, with: key))
        let event = try SignedEvent.sign(
            .accountKey(change), after: state.head, of: actor, time: eventTime(upon: state, now: now, rev: rev),
            with: try signing(state.tagKey))
        let append = Append(actor: actor, after: state.head, events: [event])
        try context.prepare(append, upon: rows)
        try keys.keep(key, actor)
        context.signingKey = nil
        return append
    }
}
