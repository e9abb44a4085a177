import ATProto
import Keys

/// What the rules of a chain need beside the chain itself.
struct ChainRules: Sendable {
    let history: ServiceHistory
    let file: String
    /// Whether the store has compared events and bodies with their CIDs.
    let isHashed: Bool
    let signatures: Bool
    let contents: Bool
    let findingsMax: Int
}

/// Where in an actor's log a reference stands.
struct ReferencePlace: Hashable, Sendable {
    let sequence: UInt64
    /// Index of the operation; nil for the body itself or a whole chunk.
    let operation: UInt64?
    let position: UInt64?
    /// Number of the event that names it: the event itself, or the erasure whose residue does.
    let namedAt: UInt64
}

/// A block that an event needs.
struct BlockReference: Sendable {
    enum Role: Sendable { case record, chunk }

    let cid: CID
    let role: Role
    /// Bytes that the operation says its record has; nil for a chunk.
    let size: Int?
    let place: ReferencePlace
}

/// The row of a request that an event says it has.
struct RequestReference: Sendable {
    let row: RequestRow
    let position: UInt64?
}

/// One actor's log as the verifier follows it: the last event, and the few facts on which the next is judged.
/// Owned by one shard, which alone touches it.
final class ActorChain {
    let did: DID
    /// The last event that could be read.
    private(set) var head: Head = .empty
    var isListed = false
    /// Raw cursor of the last event that has one.
    private var position: UInt64 = 0

    private var tagKey: Leaf.TagKey?
    private var keyEpoch: UInt64 = 0
    private var isMember = false
    /// Whether somebody who has left may have content here: it was kept, or the body that would say so is erased.
    private var isKept = false
    /// Nil where it is not known: before the first enrollment, or because its body is erased.
    private var key: PublicKey?
    private var boundaries: BoundarySet?
    private var commit: ActorCommit?

    private var references: [BlockReference] = []
    private var requests: [RequestReference] = []
    private var missing: [Missing] = []
    private var erased = ErasedSet()

    private struct Missing {
        let place: ReferencePlace
        /// Nil for a body.
        let cid: CID?
    }

    /// What erasures said. An erasure always follows what it names.
    private struct ErasedSet {
        /// Of all erasures: the residue of a later one may name once more what an earlier one took.
        var targets: Set<Erasure.Target> = []
        /// Events whose bodies went, each with the last erasure that said so, since missing things were last compared with them.
        var bodies: [UInt64: UInt64] = [:]
        var allThrough: UInt64 = 0
        var blocksThrough: UInt64 = 0

        func covers(_ missing: Missing) -> Bool {
            let place = missing.place
            if place.sequence <= allThrough { return true }
            guard let operation = place.operation else {
                // With a body go the chunks that it names, and those of an earlier residue; what this residue names stays.
                if let erasure = bodies[place.sequence], place.namedAt < erasure { return true }
                return missing.cid != nil && place.sequence <= blocksThrough
            }
            return place.sequence <= blocksThrough || targets.contains(Erasure.Target(sequence: place.sequence, operation: operation))
        }
    }

    init(did: DID) { self.did = did }

    /// Checks the next event and moves to it, whatever was found.
    func check(_ stored: StoredEvent, _ event: Event, _ rules: ChainRules, _ findings: inout FindingList) {
        let cid = rules.isHashed ? stored.cid : CID(hashing: stored.bytes)
        var note = Note(keyEpoch: event.keyEpoch, position: stored.position)
        defer {
            for wrong in note.wrong {
                findings.add(wrong.invariant, wrong.message, actor: did, sequence: event.sequence, position: stored.position)
            }
        }
        note.unless(cid == stored.cid, "I1", "the stored CID is not that of the event's bytes")
        note.unless(event.sequence == head.sequence + 1, "I2", "event \(event.sequence) follows \(head.sequence)")
        note.unless(event.prev == head.event, "I3", "prev is not the CID of the event before")
        note.unless(event.time >= head.time ?? event.time, "time", "earlier than the event before")
        checkPosition(stored.position, &note)
        checkEpoch(event, stored, rules, &note)
        let body = body(of: event, stored, rules, &note)
        if let key = body?.tagKey { tagKey = Leaf.TagKey(key) }
        note.unless(tagKey != nil || event.sequence > 1 || stored.body == nil, "format", "the first event of a log brings its tag key")
        note.unless(
            Leaf.matches(stored.leaf, tagKey: tagKey, sequence: event.sequence, event: cid), "I13",
            "the leaf is not the event's")
        if rules.contents {
            follow(body, of: event, rules, &note)
        } else if case .erasure(let erasure) = body {
            follow(erasure, event, position: stored.position)
            references = []
        }
        head = Head(sequence: event.sequence, event: cid, time: event.time)
    }

