extension MST {
    /// Does the operations, all or none.
    /// - Throws: `exists`, `absent`; `notResult` when a record to update or delete has another CID than the operation's old one.
    public mutating func apply(_ operations: [MSTOperation]) throws(MSTError) {
        var tree = self
        for operation in operations { try tree.apply(operation) }
        self = tree
    }

    /// Undoes the operations of a commit, all or none, on the tree after it: the tree before it remains, and its ``root()`` is to
    /// be compared with what the sender said it was (`prevData`). The tree may be partial: `MST(root:blocks:)` over the blocks of
    /// ``coveringProof(of:)-(_)``.
    ///
    /// Source: atproto.com/specs/sync, "Commit Validation".
    /// - Throws: `notResult` when the tree does not hold what an operation left; `repeatedKey`; `missingBlock` when the proof lacks
    ///   a node.
    public mutating func invert(_ operations: [MSTOperation]) throws(MSTError) {
        var keys: Set<MSTKey> = []
        for operation in operations where !keys.insert(operation.key).inserted { throw .repeatedKey(operation.key) }
        var tree = self
        for operation in operations.reversed() { try tree.undo(operation) }
        self = tree
    }

    private mutating func apply(_ operation: MSTOperation) throws(MSTError) {
        switch operation {
        case .created(let key, let new): try insert(key, new)
        case .updated(let key, let old, let new):
            let found = try update(key, new)
            if found != old { throw .notResult(of: operation, found: found) }
        case .deleted(let key, let old):
            let found = try delete(key)
            if found != old { throw .notResult(of: operation, found: found) }
        }
    }

    private mutating func undo(_ operation: MSTOperation) throws(MSTError) {
        let found: CID?
        do throws(MSTError) {
            switch operation {
            case .created(let key, _): found = try delete(key)
            case .updated(let key, let old, _): found = try update(key, old)
            case .deleted(let key, let old):
                try insert(key, old)
                found = nil
            }
        } catch .absent {
            throw .notResult(of: operation, found: nil)
        } catch .exists(let key) {
            throw .notResult(of: operation, found: try get(key))
        }
        if found != operation.new { throw .notResult(of: operation, found: found) }
    }
}
