import ATProto

/// One of the verifier's workers: the actors that fall to it, and what it has found. An actor, since pages reach it in turn.
actor VerifierShard {
    private let store: any EventStore
    private let rules: ChainRules
    private var chains: [DID: ActorChain] = [:]
    private var findings: FindingList
    private var events: UInt64 = 0

    /// Blocks asked for at once: each is at most 1 MiB.
    private static let blocksAtOnce = 64

    init(store: any EventStore, rules: ChainRules) {
        self.store = store
        self.rules = rules
        findings = FindingList(file: rules.file, max: rules.findingsMax)
    }

    func result() -> (events: UInt64, actors: UInt64, findings: FindingList) { (events, UInt64(chains.count), findings) }

    /// Takes events in order, of any actors of this shard.
    /// - Parameters:
    ///   - actor: whose log they were read from, where they were read from one.
    ///   - walked: the raw cursor up to which all events were read before; one that stands there has no place among them.
    func check(_ page: [StoredEvent], from actor: DID? = nil, behind walked: UInt64 = 0) async {
        var touched: [DID: ActorChain] = [:]
        for stored in page {
            events += 1
            let event: Event
            do throws(EventLogError) {
                event = try Event(bytes: stored.bytes)
            } catch {
                findings.add("format", "\(error)", position: stored.position)
                continue
            }
            guard event.did == actor ?? event.did else {
                findings.add("I2", "holds an event of \(event.did)", actor: actor, sequence: event.sequence, position: stored.position)
                continue
            }
            if let position = stored.position, position <= walked {
                findings.add(
                    "I13", "is found by its actor, and not at its position", actor: event.did, sequence: event.sequence, position: position)
            }
            let chain = chain(of: event.did)
            chain.check(stored, event, rules, &findings)
            if rules.contents { touched[event.did] = chain }
        }
        for chain in touched.values {
            await checkRequests(of: chain)
            await checkBlocks(of: chain)
        }
    }

    /// Reads an actor's log on from where it was left, and compares where it ends with the head that the store gives. The actor may go on
    /// writing meanwhile: what stands behind that head is for the next run.
    func finish(_ actor: DID, behind walked: UInt64) async {
        let chain = chain(of: actor)
        chain.isListed = true
        do throws(EventLogError) {
            var head = try await store.head(of: actor)
            try await readOn(chain, to: head, behind: walked)
            // What is absent may have gone with an erasure that was appended since: that stands before the head as it is now.
            while chain.lacksAnything() {
                let later = try await store.head(of: actor)
                guard later.sequence > head.sequence else { break }
                head = later
                try await readOn(chain, to: head, behind: walked)
            }
            if try await !ends(chain, at: head) {
                findings.add(
                    "I2", "the head is event \(head.sequence), the log ends at \(chain.head.sequence)", actor: actor,
                    sequence: head.sequence)
            }
        } catch {
            findings.add(error, "the log cannot be read on after this event", actor: actor, sequence: chain.head.sequence)
        }
        chain.reportMissing(&findings)
    }

    private func readOn(_ chain: ActorChain, to head: Head, behind walked: UInt64) async throws(EventLogError) {
        var limit: UInt64 = 500
        while chain.head.sequence < head.sequence {
            let before = chain.head.sequence
            let page: [StoredEvent]
            do throws(EventLogError) {
                page = try await store.events(of: chain.did, after: before, limit: Int(min(limit, head.sequence - before)))
            } catch {
                // One event can fail a whole page: those before it are read one by one.
                guard limit > 1 else { throw error }
                limit = 1
                continue
            }
            await check(page, from: chain.did, behind: walked)
            guard chain.head.sequence > before else { return }
        }
    }

    /// Whether the log ends here. A store may show an event by its position a moment before it names it as the head; the actor's own log
    /// then has it too.
    private func ends(_ chain: ActorChain, at head: Head) async throws(EventLogError) -> Bool {
        guard chain.head.sequence > head.sequence else {
            return chain.head.sequence == head.sequence && chain.head.event == head.event
        }
        let last = try await store.events(of: chain.did, after: chain.head.sequence - 1, limit: 1)
        return last.first?.cid == chain.head.event
    }

    func reportUnlisted() {
        for (did, chain) in chains where !chain.isListed {
            findings.add("storage", "has events, and is not in the list of actors", actor: did, sequence: chain.head.sequence)
            chain.reportMissing(&findings)
        }
    }

    private func chain(of did: DID) -> ActorChain {
        if let chain = chains[did] { return chain }
        let chain = ActorChain(did: did)
        chains[did] = chain
        return chain
    }

    /// I8: every row of a request that the last page's events came with is there, unless it is too old.
    private func checkRequests(of chain: ActorChain) async {
        for reference in chain.takeRequests() {
            do throws(EventLogError) {
                let found = try await store.request(reference.row.scope)
                // Asked for afterwards: a row that was removed meanwhile is then known to be old.
                if found == nil, reference.row.time < (try await store.requestsKeptFrom()) { continue }
                chain.check(reference, found, &findings)
            } catch {
                findings.add(error, "the row of a request cannot be read", actor: chain.did, sequence: reference.row.sequence)
            }
        }
    }

    /// I11: every block that the last page's events refer to is here with its own bytes, or is put down as missing.
    private func checkBlocks(of chain: ActorChain) async {
        var references = chain.takeReferences()
        while !references.isEmpty {
            var next: [BlockReference] = []
            var index = 0
            while index < references.count {
                let part = references[index..<min(index + VerifierShard.blocksAtOnce, references.count)]
                index = part.endIndex
                let found: [CID: [UInt8]]
                do throws(EventLogError) {
                    found = try await store.blocks(part.map(\.cid), of: chain.did)
                } catch {
                    next += await checkSingly(part, of: chain)
                    continue
                }
                for reference in part { next += chain.check(reference, found[reference.cid], &findings) }
            }
            // The operations of an import's chunks refer to blocks in turn.
            references = next
        }
        chain.forgetErased()
    }

    /// Asks for each block alone, where they could not be had together: one that is damaged hides no other.
    private func checkSingly(_ part: ArraySlice<BlockReference>, of chain: ActorChain) async -> [BlockReference] {
        var next: [BlockReference] = []
        for reference in part {
            let bytes: [UInt8]?
            do throws(EventLogError) {
                bytes = try await store.block(reference.cid, of: chain.did)
            } catch {
                let place = reference.place
                findings.add(
                    error, "block \(reference.cid) cannot be read", actor: chain.did, sequence: place.sequence, position: place.position)
                // Anything else than damage is the whole store's, and said once.
                guard case .damaged = error else { break }
                continue
            }
            next += chain.check(reference, bytes, &findings)
        }
        return next
    }
}
