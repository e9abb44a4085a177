/// A repo's Merkle search tree: an ordered map from record paths to record CIDs whose shape, and so whose root CID, depends on
/// nothing but its contents.
///
/// Each key stands in the layer that its hash gives it. A node holds the keys of its layer that no key of a higher layer
/// separates; between two of them hangs the node of the next lower layer with the keys in between. Invariants:
/// - keys ascend over the whole tree, and each is in its layer;
/// - a child stands exactly one layer below its parent, through nodes without entries where a layer has none;
/// - neither the top nor a bottom node is without entries, but for the one node of the empty tree.
///
/// A value: copies share nodes and are cheap, and a copy is not changed by edits of another. A tree over stored blocks reads what a
/// question needs, and checks every node against its place before it believes it, so a hostile tree is refused when the bad node
/// is reached. Reading keeps nothing; an edit keeps the nodes it went through, so a tree that is edited again and again reads less
/// and less.
///
/// Source: atproto.com/specs/repository.
public struct MST: Sendable {
    /// Gives the block of a tree node, or nil when it does not have it. Asked only for nodes, when they are needed; never for
    /// records. A store that fails throws ``MSTError/unreadableBlock(_:reason:)``.
    public typealias BlockSource = @Sendable (CID) throws(MSTError) -> [UInt8]?

    /// The block of a node.
    public typealias Block = (cid: CID, bytes: [UInt8])

    /// Nil only while an edit holds it.
    private var place: MSTSubtree?
    var loader: MSTLoader
    /// What nodes made now are stamped with; one more after each ``takeChanges()``.
    var generation: UInt64 = 1
    /// The nodes of earlier generations that edits of this generation have replaced.
    var dropped: [CID] = []

    /// The empty tree. Its one node counts as new: the first ``takeChanges()`` gives it, unless edits have replaced it.
    public init() {
        self.init(top: MSTNode(layer: 0, stamp: 1, left: nil, entries: []))
    }

    /// A tree over stored blocks; nothing is read yet.
    /// - Parameter hashesChecked: the source has hashed its blocks already, so they are not hashed again.
    public init(
        root: CID, limits: MSTLimits = .standard, hashesChecked: Bool = false, source: @escaping BlockSource
    ) {
        place = .stored(MSTStub(root: root))
        loader = MSTLoader(source: source, limits: limits, hashesChecked: hashesChecked)
    }

    /// A tree, or the part of one, over a handful of blocks such as a proof. The blocks are hashed when they are read.
    public init(root: CID, blocks: [Block], limits: MSTLimits = .standard) {
        let table = Dictionary(blocks.map { ($0.cid, $0.bytes) }, uniquingKeysWith: { first, _ in first })
        self.init(root: root, limits: limits, source: { (cid) throws(MSTError) in table[cid] })
    }

    init(top: MSTNode) {
        place = .node(top)
        loader = MSTLoader()
    }

    var top: MSTSubtree {
        guard let place else { preconditionFailure("an edit puts the tree back, also when it fails") }
        return place
    }

    /// The root's CID. Hashes what edits have changed since it was last asked for.
    public func root() -> CID { top.cid }

    /// The CID of the record at `key`, or nil.
    public func get(_ key: MSTKey) throws(MSTError) -> CID? {
        var subtree: MSTSubtree? = top
        while let current = subtree {
            let node = try loader.node(current)
            let (index, found) = node.search(key)
            if found { return node.entries[index].value }
            subtree = node[slot: index]
        }
        return nil
    }

    /// Adds a record.
    /// - Throws: `exists`; or what reading nodes throws.
    public mutating func insert(_ key: MSTKey, _ value: CID) throws(MSTError) {
        var edit = MSTEdit(loader: loader, stamp: generation)
        try edit.insert(key, value, at: &place)
        note(edit)
    }

    /// Replaces the CID of a record.
    /// - Returns: the CID before.
    /// - Throws: `absent`; or what reading nodes throws.
    @discardableResult
    public mutating func update(_ key: MSTKey, _ value: CID) throws(MSTError) -> CID {
        var edit = MSTEdit(loader: loader, stamp: generation)
        let old = try edit.update(key, value, at: &place)
        note(edit)
        return old
    }

    /// Removes a record.
    /// - Returns: its CID.
    /// - Throws: `absent`; or what reading nodes throws.
    @discardableResult
    public mutating func delete(_ key: MSTKey) throws(MSTError) -> CID {
        var edit = MSTEdit(loader: loader, stamp: generation)
        let old = try edit.delete(key, at: &place)
        note(edit)
        return old
    }

    /// How many nodes the tree keeps in memory: those that were made or changed, and those that edits went through.
    public var loadedNodeCount: Int { Self.loadedNodeCount(top) }

    private static func loadedNodeCount(_ subtree: MSTSubtree?) -> Int {
        guard case .node(let node)? = subtree else { return 0 }
        return node.entries.reduce(1 + loadedNodeCount(node.left)) { $0 + loadedNodeCount($1.after) }
    }

    private mutating func note(_ edit: MSTEdit) {
        if dropped.isEmpty { dropped = edit.dropped } else { dropped.append(contentsOf: edit.dropped) }
    }
}
