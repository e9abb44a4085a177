package import Authorization
package import Engine
package import Hummingbird
import ATProto
import HTTPTypes

/// How a request proves who calls: the caller, or a thrown refusal. The seam where every kind of credential is added.
package typealias Authenticate = @Sendable (_ request: Request, _ method: String) async throws -> Caller

/// Credentials that are no proof, for development alone: `Authorization: Bearer did:…` names an enrolled actor.
/// Used only with `STRATOS_DEV_MODE=true`.
package func developmentBearer(_ engine: Engine) -> Authenticate {
    { request, _ in
        guard let header = request.headers[.authorization] else { return .anonymous }
        guard header.hasPrefix("Bearer "), let did = try? DID(String(header.dropFirst("Bearer ".count))) else {
            throw XRPCError.authenticationRequired("Authorization failed")
        }
        guard try await engine.isEnrolled(did) else { throw XRPCError.authenticationRequired("Authorization failed") }
        return .user(did)
    }
}

/// What a strict service does until it has credentials that it can verify: it refuses every one, and serves the anonymous.
package func refuseEveryCredential() -> Authenticate {
    { request, _ in
        guard request.headers[.authorization] == nil else {
            throw XRPCError.authenticationRequired("this release verifies no credentials yet; only STRATOS_DEV_MODE=true accepts callers")
        }
        return .anonymous
    }
}
