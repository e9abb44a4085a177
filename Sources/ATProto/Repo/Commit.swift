public import Keys

/// Why a block is not a commit.
public enum CommitError: Error, Hashable, Sendable {
    /// Longer than any commit can be.
    case tooLarge(bytes: Int)
    case notDAGCBOR(DAGCBORError)
    /// Not a map, or a field too many or too few.
    case shape
    /// Neither 2 nor 3.
    case version(Int64)
    /// The named field has the wrong type or syntax.
    case field(String)
}

extension CommitError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .tooLarge(let bytes): "a commit of \(bytes) bytes"
        case .notDAGCBOR(let error): "not canonical DAG-CBOR: \(error)"
        case .shape: "not a map of exactly a commit's fields"
        case .version(let version): "version \(version) is neither 2 nor 3"
        case .field(let name): "the field \(name) has the wrong type or syntax"
        }
    }
}

/// The signed head of a repository (atproto.com/specs/repository): version 3 is read and written, version 2 read.
///
/// A commit that was read gives back the same bytes, so its CID and its signature stay what they were: the decoder takes exactly the
/// fields that the encoder writes. `prev` is null in what we write; old repositories carry a link there.
public struct Commit: Hashable, Sendable {
    public let did: DID
    /// 2 or 3.
    public let version: Int
    /// The root node of the tree.
    public let data: CID
    /// Nil only in version 2.
    public let rev: TID?
    public let prev: CID?
    /// 64 bytes: r and s, big-endian.
    public let signature: [UInt8]

    private static let bytesMax = 4096

    /// A new commit of version 3.
    /// - Parameter signature: 64 bytes over `unsignedBytes(did:data:rev:)`; not checked here.
    public init(did: DID, data: CID, rev: TID, signature: [UInt8]) {
        precondition(signature.count == 64, "a signature of \(signature.count) bytes")
        self.did = did
        version = 3
        self.data = data
        self.rev = rev
        prev = nil
        self.signature = signature
    }

    /// Reads a commit's block; the signature is not checked (`verifies(with:)`).
    public init(block: [UInt8]) throws(CommitError) {
        guard block.count <= Self.bytesMax else { throw .tooLarge(bytes: block.count) }
        let value: Value
        do {
            value = try DAGCBOR.decode(block)
        } catch {
            throw .notDAGCBOR(error)
        }
        guard case .map(let map) = value, let version = map["version"]?.integerValue else { throw .shape }
        guard version == 2 || version == 3 else { throw .version(version) }
        let hasRev = map["rev"] != nil
        guard map.count == (hasRev ? 6 : 5), hasRev || version == 2 else { throw .shape }
        guard let did = map["did"], let data = map["data"], let prev = map["prev"], let signature = map["sig"] else { throw .shape }
        self.version = Int(version)
        self.did = try Self.parse("did", did.stringValue) { (text) throws(SyntaxError) in try DID(text) }
        guard let data = data.linkValue, data.codec == .dagCBOR else { throw .field("data") }
        self.data = data
        if let rev = map["rev"] {
            self.rev = try Self.parse("rev", rev.stringValue) { (text) throws(SyntaxError) in try TID(text) }
        } else {
            rev = nil
        }
        guard prev == .null || prev.linkValue != nil else { throw .field("prev") }
        self.prev = prev.linkValue
        guard let signature = signature.bytesValue, signature.count == 64 else { throw .field("sig") }
        self.signature = signature
    }

    /// The commit's block, signature included.
    public var block: [UInt8] { DAGCBOR.encode(.map(fields(signed: true))) }

    public var cid: CID { CID(hashing: block) }

    /// What the signature is over.
    public var unsignedBytes: [UInt8] { DAGCBOR.encode(.map(fields(signed: false))) }

    /// What is to be signed for a new commit of version 3.
    public static func unsignedBytes(did: DID, data: CID, rev: TID) -> [UInt8] {
        Commit(did: did, data: data, rev: rev, signature: [UInt8](repeating: 0, count: 64)).unsignedBytes
    }

    /// Whether the signature is `key`'s; high-S is refused.
    public func verifies(with key: PublicKey) -> Bool {
        key.verifies(signature, of: unsignedBytes)
    }

    private func fields(signed: Bool) -> ValueMap {
        var map: ValueMap = [
            "did": .string(did.description), "version": .integer(Int64(version)), "data": .link(data),
            "prev": prev.map(Value.link) ?? .null,
        ]
        if let rev { map["rev"] = .string(rev.description) }
        if signed { map["sig"] = .bytes(signature) }
        return map
    }

    private static func parse<Parsed>(
        _ field: String, _ text: String?, _ parser: (String) throws(SyntaxError) -> Parsed
    ) throws(CommitError) -> Parsed {
        guard let text else { throw .field(field) }
        do {
            return try parser(text)
        } catch {
            throw .field(field)
        }
    }
}
