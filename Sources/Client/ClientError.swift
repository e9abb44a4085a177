import Authorization

/// Why an answer could not be had. No text holds what a server sent, but for the error name in `refused`.
public enum ClientError: Error, Hashable, Sendable {
    /// No document of this DID: the directory or host says that there is none.
    case unknownAccount
    /// The DID's method or form is none that can be resolved.
    case unsupportedDID
    /// The document names no PDS, or none that may be asked.
    case noPDS
    /// The server answered with another status than 200.
    /// - Parameter name: the error's name, up to 64 letters and digits; nil where it gave none.
    case refused(status: Int, name: String?)
    /// The answer is not what it should be: asking again gives the same.
    case malformed(String)
    /// A longer answer than is taken.
    case tooLarge(bytesMax: Int)
    /// The host has only addresses that may not be connected to.
    case refusedAddress
    /// No answer, or not in time: try again, in seconds rather than at once.
    case unreachable(String)
}

extension ClientError {
    init(_ error: OutboundError) {
        switch error {
        case .invalidURL: self = .malformed("not a URL that can be asked")
        case .refusedAddress: self = .refusedAddress
        case .timedOut: self = .unreachable("no answer in time")
        case .tooLarge(let max): self = .tooLarge(bytesMax: max)
        case .unreachable(let reason): self = .unreachable(reason)
        case .overloaded: self = .unreachable("too many requests wait already")
        case .closed: self = .unreachable("the client is closed")
        }
    }

    init(_ error: IdentityError) {
        switch error {
        case .notFound: self = .unknownAccount
        case .unsupportedMethod: self = .unsupportedDID
        case .malformed(let reason): self = .malformed(reason)
        case .unreachable(let reason): self = .unreachable(reason)
        case .overloaded: self = .unreachable("too much is being resolved already")
        }
    }
}

extension ClientError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unknownAccount: "there is no document for this DID"
        case .unsupportedDID: "a DID that cannot be resolved"
        case .noPDS: "the account's document names no PDS that may be asked"
        case .refused(let status, let name): "the server answered \(status)\(name.map { " " + $0 } ?? "")"
        case .malformed(let reason): "the answer is malformed: \(reason)"
        case .tooLarge(let bytesMax): "the answer has more than \(bytesMax) bytes"
        case .refusedAddress: "the host has no address that may be connected to"
        case .unreachable(let reason): "no answer: \(reason)"
        }
    }
}
