/// One block of a CAR file, its bytes checked against its CID.
public struct CARBlock: Hashable, Sendable {
    public let cid: CID
    /// Where the block's own bytes begin, counted from the start of the file.
    public let offset: Int
    public let bytes: [UInt8]
}

/// Reads CARv1 (ipld.io/specs/transport/car/carv1) from chunks that the caller feeds, cut anywhere: `push` a chunk, take blocks with
/// `next` until it answers nil, push the next, and say `finish` at the end of the file. Holds one section and one chunk, never the file.
///
/// Strict: lengths are varints in their shortest form, the header is canonical, every block is CIDv1 of dag-cbor or raw with SHA-256 and
/// hashes to its CID. Duplicates and order are the business of whoever reads. After an error every call throws it again.
public struct CARReader: Sendable {
    public struct Limits: Sendable {
        public var headerBytesMax: Int
        public var rootsMax: Int
        public var blockBytesMax: Int

        public init(headerBytesMax: Int = 65_536, rootsMax: Int = 1024, blockBytesMax: Int = 2 << 20) {
            self.headerBytesMax = headerBytesMax
            self.rootsMax = rootsMax
            self.blockBytesMax = blockBytesMax
        }

        /// Header 64 KiB, 1024 roots, blocks of 2 MiB.
        public static let standard = Limits()
    }

    /// A block that lies whole in the buffer; `range` holds until the next `push`.
    struct Section {
        let cid: CID
        let offset: Int
        let range: Range<Int>
    }

    /// The header's roots; nil until the header has been read.
    public private(set) var roots: [CID]?
    /// Bytes of the file pushed so far.
    public var bytesPushed: Int { base + buffer.count }

    private(set) var buffer: [UInt8] = []
    private var start = 0
    private var base = 0
    private var failure: CARError?
    private let limits: Limits

    public init(limits: Limits = .standard) { self.limits = limits }

    /// Takes the next bytes of the file. Call `next` until nil before the next push, or the buffer grows by what was not taken.
    public mutating func push(_ bytes: [UInt8]) {
        dropTaken()
        buffer.append(contentsOf: bytes)
    }

    public mutating func push(_ bytes: UnsafeRawBufferPointer) {
        dropTaken()
        buffer.append(contentsOf: bytes)
    }

    /// The next block, or nil when more bytes are needed (or the file is at its end).
    public mutating func next() throws(CARError) -> CARBlock? {
        guard let section = try nextSection() else { return nil }
        return CARBlock(cid: section.cid, offset: section.offset, bytes: [UInt8](buffer[section.range]))
    }

    /// Says that the file ends here; call it when `next` has answered nil.
    /// - Throws: `truncated` when the header or a section is not whole.
    public mutating func finish() throws(CARError) {
        let left = try nextSection()
        precondition(left == nil, "finish before every block was taken")
        guard roots != nil, start == buffer.count else {
            failure = .truncated(offset: base + start)
            throw .truncated(offset: base + start)
        }
    }

    /// A whole CAR that is in memory already.
    public static func read(_ bytes: [UInt8], limits: Limits = .standard) throws(CARError) -> (roots: [CID], blocks: [CARBlock]) {
        var reader = CARReader(limits: limits)
        reader.push(bytes)
        var blocks: [CARBlock] = []
        while let block = try reader.next() { blocks.append(block) }
        try reader.finish()
        return (reader.roots ?? [], blocks)
    }

    /// The next block without a copy of its bytes: they are `buffer[section.range]`.
    mutating func nextSection() throws(CARError) -> Section? {
        if let failure { throw failure }
        do {
            if roots == nil {
                guard let header = try readHeader() else { return nil }
                roots = header.roots
                start = header.end
            }
            guard let section = try readSection() else { return nil }
            start = section.range.upperBound
            return section
        } catch {
            failure = error
            throw error
        }
    }

    private func readSection() throws(CARError) -> Section? {
        guard let (length, body) = try readLength() else { return nil }
        let size = length - CID.byteCount
        guard size >= 0, size <= limits.blockBytesMax else { throw .sectionSize(bytes: length, offset: base + start) }
        guard buffer.count - body >= length else { return nil }
        let range = body + CID.byteCount..<body + length
        let bytes = buffer.span.bytes
        let cid: CID
        do throws(CIDError) {
            cid = try CID(bytes: bytes.extracting(body..<range.lowerBound))
        } catch {
            throw .unsupportedCID(offset: base + start)
        }
        guard CID(hashing: bytes.extracting(range), codec: cid.codec) == cid else {
            throw .hashMismatch(cid, offset: base + range.lowerBound)
        }
        return Section(cid: cid, offset: base + range.lowerBound, range: range)
    }

    private func readHeader() throws(CARError) -> (roots: [CID], end: Int)? {
        guard let (length, body) = try readLength() else { return nil }
        guard length <= limits.headerBytesMax else { throw .headerTooLarge(bytes: length) }
        guard buffer.count - body >= length else { return nil }
        do throws(CARError.HeaderProblem) {
            return (try Self.decodeHeader([UInt8](buffer[body..<body + length]), limits: limits), body + length)
        } catch {
            throw .header(error)
        }
    }

    private static func decodeHeader(_ bytes: [UInt8], limits: Limits) throws(CARError.HeaderProblem) -> [CID] {
        let value: Value
        do {
            value = try DAGCBOR.decode(bytes)
        } catch {
            throw .notDAGCBOR(error)
        }
        guard case .map(let map) = value, map.count == 2, let version = map["version"]?.integerValue,
            let links = map["roots"]?.arrayValue
        else { throw .shape }
        guard version == 1 else { throw .version(version) }
        guard links.count <= limits.rootsMax else { throw .tooManyRoots(links.count) }
        var roots: [CID] = []
        for link in links {
            guard let cid = link.linkValue else { throw .shape }
            roots.append(cid)
        }
        return roots
    }

    /// The varint at `start` and the index behind it, or nil when it is not all there.
    private func readLength() throws(CARError) -> (length: Int, end: Int)? {
        do throws(VarintError) {
            let (value, end) = try Varint.decode(buffer.span, at: start)
            return (Int(value), end)
        } catch .truncated {
            return nil
        } catch {
            throw .length(offset: base + start)
        }
    }

    private mutating func dropTaken() {
        guard start > 0 else { return }
        base += start
        buffer.removeSubrange(0..<start)
        start = 0
    }
}
