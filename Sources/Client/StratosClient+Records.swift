public import ATProto

/// Why a record was not verified.
public enum RecordError: Error, Hashable, Sendable {
    /// There is no answer to verify. A record that the caller may not read, an account that is not known and a record that does not
    /// exist look the same: `refused` with status 400.
    case noAnswer(ClientError)
    /// There is an answer, and it is not what it claims to be.
    case unproven(ProofFault)
}

extension StratosClient {
    /// Fetches a record with its proof from a service (`com.atproto.sync.getRecord`) and verifies it.
    ///
    /// - Parameters:
    ///   - service: where the credential is sent.
    ///   - credential: a JWT for this method: its `lxm` is `com.atproto.sync.getRecord`. A sync token is not sent.
    ///   - key: what the commit must be signed with; it decides the level.
    public func record(
        _ recordKey: RecordKey, in collection: NSID, of account: DID, at service: ServiceAddress, credential: Credential?, key: CommitKey
    ) async throws(RecordError) -> ProvenPlace {
        let url = service.method(
            "com.atproto.sync.getRecord",
            [("did", account.description), ("collection", collection.description), ("rkey", recordKey.description)])
        let car: [UInt8]
        do throws(ClientError) {
            car = try await answer(
                url, accept: "application/vnd.ipld.car", bytesMax: RecordProof.bytesMax, credential: credential,
                via: outbound(for: service)
            ).body
        } catch {
            throw .noAnswer(error)
        }
        do throws(ProofFault) {
            return try RecordProof.verify(car, account: account, collection: collection, recordKey: recordKey, key: key)
        } catch {
            throw .unproven(error)
        }
    }
}
