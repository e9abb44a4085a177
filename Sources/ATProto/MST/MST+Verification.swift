/// What a whole tree consists of.
public struct MSTCount: Hashable, Sendable {
    public var records = 0
    public var nodes = 0
    /// Bytes of all nodes.
    public var bytes = 0
    /// The layer of the root.
    public var layer = 0
}

extension MST {
    /// Reads the whole tree and checks every rule: each node the canonical encoding of its content and the content of its CID,
    /// keys ascending over the whole tree, shared prefixes exact, every key in its layer, every child one layer below its parent,
    /// no node without entries at the top or a bottom, and the limits. A cycle cannot pass: every step goes down one layer.
    ///
    /// Nodes in memory are put through the same, by their bytes.
    /// - Throws: the first fault, with the CID of its node; `missingBlock` for a node that the source does not have.
    @discardableResult
    public func verify(limits: MSTLimits? = nil) throws(MSTError) -> MSTCount {
        var verification = Verification(loader: loader)
        if let limits { verification.loader.limits = limits }
        let layer = try verification.verify(top, as: MSTStub(root: top.cid))
        verification.count.layer = layer
        return verification.count
    }
}

private struct Verification {
    var loader: MSTLoader
    var count = MSTCount()

    init(loader: MSTLoader) {
        self.loader = loader
    }

    /// - Parameter stub: what the subtree's place demands of it.
    /// - Returns: the layer of the subtree.
    @discardableResult
    mutating func verify(_ subtree: MSTSubtree, as stub: MSTStub) throws(MSTError) -> Int {
        let bytes: [UInt8]
        var inMemory: MSTNode?
        switch subtree {
        case .stored: bytes = try loader.bytes(stub.cid)
        case .node(let node):
            bytes = node.block
            inMemory = node
            guard CID(hashing: bytes) == stub.cid else { throw .hashMismatch(stub.cid) }
        }
        let node = try MSTNode(block: bytes, of: stub, limits: loader.limits)
        count.nodes += 1
        count.bytes += bytes.count
        count.records += node.entries.count
        for index in 0...node.entries.count {
            guard case .stored(let child)? = node[slot: index] else { continue }
            try verify(inMemory?[slot: index] ?? .stored(child), as: child)
        }
        return node.layer
    }
}
