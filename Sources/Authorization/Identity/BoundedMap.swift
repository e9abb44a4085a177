/// A map with a bound on its entries and their bytes that forgets what was not used for longest, roughly: it has a young half
/// and an old one. What is set or found moves into the young half; when that is full it becomes the old one, and what was old and
/// not asked for is forgotten at once. Every operation takes constant time, and no order is kept.
struct BoundedMap<Key: Hashable, Value> {
    private struct Entry {
        let value: Value
        let bytes: Int
    }

    private struct Half {
        var entries: [Key: Entry] = [:]
        var bytes = 0

        mutating func remove(_ key: Key) -> Entry? {
            guard let entry = entries.removeValue(forKey: key) else { return nil }
            bytes -= entry.bytes
            return entry
        }
    }

    private var young = Half()
    private var old = Half()
    private let entriesMax: Int
    private let bytesMax: Int

    /// - Parameter entriesMax: at least 2.
    init(entriesMax: Int, bytesMax: Int) {
        precondition(entriesMax >= 2, "each half holds at least one entry")
        self.entriesMax = entriesMax
        self.bytesMax = bytesMax
    }

    var count: Int { young.entries.count + old.entries.count }
    var bytes: Int { young.bytes + old.bytes }

    /// Finding is using: the entry is young again.
    subscript(key: Key) -> Value? {
        mutating get {
            if let entry = young.entries[key] { return entry.value }
            guard let entry = old.remove(key) else { return nil }
            put(key, entry)
            return entry.value
        }
    }

    /// What takes more than half of all bytes by itself is not kept.
    mutating func set(_ key: Key, _ value: Value, bytes: Int) {
        remove(key)
        guard bytes <= bytesMax / 2 else { return }
        put(key, Entry(value: value, bytes: bytes))
    }

    mutating func remove(_ key: Key) {
        _ = young.remove(key)
        _ = old.remove(key)
    }

    private mutating func put(_ key: Key, _ entry: Entry) {
        if young.entries.count >= entriesMax / 2 || young.bytes + entry.bytes > bytesMax / 2 {
            old = young
            young = Half()
        }
        young.entries[key] = entry
        young.bytes += entry.bytes
    }
}
