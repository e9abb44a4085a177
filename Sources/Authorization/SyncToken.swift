import Crypto

/// The one token with which a service may follow every stream (`STRATOS_SYNC_TOKEN`), compared in constant time.
package struct SyncToken: Sendable {
    private let key: SymmetricKey
    private let code: HMAC<SHA256>.MAC

    /// - Parameter token: not empty.
    package init(_ token: String) {
        precondition(!token.isEmpty, "an empty token is none")
        key = SymmetricKey(size: .bits256)
        code = HMAC<SHA256>.authenticationCode(for: Array(token.utf8), using: key)
    }

    package func matches(_ text: String) -> Bool {
        HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: Array(text.utf8), using: key)
    }
}