    /// I13: what came later in one log stands later among all.
    private func checkPosition(_ next: UInt64?, _ note: inout Note) {
        guard let next else { return }
        note.unless(next > position && StreamCursor(rawValue: next) != nil, "I13", "position \(next) after \(position)")
        position = max(position, next)
    }

    /// I4: signed by the key in force where the event stands.
    private func checkEpoch(_ event: Event, _ stored: StoredEvent, _ rules: ChainRules, _ note: inout Note) {
        let inForce = rules.history.epoch(at: stored.position)?.number ?? 0
        note.unless(event.keyEpoch >= keyEpoch, "I4", "key epoch \(event.keyEpoch) after \(keyEpoch)")
        // An event that has no position yet may stand on either side of a service.key that has none either.
        let isInForce = stored.position == nil ? event.keyEpoch <= inForce : event.keyEpoch == inForce
        note.unless(isInForce, "I4", "key epoch \(event.keyEpoch), where \(inForce) is in force")
        keyEpoch = max(keyEpoch, event.keyEpoch)
        guard rules.signatures, let key = rules.history.key(epoch: event.keyEpoch) else { return }
        note.unless(
            key.verifies(event.signature, of: event.unsignedBytes(cutFrom: stored.bytes)), "I4",
            "the signature is not that of the service key of epoch \(event.keyEpoch)")
    }

    /// The decoded body where it is present and asked for. An erased one is put down as missing, to be explained later.
    private func body(of event: Event, _ stored: StoredEvent, _ rules: ChainRules, _ note: inout Note) -> EventBody? {
        guard let bytes = stored.body else {
            forgetWhatOnlyBodiesTell(event.kind)
            missing.append(Missing(place: place(of: event, position: stored.position), cid: nil))
            return nil
        }
        guard rules.isHashed || CID(hashing: bytes) == event.body else {
            note.add("I1", "the body is not the one that the event names")
            forgetWhatOnlyBodiesTell(event.kind)
            return nil
        }
        guard rules.contents || event.kind == .accountEnroll || event.kind == .serviceStart || event.kind == .erasure else { return nil }
        do throws(EventLogError) {
            return try EventBody(kind: event.kind, bytes: bytes)
        } catch {
            note.add("format", "\(error)")
            forgetWhatOnlyBodiesTell(event.kind)
            return nil
        }
    }

    private func forgetWhatOnlyBodiesTell(_ kind: EventKind) {
        switch kind {
        case .accountEnroll:
            (tagKey, key, boundaries, commit, isMember) = (nil, nil, nil, nil, true)
        case .accountKey: (key, commit) = (nil, nil)
        case .accountBoundaries: boundaries = nil
        case .accountLeave: (isMember, isKept) = (false, true)
        case .repoWrite, .repoImport: commit = nil
        default: break
        }
    }

