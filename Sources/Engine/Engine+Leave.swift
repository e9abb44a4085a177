package import ATProto
import Commands
package import EventLog
import Projections

/// How membership ends: by one durable append. From its return on the account is nobody here, for others and for itself (I12); whatever
/// else follows from it can be done later and again.
extension Engine {
    /// Ends a membership. What is to be removed elsewhere (the record on the user's own server, stubs, the session) is not done here.
    /// - Parameters:
    ///   - content: whether the records stay here, unserved, for a return, or go.
    ///   - reason: at most 2,000 bytes.
    ///   - use: what proved the caller, where it may be used once.
    /// - Throws: `Refusal.notEnrolled`, with nothing written.
    package func leave(
        _ actor: DID, content: AccountLeave.Content, reason: String, by agent: Agent, use: SingleUse? = nil
    ) async throws {
        guard reason.utf8.count <= reasonBytesMax else { throw Refusal.invalidRequest("a reason has at most \(reasonBytesMax) bytes") }
        guard try await log.head(of: actor).sequence > 0 else { throw Refusal.notEnrolled }  // A stranger gets no files.
        try await inLane(actor) {
            let append = try await withCurrentInLane(actor) { [self] context, rows in
                guard context.state.membership != nil else { throw Refusal.notEnrolled }
                let leave = AccountLeave(
                    provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), content: content, reason: reason
                )
                return try prepare(.accountLeave(leave), of: actor, context: context, rows: rows, use: use)
            }
            try await self.append(append)
        }
    }
}
