import ATProto
import Client
import Keys

/// What was found out about a line beyond what the service said.
struct FollowVerdict: Sendable {
    /// `level` of a record; `attested` of a membership.
    let field: (name: String, value: Value)
    let note: String?

    func add(to object: inout ValueMap) {
        object[field.name] = field.value
        if let note { object["note"] = .string(note) }
    }
}

/// Holds the service to its word: asks for the proof of each record, and for the account's own enrollment.
///
/// Every record of a stream hashes to its CID already (`cid-integrity`); a proof may lift that to `user-signature`. What could not be
/// asked stays at the lower level and says why; what is *wrong* is the level `none`, and counts as a failure.
actor FollowVerifier {
    /// Lines that were proven wrong.
    private(set) var failures = 0
    private let client: StratosClient
    private let service: ServiceAddress
    private let credential: Credential?
    /// The account that was asked for last: followers of one account ask once.
    private var known: (account: DID, key: PublicKey)?

    init(client: StratosClient, service: ServiceAddress, credential: Credential?) {
        self.client = client
        self.service = service
        self.credential = credential
    }

    /// Nil for a deletion, of which nothing is left to verify.
    func judge(_ operation: StreamOperation, of account: DID) async -> FollowVerdict? {
        let cid: CID
        switch operation.action {
        case .create(let own, _), .update(let own, _): cid = own
        case .delete: return nil
        }
        let key: PublicKey
        do throws(KeyFault) { key = try await signingKey(of: account, refresh: false) } catch {
            return level(error.isLie ? nil : .cidIntegrity, error.text)
        }
        var outcome = await proof(of: operation, account, key)
        if outcome == .failure(.unproven(.signature)), let fresh = try? await signingKey(of: account, refresh: true), fresh != key {
            outcome = await proof(of: operation, account, fresh)
        }
        switch outcome {
        case .success(.record(let verified)) where verified.cid == cid: return level(verified.level, nil)
        case .success: return level(.cidIntegrity, "superseded: the repo holds another version by now, or none")
        case .failure(.noAnswer(let error)): return level(.cidIntegrity, "no proof: \(error)")
        case .failure(.unproven(let fault)): return level(nil, "the proof is wrong: \(fault)")
        }
    }

    /// Nil for one that left: what it still says of itself is its own business.
    func judge(_ enrollment: StreamEnrollment) async -> FollowVerdict? {
        guard enrollment.action != .unenroll else { return nil }
        do throws(KeyFault) {
            let record = try await attested(enrollment.account)
            let isSame = enrollment.boundaries.map { Set($0) == Set(record.boundaries) } ?? true
            return FollowVerdict(
                field: ("attested", .bool(isSame)), note: isSame ? nil : "the account's record lists other boundaries")
        } catch {
            if error.isLie { failures += 1 }
            return FollowVerdict(field: ("attested", false), note: error.text)
        }
    }

    private struct KeyFault: Error {
        let text: String
        /// Whether somebody claims what is not so, and not only cannot be asked.
        let isLie: Bool
    }

    private func signingKey(of account: DID, refresh: Bool) async throws(KeyFault) -> PublicKey {
        if !refresh, let known, known.account == account { return known.key }
        let key = try await attested(account).signingKey
        known = (account, key)
        return key
    }

    private func attested(_ account: DID) async throws(KeyFault) -> Enrollment {
        let list: EnrollmentList
        do throws(ClientError) { list = try await client.enrollments(of: account) } catch {
            throw KeyFault(text: "the account's enrollments could not be had: \(error)", isLie: false)
        }
        guard let enrollment = list[service] else {
            throw KeyFault(text: "the account has no enrollment record for this service", isLie: false)
        }
        do throws(AttestationFault) { try await client.verify(enrollment) } catch {
            let isLie = if case .unknownService = error { false } else { true }
            throw KeyFault(text: "the enrollment record: \(error)", isLie: isLie)
        }
        return enrollment
    }

    private func proof(of operation: StreamOperation, _ account: DID, _ key: PublicKey) async -> Result<ProvenPlace, RecordError> {
        do throws(RecordError) {
            return .success(
                try await client.record(
                    operation.recordKey, in: operation.collection, of: account, at: service, credential: credential, key: .user(key)))
        } catch {
            return .failure(error)
        }
    }

    private func level(_ level: VerificationLevel?, _ note: String?) -> FollowVerdict {
        if level == nil { failures += 1 }
        return FollowVerdict(field: ("level", .string(level?.rawValue ?? "none")), note: note)
    }
}
