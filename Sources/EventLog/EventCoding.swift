import ATProto

// An event has one encoding: a DAG-CBOR map of nine fields, so their order, every length and every head byte are decided by
// the values. Reader and writer go straight through those bytes; a byte that differs from the one encoding is refused.
// Order of the fields (length, then bytes): v did seq sig body kind prev time keyEpoch.

enum EventWriter {
    /// Text head and text of `sig`, head and 64 bytes of the signature.
    static let signatureFieldByteCount = 4 + 2 + 64

    /// - Parameter signature: 64 bytes, or nil for the bytes that are signed.
    static func bytes(of event: Event, signature: [UInt8]?) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(384)
        DAGCBOR.appendHead(.map, signature == nil ? 8 : 9, to: &output)
        DAGCBOR.append(string: "v", to: &output)
        DAGCBOR.append(integer: Int64(Event.version), to: &output)
        DAGCBOR.append(string: "did", to: &output)
        DAGCBOR.append(string: event.did.description, to: &output)
        DAGCBOR.append(string: "seq", to: &output)
        DAGCBOR.append(integer: Int64(event.sequence), to: &output)
        if let signature {
            DAGCBOR.append(string: "sig", to: &output)
            DAGCBOR.appendHead(.bytes, UInt64(signature.count), to: &output)
            output.append(contentsOf: signature)
        }
        DAGCBOR.append(string: "body", to: &output)
        DAGCBOR.append(link: event.body, to: &output)
        DAGCBOR.append(string: "kind", to: &output)
        DAGCBOR.append(string: event.kind.text, to: &output)
        DAGCBOR.append(string: "prev", to: &output)
        if let prev = event.prev { DAGCBOR.append(link: prev, to: &output) } else { output.append(EventReader.null) }
        DAGCBOR.append(string: "time", to: &output)
        DAGCBOR.append(string: event.time.description, to: &output)
        DAGCBOR.append(string: "keyEpoch", to: &output)
        DAGCBOR.append(integer: Int64(event.keyEpoch), to: &output)
        return output
    }

    /// Turns unsigned bytes into those of the event: one field more, and `sig` before `body`.
    static func bytes(signing unsigned: [UInt8], signature: [UInt8], signatureOffset: Int) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(unsigned.count + signatureFieldByteCount)
        output.append(0xA9)
        output.append(contentsOf: unsigned[1..<signatureOffset])
        DAGCBOR.append(string: "sig", to: &output)
        DAGCBOR.appendHead(.bytes, 64, to: &output)
        output.append(contentsOf: signature)
        output.append(contentsOf: unsigned[signatureOffset...])
        return output
    }

    /// Where `sig` stands: right after `v`, `did` and `seq`.
    static func signatureOffset(did: DID, sequence: UInt64) -> Int {
        let text = did.description.utf8.count
        return 1 + 3 + 4 + headByteCount(UInt64(text)) + text + 4 + headByteCount(sequence)
    }

    private static func headByteCount(_ argument: UInt64) -> Int {
        switch argument {
        case ..<24: 1
        case ..<0x100: 2
        case ..<0x1_0000: 3
        case ..<0x1_0000_0000: 5
        default: 9
        }
    }
}

struct EventReader {
    static let null: UInt8 = 0xF6
    private let buffer: UnsafeRawBufferPointer
    private var offset = 0

    init(_ buffer: UnsafeRawBufferPointer) { self.buffer = buffer }

    mutating func event() throws(EventLogError) -> Event {
        try expect([0xA9], "a map of nine fields")
        try expect([0x61, 0x76, Event.version], "v: 1")
        try expect([0x63, 0x64, 0x69, 0x64], "did: the second field")
        let did = try did()
        try expect([0x63, 0x73, 0x65, 0x71], "seq: the third field")
        let sequence = try integer("seq")
        try expect([0x63, 0x73, 0x69, 0x67, 0x58, 0x40], "sig: 64 bytes, the fourth field")
        let signature = [UInt8](try take(64, "sig"))
        try expect([0x64, 0x62, 0x6F, 0x64, 0x79], "body: the fifth field")
        let body = try link("body")
        try expect([0x64, 0x6B, 0x69, 0x6E, 0x64], "kind: the sixth field")
        guard let kind = EventKind(parsing: try text("kind", bytesMax: EventKind.bytesMax)) else {
            throw .malformed("event: kind: lower-case words with dots between them")
        }
        try expect([0x64, 0x70, 0x72, 0x65, 0x76], "prev: the seventh field")
        let prev = try previous(sequence)
        try expect([0x64, 0x74, 0x69, 0x6D, 0x65], "time: the eighth field")
        guard let time = Timestamp(parsing: try text("time", bytesMax: Timestamp.byteCount)) else {
            throw .malformed("event: time: a time is written like 2026-11-22T10:40:36.123Z")
        }
        try expect([0x68, 0x6B, 0x65, 0x79, 0x45, 0x70, 0x6F, 0x63, 0x68], "keyEpoch: the ninth field")
        let keyEpoch = try integer("keyEpoch")
        guard offset == buffer.count else { throw .malformed("event: bytes after its end") }
        return Event(did: did, sequence: sequence, prev: prev, time: time, kind: kind, body: body, keyEpoch: keyEpoch, signature: signature)
    }

