package import Logging
import Glibc

/// Milliseconds since 1970. A test gives its own; the devnet asks no other clock.
package typealias DevnetClock = @Sendable () -> Int64

package struct DevnetConfiguration: Sendable {
    /// What the PDS signs access tokens with.
    package enum TokenAlgorithm: String, Sendable, CaseIterable {
        /// With a key of its JWKS, so that a stranger can verify them.
        case es256 = "ES256"
        /// With a secret of its own, as the stock PDS: its JWKS is empty.
        case hs256 = "HS256"
    }

    /// 0 takes a free port.
    package var plcPort = 0
    package var pdsPort = 0
    package var tokens = TokenAlgorithm.es256
    /// Seconds for which the access tokens of OAuth sessions are good.
    package var accessTokenLifetime: Int64 = 3600
    /// Where accounts, operations and keys are kept from one run to the next; without it they end with the devnet.
    package var dataFile: String?
    package var clock: DevnetClock = systemClock
    package var logger = Logger(label: "devnet", factory: { _ in SwiftLogNoOpLogHandler() })

    package init() {}
}

/// The devnet is the edge: here alone the system's clock is read.
private func systemClock() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec) * 1000 + Int64(now.tv_nsec) / 1_000_000
}

package enum DevnetError: Error, Equatable {
    /// A port could not be bound, or a server ended by itself.
    case notListening(String)
    /// The handle belongs to another account.
    case handleTaken(String)
    /// Handles of this PDS end with `.test` and have one label before it.
    case unsupportedHandle(String)
    /// No account of this PDS.
    case noAccount(String)
    /// The data file cannot be read or written.
    case file(path: String, String)
    /// The data file is not one that this program wrote.
    case unreadable(String)
    /// The documents of the saved accounts name another port of the PDS.
    case portMoved(saved: Int)
    /// The system gave no random bytes.
    case noRandomBytes
}
