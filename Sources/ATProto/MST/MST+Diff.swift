/// What happened to one key between two trees, or what a commit did to it.
public enum MSTDifference: Hashable, Sendable {
    case created(MSTKey, CID)
    case updated(MSTKey, from: CID, to: CID)
    case deleted(MSTKey, CID)

    public var key: MSTKey {
        switch self {
        case .created(let key, _), .updated(let key, _, _), .deleted(let key, _): key
        }
    }

    /// The CID before; nil for a created record.
    public var old: CID? {
        switch self {
        case .created: nil
        case .updated(_, let old, _), .deleted(_, let old): old
        }
    }

    /// The CID after; nil for a deleted record.
    public var new: CID? {
        switch self {
        case .created(_, let new), .updated(_, _, let new): new
        case .deleted: nil
        }
    }
}

public typealias MSTOperation = MSTDifference

extension MST {
    /// What turns one tree into the other, in key order.
    ///
    /// Both are walked side by side in key order, and subtrees with the same CID are passed over unread. Where the two are not at
    /// the same kind of place the subtree is opened, the one of the higher layer first; so a subtree that both have is met by both
    /// at once, but for the left edge of one that a key has come before.
    public static func diff(from: MST, to: MST) throws(MSTError) -> [MSTDifference] {
        var differences: [MSTDifference] = []
        var before = MSTCursor(from)
        var after = MSTCursor(to)
        while true {
            switch (before.next(), after.next()) {
            case (nil, nil): return differences
            case (.subtree(let old)?, .subtree(let new)?):
                if old.cid == new.cid {
                    before.skip()
                    after.skip()
                    continue
                }
                let oldLayer = old.layer ?? .max
                let newLayer = new.layer ?? .max
                if oldLayer >= newLayer { try before.open(old) }
                if newLayer >= oldLayer { try after.open(new) }
            case (.subtree(let old)?, _): try before.open(old)
            case (_, .subtree(let new)?): try after.open(new)
            case (.record(let old)?, .record(let new)?) where old.key == new.key:
                if old.value != new.value { differences.append(.updated(old.key, from: old.value, to: new.value)) }
                before.skip()
                after.skip()
            case (.record(let old)?, .record(let new)?) where old.key < new.key:
                differences.append(.deleted(old.key, old.value))
                before.skip()
            case (_, .record(let new)?):
                differences.append(.created(new.key, new.value))
                after.skip()
            case (.record(let old)?, nil):
                differences.append(.deleted(old.key, old.value))
                before.skip()
            }
        }
    }
}

/// A place in a tree, before a subtree or a record, that can go into the subtree or past it.
private struct MSTCursor {
    enum Place {
        case subtree(MSTSubtree)
        case record(MSTEntry)
    }

    private let loader: MSTLoader
    private var root: MSTSubtree?
    private var path: [(node: MSTNode, position: Int)] = []

    init(_ tree: MST) {
        loader = tree.loader
        root = tree.top
    }

    /// What comes next; nil at the end.
    mutating func next() -> Place? {
        if let root { return .subtree(root) }
        while let (node, position) = path.last {
            if position > 2 * node.entries.count {
                path.removeLast()
            } else if !position.isMultiple(of: 2) {
                return .record(node.entries[position / 2])
            } else if let subtree = node[slot: position / 2] {
                return .subtree(subtree)
            } else {
                path[path.count - 1].position += 1
            }
        }
        return nil
    }

    /// Goes past what comes next.
    mutating func skip() {
        if root != nil {
            root = nil
        } else {
            path[path.count - 1].position += 1
        }
    }

    /// Goes into the subtree that comes next.
    mutating func open(_ subtree: MSTSubtree) throws(MSTError) {
        let node = try loader.node(subtree)
        skip()
        path.append((node, 0))
    }
}
