public import Keys

/// What a repository was found to be.
public struct RepoReport: Hashable, Sendable {
    public enum Signature: String, Hashable, Sendable {
        case verified
        case notChecked = "not checked"
    }

    public let commit: CID
    public let head: Commit
    public let signature: Signature
    public let records: Int
    /// Nodes of the tree.
    public let nodes: Int
    /// Sections of the file.
    public let blocks: Int
    /// Sections that repeat an earlier one.
    public let duplicates: Int
    /// Distinct blocks that the head does not reach, such as older commits.
    public let extra: Int
    /// Length of the file in bytes.
    public let bytes: Int

    public var did: DID { head.did }
    /// 2 or 3.
    public var version: Int { head.version }
    /// Nil only in version 2.
    public var rev: TID? { head.rev }
    /// The root node of the tree.
    public var data: CID { head.data }
}

/// Where the blocks of a file lie, for reading them by CID after the file was verified.
public struct RepoPlaces: Sendable {
    let index: BlockIndex

    /// The block's own bytes in the file: their offset and length. Nil for a block that is not there.
    public func place(of cid: CID) -> (offset: Int, count: Int)? {
        guard cid.codec == .dagCBOR, let place = index.find(cid).map(index.place) else { return nil }
        return (place.offset, place.count)
    }
}

/// One record of a repository in key order; its block was found and checked.
public struct RepoRecord: Hashable, Sendable {
    /// `collection/record-key`.
    public let key: MSTKey
    public let cid: CID
    /// Where the block's own bytes begin in the file.
    public let offset: Int
    /// Length of the block in bytes.
    public let count: Int
}

/// Verifies a whole repository in a CAR file of any length and any order of blocks, without keeping it.
///
/// The file is pushed once from start to end: framing and every hash are checked, every block is indexed (about 48 bytes), and the walk of
/// the tree goes along as far as the blocks that have come allow; in a streamable file that is to the end. What is left is read again
/// by place: `finish` and `answer` say what they want. A duplicate and a block that the head does not reach are counted, not refused.
/// Every block must be dag-cbor, so no byte of the file can change unnoticed.
///
/// Holds one section, one window of `windowBytes`, the path of nodes to the walk's place, and the index. Not reusable after an error.
public struct RepoVerifier: ~Copyable {
    public struct Limits: Sendable {
        public var car: CARReader.Limits
        /// A node's entries and the tree's height.
        public var tree: MSTLimits
        /// A record's block.
        public var record: DecodingLimits
        /// Distinct blocks; at most 16,777,215.
        public var blocksMax: Int

        public init(
            car: CARReader.Limits = .standard, tree: MSTLimits = .standard, record: DecodingLimits = .record, blocksMax: Int = 16_777_215
        ) {
            precondition(blocksMax <= BlockIndex.countLimit, "an index of more blocks than it can number")
            self.car = car
            self.tree = tree
            self.record = record
            self.blocksMax = blocksMax
        }

        /// Header 64 KiB, blocks of 2 MiB, records of 1,000,000 bytes, 16,777,215 blocks.
        public static let standard = Limits()
    }

    /// What is to be done next.
    public enum Step: Hashable, Sendable {
        /// Read these bytes of the file, all of them, and `answer` with them.
        case read(offset: Int, count: Int)
        case done(RepoReport)
    }

    /// A read near the last one takes this much, in case the next ones follow: blocks in file order are then read in few pieces.
    private static let windowBytes = 128 << 10

    /// Sections seen so far, for a progress display.
    public private(set) var blocks = 0
    /// Records walked so far.
    public var records: Int { walk?.records ?? 0 }

    /// Where the blocks lie that have been pushed.
    public var places: RepoPlaces { RepoPlaces(index: index) }

    private let key: PublicKey?
    private let limits: Limits
    private let visit: ((RepoRecord) -> Void)?
    private var reader: CARReader
    private var index = BlockIndex()
    private var duplicates = 0
    private var root: CID?
    private var commit: Commit?
    private var walk: RepoWalk?
    private var window: [UInt8] = []
    private var windowOffset = 0
    private var asked = 0..<0

