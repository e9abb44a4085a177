package import ATProto
package import EventLog

/// What was asked of a log and what came of it, and whether a log that was opened again holds what it must and nothing else.
package struct LogLedger: Sendable {
    package enum Outcome: Sendable {
        /// Its writer was told so, or somebody who opened the log has seen it: it stays.
        case present
        /// Its writer was told that nothing was stored.
        case absent
        /// Nobody was told anything.
        case open
    }

    package struct Entry: Sendable {
        package let append: Append
        package var outcome: Outcome
    }

    /// By the CID of the append's last event.
    private var entries: [CID: Entry] = [:]

    /// Whether rows of requests are removed when they are old, so that their absence says nothing.
    private let requestsExpire: Bool

    package init(requestsExpire: Bool = false) { self.requestsExpire = requestsExpire }

    package mutating func set(_ append: Append, _ outcome: Outcome) {
        guard let cid = append.head.event else { return }
        entries[cid] = Entry(append: append, outcome: outcome)
    }

    package func outcome(of append: Append) -> Outcome? { append.head.event.flatMap { entries[$0]?.outcome } }

    package var count: Int { entries.count }
    package var presentCount: Int { entries.values.count { $0.outcome == .present } }

    /// Takes what the log holds for what it holds for good: whoever opens it has made it durable.
    package mutating func settle(_ present: Set<CID>) {
        for cid in entries.keys { entries[cid]?.outcome = present.contains(cid) ? .present : .absent }
    }

    package struct Reading: Sendable {
        /// The last events of the appends that are there.
        package var present: Set<CID> = []
        package var eventCount = 0
        package var problems: [String] = []
    }

    /// Compares the log with what is known of it, and verifies it.
    package func read(_ store: any EventStore, signatures: Bool = false) async -> Reading {
        var reading = Reading()
        do throws(EventLogError) {
            let found = try await events(in: store, &reading)
            reading.eventCount = found.count
            try await compare(found, store, &reading)
        } catch {
            reading.problems.append("reading: \(error)")
        }
        var options = ChainVerifier.Options()
        options.signatures = signatures
        options.shards = 1
        let report = await ChainVerifier(store, options: options).verify()
        reading.problems += report.findings.prefix(5).map { "verify: \($0)" }
        return reading
    }

    private func events(in store: any EventStore, _ reading: inout Reading) async throws(EventLogError) -> Set<CID> {
        var found: Set<CID> = []
        var last: UInt64 = 0
        while true {
            let page = try await store.events(afterPosition: last, limit: 1000)
            guard let end = page.last?.position else { return found }
            for stored in page where !found.insert(stored.cid).inserted { reading.problems.append("event \(stored.cid) is there twice") }
            last = end
        }
    }

    private func compare(_ found: Set<CID>, _ store: any EventStore, _ reading: inout Reading) async throws(EventLogError) {
        var explained = 0
        for (cid, entry) in entries {
            let present = entry.append.events.count { found.contains($0.cid) }
            let name = "\(entry.append.events[0].event.kind) \(entry.append.events[0].event.sequence) of \(entry.append.actor)"
            guard present == 0 || present == entry.append.events.count else {
                reading.problems.append("\(present) of \(entry.append.events.count) events are there: \(name)")
                continue
            }
            explained += present
            if present > 0 {
                reading.present.insert(cid)
                if entry.outcome == .absent { reading.problems.append("was refused, and is there: \(name)") }
            } else if entry.outcome == .present {
                reading.problems.append("was acknowledged, and is gone: \(name)")
            }
        }
        if explained < found.count { reading.problems.append("\(found.count - explained) events are there that nobody appended") }
        try await compareRows(store, &reading)
    }

    /// Blocks and requests come and stay away with their events.
    private func compareRows(_ store: any EventStore, _ reading: inout Reading) async throws(EventLogError) {
        var blocks: [DID: Set<CID>] = [:]
        for append in reading.present.compactMap({ entries[$0]?.append }) {
            blocks[append.actor, default: []].formUnion(append.blocks.map(\.cid))
        }
        for (cid, entry) in entries {
            let append = entry.append
            let isPresent = reading.present.contains(cid)
            if !isPresent, let orphan = append.blocks.last(where: { blocks[append.actor]?.contains($0.cid) != true }) {
                if try await store.block(orphan.cid, of: append.actor) != nil {
                    reading.problems.append("a block is there of an append of \(append.actor) that is not")
                }
            }
            guard let request = append.request else { continue }
            let row = try await store.request(request.scope)
            if row == request, !isPresent { reading.problems.append("the row of a request is there without its event") }
            if row == nil, isPresent, !requestsExpire { reading.problems.append("the row of a request is gone, and its event is there") }
        }
    }
}
