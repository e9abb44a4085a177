/// The bytes of a node: the DAG-CBOR map `{e: [{k: suffix, p: shared, t: subtree or null, v: record}], l: subtree or null}`.
///
/// Written and read by hand: the shape is fixed, so the canonical encoding is a short grammar, and a reader that accepts exactly
/// the grammar accepts exactly what the writer writes. A key is written as the number of bytes that it shares with the key before
/// it, the largest possible, and the rest.
///
/// Source: atproto.com/specs/repository, "MST Structure" and "Security Considerations".
extension MSTNode {
    /// No block of this node is longer.
    var blockCapacity: Int {
        var capacity = 64
        for entry in entries { capacity += 104 + entry.key.byteCount }
        return capacity
    }

    /// Writes the block. Hashes what below this node has not been hashed.
    /// - Parameter output: has room for `blockCapacity` bytes.
    /// - Returns: the length of the block.
    func encode(to output: UnsafeMutableRawPointer) -> Int {
        var writer = MSTNodeWriter(output)
        writer.write(0xA2, 0x61, UInt8(ascii: "e"))
        writer.write(head: 0x80, entries.count)
        for index in entries.indices {
            let shared = index == 0 ? 0 : MSTKey.sharedPrefix(entries[index - 1].key, entries[index].key)
            writer.write(0xA4, 0x61, UInt8(ascii: "k"))
            writer.write(head: 0x40, entries[index].key.byteCount - shared)
            entries[index].key.storage.withUnsafeBytes { writer.write(UnsafeRawBufferPointer(rebasing: $0[(1 + shared)...])) }
            writer.write(0x61, UInt8(ascii: "p"))
            writer.write(head: 0, shared)
            writer.write(0x61, UInt8(ascii: "t"))
            writer.write(link: entries[index].after?.cid)
            writer.write(0x61, UInt8(ascii: "v"))
            writer.write(link: entries[index].value)
        }
        writer.write(0x61, UInt8(ascii: "l"))
        writer.write(link: left?.cid)
        return writer.cursor - output
    }

    /// Reads the block of `stub`, as a node that stands where `stub` stands.
    convenience init(block bytes: [UInt8], of stub: MSTStub, limits: MSTLimits) throws(MSTError) {
        var reader = MSTNodeReader(stub: stub, limits: limits)
        do throws(MSTNodeFault) {
            try reader.read(bytes.span.bytes)
        } catch {
            throw .invalidNode(stub.cid, error)
        }
        self.init(layer: reader.layer, stamp: 0, left: reader.left, entries: reader.entries, cid: stub.cid)
    }
}

/// Writes the parts of a node one after the other to memory that has room for all.
private struct MSTNodeWriter {
    private(set) var cursor: UnsafeMutableRawPointer

    init(_ output: UnsafeMutableRawPointer) {
        cursor = output
    }

    mutating func write(_ byte: UInt8) {
        cursor.storeBytes(of: byte, as: UInt8.self)
        cursor += 1
    }

    mutating func write(_ first: UInt8, _ second: UInt8) {
        write(first)
        write(second)
    }

    mutating func write(_ first: UInt8, _ second: UInt8, _ third: UInt8) {
        write(first)
        write(second)
        write(third)
    }

    mutating func write(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress else { return }
        cursor.copyMemory(from: start, byteCount: bytes.count)
        cursor += bytes.count
    }

    /// The shortest head of a major type.
    mutating func write(head major: UInt8, _ count: Int) {
        if count < 24 { return write(major | UInt8(truncatingIfNeeded: count)) }
        if count < 0x100 { return write(major | 24, UInt8(truncatingIfNeeded: count)) }
        precondition(count < 0x10000, "a node's counts fit two bytes: entries and keys are limited far below")
        write(major | 25, UInt8(truncatingIfNeeded: count >> 8), UInt8(truncatingIfNeeded: count))
    }

    mutating func write(link: CID?) {
        guard let link else { return write(0xF6) }
        write(0xD8, 0x2A, 0x58)
        write(0x25, 0x00)
        link.store(to: cursor)
        cursor += CID.byteCount
    }
}

/// Reads one node. Refuses whatever the tree's rules refuse, at the first byte or entry that breaks one.
private struct MSTNodeReader {
    let stub: MSTStub
    let limits: MSTLimits
    private(set) var layer = 0
    private(set) var left: MSTSubtree?
    private(set) var entries: [MSTEntry] = []
    private var offset = 0

    init(stub: MSTStub, limits: MSTLimits) {
        self.stub = stub
        self.limits = limits
    }

    mutating func read(_ bytes: RawSpan) throws(MSTNodeFault) {
        layer = stub.layer ?? 0
        try expect(0xA2, 0x61, UInt8(ascii: "e"), in: bytes)
        let count = try readHead(0x80, in: bytes)
        guard count <= limits.entriesMax else { throw .entries(count: count) }
        // An entry is never shorter than 53 bytes, so that a lying count reserves nothing.
        entries.reserveCapacity(min(count, bytes.byteCount / 53))
        var link: CID?
        for index in 0..<count {
            link = try readEntry(index, after: link, in: bytes)
        }
        try expect(0x61, UInt8(ascii: "l"), in: bytes)
        let first = try readSubtree(in: bytes)
        guard offset == bytes.byteCount else { throw .encoding(offset: offset) }
        if let last = entries.last {
            if let upper = stub.upper, last.key >= upper { throw .bounds(entry: count - 1) }
            if let link { entries[count - 1].after = subtree(link, lower: last.key, upper: stub.upper) }
        } else if (stub.layer == nil) != (first == nil) {
            throw .empty
        }
        if let first { left = subtree(first, lower: stub.lower, upper: entries.first?.key ?? stub.upper) }
    }

