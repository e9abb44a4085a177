package import ATProto
package import Authorization
import Commands
package import EventLog
import Projections

/// How a member's boundaries change. Names are bare or qualified.
package enum BoundaryChange: Hashable, Sendable {
    case add([String])
    /// Takes away also what the settings no longer allow, and what the member does not hold.
    case remove([String])
    /// None is allowed: the member then reads and writes for nobody.
    case set([String])
}

extension BoundaryChange {
    package init?(name: String, names: [String]) {
        switch name {
        case "add": self = .add(names)
        case "remove": self = .remove(names)
        case "set": self = .set(names)
        default: return nil
        }
    }

    var name: String {
        switch self {
        case .add: "add"
        case .remove: "remove"
        case .set: "set"
        }
    }

    var names: [String] {
        switch self {
        case .add(let names), .remove(let names), .set(let names): names
        }
    }
}

extension Engine {
    /// Changes what a member may read and write, in force when this returns: whoever asks afterwards is judged by it. A change that
    /// changes nothing appends nothing.
    /// - Throws: `Refusal.notEnrolled`, `.invalidRequest` for a boundary that is not allowed.
    package func changeBoundaries(of actor: DID, _ change: BoundaryChange, by agent: Agent) async throws -> EnrollmentSummary {
        try await inMembersLane(actor) {
            let append = try await withCurrentInLane(actor) { [self] context, rows in
                try prepareBoundaries(of: actor, change, agent: agent, context: context, rows: rows)
            }
            if let append { try await self.append(append) }
            guard let summary = try await withCurrentInLane(actor, { context, _ in EnrollmentSummary(context.state) }) else {
                throw Refusal.notEnrolled
            }
            return summary
        }
    }

    private func prepareBoundaries(
        of actor: DID, _ change: BoundaryChange, agent: Agent, context: ActorContext, rows: any ActorRows
    ) throws -> Append? {
        let state = context.state
        let authority = try requireAuthority()
        guard let membership = state.membership, let key = state.signingKey else { throw Refusal.notEnrolled }
        let after = try boundaries(membership.boundaries, changedBy: change, terms: authority.terms)
        guard after != membership.boundaries else { return nil }
        let body = AccountBoundaries(
            provenance: Provenance(salt: surroundings.random(Provenance.saltByteCount), by: agent), before: membership.boundaries,
            after: after, attestation: try Attestation.sign(did: actor, boundaries: after, actorKey: key, with: authority.key))
        return try prepare(.accountBoundaries(body), of: actor, context: context, rows: rows)
    }

    private func boundaries(_ held: BoundarySet, changedBy change: BoundaryChange, terms: ServiceTerms) throws -> BoundarySet {
        let service = terms.serviceDID.description
        switch change {
        case .add(let names): return try granted(Array(held) + qualified(allowed: names, terms: terms))
        case .set(let names): return try granted(qualified(allowed: names, terms: terms))
        case .remove(let names):
            let removed = Set(names.map { BoundaryName.qualify($0, service: service) ?? $0 })
            return try BoundarySet(held.filter { !removed.contains($0) })
        }
    }

    func granted(_ names: [String]) throws(Refusal) -> BoundarySet {
        do { return try BoundarySet(names) } catch {
            throw .invalidRequest("a member holds at most \(BoundarySet.countMax) boundaries")
        }
    }

    /// Names as an operator or an administrator gives them, qualified; refused where the settings do not allow them.
    func qualified(allowed names: [String], terms: ServiceTerms) throws(Refusal) -> [String] {
        let service = terms.serviceDID.description
        let qualified = names.map { BoundaryName.qualify($0, service: service) ?? $0 }
        let refused = qualified.filter { !terms.allowedBoundaries.contains($0) }
        guard refused.isEmpty else {
            throw .invalidRequest(
                "boundaries not in allowed domains: \(refused.joined(separator: ", "))"
                    + "; allowed: \(terms.allowedBoundaries.map(BoundaryName.bare).joined(separator: ", "))")
        }
        return qualified
    }

    /// The boundaries of a member, for those who may know them; nil looks the same for nobody of this DID.
    package func boundaries(of did: DID, to caller: Caller, arePublic: Bool) async throws -> Readable<BoundarySet>? {
        guard let enrollment = try await enrollment(of: did) else { return nil }
        return ReadPolicy.releaseMembership(
            enrollment.membership.boundaries, of: did, arePublic: arePublic, to: Viewer(caller: caller, boundaries: .empty))
    }

    /// The boundaries that this service offers now, qualified.
    package func domains() throws -> [String] { try requireAuthority().terms.allowedBoundaries }

    /// The members in order of their DIDs.
    /// - Parameters:
    ///   - after: exclusive.
    ///   - limit: 1…500.
    /// - Returns: a page, and the DID to go on behind; nil at the end.
    package func enrollments(after: DID?, limit: Int) async throws -> (page: [EnrollmentSummary], cursor: DID?) {
        let service = try await serviceDID()
        var found: [EnrollmentSummary] = []
        var last = after
        while true {
            let actors = try await log.actors(after: last, limit: limit)
            for actor in actors {
                last = actor
                guard actor != service, let summary = try await enrollment(of: actor) else { continue }
                found.append(summary)
                if found.count == limit { return (found, last) }
            }
            if actors.count < limit { return (found, nil) }
        }
    }
}
