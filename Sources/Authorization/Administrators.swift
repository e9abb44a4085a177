import Keys
import Crypto
import Synchronization

/// The administrators' one password (`STRATOS_ADMIN_PASSWORD`), compared in constant time and throttled.
///
/// Whoever guesses is slowed down together with everybody else, but for those at an address that the right password came from before:
/// each of these is counted by itself, so that guessing from elsewhere keeps no administrator out who was in. The program on the machine
/// itself works all the same.
package final class Administrators: Sendable {
    /// Wrong passwords in a row that are answered at once, and seconds for one more.
    static let failuresMax = 10
    static let secondsPerFailure: Int64 = 6

    /// Who acts where no user name was given.
    static let unnamed = "administrator"

    private let key: SymmetricKey
    private let code: HMAC<SHA256>.MAC
    private let failures = Mutex(Failures())

    private struct Failures {
        /// Of everybody at addresses that are not known.
        var strangers = Tally()
        /// Of each address that the right password came from, as long as it is used.
        var known = BoundedMap<String, Tally>(entriesMax: 256, bytesMax: 1 << 16)
    }

    private struct Tally {
        var count = 0
        var at: Int64 = 0

        /// - Returns: whether one more password may be looked at.
        mutating func admits(now: Int64) -> Bool {
            let forgiven = Int(max(0, min(now - at, 3600)) / secondsPerFailure)
            if forgiven > 0 { (count, at) = (max(0, count - forgiven), now) }
            return count < failuresMax
        }

        mutating func fail(now: Int64) {
            if count == 0 { at = now }
            count += 1
        }
    }

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
    func check(basic text: Substring, from address: String?, now: Int64) -> Outcome {
        guard let bytes = Self.base64(text), let colon = bytes.firstIndex(of: UInt8(ascii: ":")),
            let name = String(validating: bytes[..<colon], as: UTF8.self), name.utf8.count <= 128,
            name.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F })
        else { return judge(false, name: "", address, now: now) }
        return judge(matches(Array(bytes[(colon + 1)...])), name: name, address, now: now)
    }

    func check(bearer text: Substring, from address: String?, now: Int64) -> Outcome {
        judge(matches(Array(text.utf8)), name: "", address, now: now)
    }

    private func matches(_ password: [UInt8]) -> Bool {
        HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: password, using: key)
    }

    private func judge(_ isRight: Bool, name: String, _ address: String?, now: Int64) -> Outcome {
        failures.withLock { failures in
            let known = address.flatMap { failures.known[$0] }
            var tally = known ?? failures.strangers
            let isAdmitted = tally.admits(now: now)
            if isAdmitted, !isRight { tally.fail(now: now) }
            if known == nil { failures.strangers = tally }
            if let address, known != nil || (isAdmitted && isRight) {
                failures.known.set(address, known == nil ? Tally() : tally, bytes: address.utf8.count)
            }
            guard isAdmitted else { return .throttled(Self.secondsPerFailure) }
            guard isRight else { return .wrong }
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
