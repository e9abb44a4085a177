package import ATProto

/// What can go wrong with the log, and what the caller does about it.
package enum EventLogError: Error, Equatable, CustomStringConvertible {
    /// Another writer won: read what was added, decide again, never resend (I5).
    case headMoved(to: Head)
    /// Stored events of this actor do not form a chain: stop this actor and tell a human.
    case brokenChain(actor: DID, at: UInt64)
    /// A file of the log contradicts its own hashes or its own structure: nothing of it is served; stop and tell a human.
    case damaged(file: String, position: UInt64?, message: String)
    /// What proved the caller was used before, and may be used once. Nothing was stored.
    case alreadyUsed
    /// More is waiting than the queue holds: answer 429 with `Retry-After`. Nothing was stored.
    case overloaded
    /// The disk is full: refuse writes with 507, go on reading. Nothing was stored.
    case noSpace
    /// The disk or the server refused; `code` is its own number.
    case storage(operation: String, code: Int32)
    /// Bytes that are not what the format says; the text names the field and what it must be.
    case malformed(String)
    /// A well-formed event of a kind that this version does not know: the projection stops with an alarm, the log does not.
    case unknownKind(String)
    /// An event or a body would be larger than the format allows.
    case tooLarge(bytes: Int, max: Int)
    /// The service's key refused to sign.
    case signing(String)
    /// The store was closed, or has failed and takes nothing more.
    case closed

    package var description: String {
        switch self {
        case .headMoved(let head): "the log has moved to event \(head.sequence)"
        case .brokenChain(let actor, let sequence): "the log of \(actor) is broken at event \(sequence)"
        case .damaged(let file, let position, let message): "\(file)\(position.map { ", position \($0)" } ?? ""): \(message)"
        case .alreadyUsed: "the credential was used before"
        case .overloaded: "too many writes are waiting"
        case .noSpace: "no space left for the log"
        case .storage(let operation, let code): "\(operation) failed with code \(code)"
        case .malformed(let text): text
        case .unknownKind(let kind): "events of kind \(kind) are not known to this version"
        case .tooLarge(let bytes, let max): "\(bytes) bytes are more than the \(max) that fit"
        case .signing(let text): "signing failed: \(text)"
        case .closed: "the log is closed"
        }
    }
}
