package import Keys
import Crypto
import Synchronization

/// Nonces that a server gives out and recognises without keeping them (RFC 9449, section 8): HMAC-SHA-256 over the minute, under a
/// secret derived from the service's key, so that they hold across restarts and on every node that has the key.
package struct DPoPNonces: Sendable {
    /// Seconds that one nonce is the newest.
    static let period: Int64 = 60

    private let secret: SymmetricKey
    private let recent = Recent()

    /// Those of the minute in which somebody asked last, and of its neighbours: every request asks, and every answer carries one.
    private final class Recent: Sendable {
        let nonces = Mutex<(minute: Int64, nonces: [String])?>(nil)
    }

    package init(serviceKey: PrivateKey) {
        secret = serviceKey.derived("stratos/dpop-nonce/1")
    }

    /// The nonce to use from now on: good for one to two minutes more.
    package func current(now: Int64) -> String { around(now)[2] }

    /// Whether it is the last, the present or the next one.
    package func recognizes(_ nonce: String, now: Int64) -> Bool {
        around(now).contains { equal($0, nonce) }
    }

    /// The last, the present and the next one.
    private func around(_ now: Int64) -> [String] {
        let minute = now / Self.period
        return recent.nonces.withLock { recent in
            if let recent, recent.minute == minute { return recent.nonces }
            let nonces = (minute - 1...minute + 1).map(nonce)
            recent = (minute, nonces)
            return nonces
        }
    }

    private func nonce(_ counter: Int64) -> String {
        let code = withUnsafeBytes(of: counter.bigEndian) { HMAC<SHA256>.authenticationCode(for: Array($0), using: secret) }
        return Base64URL.encode(Array(code))
    }
}

/// Compares texts of one length without telling by its time where they differ.
func equal(_ left: String, _ right: String) -> Bool {
    guard left.utf8.count == right.utf8.count else { return false }
    return zip(left.utf8, right.utf8).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
}