    private func follow(_ body: EventBody?, of event: Event, _ rules: ChainRules, _ note: inout Note) {
        guard let body else { return }
        if let row = RequestRow(of: event, saying: body) { requests.append(RequestReference(row: row, position: note.position)) }
        let isService = did == rules.history.service
        note.unless(event.kind.isOfService == isService, "format", "\(event.kind) stands in the wrong log")
        switch body {
        case .accountEnroll(let enroll): follow(enroll, event, rules, &note)
        case .accountBoundaries(let change):
            note.unless(isMember, "format", "boundaries of somebody who is not enrolled")
            note.unless(boundaries ?? change.before == change.before, "format", "`before` is not what was in force")
            boundaries = change.after
            check(change.attestation, rules, &note)
        case .accountAttest(let attest): check(attest.attestation, rules, &note)
        case .accountKey(let change): follow(change, event, rules, &note)
        case .accountLeave(let leave):
            // What was kept when somebody left can be taken away by one more leave.
            note.unless(isMember || (isKept && leave.content == .erase), "format", "somebody who is not enrolled leaves")
            (isMember, isKept) = (false, leave.content == .kept)
            if leave.content == .erase { erased.blocksThrough = event.sequence }
        case .repoWrite(let write):
            follow(write.commit, event, rules, &note)
            refer(to: write.operations, at: place(of: event, position: note.position))
        case .repoImport(let imported):
            follow(imported.commit, event, rules, &note)
            refer(toChunks: imported.chunks, at: place(of: event, position: note.position))
        case .erasure(let erasure): follow(erasure, event, position: note.position)
        default: break
        }
    }

    private func follow(_ enroll: AccountEnroll, _ event: Event, _ rules: ChainRules, _ note: inout Note) {
        note.unless(!isMember, "format", "somebody who is enrolled enrolls")
        (isMember, key, boundaries) = (true, enroll.key, enroll.boundaries)
        check(enroll.attestation, rules, &note)
        check(enroll.commit, event, rules, &note)
    }

    private func follow(_ change: AccountKey, _ event: Event, _ rules: ChainRules, _ note: inout Note) {
        note.unless(isMember, "format", "a key of somebody who is not enrolled")
        note.unless(key ?? change.old == change.old, "format", "`old` is not the key in force")
        note.unless(commit?.data ?? change.commit.data == change.commit.data, "I7", "a new key changes the root")
        key = change.key
        check(change.attestation, rules, &note)
        check(change.commit, event, rules, &note)
    }

    private func follow(_ commit: ActorCommit, _ event: Event, _ rules: ChainRules, _ note: inout Note) {
        note.unless(isMember, "format", "a commit of somebody who is not enrolled")
        check(commit, event, rules, &note)
    }

    /// The commit is signed by the actor's key in force, and its rev has risen (I10).
    private func check(_ commit: ActorCommit, _ event: Event, _ rules: ChainRules, _ note: inout Note) {
        if let last = self.commit { note.unless(commit.rev > last.rev, "I10", "rev \(commit.rev) after \(last.rev)") }
        if let time = head.time {
            note.unless(
                commit.rev.microseconds >= time.milliseconds * 1000, "I10",
                "rev \(commit.rev) is before the time of the last event, \(time)")
        }
        self.commit = commit
        guard rules.signatures, let key else { return }
        note.unless(commit.verifies(did: did, with: key), "I4", "the commit is not signed by the actor's key in force")
    }

    private func check(_ attestation: Attestation, _ rules: ChainRules, _ note: inout Note) {
        let inForce = rules.history.key(epoch: note.keyEpoch)
        note.unless(attestation.signingKey == inForce, "I4", "the attestation names another service key than the one in force")
        guard rules.signatures, let key, let boundaries else { return }
        note.unless(attestation.verifies(did: did, boundaries: boundaries, actorKey: key), "I4", "the attestation does not verify")
    }

    private func follow(_ erasure: Erasure, _ event: Event, position: UInt64?) {
        switch erasure.scope {
        // Also the body of this erasure's predecessors; its own and later ones stay as the receipt.
        case .actor: erased.allThrough = event.sequence - 1
        case .content(let targets): erased.targets.formUnion(targets)
        case .trace(let targets, let residue):
            erased.targets.formUnion(targets)
            for remains in residue {
                erased.bodies[remains.sequence] = event.sequence
                let place = ReferencePlace(sequence: remains.sequence, operation: nil, position: position, namedAt: event.sequence)
                switch remains.operations {
                case .written(let operations): refer(to: operations, at: place)
                case .imported(let chunks): refer(toChunks: chunks, at: place)
                }
                if commit == nil { commit = remains.commit }
            }
        }
    }

