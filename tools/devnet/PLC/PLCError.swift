import HTTPTypes
import Hummingbird

/// Why the directory refuses an operation or knows no document; the texts are the public directory's.
package enum PLCError: Error, Equatable {
    case notRegistered(String)
    /// There is a log, and its last operation is a tombstone.
    case notAvailable(String)
    /// The operation breaks a rule of shape or size.
    case invalidOperation(String)
    /// `prev` is not the operation that this one may follow.
    case misordered
    /// The DID in the address is not the one of the genesis operation.
    case genesisHash(expected: String)
    case invalidSignature
    /// A fork by a stronger key came after the recovery window.
    case lateRecovery(milliseconds: Int64)

    var message: String {
        switch self {
        case .notRegistered(let did): "DID not registered: \(did)"
        case .notAvailable(let did): "DID not available: \(did)"
        case .invalidOperation(let reason): reason
        case .misordered: "Operations not correctly ordered"
        case .genesisHash(let expected): "Hash of genesis operation does not match DID identifier: \(expected)"
        case .invalidSignature: "Invalid signature on op"
        case .lateRecovery(let elapsed):
            "Recovery operation occurred outside of the allowed 72 hr recovery window. Time lapsed: \(elapsed)"
        }
    }

    var response: Response {
        let status: HTTPResponse.Status =
            switch self {
            case .notRegistered, .notAvailable: .notFound
            default: .badRequest
            }
        return .json(["message": .string(message)], status: status)
    }
}