    /// - Parameter link: the subtree after the entry before this one, which can be placed now that its upper bound is known.
    /// - Returns: the subtree after this entry.
    private mutating func readEntry(_ index: Int, after link: CID?, in bytes: RawSpan) throws(MSTNodeFault) -> CID? {
        try expect(0xA4, 0x61, UInt8(ascii: "k"), in: bytes)
        let suffixCount = try readHead(0x40, in: bytes)
        guard suffixCount <= bytes.byteCount - offset else { throw .encoding(offset: offset) }
        let suffix = bytes.extracting(offset..<offset + suffixCount)
        offset += suffixCount
        try expect(0x61, UInt8(ascii: "p"), in: bytes)
        let key = try key(index, sharing: readHead(0, in: bytes), suffix: suffix)
        if let link { entries[index - 1].after = subtree(link, lower: entries[index - 1].key, upper: key) }
        try expect(0x61, UInt8(ascii: "t"), in: bytes)
        let after = try readSubtree(in: bytes)
        try expect(0x61, UInt8(ascii: "v"), in: bytes)
        entries.append(MSTEntry(key: key, value: try readLink(in: bytes), after: nil))
        return after
    }

    private mutating func key(_ index: Int, sharing shared: Int, suffix: RawSpan) throws(MSTNodeFault) -> MSTKey {
        let previous = entries.last?.key
        guard shared <= previous?.byteCount ?? 0 else { throw .prefix(entry: index) }
        guard let key = MSTKey(sharing: shared, of: previous, suffix: suffix) else { throw .key(entry: index) }
        if let previous {
            guard MSTKey.sharedPrefix(previous, key) == shared else { throw .prefix(entry: index) }
            guard previous < key else { throw .order(entry: index) }
        } else {
            if let lower = stub.lower, key <= lower { throw .bounds(entry: index) }
            if stub.layer == nil {
                layer = key.layer
                guard layer <= limits.layerMax else { throw .depth(layer: layer) }
            }
        }
        guard key.layer == layer else { throw .layer(entry: index) }
        return key
    }

    private func subtree(_ cid: CID, lower: MSTKey?, upper: MSTKey?) -> MSTSubtree {
        .stored(MSTStub(cid: cid, layer: layer - 1, lower: lower, upper: upper))
    }

    private mutating func readSubtree(in bytes: RawSpan) throws(MSTNodeFault) -> CID? {
        let start = offset
        if start < bytes.byteCount, bytes.unsafeLoad(fromByteOffset: start, as: UInt8.self) == 0xF6 {
            offset += 1
            return nil
        }
        let cid = try readLink(in: bytes)
        guard cid.codec == .dagCBOR else { throw .link(offset: start) }
        guard layer > 0 else { throw .belowLayerZero }
        return cid
    }

    private mutating func readLink(in bytes: RawSpan) throws(MSTNodeFault) -> CID {
        try expect(0xD8, 0x2A, 0x58, in: bytes)
        try expect(0x25, 0x00, in: bytes)
        guard bytes.byteCount - offset >= CID.byteCount else { throw .encoding(offset: offset) }
        do throws(CIDError) {
            let cid = try CID(bytes: bytes.extracting(offset..<offset + CID.byteCount))
            offset += CID.byteCount
            return cid
        } catch {
            throw .encoding(offset: offset)
        }
    }

    /// A head of `major` in its shortest form, below 65,536: more is beyond every limit here.
    private mutating func readHead(_ major: UInt8, in bytes: RawSpan) throws(MSTNodeFault) -> Int {
        let start = offset
        let first = try readByte(in: bytes)
        guard first & 0xE0 == major else { throw .encoding(offset: start) }
        switch first & 0x1F {
        case let count where count < 24: return Int(count)
        case 24:
            let count = try Int(readByte(in: bytes))
            guard count >= 24 else { throw .encoding(offset: start) }
            return count
        case 25:
            let count = try Int(readByte(in: bytes)) << 8 | Int(readByte(in: bytes))
            guard count >= 0x100 else { throw .encoding(offset: start) }
            return count
        default: throw .encoding(offset: start)
        }
    }

    private mutating func expect(_ first: UInt8, _ second: UInt8, in bytes: RawSpan) throws(MSTNodeFault) {
        guard bytes.byteCount - offset >= 2,
            bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self) == first,
            bytes.unsafeLoad(fromByteOffset: offset + 1, as: UInt8.self) == second
        else { throw .encoding(offset: offset) }
        offset += 2
    }

    private mutating func expect(_ first: UInt8, _ second: UInt8, _ third: UInt8, in bytes: RawSpan) throws(MSTNodeFault) {
        try expect(first, second, in: bytes)
        guard try readByte(in: bytes) == third else { throw .encoding(offset: offset - 1) }
    }

    private mutating func readByte(in bytes: RawSpan) throws(MSTNodeFault) -> UInt8 {
        guard offset < bytes.byteCount else { throw .encoding(offset: offset) }
        defer { offset += 1 }
        return bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }
}