    /// Of a whole event that names what it refers to itself.
    private func place(of event: Event, position: UInt64?) -> ReferencePlace {
        ReferencePlace(sequence: event.sequence, operation: nil, position: position, namedAt: event.sequence)
    }

    private func refer(to operations: [RecordOperation?], at place: ReferencePlace, from first: UInt64 = 0) {
        for (index, operation) in operations.enumerated() {
            guard let written = operation?.written else { continue }
            let own = ReferencePlace(
                sequence: place.sequence, operation: first + UInt64(index), position: place.position, namedAt: place.namedAt)
            references.append(BlockReference(cid: written.cid, role: .record, size: written.size, place: own))
        }
    }

    private func refer(toChunks chunks: [CID], at place: ReferencePlace) {
        for cid in chunks { references.append(BlockReference(cid: cid, role: .chunk, size: nil, place: place)) }
    }

    func takeReferences() -> [BlockReference] {
        defer { references = [] }
        return references
    }

    func takeRequests() -> [RequestReference] {
        defer { requests = [] }
        return requests
    }

    /// Compares the row of a request with the event that it came with; a later event of the same request takes its place (I8).
    /// - Parameter found: nil where there is none, although it is not too old.
    func check(_ reference: RequestReference, _ found: RequestRow?, _ findings: inout FindingList) {
        let row = reference.row
        guard found != row, found.map({ $0.sequence <= row.sequence }) ?? true else { return }
        let what = found.map { $0.sequence < row.sequence ? "is that of event \($0.sequence)" : "says something else" } ?? "is absent"
        findings.add("I8", "the row of its request \(what)", actor: did, sequence: row.sequence, position: reference.position)
    }

    /// Compares a block with its CID. - Returns: what the block refers to in turn, where it is a chunk.
    func check(_ reference: BlockReference, _ bytes: [UInt8]?, _ findings: inout FindingList) -> [BlockReference] {
        let place = reference.place
        guard let bytes else {
            missing.append(Missing(place: place, cid: reference.cid))
            return []
        }
        guard CID(hashing: bytes, codec: reference.cid.codec) == reference.cid else {
            findings.add("I11", "block \(reference.cid) has other bytes", actor: did, sequence: place.sequence, position: place.position)
            return []
        }
        if let size = reference.size, size != bytes.count {
            findings.add(
                "I11", "block \(reference.cid) has \(bytes.count) bytes, its operation says \(size)", actor: did, sequence: place.sequence,
                position: place.position)
        }
        guard case .chunk = reference.role else { return [] }
        do throws(EventLogError) {
            let chunk = try RepoImport.Chunk(bytes: bytes)
            refer(to: chunk.operations, at: place, from: chunk.first)
        } catch {
            findings.add("format", "chunk \(reference.cid): \(error)", actor: did, sequence: place.sequence, position: place.position)
        }
        return takeReferences()
    }

    /// Drops what an erasure explains. Everything that went with the bodies erased so far has been looked at by now.
    func forgetErased() {
        if !missing.isEmpty { missing.removeAll { erased.covers($0) } }
        erased.bodies = [:]
    }

    /// Whether something is absent that no erasure so far explains.
    func lacksAnything() -> Bool {
        forgetErased()
        return !missing.isEmpty
    }

    /// What no recorded erasure explains (I11).
    func reportMissing(_ findings: inout FindingList) {
        forgetErased()
        for item in missing {
            let what = if let cid = item.cid { "block \(cid)" } else { "the body" }
            findings.add(
                "I11", "\(what) is absent, and no recorded event erased it", actor: did, sequence: item.place.sequence,
                position: item.place.position)
        }
        missing = []
    }
}

/// Collects what is wrong with one event.
private struct Note {
    let keyEpoch: UInt64
    let position: UInt64?
    private(set) var wrong: [(invariant: String, message: String)] = []

    init(keyEpoch: UInt64, position: UInt64?) {
        self.keyEpoch = keyEpoch
        self.position = position
    }

    mutating func unless(_ holds: Bool, _ invariant: String, _ message: @autoclosure () -> String) {
        if !holds { add(invariant, message()) }
    }

    mutating func add(_ invariant: String, _ message: String) { wrong.append((invariant, message)) }
}
