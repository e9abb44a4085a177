package import Keys
import Crypto

/// Nonces that a server gives out and recognises without keeping them (RFC 9449, section 8): HMAC-SHA-256 over the minute, under a
/// secret derived from the service's key, so that they hold across restarts and on every node that has the key.
package struct DPoPNonces: Sendable {
    /// Seconds that one nonce is the newest.
    static let period: Int64 = 60

    private let secret: SymmetricKey

    package init(serviceKey: PrivateKey) {
        secret = serviceKey.derived("stratos/dpop-nonce/1")
    }

    /// The nonce to use from now on: good for one to two minutes more.
    package func current(now: Int64) -> String { nonce(now / Self.period + 1) }

    /// Whether it is the last, the present or the next one.
    package func recognizes(_ nonce: String, now: Int64) -> Bool {
        let counter = now / Self.period
        return (counter - 1...counter + 1).contains { equal(self.nonce($0), nonce) }
    }

    private func nonce(_ counter: Int64) -> String {
        let code = withUnsafeBytes(of: counter.bigEndian) { HMAC<SHA256>.authenticationCode(for: Array($0), using: secret) }
        return Base64URL.encode(Array(code))
    }
}

/// Compares texts of one length without telling by its time where they differ.
func equal(_ left: String, _ right: String) -> Bool {
    let (left, right) = (Array(left.utf8), Array(right.utf8))
    guard left.count == right.count else { return false }
    return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
}
