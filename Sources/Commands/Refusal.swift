import ATProto

/// Why a command is not carried out. Nothing was written. The server turns each case into the wire's status and error name.
package enum Refusal: Error, Equatable, Sendable {
    /// The actor is not enrolled here, or has left.
    case notEnrolled
    /// The actor is enrolled already.
    case alreadyEnrolled
    /// A collection that this service does not take.
    case invalidCollection
    /// The record breaks a rule; the text says which.
    case invalidRecord(String)
    /// The input breaks a rule that is not about one record.
    case invalidRequest(String)
    /// A boundary of another service, or one without a service.
    case serviceMismatch(boundary: String, service: String, expected: String)
    /// Boundaries that the caller does not hold, with those that are held.
    case forbiddenBoundary(denied: [String], held: [String])
    /// `swapCommit` or `swapRecord` named something else than what is there.
    case invalidSwap(String)
    /// A write to a record that is not there.
    case recordNotFound
    /// An import into a repo that has records.
    case repoAlreadyExists
    /// The CAR of an import is refused; the text says why.
    case invalidCAR(String)
    /// An import with records that break a rule: none was imported.
    case recordsRefused([RefusedRecord])
    /// Too many commands wait for this actor.
    case overloaded
}

extension Refusal {
    /// In words, for whoever asked.
    package var reason: String {
        switch self {
        case .notEnrolled: "User is not enrolled in this Stratos service"
        case .alreadyEnrolled: "User is already enrolled in this Stratos service"
        case .invalidCollection: "Only zone.stratos.* collections are supported"
        case .invalidRecord(let text), .invalidRequest(let text), .invalidSwap(let text), .invalidCAR(let text): text
        case .serviceMismatch(let boundary, let service, let expected):
            "Boundary \"\(boundary)\" belongs to service \(service), not \(expected)"
        case .forbiddenBoundary(let denied, let held):
            "You do not have access to boundary domain(s): \(denied.joined(separator: ", ")). "
                + "Your enrolled domains: \(held.isEmpty ? "(none)" : held.joined(separator: ", "))"
        case .recordNotFound: "Record not found"
        case .repoAlreadyExists: "Repo already exists for this DID"
        case .recordsRefused(let records):
            "\(records.count) records are refused, so none was imported: "
                + records.prefix(20).map { "\($0.path): \($0.reason)" }.joined(separator: "; ")
        case .overloaded: "Too many writes are waiting"
        }
    }

    /// The error's name on the wire.
    package var name: String {
        switch self {
        case .notEnrolled: "NotEnrolled"
        case .alreadyEnrolled: "AlreadyEnrolled"
        case .invalidCollection: "InvalidCollection"
        case .invalidRecord, .recordsRefused: "InvalidRecord"
        case .invalidRequest: "InvalidRequest"
        case .serviceMismatch: "ServiceMismatch"
        case .forbiddenBoundary: "ForbiddenBoundary"
        case .invalidSwap: "InvalidSwap"
        case .recordNotFound: "RecordNotFound"
        case .repoAlreadyExists: "RepoAlreadyExists"
        case .invalidCAR: "InvalidCar"
        case .overloaded: "RateLimitExceeded"
        }
    }
}

/// One record that an import refuses.
package struct RefusedRecord: Hashable, Sendable {
    package let path: String
    package let reason: String

    package init(path: String, reason: String) {
        self.path = path
        self.reason = reason
    }
}
