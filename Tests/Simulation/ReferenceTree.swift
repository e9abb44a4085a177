package import ATProto
import Crypto

/// The tree of a sorted map, built whole and by the definition: for a run of records and a layer, the keys of the layer are the
/// entries, and whatever lies before, between and after them is a subtree of the next lower layer. Slow, and shares nothing with
/// `MST` but CID and the general DAG-CBOR encoder.
package struct ReferenceTree {
    package struct Node {
        package let cid: CID
        package let bytes: [UInt8]
        package let layer: Int
        /// The keys around the reference to this node; nil at the edges of the tree.
        package let lower: String?
        package let upper: String?
    }

    package enum Item: Equatable {
        case node(CID)
        case record(String, CID)
    }

    package let records: [(key: String, value: CID)]
    /// Every node after its parent, in the order of a streamed CAR.
    package private(set) var nodes: [Node] = []
    /// Nodes and records in the order of a streamed CAR.
    package private(set) var items: [Item] = []

    package init(_ map: [String: CID]) {
        records = map.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }.map { ($0.key, $0.value) }
        let layers = records.map { Self.layer(of: $0.key) }
        build(0..<records.count, layers, at: layers.max() ?? 0, between: nil, and: nil)
    }

    package var root: CID { nodes[0].cid }

    package var blocks: [CID: [UInt8]] {
        Dictionary(nodes.map { ($0.cid, $0.bytes) }, uniquingKeysWith: { first, _ in first })
    }

    /// The nodes whose bounds hold `key` between them, from the root down.
    package func proof(of key: String) -> [CID] {
        nodes.filter { node in
            (node.lower.map { precedes($0, key) } ?? true) && (node.upper.map { precedes(key, $0) } ?? true)
        }.map(\.cid)
    }

    /// The nodes whose bounds, ends included, reach one of `keys`.
    package func coveringProof(of keys: [String]) -> Set<CID> {
        Set(
            nodes.filter { node in
                keys.contains { key in
                    (node.lower.map { !precedes(key, $0) } ?? true) && (node.upper.map { !precedes($0, key) } ?? true)
                }
            }.map(\.cid))
    }

    /// Half the zero bits that the hash begins with, counted one by one.
    package static func layer(of key: String) -> Int {
        var zeros = 0
        for byte in SHA256.hash(data: Array(key.utf8)) {
            for bit in stride(from: 7, through: 0, by: -1) {
                if byte >> UInt8(bit) & 1 == 1 { return zeros / 2 }
                zeros += 1
            }
        }
        return zeros / 2
    }

    @discardableResult
    private mutating func build(
        _ range: Range<Int>, _ layers: [Int], at layer: Int, between lower: String?, and upper: String?
    ) -> CID {
        let (node, item) = (nodes.count, items.count)
        let placeholder = CID(hashing: [])
        nodes.append(Node(cid: placeholder, bytes: [], layer: layer, lower: lower, upper: upper))
        items.append(.node(placeholder))

        let here = range.filter { layers[$0] == layer }
        let ends = [range.lowerBound - 1] + here + [range.upperBound]
        var subtrees: [Value] = []
        for (start, end) in zip(ends, ends.dropFirst()) {
            if start >= range.lowerBound { items.append(.record(records[start].key, records[start].value)) }
            guard start + 1 < end else {
                subtrees.append(.null)
                continue
            }
            let left = start < range.lowerBound ? lower : records[start].key
            let right = end == range.upperBound ? upper : records[end].key
            subtrees.append(.link(build(start + 1..<end, layers, at: layer - 1, between: left, and: right)))
        }

        let bytes = Self.encode(here.map { records[$0] }, subtrees)
        let cid = CID(hashing: bytes)
        nodes[node] = Node(cid: cid, bytes: bytes, layer: layer, lower: lower, upper: upper)
        items[item] = .node(cid)
        return cid
    }

    private static func encode(_ records: [(key: String, value: CID)], _ subtrees: [Value]) -> [UInt8] {
        var entries: [Value] = []
        var previous: [UInt8] = []
        for (index, record) in records.enumerated() {
            let key = Array(record.key.utf8)
            var shared = 0
            while shared < min(previous.count, key.count), previous[shared] == key[shared] { shared += 1 }
            entries.append(
                .map([
                    "k": .bytes(Array(key[shared...])), "p": .integer(Int64(shared)), "t": subtrees[index + 1],
                    "v": .link(record.value),
                ]))
            previous = key
        }
        return DAGCBOR.encode(.map(["e": .array(entries), "l": subtrees[0]]))
    }

    private func precedes(_ left: String, _ right: String) -> Bool {
        left.utf8.lexicographicallyPrecedes(right.utf8)
    }
}
