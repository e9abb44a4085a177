package import ATProto
import Authorization
import Commands
import EventLog
import Projections

/// A digest, and what it was taken over.
package struct DigestReport: Hashable, Sendable {
    /// Hexadecimal SHA-256.
    package let digest: String
    package let events: UInt64
    package let actors: Int
    /// `rows`: the stored ones, caught up. `log`: folded in memory.
    package let source: String
}

extension Engine {
    private static let pageMax = 512
    /// Twice as many as the SQLite store has threads for actors.
    private static let actorsAtOnce = 8

    /// The actors that have a log, the service's own left out, in order of their DIDs; of these the one that is asked for.
    func forEachActor(_ asked: DID? = nil, _ body: (DID) async throws -> Void) async throws {
        let service = try await serviceDID()
        if let asked {
            if asked != service, try await log.head(of: asked).sequence > 0 { try await body(asked) }
            return
        }
        var after: DID?
        while true {
            let page = try await log.actors(after: after, limit: Self.pageMax)
            for actor in page where actor != service { try await body(actor) }
            guard let last = page.last, page.count == Self.pageMax else { return }
            after = last
        }
    }

    /// The same for a few actors at a time.
    /// - Parameter take: given what `body` made of each, in the order of the DIDs.
    func forEachActor<Result: Sendable>(
        _ asked: DID?, _ body: @escaping @Sendable (DID) async throws -> Result, take: (DID, Result) async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: (Int, Result).self) { group in
            var begun = 0
            var waiting: [Int: (did: DID, result: Result?)] = [:]
            var taken = 0
            func takeOne() async throws {
                guard let (number, result) = try await group.next() else { return }
                waiting[number]!.result = result
                while let next = waiting[taken], let result = next.result {
                    waiting[taken] = nil
                    taken += 1
                    try await take(next.did, result)
                }
            }
            try await forEachActor { did in
                guard asked == nil || asked == did else { return }
                let number = begun
                begun += 1
                waiting[number] = (did, nil)
                group.addTask { (number, try await body(did)) }
                if begun - taken >= Self.actorsAtOnce { try await takeOne() }
            }
            while taken < begun { try await takeOne() }
        }
    }

    /// The DID whose log is the service's own: that of the first event of all.
    func serviceDID() async throws -> DID? {
        try await log.events(afterPosition: 0, limit: 1).first.map { try Event(bytes: $0.bytes).did }
    }

    /// The digest of the stored rows, once they have caught up (I8).
    package func digest(of actor: DID?) async throws -> DigestReport {
        var deployment = DeploymentDigest()
        var events: UInt64 = 0
        try await forEachActor(actor) { [self] did in
            try await storedDigest(of: did)
        } take: { did, stored in
            deployment.add(did, digest: stored.digest)
            events += stored.sequence
        }
        return DigestReport(digest: deployment.text(), events: events, actors: deployment.actors, source: "rows")
    }

    private struct StoredDigest: Sendable {
        let digest: [UInt8]
        /// The number of events that the rows stand at.
        let sequence: UInt64
    }

    /// The digest of one actor's stored rows, once they have caught up.
    private func storedDigest(of actor: DID) async throws -> StoredDigest {
        try await withCurrent(actor) { context, rows in
            StoredDigest(digest: try ActorDigest.of(rows), sequence: context.state.head.sequence)
        }
    }

    /// The digest of the rows that the log gives up to a position, folded in memory: what the stored ones must be (I8). Where an import's
    /// content went with a later leave, no rows can be folded at a position between the two.
    package func digestFromLog(of actor: DID?, until position: UInt64) async throws -> DigestReport {
        var deployment = DeploymentDigest()
        var events: UInt64 = 0
        try await forEachActor(actor) { [self] did in
            let rows = MemoryActorRows()
            let context = try ActorContext.of(did, in: rows)
            do {
                while let step = try await nextStep(of: did, upon: context.state, until: position, limit: 256) {
                    try context.apply(step, to: rows)
                }
            } catch FoldError.chunkMissing(let actor, let sequence, let cid) {
                guard try await lastErasure(of: did, after: sequence) != nil else {
                    throw FoldError.chunkMissing(actor: actor, at: sequence, cid: cid)
                }
                throw OperatorFailure(
                    exitCode: 1, name: "ContentErased",
                    message: "what \(did) imported by event \(sequence) was erased later, and nothing can be folded between the two")
            }
            guard context.state.head.sequence > 0 else { return }
            deployment.add(did, digest: try ActorDigest.of(rows))
            events += context.state.head.sequence
        }
        return DigestReport(digest: deployment.text(), events: events, actors: deployment.actors, source: "log")
    }

    /// Forgets the stored rows; requests are not answered meanwhile.
    /// - Returns: how many actors had any.
    package func dropProjections() async throws -> Int {
        try await gate.closed { try await dropRows(of: nil) }
    }

    /// In each actor's lane, so that no write and no catching up finds its rows gone half-way.
    private func dropRows(of actor: DID?) async throws -> Int {
        let actors = if let actor { [actor] } else { try await readModel.actors() }
        var dropped = 0
        for did in actors {
            if try await lanes.run(did, isBounded: false, { try await readModel.drop(did) }) { dropped += 1 }
        }
        return dropped
    }

    /// Forgets the stored rows of one actor or of all, and folds the log into new ones; requests are not answered meanwhile.
    /// An actor whose log cannot be folded keeps none of the others from theirs.
    /// - Throws: `OperatorFailure` in the end, where there were such actors.
    package func rebuild(
        _ actor: DID?, progress: @Sendable (_ done: Int, _ of: Int?) async throws -> Void
    ) async throws -> DigestReport {
        try await gate.closed {
            _ = try await dropRows(of: actor)
            let actors = actor == nil ? Int(try await log.statistics().actors) - 1 : 1
            var done = 0
            var stopped: [String] = []
            var deployment = DeploymentDigest()
            var events: UInt64 = 0
            try await forEachActor(actor) { [self] did -> Result<StoredDigest, FoldError> in
                do { return .success(try await storedDigest(of: did)) } catch let error as FoldError { return .failure(error) }
            } take: { did, outcome in
                switch outcome {
                case .success(let stored):
                    deployment.add(did, digest: stored.digest)
                    events += stored.sequence
                case .failure(let error): stopped.append("\(did): \(error)")
                }
                done += 1
                try await progress(done, actors)
            }
            guard stopped.isEmpty else {
                throw OperatorFailure(
                    exitCode: 1, name: "ProjectionsStopped",
                    message: "\(stopped.count) of \(done) logs cannot be folded: \(stopped.prefix(20).joined(separator: "; "))")
            }
            return DigestReport(digest: deployment.text(), events: events, actors: deployment.actors, source: "rows")
        }
    }

    /// What the records of one actor or of all come to.
    func usage(of actor: DID?) async throws -> [(did: DID, collections: [NSID: Usage])] {
        var found: [(did: DID, collections: [NSID: Usage])] = []
        try await forEachActor(actor) { [self] did in
            found.append((did, try await withCurrent(did) { _, rows in try rows.collections() }))
        }
        return found
    }
}
