/// Why a CAR file was refused. Offsets count bytes from the start of the file: of the section (its length) where the framing is wrong, of
/// the block's own bytes where a block is. The file is to be fetched again, there is nothing in it to repair.
public enum CARError: Error, Hashable, Sendable {
    /// The input ended inside the header or inside the section that begins at `offset`.
    case truncated(offset: Int)
    /// A length is not an unsigned varint in its shortest form (at most 9 bytes, 63 bits).
    case length(offset: Int)
    /// The header is longer than the limit.
    case headerTooLarge(bytes: Int)
    /// The header is not the canonical DAG-CBOR map of `roots` (links) and `version` (1).
    case header(HeaderProblem)
    /// A section is shorter than a CID or longer than the limit.
    case sectionSize(bytes: Int, offset: Int)
    /// A section does not begin with a CIDv1 of dag-cbor or raw and SHA-256.
    case unsupportedCID(offset: Int)
    /// The block's bytes do not hash to its CID.
    case hashMismatch(CID, offset: Int)

    public enum HeaderProblem: Error, Hashable, Sendable {
        case notDAGCBOR(DAGCBORError)
        /// Not a map of exactly `roots` and `version`.
        case shape
        case version(Int64)
        case tooManyRoots(Int)
    }
}

extension CARError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .truncated(let offset): "the file ends inside what begins at byte \(offset)"
        case .length(let offset): "the length at byte \(offset) is not a varint in its shortest form"
        case .headerTooLarge(let bytes): "the header is \(bytes) bytes long, more than is read"
        case .header(.notDAGCBOR(let error)): "the header is not canonical DAG-CBOR: \(error)"
        case .header(.shape): "the header is not a map of roots (links) and version"
        case .header(.version(let version)): "the header says version \(version), not 1"
        case .header(.tooManyRoots(let count)): "the header lists \(count) roots, more than are read"
        case .sectionSize(let bytes, let offset): "the section at byte \(offset) is \(bytes) bytes long: shorter than a CID, or too long"
        case .unsupportedCID(let offset): "the section at byte \(offset) does not begin with a CIDv1 of dag-cbor or raw with SHA-256"
        case .hashMismatch(let cid, let offset): "the block at byte \(offset) does not hash to its CID \(cid)"
        }
    }
}
