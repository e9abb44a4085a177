/// Why a DID or a handle could not be resolved. All texts are ours: none holds what another server sent.
package enum IdentityError: Error, Equatable {
    /// The directory, the host or the name says that there is none, or no more.
    case notFound
    /// A DID of a method other than plc and web, or a did:web with a path or port where none may be.
    case unsupportedMethod
    /// There is an answer and it is wrong: another DID's document, no JSON, two DIDs for one handle.
    case malformed(String)
    /// No answer: try again, in seconds rather than at once.
    case unreachable(String)
    /// Too much is being resolved already: answer 503.
    case overloaded
}

/// Why a token's issuer was not proven, or its key not found.
package enum IssuerError: Error, Equatable {
    /// The issuer is not the authorization server of the subject's own PDS, so it cannot speak for the subject.
    case notTheIssuer
    /// The issuer is the right one, and publishes no key, not exactly one, of that name and algorithm.
    case unknownKey
    /// The token is signed with a secret that its issuer shares with nobody: nobody else can check it, ever.
    case symmetricAlgorithm
    /// Neither ES256 nor ES256K.
    case unsupportedAlgorithm
    /// The subject's DID document names no PDS that could be asked.
    case noPDS
    /// The subject's DID document could not be had.
    case subject(IdentityError)
    case malformed(String)
    /// No answer: try again, in seconds rather than at once.
    case unreachable(String)
    /// Too much is being fetched already: answer 503.
    case overloaded
}

extension IdentityError: CacheableFailure {
    var lasting: FailureLasting {
        switch self {
        case .notFound, .unsupportedMethod, .malformed: .settled
        case .unreachable: .passing
        case .overloaded: .ours
        }
    }
}

extension IssuerError: CacheableFailure {
    var lasting: FailureLasting {
        switch self {
        case .notTheIssuer, .unknownKey, .symmetricAlgorithm, .unsupportedAlgorithm, .noPDS, .malformed: .settled
        case .unreachable: .passing
        case .overloaded: .ours
        case .subject(let error): error.lasting
        }
    }
}
