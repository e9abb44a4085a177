package import ATProto

/// Reads a whole log and says what is wrong with it: I1–I5 as far as stored bytes can show them, I10, I11, I13.
///
/// It goes through the events in order of position, page by page, and hands each page to shards that work at the same time,
/// every actor always with the same shard. What a page's successor needs is carried in one small state an actor. After the
/// walk it looks at every actor's log once more: for events without a position, and for a head that is not where the
/// events end. It signs nothing and needs no private key. What it cannot see, because it is a whole log too: FORMAT.md, section 7.
package struct ChainVerifier: Sendable {
    package struct Options: Sendable {
        /// Every event's signature, every commit's and every attestation's.
        package var signatures = true
        /// Every body decoded and followed, every block present and hashed. Without it: the chain, bodies by their CID, leaves.
        package var contents = true
        /// This actor's log and the service's alone; positions are then compared, not counted.
        package var actor: DID?
        package var shards = 2
        package var pageEvents = 8192
        /// Findings beyond this many are counted and not kept.
        package var findingsMax = 1000

        package init() {}
    }

    package struct Report: Sendable {
        package let events: UInt64
        package let actors: UInt64
        /// In order of position; those without one first.
        package let findings: [Finding]
        package let findingCount: Int

        package var isWhole: Bool { findingCount == 0 }
    }

    private let store: any EventStore
    private let options: Options
    private let progress: @Sendable (UInt64) -> Void

    /// - Parameter progress: told how many events have been read, after each page.
    package init(_ store: any EventStore, options: Options = Options(), progress: @escaping @Sendable (UInt64) -> Void = { _ in }) {
        self.store = store
        self.options = options
        self.progress = progress
    }

    package func verify() async -> Report {
        var findings = FindingList(file: store.file, max: options.findingsMax)
        for finding in await store.inspect() { findings.add(finding) }
        let history = await history(&findings)
        let rules = ChainRules(
            history: history, file: store.file, isHashed: store.hashesEventsRead, signatures: options.signatures,
            contents: options.contents, findingsMax: options.findingsMax)
        let shards = (0..<max(1, options.shards)).map { _ in VerifierShard(store: store, rules: rules) }
        let walked = options.actor == nil ? await walk(shards, &findings) : .start
        await finish(shards, history: history, behind: walked.rawValue, &findings)
        var events: UInt64 = 0, actors: UInt64 = 0
        for shard in shards {
            let result = await shard.result()
            events += result.events
            actors += result.actors
            findings.add(result.findings)
        }
        return Report(events: events, actors: actors, findings: findings.sorted, findingCount: findings.count)
    }

    /// The service's log is read first: which key is in force where decides every other signature.
    private func history(_ findings: inout FindingList) async -> ServiceHistory {
        var history = ServiceHistory()
        do throws(EventLogError) {
            guard let service = try await ServiceHistory.firstActor(in: store) else { return history }
            while true {
                let page = try await store.events(of: service, after: history.head.sequence, limit: 500)
                guard !page.isEmpty else { return history }
                for stored in page {
                    let event = try Event(bytes: stored.bytes)
                    guard event.sequence > history.head.sequence, event.did == service else { return history }
                    let body = stored.body.flatMap { try? EventBody(kind: event.kind, bytes: $0) }
                    do throws(EventLogError) {
                        try history.apply(event, cid: CID(hashing: stored.bytes), position: stored.position, body: body)
                    } catch {
                        findings.add("I4", "\(error)", actor: service, sequence: event.sequence, position: stored.position)
                    }
                }
            }
        } catch {
            findings.add(error, "the service's log cannot be read on")
            return history
        }
    }

    /// - Returns: the place up to which every event was read.
    private func walk(_ shards: [VerifierShard], _ findings: inout FindingList) async -> StreamCursor {
        var last = StreamCursor.start
        var count: UInt64 = 0
        var skips = 0
        var limit = options.pageEvents
        var read = await page(after: last, limit: limit)
        while true {
            var page: [StoredEvent] = []
            var damaged: StreamCursor?
            switch read {
            case .success(let events):
                guard !events.isEmpty else { return last }
                page = events
            case .failure(let error):
                damaged = damagedPlace(error, after: last)
                let isLast = damaged == nil || skips == ChainVerifier.skipsMax
                findings.add(error, isLast ? "the log cannot be read on" : "left out", position: last.rawValue)
                guard let damaged, !isLast else { return last }
                skips += 1
                page = await before(damaged, after: last)
            }
            last = checkPositions(of: page, after: last, &findings)
            if let damaged { last = damaged }
            let parts = split(page, into: shards.count)
            // A store ends a page early where bodies are large; what was expected behind it was then read in vain.
            limit = page.count < limit ? max(2, page.count) : min(2 * limit, options.pageEvents)
            // The next page is read while the shards work on this one, as two halves at once, of which the second begins where the first
            // ends if nothing is out of the ordinary. Both are asked for before the shards have taken every thread.
            let half = max(1, limit / 2)
            let middle = StreamCursor(rawValue: last.rawValue + UInt64(half)) ?? last
            async let near = self.page(after: last, limit: half)
            async let far = self.page(after: middle, limit: half)
            await withTaskGroup(of: Void.self) { group in
                for (shard, part) in zip(shards, parts) where !part.isEmpty { group.addTask { await shard.check(part) } }
            }
            read = await ChainVerifier.join(near, far, at: middle)
            count += UInt64(page.count)
            progress(count)
        }
    }

    /// How many damaged rows a walk by position passes over, so that a human learns of more than the first.
    private static let skipsMax = 100

    private func damagedPlace(_ error: EventLogError, after last: StreamCursor) -> StreamCursor? {
        guard case .damaged(_, let position?, _) = error, let place = StreamCursor(rawValue: position), place > last else { return nil }
        return place
    }

    /// The events of a page that could not be read because of a row in it, up to that row.
    private func before(_ damaged: StreamCursor, after last: StreamCursor) async -> [StoredEvent] {
        guard damaged != last.next else { return [] }
        let count = min(damaged.rawValue - last.rawValue - 1, UInt64(options.pageEvents))
        guard case .success(let page) = await page(after: last, limit: Int(count)) else { return [] }
        return page
    }

    /// Both halves as one page, where the first reaches to where the second was read from.
    private static func join(
        _ near: Result<[StoredEvent], EventLogError>, _ far: Result<[StoredEvent], EventLogError>, at middle: StreamCursor
    ) -> Result<[StoredEvent], EventLogError> {
        guard case .success(let first) = near, first.last?.position == middle.rawValue, case .success(let second) = far else { return near }
        return .success(first + second)
    }

    private func page(after cursor: StreamCursor, limit: Int) async -> Result<[StoredEvent], EventLogError> {
        do throws(EventLogError) {
            return .success(try await store.events(afterPosition: cursor.rawValue, limit: limit))
        } catch {
            return .failure(error)
        }
    }

    /// I13: each position is the one after the last, or the first of a generation that its event opens.
    private func checkPositions(of page: [StoredEvent], after start: StreamCursor, _ findings: inout FindingList) -> StreamCursor {
        var last = start
        for stored in page {
            guard let raw = stored.position, let position = StreamCursor(rawValue: raw), position > last else {
                findings.add("I13", "read in order of position, and has none after \(last)", position: stored.position)
                continue
            }
            if position != last.next, !opens(stored, generationAt: position, after: last) {
                findings.add("I13", "position \(position) follows \(last)", position: raw)
            }
            last = position
        }
        // A page in which nothing rises would be read for ever.
        return last == start ? StreamCursor(rawValue: start.rawValue + UInt64(page.count)) ?? start : last
    }

    private func opens(_ stored: StoredEvent, generationAt position: StreamCursor, after last: StreamCursor) -> Bool {
        guard position.position == 1, position.generation == last.generation + 1, let bytes = stored.body,
            case .serviceStart(let start) = try? EventBody(kind: .serviceStart, bytes: bytes)
        else { return false }
        return start.generation == position.generation && start.before == last.rawValue
    }

    private func split(_ page: [StoredEvent], into count: Int) -> [[StoredEvent]] {
        var parts = [[StoredEvent]](repeating: [], count: count)
        for stored in page { parts[shardIndex(stored.bytes.withUnsafeBytes(EventReader.didHash), count)].append(stored) }
        return parts
    }

    private func shardIndex(_ hash: UInt64, _ count: Int) -> Int { Int(hash % UInt64(count)) }

    /// Every actor's log from where the walk left it to its head.
    private func finish(
        _ shards: [VerifierShard], history: ServiceHistory, behind walked: UInt64, _ findings: inout FindingList
    ) async {
        if let actor = options.actor {
            for did in Set([actor, history.service].compactMap(\.self)) { await shards[0].finish(did, behind: walked) }
            return
        }
        var last: DID?
        do throws(EventLogError) {
            while true {
                let actors = try await store.actors(after: last, limit: 1000)
                guard let end = actors.last else { break }
                if let last, end <= last {
                    findings.add("storage", "the list of actors is not in order", actor: end)
                    break
                }
                await withTaskGroup(of: Void.self) { group in
                    for (index, shard) in shards.enumerated() {
                        let mine = actors.filter { shardIndex(EventReader.didHash($0), shards.count) == index }
                        group.addTask { for actor in mine { await shard.finish(actor, behind: walked) } }
                    }
                }
                last = end
            }
        } catch {
            findings.add(error, "the list of actors cannot be read on", actor: last)
            return
        }
        for shard in shards { await shard.reportUnlisted() }
    }
}

