public import ATProto
import Authorization

extension StratosClient {
    /// The enrollments that an account's PDS lists: the first hundred.
    ///
    /// The PDS is the one that the account's DID document names; no credential is sent.
    public func enrollments(of account: DID) async throws(ClientError) -> EnrollmentList {
        let url = try await pds(of: account).method(
            "com.atproto.repo.listRecords",
            [("repo", account.description), ("collection", Enrollment.collection), ("limit", "100")])
        let answer = try await object(url, via: strangersOutbound)
        guard let records = answer["records"]?.arrayValue, records.count <= 100 else {
            throw .malformed("records: a list of at most 100")
        }
        var valid: [Enrollment] = []
        var malformed: [EnrollmentList.Malformed] = []
        for record in records {
            let key = try Self.key(record, of: account)
            do throws(EnrollmentFault) {
                valid.append(try Enrollment(record["value"] ?? .null, of: account, key: key))
            } catch {
                malformed.append(.init(key: key, fault: error))
            }
        }
        return EnrollmentList(valid: valid, malformed: malformed)
    }

    /// The enrollment of an account at one service.
    /// - Returns: nil where the PDS has none under the service's DID.
    /// - Throws: `malformed` also for a record that is no enrollment.
    public func enrollment(of account: DID, at service: DID) async throws(ClientError) -> Enrollment? {
        guard let key = try? RecordKey(ofEnrollmentAt: service) else { throw .unsupportedDID }
        let url = try await pds(of: account).method(
            "com.atproto.repo.getRecord",
            [("repo", account.description), ("collection", Enrollment.collection), ("rkey", key.description)])
        let answer: Value
        do throws(ClientError) {
            answer = try await object(url, via: strangersOutbound)
        } catch {
            guard error == .refused(status: 400, name: "RecordNotFound") else { throw error }
            return nil
        }
        guard try Self.key(answer, of: account) == key else { throw .malformed("another record than was asked for") }
        do throws(EnrollmentFault) {
            return try Enrollment(answer["value"] ?? .null, of: account, key: key)
        } catch {
            throw .malformed("the enrollment record: \(error)")
        }
    }

    private func pds(of account: DID) async throws(ClientError) -> ServiceAddress {
        let document: DIDDocument
        do throws(IdentityError) { document = try await identities.document(of: account) } catch { throw ClientError(error) }
        guard let pds = document.pds.flatMap({ ServiceAddress(namedByStranger: $0) }),
            pds.origin.isTrustworthy(allowingHTTP: configuration.reach == .everywhere)
        else { throw .noPDS }
        return pds
    }

    /// The key of a record of the collection, from its URI.
    private static func key(_ record: Value, of account: DID) throws(ClientError) -> RecordKey {
        guard let uri = record["uri"]?.stringValue.flatMap({ try? ATURI($0) }), case .did(account) = uri.authority,
            uri.collection?.description == Enrollment.collection, let key = uri.recordKey
        else { throw .malformed("a record of another account or collection") }
        return key
    }
}
