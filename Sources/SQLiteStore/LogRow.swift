internal import ATProto
internal import EventLog

/// A row of `events` with its body as it was read, before anything in it is believed.
struct LogRow {
    let position: UInt64
    let sequence: UInt64
    let event: [UInt8]
    let tag: [UInt8]
    let checksum: Int64
    private let body: SealedCells
    let hasBodyRow: Bool

    /// The columns that `init(_:)` reads, in order; `e` and `b` name the tables.
    static let columns = "e.position, e.sequence, e.event, e.tag, e.checksum, b.slot, b.body, b.position"
    static let tables = "events e LEFT JOIN bodies b ON b.position = e.position"

    init(_ row: SQLiteStatement) {
        position = row.unsigned(0)
        sequence = row.unsigned(1)
        event = row.blob(2)
        tag = row.blob(3)
        checksum = row.integer(4)
        body = SealedCells(row, slot: 5, bytes: 6)
        hasBodyRow = !row.isNull(7)
    }

    var byteCount: Int { event.count + (body.bytes?.count ?? 0) }

    /// The event, once the row was compared with every hash that covers it: the checksum (place, digest, tag), the event's own
    /// number, the body's CID in the event. A bit that was changed anywhere in the row is found here and never served.
    /// - Parameter actor: whose event it must be; nil where the caller reads everybody's.
    func stored(of actor: DID?) throws(EventLogError) -> StoredEvent {
        let cid = CID(hashing: event)
        let digest = cid.digest
        guard tag.count == 32, tag.withUnsafeBytes({ LogSchema.eventChecksum(position: position, digest: digest, tag: $0) }) == checksum
        else {
            throw damage("the event's row does not match its checksum")
        }
        let envelope: EventEnvelope? = event.withUnsafeBytes { bytes in EventEnvelope(bytes) }
        guard let envelope else { throw damage("the event's bytes are not an event") }
        guard envelope.sequence == sequence else { throw damage("I2: the row says event \(sequence), the event \(envelope.sequence)") }
        if let actor { guard envelope.isOf(actor, in: event) else { throw damage("the event is not of \(actor)") } }
        return StoredEvent(position: position, bytes: event, cid: cid, body: try openedBody(envelope), leaf: leaf(digest))
    }

    private func openedBody(_ envelope: EventEnvelope) throws(EventLogError) -> [UInt8]? {
        guard hasBodyRow else { throw damage("the row of the event's body is missing") }
        let opened: [UInt8]?
        do { opened = try body.opened() } catch { throw damage("\(error)") }
        guard let content = opened else { return nil }
        guard CID(hashing: content) == CID(codec: .dagCBOR, digest: event.span.extracting(envelope.bodyDigest)) else {
            throw damage("the body does not match its CID in the event")
        }
        return content
    }

    private func leaf(_ digest: [UInt8]) -> [UInt8] {
        var leaf: [UInt8] = []
        leaf.reserveCapacity(Leaf.byteCount)
        leaf.append(Leaf.version)
        leaf += tag
        leaf += digest
        return leaf
    }

    private func damage(_ message: String) -> EventLogError {
        .damaged(file: LogStore.fileName, position: position, message: message)
    }
}

/// What a store must know of an event, found without decoding it: whose it is, its number, and where the digest of its body is.
/// FORMAT.md, section 2: the encoding is fixed, so the fields stand where their predecessors end.
struct EventEnvelope {
    let did: Range<Int>
    let sequence: UInt64
    let bodyDigest: Range<Int>

    /// Nil for bytes that do not begin like an event.
    init?(_ bytes: UnsafeRawBufferPointer) {
        var offset = 0
        func head(_ expected: StaticString) -> Bool {
            let count = expected.utf8CodeUnitCount
            guard offset + count <= bytes.count else { return false }
            for index in 0..<count where bytes[offset + index] != expected.utf8Start[index] { return false }
            offset += count
            return true
        }
        func argument(_ major: UInt8) -> UInt64? {
            guard offset < bytes.count, bytes[offset] >> 5 == major else { return nil }
            let short = bytes[offset] & 0x1F
            offset += 1
            guard short >= 24 else { return UInt64(short) }
            guard short <= 27 else { return nil }
            let count = 1 << Int(short - 24)
            guard offset + count <= bytes.count else { return nil }
            var value: UInt64 = 0
            for index in 0..<count { value = value << 8 | UInt64(bytes[offset + index]) }
            offset += count
            return value
        }
        guard bytes.count > 9, bytes[0] == 0xA9 else { return nil }
        offset = 1
        guard head("av"), bytes[offset] == Event.version else { return nil }
        offset += 1
        guard head("cdid"), let didCount = argument(3), didCount <= Event.didBytesMax, offset + Int(didCount) <= bytes.count else {
            return nil
        }
        did = offset..<(offset + Int(didCount))
        offset = did.upperBound
        guard head("cseq"), let sequence = argument(0), head("csig") else { return nil }
        self.sequence = sequence
        offset += 2 + 64
        guard head("dbody"), offset + 5 + 36 <= bytes.count else { return nil }
        bodyDigest = (offset + 9)..<(offset + 41)
    }

    func isOf(_ actor: DID, in event: [UInt8]) -> Bool {
        event[did].elementsEqual(actor.description.utf8)
    }

    func isOf(_ actor: UnsafeRawBufferPointer, in event: UnsafeRawBufferPointer) -> Bool {
        event[did].elementsEqual(actor)
    }
}