    /// - Parameter key: the account's key; nil leaves the signature unchecked.
    /// - Parameter visit: called for each record in key order, as soon as all before it are found. The repository is not verified
    ///   before `done`.
    public init(key: PublicKey? = nil, limits: Limits = .standard, visit: ((RepoRecord) -> Void)? = nil) {
        self.key = key
        self.limits = limits
        self.visit = visit
        reader = CARReader(limits: limits.car)
    }

    /// The next bytes of the file, cut anywhere.
    public mutating func push(_ bytes: [UInt8]) throws(RepoError) {
        reader.push(bytes)
        try takeSections()
    }

    /// The next bytes of the file, cut anywhere.
    public mutating func push(_ bytes: UnsafeRawBufferPointer) throws(RepoError) {
        reader.push(bytes)
        try takeSections()
    }

    /// Says that the file ends here.
    public mutating func finish() throws(RepoError) -> Step {
        do throws(CARError) {
            try reader.finish()
        } catch {
            throw .car(error)
        }
        return try step()
    }

    /// - Parameter bytes: what the last step asked for.
    public mutating func answer(_ bytes: [UInt8]) throws(RepoError) -> Step {
        precondition(bytes.count == asked.count, "another answer than was asked for")
        window = bytes
        windowOffset = asked.lowerBound
        return try step()
    }

    /// A repository that is in memory already.
    public static func verify(
        _ file: [UInt8], key: PublicKey? = nil, limits: Limits = .standard, visit: ((RepoRecord) -> Void)? = nil
    ) throws(RepoError) -> RepoReport {
        var verifier = RepoVerifier(key: key, limits: limits, visit: visit)
        try verifier.push(file)
        var step = try verifier.finish()
        while true {
            switch step {
            case .read(let offset, let count): step = try verifier.answer([UInt8](file[offset..<offset + count]))
            case .done(let report): return report
            }
        }
    }
}

/// The first reading: every section in file order.
extension RepoVerifier {
    private mutating func takeSections() throws(RepoError) {
        while let section = try nextSection() {
            blocks += 1
            guard section.cid.codec == .dagCBOR else { throw .codec(section.cid, offset: section.offset) }
            guard index.count < limits.blocksMax else { throw .tooManyBlocks(max: limits.blocksMax) }
            guard section.offset < BlockIndex.offsetLimit else { throw .fileTooLarge(bytesMax: BlockIndex.offsetLimit) }
            let place = BlockIndex.Place(offset: section.offset, count: section.range.count)
            let sound = Self.isSound(reader.buffer.span.extracting(section.range), limits: limits.record)
            guard let number = index.insert(section.cid, at: place, sound: sound) else {
                duplicates += 1
                continue
            }
            try use(section, number: number)
        }
    }

    private mutating func nextSection() throws(RepoError) -> CARReader.Section? {
        let section: CARReader.Section?
        do throws(CARError) {
            section = try reader.nextSection()
        } catch {
            throw .car(error)
        }
        if root == nil, let roots = reader.roots {
            guard roots.count == 1 else { throw .roots(roots.count) }
            root = roots[0]
        }
        return section
    }

    /// Gives a block that has just come to the walk, if that is what it waits for.
    private mutating func use(_ section: CARReader.Section, number: Int) throws(RepoError) {
        if walk == nil, section.cid == root {
            index.reach(number)
            try take(commit: [UInt8](reader.buffer[section.range]), cid: section.cid, offset: section.offset)
        }
        guard let need = walk?.need else { return }
        switch need {
        case .record(_, let cid):
            guard cid == section.cid else { return }
        case .node(let stub):
            guard stub.cid == section.cid else { return }
            index.reach(number)
            try walk?.take(node: [UInt8](reader.buffer[section.range]), of: stub, offset: section.offset)
        }
        try takeRecords()
    }

