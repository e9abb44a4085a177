/// Why a credential proves nobody. The answers are those of the wire contract, sections 2.1 and 2.2.
package enum CredentialRefusal: Error, Hashable, Sendable {
    /// 401 `AuthenticationRequired`; `challenge` is the `WWW-Authenticate`.
    case refused(message: String, challenge: String?)
    /// 401 with a fresh nonce: the same request with it will be looked at.
    case nonceRequired
    /// 400 `NotEnrolled`: nothing is known here of who this claims to be.
    case notEnrolled
    /// 429: too many wrong passwords, or too many requests of one caller.
    case throttled(message: String, seconds: Int64)
    /// 503: what would prove it could not be reached; try again.
    case unavailable(message: String)

    static let scheme = CredentialRefusal.refused(message: "DPoP authorization required", challenge: "DPoP realm=\"stratos\"")
    static let wrongPassword = CredentialRefusal.refused(message: "Authorization failed", challenge: nil)

    static func token(_ error: TokenError) -> CredentialRefusal {
        .refused(message: error.message, challenge: "DPoP realm=\"stratos\", error=\"invalid_token\"")
    }

    static func proof(_ error: TokenError) -> CredentialRefusal {
        .refused(
            message: error.message,
            challenge: "DPoP realm=\"stratos\", error=\"invalid_dpop_proof\", error_description=\"\(quotable(error.message))\"")
    }

    /// A text that may stand between quotes in a header, whatever it was made from.
    private static func quotable(_ text: String) -> String {
        String(
            decoding: text.utf8.filter { (0x20...0x7E).contains($0) && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }, as: UTF8.self
        )
    }
}
