import Keys
import Crypto
import Synchronization

/// The administrators' one password (`STRATOS_ADMIN_PASSWORD`), compared in constant time and throttled.
///
/// Whoever guesses is slowed down together with everybody else who uses the password over the network: nothing tells callers
/// behind a proxy apart. The program on the machine itself works all the same.
package final class Administrators: Sendable {
    /// Wrong passwords in a row that are answered at once, and seconds for one more.
    static let failuresMax = 10
    static let secondsPerFailure: Int64 = 6

    /// Who acts where no user name was given.
    static let unnamed = "administrator"

    private let key: SymmetricKey
    private let code: HMAC<SHA256>.MAC
    private let failures = Mutex((count: 0, at: Int64(0)))

    /// - Parameter password: not empty.
    package init(password: String) {
        precondition(!password.isEmpty, "an empty password is none")
        key = SymmetricKey(size: .bits256)
        code = HMAC<SHA256>.authenticationCode(for: Array(password.utf8), using: key)
    }

    enum Outcome: Sendable {
        /// The name under which the administrator acts.
        case administrator(String)
        case wrong
        /// Seconds until the next attempt is looked at.
        case throttled(Int64)
    }

    /// `Basic base64(name:password)`: everything behind the first colon is the password.
    func check(basic text: Substring, now: Int64) -> Outcome {
        guard let bytes = Self.base64(text), let colon = bytes.firstIndex(of: UInt8(ascii: ":")),
            let name = String(validating: bytes[..<colon], as: UTF8.self), name.utf8.count <= 128,
            name.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F })
        else { return judge(false, name: "", now: now) }
        return judge(matches(Array(bytes[(colon + 1)...])), name: name, now: now)
    }

    func check(bearer text: Substring, now: Int64) -> Outcome {
        judge(matches(Array(text.utf8)), name: "", now: now)
    }

    private func matches(_ password: [UInt8]) -> Bool {
        HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: password, using: key)
    }

    private func judge(_ isRight: Bool, name: String, now: Int64) -> Outcome {
        failures.withLock { failures in
            let forgiven = Int(max(0, min(now - failures.at, 3600)) / Self.secondsPerFailure)
            if forgiven > 0 { failures = (max(0, failures.count - forgiven), now) }
            guard failures.count < Self.failuresMax else { return .throttled(Self.secondsPerFailure) }
            guard isRight else {
                failures = (failures.count + 1, failures.count == 0 ? now : failures.at)
                return .wrong
            }
            return .administrator(name.isEmpty ? Self.unnamed : name)
        }
    }

    /// Standard base64 with or without its padding.
    private static func base64(_ text: Substring) -> [UInt8]? {
        guard text.utf8.count <= 4096 else { return nil }
        let digits = text.utf8.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: "-") : $0 == UInt8(ascii: "/") ? UInt8(ascii: "_") : $0 }
        return try? Base64URL.decode(utf8: digits.prefix { $0 != UInt8(ascii: "=") })
    }
}