    /// Whether these bytes may be a record: a map in canonical DAG-CBOR.
    private static func isSound(_ bytes: Span<UInt8>, limits: DecodingLimits) -> Bool {
        guard bytes.count > 0, bytes[0] >> 5 == 5 else { return false }
        do throws(DAGCBORError) {
            try DAGCBOR.validate(bytes, limits: limits)
            return true
        } catch {
            // Told as RepoError.record if the head reaches the block; an extra block may be anything.
            return false
        }
    }
}

/// The walk, and the second reading of what it could not have at the first.
extension RepoVerifier {
    private mutating func take(commit bytes: [UInt8], cid: CID, offset: Int) throws(RepoError) {
        let commit: Commit
        do throws(CommitError) {
            commit = try Commit(block: bytes)
        } catch {
            throw .commit(cid, offset: offset, error)
        }
        if let key, !commit.verifies(with: key) { throw .signature(cid, offset: offset) }
        self.commit = commit
        walk = RepoWalk(root: commit.data, limits: limits.tree)
    }

    /// Takes the records that are next in the walk and in the index.
    private mutating func takeRecords() throws(RepoError) {
        while case .record(let key, let cid)? = walk?.need, cid.codec == .dagCBOR, let number = index.find(cid) {
            let place = index.place(number)
            guard index.isSound(number) else { throw .record(cid, offset: place.offset, key: key.description) }
            index.reach(number)
            visit?(RepoRecord(key: key, cid: cid, offset: place.offset, count: place.count))
            try walk?.takeRecord()
        }
    }

    /// Goes on until the walk is done or a block must be read again.
    private mutating func step() throws(RepoError) -> Step {
        guard let root else { preconditionFailure("a file that ended well has a header") }
        if walk == nil {
            let number = try find(root, .commit)
            guard let bytes = try windowBlock(root, number) else { return ask(number) }
            index.reach(number)
            try take(commit: bytes, cid: root, offset: index.place(number).offset)
        }
        while let need = walk?.need {
            switch need {
            case .record(let key, let cid):
                _ = try find(cid, .record(key: key.description))
                try takeRecords()
            case .node(let stub):
                let number = try find(stub.cid, .node)
                guard let bytes = try windowBlock(stub.cid, number) else { return ask(number) }
                index.reach(number)
                try walk?.take(node: bytes, of: stub, offset: index.place(number).offset)
            }
        }
        guard let commit, let walk else { preconditionFailure("the walk begins with the commit") }
        return .done(report(root, commit, walk))
    }

    private func find(_ cid: CID, _ role: RepoError.Role) throws(RepoError) -> Int {
        guard cid.codec == .dagCBOR, let number = index.find(cid) else { throw .missing(cid, role) }
        return number
    }

    /// The block if it lies in the bytes that were read last. They are hashed again: nobody promises that the file stood still.
    private func windowBlock(_ cid: CID, _ number: Int) throws(RepoError) -> [UInt8]? {
        let place = index.place(number)
        let start = place.offset - windowOffset
        guard start >= 0, start + place.count <= window.count else { return nil }
        let bytes = [UInt8](window[start..<start + place.count])
        guard CID(hashing: bytes) == cid else { throw .changed(cid, offset: place.offset) }
        return bytes
    }

    private mutating func ask(_ number: Int) -> Step {
        let place = index.place(number)
        let windowEnd = windowOffset + window.count
        let isNear = place.offset >= windowEnd && place.offset < windowEnd + Self.windowBytes
        let count = isNear ? max(place.count, min(Self.windowBytes, reader.bytesPushed - place.offset)) : place.count
        asked = place.offset..<place.offset + count
        return .read(offset: place.offset, count: count)
    }

    private func report(_ root: CID, _ commit: Commit, _ walk: RepoWalk) -> RepoReport {
        RepoReport(
            commit: root, head: commit, signature: key == nil ? .notChecked : .verified, records: walk.records, nodes: walk.nodes,
            blocks: blocks, duplicates: duplicates, extra: index.count - index.reachedCount, bytes: reader.bytesPushed)
    }
}
