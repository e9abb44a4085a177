package import ATProto
package import Authorization
import Commands
import EventLog
import Projections

/// What became of the records that a caller asked for, each list in the order of the request.
package struct Hydration: Sendable {
    package var records: [Readable<RecordContent>] = []
    /// Also what exists and is not for this caller, unless the service tells.
    package var notFound: [ATURI] = []
    /// Empty unless the service tells its members what they may not see.
    package var blocked: [ATURI] = []
}

extension Engine {
    package static let hydrationMax = 100

    /// Gives the records behind URIs, those that the caller may read (I12). A URI that is asked for twice is answered twice.
    /// - Parameter tellsBlocked: whether enrolled callers learn of records that they may not see.
    package func hydrate(_ uris: [ATURI], to caller: Caller, tellsBlocked: Bool) async throws -> Hydration {
        precondition(uris.count <= Self.hydrationMax, "at most \(Self.hydrationMax) records are hydrated at once")
        let viewer = try await viewer(of: caller)
        var found: [ATURI: HydratedRow] = [:]
        for (owner, paths) in Self.byOwner(uris) {
            for (path, row) in try await hydratedRows(at: paths, of: owner, to: viewer) { found[try path.uri(of: owner)] = row }
        }
        var hydration = Hydration()
        for uri in uris {
            switch found[uri] {
            case .visible(let record): hydration.records.append(record)
            case .hidden where tellsBlocked && ReadPolicy.mayKnowOfHidden(viewer): hydration.blocked.append(uri)
            case .hidden, nil: hydration.notFound.append(uri)
            }
        }
        return hydration
    }

    private enum HydratedRow: Sendable {
        case visible(Readable<RecordContent>)
        case hidden
    }

    /// URIs that name a DID, a collection and a record key; others lead nowhere here.
    private static func byOwner(_ uris: [ATURI]) -> [DID: Set<RecordPath>] {
        var owners: [DID: Set<RecordPath>] = [:]
        for uri in uris {
            guard let (owner, path) = uri.place else { continue }
            owners[owner, default: []].insert(path)
        }
        return owners
    }

    private func hydratedRows(at paths: Set<RecordPath>, of owner: DID, to viewer: Viewer) async throws -> [RecordPath: HydratedRow] {
        guard try await log.head(of: owner).sequence > 0 else { return [:] }
        let rows: [RecordRow] = try await withCurrent(owner) { context, rows in
            guard context.state.membership != nil else { return [] }
            return try paths.compactMap { try rows.record($0) }
        }
        let visible = rows.filter { ReadPolicy.mayRead($0.scope(owner), as: viewer) }
        var found = Dictionary(uniqueKeysWithValues: rows.map { ($0.path, HydratedRow.hidden) })
        for (row, content) in zip(visible, try await contents(of: visible, owner: owner)) {
            if let record = ReadPolicy.release(content, of: row.scope(owner), to: viewer) { found[row.path] = .visible(record) }
        }
        return found
    }
}
