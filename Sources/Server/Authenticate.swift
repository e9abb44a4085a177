import Authorization
import Hummingbird
import ATProto
import HTTPTypes
import NIOCore

/// How the server reads credentials off a request, and what it says of those that prove nothing.
struct RequestAuthentication: Sendable {
    let authenticator: Authenticator
    let publicURL: String

    /// - Returns: nil where the request brings no credential.
    func caller(of request: Request, on channel: any Channel, method: XRPCMethod) async throws -> Proven? {
        let (name, isProcedure) = (method.id.description, method.kind != .query)
        guard method.access == .administrator else {
            return try await caller(of: request, on: channel, method: name, isProcedure: isProcedure)
        }
        do {
            return try authenticator.authenticateAdministrator(
                credentials(of: request, on: channel, method: name, isProcedure: isProcedure))
        } catch CredentialRefusal.refused {
            throw XRPCError(.unauthorized, "AuthRequired", "Admin auth required")
        } catch let refusal as CredentialRefusal {
            throw XRPCError(refusal)
        }
    }

    /// - Parameter method: what a service token must be for.
    func caller(of request: Request, on channel: any Channel, method: String, isProcedure: Bool) async throws -> Proven? {
        let credentials = credentials(of: request, on: channel, method: method, isProcedure: isProcedure)
        do { return try await authenticator.authenticate(credentials) } catch let refusal as CredentialRefusal { throw XRPCError(refusal) }
    }

    private func credentials(of request: Request, on channel: any Channel, method: String, isProcedure: Bool) -> Credentials {
        let headers = request.headers
        return Credentials(
            authorization: headers[values: .authorization], proofs: headers[values: .dpop], httpMethod: request.method.rawValue,
            url: publicURL + request.uri.path, method: method, isProcedure: isProcedure,
            address: { ClientAddress.find(peer: channel.remoteAddress, headers: headers) })
    }
}

extension HTTPField.Name {
    static let dpop = HTTPField.Name("DPoP")!
    static let dpopNonce = HTTPField.Name("DPoP-Nonce")!
}

extension XRPCError {
    /// The nonce that some of these ask for is on every answer.
    init(_ refusal: CredentialRefusal) {
        switch refusal {
        case .refused(let message, let challenge):
            self.init(.unauthorized, "AuthenticationRequired", message, headers: challenge.map { [.wwwAuthenticate: $0] } ?? [:])
        case .nonceRequired:
            self.init(
                .unauthorized, "AuthenticationRequired", "DPoP nonce required", headers: [.wwwAuthenticate: "DPoP error=\"use_dpop_nonce\""]
            )
        case .notEnrolled: self.init(.badRequest, "NotEnrolled", "User is not enrolled in this Stratos service")
        case .throttled(let message, let seconds):
            self.init(.tooManyRequests, "RateLimitExceeded", message, headers: [.retryAfter: String(seconds)])
        case .unavailable(let message): self.init(.serviceUnavailable, "ServiceUnavailable", message, headers: [.retryAfter: "5"])
        }
    }
}