/// Findings up to a bound, and how many there were.
struct FindingList: Sendable {
    let file: String
    let max: Int
    private(set) var kept: [Finding] = []
    private(set) var count = 0

    init(file: String, max: Int) {
        self.file = file
        self.max = max
    }

    mutating func add(_ finding: Finding) {
        count += 1
        if kept.count < max { kept.append(finding) }
    }

    mutating func add(
        _ invariant: String, _ message: String, actor: DID? = nil, sequence: UInt64? = nil, position: UInt64? = nil
    ) {
        add(Finding(actor: actor, sequence: sequence, position: position, file: file, invariant: invariant, message: message))
    }

    /// What a store said: the file and the place that it named, or those that were being read.
    mutating func add(_ error: EventLogError, _ context: String, actor: DID? = nil, sequence: UInt64? = nil, position: UInt64? = nil) {
        guard case .damaged(let file, let place, let message) = error else {
            return add("storage", "\(context): \(error)", actor: actor, sequence: sequence, position: position)
        }
        add(
            Finding(
                actor: actor, sequence: sequence, position: place ?? position, file: file, invariant: "storage",
                message: "\(message); \(context)"))
    }

    mutating func add(_ other: FindingList) {
        for finding in other.kept { add(finding) }
        count += other.count - other.kept.count
    }

    var sorted: [Finding] {
        kept.sorted { ($0.position ?? 0, $0.sequence ?? 0, $0.message) < ($1.position ?? 0, $1.sequence ?? 0, $1.message) }
    }
}
