/// Why a repository in a CAR file was refused. Offsets are those of the block's own bytes in the file.
public enum RepoError: Error, Hashable, Sendable {
    /// The file is not a CAR: framing, header or a hash.
    case car(CARError)
    /// Not exactly one root; a repository's root is its commit.
    case roots(Int)
    /// A block whose CID is not dag-cbor: nothing of a repository is stored so.
    case codec(CID, offset: Int)
    /// More distinct blocks, or a longer file, than the verifier's index takes.
    case tooManyBlocks(max: Int)
    case fileTooLarge(bytesMax: Int)
    /// The head reaches a block that is not in the file.
    case missing(CID, Role)
    case commit(CID, offset: Int, CommitError)
    /// A key was given, and the commit is not signed with it (or with a high S).
    case signature(CID, offset: Int)
    case node(CID, offset: Int, MSTNodeFault)
    /// A key of this node whose collection is not an NSID, or whose record key is not one.
    case key(String, node: CID, offset: Int)
    /// A record that is not a map in canonical DAG-CBOR, or over the limits of a record.
    case record(CID, offset: Int, key: String)
    /// The file gave other bytes, or fewer, when it was read a second time.
    case changed(CID, offset: Int)

    public enum Role: Hashable, Sendable {
        case commit, node
        case record(key: String)
    }
}

extension RepoError {
    /// A word for programs; stable.
    public var name: String {
        switch self {
        case .car(.truncated): "Truncated"
        case .car(.hashMismatch): "HashMismatch"
        case .car: "InvalidCAR"
        case .roots: "InvalidRoots"
        case .codec: "InvalidCodec"
        case .tooManyBlocks, .fileTooLarge: "TooLarge"
        case .missing: "MissingBlock"
        case .commit: "InvalidCommit"
        case .signature: "InvalidSignature"
        case .node: "InvalidNode"
        case .key: "InvalidKey"
        case .record: "InvalidRecord"
        case .changed: "FileChanged"
        }
    }
}

extension RepoError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .car(let error): error.description
        case .roots(let count): "the header names \(count) roots; a repository has one, its commit"
        case .codec(let cid, let offset): "the block \(cid) at byte \(offset) is not dag-cbor; everything in a repository is"
        case .tooManyBlocks(let max): "more than \(max) distinct blocks"
        case .fileTooLarge(let bytesMax): "the file is longer than \(bytesMax) bytes"
        case .missing(let cid, .commit): "the commit \(cid) is not in the file"
        case .missing(let cid, .node): "the tree's node \(cid) is not in the file"
        case .missing(let cid, .record(let key)): "the record \(key), block \(cid), is not in the file"
        case .commit(let cid, let offset, let error): "the commit \(cid) at byte \(offset): \(error)"
        case .signature(let cid, let offset): "the commit \(cid) at byte \(offset) is not signed with the key given"
        case .node(let cid, let offset, let problem): "the tree's node \(cid) at byte \(offset): \(problem)"
        case .key(let key, let cid, let offset):
            "the key \"\(key)\" in the tree's node \(cid) at byte \(offset) is not a collection and a record key"
        case .record(let cid, let offset, let key):
            "the record \(key), block \(cid) at byte \(offset), is not a map in canonical DAG-CBOR within the limits of a record"
        case .changed(let cid, let offset): "the block \(cid) at byte \(offset) was not the same when read again: the file is being changed"
        }
    }
}