    /// A number by which events of one actor find the same shard: FNV-1a of the DID, checked for nothing; 0 where there is none.
    static func didHash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        guard bytes.count > 10, bytes[4] == 0x63, bytes[5] == 0x64 else { return 0 }
        let start: Int, count: Int
        switch bytes[8] {
        case 0x60...0x77: (start, count) = (9, Int(bytes[8] & 0x1F))
        case 0x78: (start, count) = (10, Int(bytes[9]))
        default: return 0
        }
        guard bytes.count >= start + count else { return 0 }
        return hash(UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count)]))
    }

    static func didHash(_ did: DID) -> UInt64 {
        var text = did.description
        return text.withUTF8 { hash(UnsafeRawBufferPointer($0)) }
    }

    private static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return hash ^ hash >> 32
    }

    private mutating func previous(_ sequence: UInt64) throws(EventLogError) -> CID? {
        guard offset < buffer.count, buffer[offset] == EventReader.null else {
            let prev = try link("prev")
            guard sequence > 1 else { throw .malformed("event: prev: null at event 1") }
            return prev
        }
        offset += 1
        guard sequence == 1 else { throw .malformed("event: prev: null only at event 1") }
        return nil
    }

    private mutating func did() throws(EventLogError) -> DID {
        let bytes = try text("did", bytesMax: Event.didBytesMax)
        do { return try DID(String(decoding: bytes, as: UTF8.self)) } catch { throw .malformed("event: did: \(error)") }
    }

    private mutating func expect<let count: Int>(_ bytes: [count of UInt8], _ what: StaticString) throws(EventLogError) {
        guard offset + count <= buffer.count else { throw .malformed("event: expected \(what)") }
        for index in 0..<count where buffer[offset + index] != bytes[index] { throw .malformed("event: expected \(what)") }
        offset += count
    }

    private mutating func take(_ count: Int, _ field: StaticString) throws(EventLogError) -> UnsafeRawBufferPointer {
        guard count <= buffer.count - offset else { throw .malformed("event: \(field): ends too early") }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: buffer[offset..<(offset + count)])
    }

    /// A positive integer in its shortest form, at most 2^53 − 1.
    private mutating func integer(_ field: StaticString) throws(EventLogError) -> UInt64 {
        let first = try take(1, field)[0]
        let width: Int
        switch first {
        case 0x01...0x17: return UInt64(first)
        case 0x18...0x1B: width = 1 << Int(first - 0x18)
        default: throw .malformed("event: \(field): a positive integer")
        }
        var value: UInt64 = 0
        for byte in try take(width, field) { value = value << 8 | UInt64(byte) }
        let least: UInt64 = width == 1 ? 24 : 1 << UInt64(width * 4)
        guard value >= least, value < 1 << 53 else { throw .malformed("event: \(field): not the shortest form, or past 2^53") }
        return value
    }

    private mutating func text(_ field: StaticString, bytesMax: Int) throws(EventLogError) -> UnsafeRawBufferPointer {
        let first = try take(1, field)[0]
        let count: Int
        switch first {
        case 0x60...0x77: count = Int(first & 0x1F)
        case 0x78:
            count = Int(try take(1, field)[0])
            guard count >= 24 else { throw .malformed("event: \(field): not the shortest form") }
        default: throw .malformed("event: \(field): a text")
        }
        guard count <= bytesMax else { throw .malformed("event: \(field): at most \(bytesMax) bytes") }
        return try take(count, field)
    }

    /// A link to DAG-CBOR: tag 42 on 37 bytes.
    private mutating func link(_ field: StaticString) throws(EventLogError) -> CID {
        let bytes = try take(5 + CID.byteCount, field)
        guard bytes[0] == 0xD8, bytes[1] == 0x2A, bytes[2] == 0x58, bytes[3] == 0x25, bytes[4] == 0x00 else {
            throw .malformed("event: \(field): a link")
        }
        do {
            let cid = try CID(bytes: UnsafeRawBufferPointer(rebasing: bytes[5...]).bytes)
            guard cid.codec == .dagCBOR else { throw EventLogError.malformed("event: \(field): a link to DAG-CBOR") }
            return cid
        } catch {
            throw .malformed("event: \(field): \(error)")
        }
    }
}
