public import ATProto
import EventLog
public import Keys

/// How much a record was proven. (wire contract, section 10.1)
public enum VerificationLevel: String, Hashable, Sendable {
    /// The commit is signed with the account's own key.
    case userSignature = "user-signature"
    /// The commit is signed with the service's key.
    case serviceSignature = "service-signature"
    /// Every block hashes to its CID and the tree leads from the commit to the record; nobody's signature was checked.
    case cidIntegrity = "cid-integrity"
}

/// The key that a commit is to be signed with. The caller picks the level: a commit that does not reach it is refused, never
/// taken at a lower one.
public enum CommitKey: Hashable, Sendable {
    /// The `signingKey` of the account's enrollment.
    case user(PublicKey)
    /// Any of the service's (`StratosClient.serviceKeys(of:)`). Only the first, empty commit of a repo is signed so.
    case service([PublicKey])
    case unchecked

    fileprivate func level(of commit: Commit) -> VerificationLevel? {
        switch self {
        case .user(let key): commit.verifies(with: key) ? .userSignature : nil
        case .service(let keys): keys.contains { commit.verifies(with: $0) } ? .serviceSignature : nil
        case .unchecked: .cidIntegrity
        }
    }
}

/// A record with what proves it.
public struct VerifiedRecord: Hashable, Sendable {
    public let level: VerificationLevel
    public let cid: CID
    /// A map.
    public let record: Value
    /// The signed head whose tree holds it.
    public let commit: Commit
}

/// What a proof says of a place in a repo.
public enum ProvenPlace: Hashable, Sendable {
    case record(VerifiedRecord)
    /// The tree of this commit has no record there.
    case absent(VerificationLevel, commit: Commit)
}

/// Why a proof proves nothing.
public enum ProofFault: Error, Hashable, Sendable {
    /// Not a CAR, or a block that does not hash to its CID.
    case car(CARError)
    /// Not exactly one root, the commit.
    case roots(Int)
    /// The commit, or a block on the way, is not in it.
    case missing(CID)
    case commit(CommitError)
    /// The commit of another account.
    case otherAccount(DID)
    /// Not signed with the key that was demanded.
    case signature
    /// A node of the tree that cannot stand where it does.
    case tree(MSTError)
    /// The block that the tree leads to is no record: a map in canonical DAG-CBOR within a record's limits.
    case record(CID)
}

/// Verifies what `com.atproto.sync.getRecord` answers, without any network.
public enum RecordProof {
    /// A commit, at most some 20 nodes of 1,024 entries at their longest, and a record.
    public static let bytesMax = 16 << 20

    /// - Parameters:
    ///   - car: at most `bytesMax`; blocks in any order, and others beside those that are needed.
    ///   - key: what the commit must be signed with.
    public static func verify(
        _ car: [UInt8], account: DID, collection: NSID, recordKey: RecordKey, key: CommitKey
    ) throws(ProofFault) -> ProvenPlace {
        let (roots, blocks) = try read(car)
        guard roots.count == 1 else { throw .roots(roots.count) }
        guard let head = blocks.first(where: { $0.cid == roots[0] }) else { throw .missing(roots[0]) }
        let commit: Commit
        do throws(CommitError) { commit = try Commit(block: head.bytes) } catch { throw .commit(error) }
        guard commit.did == account else { throw .otherAccount(commit.did) }
        guard let level = key.level(of: commit) else { throw .signature }
        let tree = MST(root: commit.data, blocks: blocks.map { ($0.cid, $0.bytes) })
        let found: CID?
        do throws(MSTError) {
            found = try tree.get(MSTKey(collection: collection, recordKey: recordKey))
        } catch {
            if case .missingBlock(let cid) = error { throw .missing(cid) }
            throw .tree(error)
        }
        guard let cid = found else { return .absent(level, commit: commit) }
        guard let block = blocks.first(where: { $0.cid == cid }) else { throw .missing(cid) }
        guard cid.codec == .dagCBOR, let record = try? DAGCBOR.decode(block.bytes, limits: .record), case .map = record else {
            throw .record(cid)
        }
        return .record(VerifiedRecord(level: level, cid: cid, record: record, commit: commit))
    }

    private static func read(_ car: [UInt8]) throws(ProofFault) -> (roots: [CID], blocks: [CARBlock]) {
        do throws(CARError) { return try CARReader.read(car) } catch { throw .car(error) }
    }
}
