import ATProto
import Commands
import EventLog

extension Engine {
    /// The bare names that the service allowed at an earlier start and does not allow now, with the number of members who hold each.
    /// Taking a name out of the settings stops new grants and writes and changes no membership: who holds it goes on reading.
    /// Looks at every member where there is such a name, and at none where there is not.
    package func retiredBoundaries() async throws -> [(name: String, members: Int)] {
        let terms = try requireAuthority().terms
        let allowed = Set(terms.allowedBoundaries)
        let service = terms.serviceDID.description
        let retired = try await startedWith(terms.serviceDID).filter { !allowed.contains(BoundaryName.qualified($0, service: service)) }
        guard !retired.isEmpty else { return [] }
        var members = Dictionary(uniqueKeysWithValues: retired.map { (BoundaryName.qualified($0, service: service), 0) })
        try await forEachActor { [self] actor in
            let held = try await enrollment(of: actor)?.membership.boundaries ?? .empty
            for boundary in held where members[boundary] != nil { members[boundary]! += 1 }
        }
        return retired.sorted().map { ($0, members[BoundaryName.qualified($0, service: service)] ?? 0) }
    }

    /// Every name that a start of the service has allowed.
    private func startedWith(_ service: DID) async throws -> Set<String> {
        var names: Set<String> = []
        var sequence: UInt64 = 0
        while true {
            let page = try await log.events(of: service, after: sequence, limit: 256)
            guard !page.isEmpty else { return names }
            for stored in page {
                let event = try Event(bytes: stored.bytes)
                sequence = event.sequence
                guard event.kind == .serviceStart, let body = stored.body,
                    case .serviceStart(let start) = try EventBody(kind: event.kind, bytes: body)
                else { continue }
                names.formUnion(start.boundaries)
            }
        }
    }
}
