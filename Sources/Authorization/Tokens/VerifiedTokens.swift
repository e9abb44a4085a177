package import Keys
import Synchronization

/// Access tokens whose signatures were found good lately: a client sends the same one with all of its requests for an hour, and to parse
/// and verify it each time is a good part of what such a request costs.
///
/// What is remembered can never change: that a text is this token, and that this key signed it. All else is judged at each request: the
/// token's time, its binding to the proof, whether its subject is a member, and which key its issuer stands by now. So nothing is
/// accepted that would be refused without this memory. It is bounded, and what was not used for longest is forgotten.
package final class VerifiedTokens: Sendable {
    private struct Verified {
        let token: JSONWebToken
        let key: PublicKey
    }

    /// A token in memory takes about so many times its text: the text, what is signed, and the claims as values.
    private static let bytesPerByte = 4

    private let tokens: Mutex<BoundedMap<String, Verified>>

    package init(countMax: Int = 8192, bytesMax: Int = 16 << 20) {
        tokens = Mutex(BoundedMap(entriesMax: countMax, bytesMax: bytesMax))
    }

    package var count: Int { tokens.withLock { $0.count } }

    /// The token that a text is, from memory or parsed.
    package func token(_ text: String) throws(TokenError) -> JSONWebToken {
        if let verified = tokens.withLock({ $0[text] }) { return verified.token }
        do { return try JSONWebToken(text) } catch { throw .malformed("Could not decode access token") }
    }

    /// Whether `key` signed a token.
    /// - Parameter text: all of it, as it was sent.
    package func isSigned(_ token: JSONWebToken, _ text: String, by key: PublicKey) -> Bool {
        if tokens.withLock({ $0[text] })?.key == key { return true }
        guard token.isSigned(by: key) else { return false }
        tokens.withLock { $0.set(text, Verified(token: token, key: key), bytes: Self.bytesPerByte * text.utf8.count) }
        return true
    }
}
