package import ATProto
import Commands
package import EventLog
import Projections

/// How membership ends: by one durable append. From its return on the account is nobody here, for others and for itself (I12).
///
/// A leave that takes the content away is followed by its erasure, in the same turn of the actor's lane: the blocks, the rows, the key. The
/// append notes in the log's store that it is due, so what a crash or a full disk interrupts is carried out by the same code at the
/// next start, in the next hour, or before the account comes back: **nothing of a later enrollment is appended, and no key of it is kept,
/// before the erasure was carried out**, and so what is erased is always that of the enrollments before.
extension Engine {
    /// Ends a membership. What is to be removed elsewhere (the record on the user's own server, stubs, the session) is not done here.
    ///
    /// Content that was kept by an earlier leave can still be taken away by one more.
    /// - Parameters:
    ///   - content: whether the records stay here, unserved, for a return, or go.
    ///   - reason: at most 2,000 bytes.
    ///   - use: what proved the caller, where it may be used once.
    /// - Throws: `Refusal.notEnrolled`, with nothing written. What goes wrong after the append is logged, and done later.
    package func leave(
        _ actor: DID, content: AccountLeave.Content, reason: String, by agent: Agent, use: SingleUse? = nil
    ) async throws {
        guard reason.utf8.count <= reasonBytesMax else { throw Refusal.invalidRequest("a reason has at most \(reasonBytesMax) bytes") }
        guard try await log.head(of: actor).sequence > 0 else { throw Refusal.notEnrolled }  // A stranger gets no files.
        try await inLane(actor) {
            guard try await !isErased(actor) else { throw Refusal.notEnrolled }
            let append = try await withCurrentInLane(actor) { [self] context, rows in
                let state = context.state
                guard state.membership != nil || (content == .erase && state.repo != nil) else { throw Refusal.notEnrolled }
                let leave = AccountLeave(
                    provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), content: content, reason: reason
                )
                return try prepare(.accountLeave(leave), of: actor, context: context, rows: rows, use: use, erasesBlocks: content == .erase)
            }
            try await self.append(append)
            if content == .erase { await carryOutErasure(of: actor) }
        }
    }

    /// Carries out the erasures that a crash or a full disk has left undone. What cannot be carried out now either is logged.
    package func carryOutErasures() async {
        do {
            for actor in try await log.erasuresDue() {
                try await lanes.run(actor, isBounded: false) { await carryOutErasure(of: actor) }
            }
        } catch is CancellationError {
            return
        } catch {
            logger.error("what is to be erased cannot be read", metadata: ["error": .string("\(error)")])
        }
    }

    /// In the actor's lane. The leave is a fact by now, so what goes wrong is no failure of it.
    private func carryOutErasure(of actor: DID) async {
        do { try await erase(actor) } catch {
            logger.error(
                "an erasure is not carried out, and stays due",
                metadata: ["actor": .string(actor.description), "error": .string("\(error)")])
        }
    }

    /// Removes what an actor's last leave has taken away, as far as it is still there. In the actor's lane; nothing happens where the actor
    /// is a member, or left with the content kept.
    func erase(_ actor: DID) async throws {
        guard try await isErased(actor) else { return }
        let head = try await log.head(of: actor)
        while try await log.eraseBlocks(of: actor, at: head) > 0 {}
        _ = try await readModel.drop(actor)
        try keys.remove(actor)
        try await log.endErasure(of: actor)
    }

    /// Whether the actor's log ends without membership and without content. In the actor's lane. Mostly the last event alone says so: then no
    /// rows are made for somebody who has none.
    private func isErased(_ actor: DID) async throws -> Bool {
        guard let (stored, event) = try await lastEvent(of: actor) else { return false }
        if event.kind == .accountLeave { return try stored.takesContentAway(event) }
        return try await withCurrentInLane(actor) { context, _ in context.state.isErased }
    }

    /// The number of the event at `head`, if it takes all content before it away.
    func erasure(at head: Head, of actor: DID) async throws -> UInt64? {
        guard let (stored, event) = try await event(at: head, of: actor), try stored.takesContentAway(event) else { return nil }
        return event.sequence
    }

    private func lastEvent(of actor: DID) async throws -> (stored: StoredEvent, event: Event)? {
        try await event(at: try await log.head(of: actor), of: actor)
    }

    private func event(at head: Head, of actor: DID) async throws -> (stored: StoredEvent, event: Event)? {
        guard head.sequence > 0, let stored = try await log.events(of: actor, after: head.sequence - 1, limit: 1).first else { return nil }
        return (stored, try Event(bytes: stored.bytes))
    }
}

// What those who read and write ask, who may have begun before somebody left.
extension Engine {
    /// Whether an actor's rows are worth a look: those of strangers and of those who have left are not, and no files are made for them.
    /// A yes may be no longer true when the rows are looked at.
    func mayBeMember(_ actor: DID) async throws -> Bool {
        if !isDoubted(actor), case .known(let enrollment) = enrollments.find(actor) { return enrollment != nil }
        guard let (_, event) = try await lastEvent(of: actor) else { return false }
        return event.kind != .accountLeave
    }

    /// Whether what an event of this number made is still served. Asked behind the last read of what is given out, since the owner may have
    /// left meanwhile, or have left and come back (I12).
    func stillServes(_ owner: DID, madeBy sequence: UInt64) async throws -> Bool {
        guard let enrollment = try await enrollment(of: owner) else { return false }
        return sequence > enrollment.erasedThrough
    }
}
