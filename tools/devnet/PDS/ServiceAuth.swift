import ATProto
import HTTPTypes

/// `com.atproto.server.getServiceAuth` by the rules of the public PDS.
extension PDS {
    /// Methods about the account itself: no token for another service may stand for them.
    static let protectedMethods: Set<String> = [
        "com.atproto.admin.sendEmail", "com.atproto.identity.requestPlcOperationSignature", "com.atproto.identity.signPlcOperation",
        "com.atproto.identity.updateHandle", "com.atproto.server.activateAccount", "com.atproto.server.confirmEmail",
        "com.atproto.server.createAppPassword", "com.atproto.server.deactivateAccount", "com.atproto.server.getAccountInviteCodes",
        "com.atproto.server.getSession", "com.atproto.server.listAppPasswords", "com.atproto.server.requestAccountDelete",
        "com.atproto.server.requestEmailConfirmation", "com.atproto.server.requestEmailUpdate",
        "com.atproto.server.revokeAppPassword", "com.atproto.server.updateEmail",
    ]

    /// - Parameter expiry: seconds since 1970.
    func getServiceAuth(for account: Account, audience: String, method: String?, expiry: Int64?) throws -> DevnetJWT {
        try Self.checkAudience(audience)
        if let expiry {
            // In milliseconds, as the public one compares: what is a fraction of a second too far is too far.
            let (milliseconds, overflows) = expiry.multipliedReportingOverflow(by: 1000)
            let ahead = overflows ? .max : milliseconds - clock()
            if ahead < 0 { throw Self.badExpiration("expiration is in past") }
            if ahead > 3_600_000 {
                throw Self.badExpiration("cannot request a token with an expiration more than an hour in the future")
            }
            if method == nil, ahead > 60_000 {
                throw Self.badExpiration("cannot request a method-less token with an expiration more than a minute in the future")
            }
        }
        if let method {
            guard (try? NSID(method)) != nil else { throw XRPCRefusal.invalidRequest("lxm must be a valid nsid") }
            guard !Self.protectedMethods.contains(method) else {
                throw XRPCRefusal.invalidRequest("cannot request a service auth token for the following protected method: \(method)")
            }
        }
        return try serviceAuth(for: account, audience: audience, method: method, expiry: expiry)
    }

    private static func badExpiration(_ message: String) -> XRPCRefusal { XRPCRefusal(.badRequest, "BadExpiration", message) }

    /// A DID, or a DID with the fragment of one of its services.
    private static func checkAudience(_ audience: String) throws(XRPCRefusal) {
        let parts = audience.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
        guard audience.utf8.count <= 2048, (try? DID(String(parts[0]))) != nil, parts.count == 1 || !parts[1].isEmpty else {
            throw .invalidRequest("aud must be a valid did, or a did and the id of one of its services")
        }
    }
}
