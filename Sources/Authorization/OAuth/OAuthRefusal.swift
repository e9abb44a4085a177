/// Why a flow did not begin, or did not end in a session. Every way of failing has a name of its own, for the log and the answer; no
/// text holds what a browser or a server sent, but for error codes in the protocol's alphabet.
package enum OAuthRefusal: Error, Hashable, Sendable {
    // Beginning one.

    /// Neither a handle nor a DID, or one that leads to no account.
    case unknownAccount
    /// The handle names an account whose document does not name the handle.
    case handleMismatch
    /// The account's document names no PDS that may be asked.
    case noPDS
    /// The server's metadata is not that of an authorization server for accounts of the AT Protocol.
    case unfitServer(String)
    /// It does not say that it demands PKCE with S256: codes that are stolen on the way would be good for whoever has them.
    case noPKCE
    /// It did not take the pushed request (RFC 9126).
    case pushRefused(error: String)
    /// As many flows as may be are under way.
    case tooManyFlows
    /// A server that had to be asked did not answer.
    case unreachable(String)

    // Ending one.

    /// A parameter of the callback stands there twice, or is none.
    case malformedCallback
    /// Nobody began a flow with this state, or it was used before.
    case unknownState
    case expiredState
    /// The flow was begun by another browser than the one that comes back.
    case otherBrowser
    /// The answer does not say which server gave it (RFC 9207).
    case missingIssuer
    /// The answer is another server's than the one that was asked.
    case otherIssuer
    /// The server, or the person at it, said no.
    case notAuthorized(error: String)
    case missingCode
    /// The account's server is not what it was when the flow began: another PDS, another issuer, other endpoints.
    case serverChanged
    /// The token endpoint did not take the code.
    case codeRefused(error: String)
    case malformedTokens(String)
    /// Tokens that are not bound to a key: `token_type` is not DPoP.
    case notBound
    /// Tokens of another account than the one that was asked for.
    case otherSubject
    /// The account did not give what the service needs.
    case scopeTooSmall

    package var name: String {
        switch self {
        case .unknownAccount: "UnknownAccount"
        case .handleMismatch: "HandleMismatch"
        case .noPDS: "NoPDS"
        case .unfitServer: "UnfitServer"
        case .noPKCE: "NoPKCE"
        case .pushRefused: "PushRefused"
        case .tooManyFlows: "TooManyFlows"
        case .unreachable: "ServerUnreachable"
        case .malformedCallback: "MalformedCallback"
        case .unknownState: "UnknownState"
        case .expiredState: "ExpiredState"
        case .otherBrowser: "OtherBrowser"
        case .missingIssuer: "MissingIssuer"
        case .otherIssuer: "OtherIssuer"
        case .notAuthorized: "NotAuthorized"
        case .missingCode: "MissingCode"
        case .serverChanged: "ServerChanged"
        case .codeRefused: "CodeRefused"
        case .malformedTokens: "MalformedTokens"
        case .notBound: "NotBound"
        case .otherSubject: "OtherSubject"
        case .scopeTooSmall: "ScopeTooSmall"
        }
    }

    /// What else is known of it; nil where the name says all.
    package var detail: String? {
        switch self {
        case .unfitServer(let text), .unreachable(let text), .malformedTokens(let text), .pushRefused(let text), .notAuthorized(let text),
            .codeRefused(let text):
            text
        default: nil
        }
    }

    /// An error code of OAuth as it may stand in a log: what is none is not repeated.
    static func code(_ text: String?) -> String {
        guard let text, 1...40 ~= text.utf8.count,
            text.utf8.allSatisfy({ UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0 || $0 == UInt8(ascii: "_") })
        else { return "other" }
        return text
    }

    init(_ error: IdentityError) {
        switch error {
        case .notFound, .unsupportedMethod, .malformed: self = .unknownAccount
        case .unreachable(let reason): self = .unreachable(reason)
        case .overloaded: self = .tooManyFlows
        }
    }

    init(_ failure: DocumentFetch.Failure) {
        switch failure {
        case .absent: self = .unfitServer("the server has no document where its metadata should be")
        case .malformed(let reason): self = .unfitServer(reason)
        case .unreachable(let reason): self = .unreachable(reason)
        case .overloaded: self = .tooManyFlows
        }
    }
}
