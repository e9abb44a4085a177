/// Where each block of a file lies, by CID: what a verifier keeps of a file that it does not keep.
///
/// 40 bytes a block in chunks that never move, and a table of 4-byte slots with open addressing, between 3/8 and 3/4 full: 45–51 bytes
/// a block, and growing copies the slots alone. A slot holds 8 bits of the hash and the entry's number, so a probe that meets another
/// block seldom looks at it. Holds dag-cbor CIDs only, which is why an entry needs no codec.
struct BlockIndex {
    struct Place: Hashable {
        /// Of the block's own bytes in the file.
        let offset: Int
        let count: Int
    }

    private struct Entry {
        let digest: (UInt64, UInt64, UInt64, UInt64)
        /// From the top: offset 40 bits, length 22, sound 1, reached 1.
        var packed: UInt64
    }

    /// An entry's number has 24 bits, and zero is an empty slot.
    static let countLimit = (1 << 24) - 1
    static let offsetLimit = 1 << 40
    private static let lengthLimit = 1 << 22
    private static let chunkBits = 14
    private static let chunkMask = (1 << chunkBits) - 1
    private static let reachedBit: UInt64 = 1
    private static let soundBit: UInt64 = 2

    private(set) var count = 0
    private(set) var reachedCount = 0
    private var chunks: ContiguousArray<ContiguousArray<Entry>> = []
    private var slots = ContiguousArray<UInt32>(repeating: 0, count: 1024)
    private let salt: UInt64

    init() {
        // Hasher is seeded for each process, so nobody can prepare digests that collide here.
        var hasher = Hasher()
        hasher.combine(0x53_5452_4154_4F53)
        salt = UInt64(bitPattern: Int64(hasher.finalize()))
    }

    /// Adds a block.
    /// - Parameter sound: whether its bytes are what a record's must be.
    /// - Returns: the entry's number; nil when the CID is there already.
    mutating func insert(_ cid: CID, at place: Place, sound: Bool) -> Int? {
        precondition(place.offset < Self.offsetLimit && place.count < Self.lengthLimit && count < Self.countLimit, "checked by the caller")
        let hash = hash(cid.words)
        var slot = slot(of: hash)
        while slots[slot] != 0 {
            if isEntry(slots[slot], hash, cid) { return nil }
            slot = (slot + 1) & (slots.count - 1)
        }
        let number = count
        if number >> Self.chunkBits == chunks.count {
            chunks.append([])
            chunks[chunks.count - 1].reserveCapacity(1 << Self.chunkBits)
        }
        let packed = UInt64(place.offset) << 24 | UInt64(place.count) << 2 | (sound ? Self.soundBit : 0)
        chunks[number >> Self.chunkBits].append(Entry(digest: cid.words, packed: packed))
        slots[slot] = Self.slotValue(hash, number)
        count += 1
        if count * 4 > slots.count * 3 { grow() }
        return number
    }

    /// The entry's number.
    func find(_ cid: CID) -> Int? {
        let hash = hash(cid.words)
        var slot = slot(of: hash)
        while slots[slot] != 0 {
            if isEntry(slots[slot], hash, cid) { return Self.number(slots[slot]) }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    func place(_ number: Int) -> Place {
        let packed = entry(number).packed
        return Place(offset: Int(packed >> 24), count: Int((packed >> 2) & 0x3F_FFFF))
    }

    func isSound(_ number: Int) -> Bool { entry(number).packed & Self.soundBit != 0 }

    /// Notes that the head reaches this block.
    mutating func reach(_ number: Int) {
        guard entry(number).packed & Self.reachedBit == 0 else { return }
        chunks[number >> Self.chunkBits][number & Self.chunkMask].packed |= Self.reachedBit
        reachedCount += 1
    }

    private mutating func grow() {
        slots = ContiguousArray(repeating: 0, count: slots.count * 2)
        for number in 0..<count {
            let hash = hash(entry(number).digest)
            var slot = slot(of: hash)
            while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
            slots[slot] = Self.slotValue(hash, number)
        }
    }

    private func entry(_ number: Int) -> Entry { chunks[number >> Self.chunkBits][number & Self.chunkMask] }

    private func isEntry(_ slot: UInt32, _ hash: UInt64, _ cid: CID) -> Bool {
        slot >> 24 == UInt32(truncatingIfNeeded: hash >> 56) && entry(Self.number(slot)).digest == cid.words
    }

    private func slot(of hash: UInt64) -> Int { Int(truncatingIfNeeded: hash) & (slots.count - 1) }

    private static func slotValue(_ hash: UInt64, _ number: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: hash >> 56) << 24 | UInt32(number + 1)
    }

    private static func number(_ slot: UInt32) -> Int { Int(slot & 0xFF_FFFF) - 1 }

    /// Every word goes in, folded through a salted multiplication.
    private func hash(_ words: (UInt64, UInt64, UInt64, UInt64)) -> UInt64 {
        let first = (words.0 ^ salt).multipliedFullWidth(by: words.1 ^ 0x9E37_79B9_7F4A_7C15)
        let second = (words.2 ^ salt).multipliedFullWidth(by: words.3 ^ 0xBF58_476D_1CE4_E5B9)
        let folded = (first.high ^ first.low ^ salt).multipliedFullWidth(by: second.high ^ second.low ^ 0x94D0_49BB_1331_11EB)
        return folded.high ^ folded.low
    }
}
