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
    /// Bytes of the records in one answer, each as often as it was asked for; one record is always given.
    package static let hydrationBytesMax = 8 << 20

    /// Gives the records behind URIs, those that the caller may read (I12). A URI that is asked for twice is answered twice.
    /// - Parameter tellsBlocked: whether enrolled callers learn of records that they may not see.
    /// - Throws: `Refusal.invalidRequest` where what the caller may read is too much for one answer.
    package func hydrate(_ uris: [ATURI], to caller: Caller, tellsBlocked: Bool) async throws -> Hydration {
        precondition(uris.count <= Self.hydrationMax, "at most \(Self.hydrationMax) records are hydrated at once")
        let viewer = try await viewer(of: caller)
        let looksAtHidden = tellsBlocked && ReadPolicy.mayKnowOfHidden(viewer)
        let rows = try await hydratedRows(uris, lookingAtHidden: looksAtHidden, to: viewer)
        // What is hidden is not counted, so that nobody learns its size.
        let bytes = uris.reduce(0) { $0 + (rows[$1]?.visible?.content.size ?? 0) }
        guard bytes <= Self.hydrationBytesMax || uris.count == 1 else {
            throw Refusal.invalidRequest(
                "these records come to \(bytes) bytes, and one answer has at most \(Self.hydrationBytesMax): ask for fewer at a time")
        }
        let records = try await hydratedRecords(rows, to: viewer)
        var hydration = Hydration()
        for uri in uris {
            if let record = records[uri] {
                hydration.records.append(record)
            } else if looksAtHidden, rows[uri] != nil {
                hydration.blocked.append(uri)
            } else {
                hydration.notFound.append(uri)
            }
        }
        return hydration
    }

    /// A record that stands behind a URI.
    private struct HydratedRow: Sendable {
        let owner: DID
        /// Nil where it is hidden from the viewer.
        let visible: Readable<RecordRow>?
    }

    /// What stands behind the URIs that name a DID, a collection and a record key; others lead nowhere here. What is hidden is not even
    /// looked at, unless it is to be told of (I12).
    private func hydratedRows(
        _ uris: [ATURI], lookingAtHidden looksAtHidden: Bool, to viewer: Viewer
    ) async throws -> [ATURI: HydratedRow] {
        var places: [DID: Set<RecordPath>] = [:]
        for uri in uris {
            guard let (owner, path) = uri.place else { continue }
            places[owner, default: []].insert(path)
        }
        var found: [ATURI: HydratedRow] = [:]
        for (owner, paths) in places {
            guard try await mayBeMember(owner) else { continue }
            let selection = looksAtHidden ? .all : ReadPolicy.selection(of: owner, for: viewer)
            let rows: [RecordRow] = try await withCurrent(owner) { context, rows in
                guard context.state.membership != nil else { return [] }
                return try paths.compactMap { try rows.record($0, selection) }
            }
            for row in rows {
                let visible = ReadPolicy.release(row, of: row.scope(owner), to: viewer)
                found[row.path.uri(of: owner)] = HydratedRow(owner: owner, visible: visible)
            }
        }
        return found
    }

    private func hydratedRecords(_ rows: [ATURI: HydratedRow], to viewer: Viewer) async throws -> [ATURI: Readable<RecordContent>] {
        var records: [ATURI: Readable<RecordContent>] = [:]
        for (owner, owned) in Dictionary(grouping: rows, by: \.value.owner) {
            let visible = owned.compactMap { uri, row in row.visible.map { (uri: uri, row: $0.content) } }
            let contents = try await servedContents(of: visible.map(\.row), owner: owner) ?? []
            for (place, content) in zip(visible, contents) {
                records[place.uri] = ReadPolicy.release(content, of: place.row.scope(owner), to: viewer)
            }
        }
        return records
    }
}
