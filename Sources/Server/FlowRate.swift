import HTTPTypes
import NIOCore
import Synchronization

/// How many flows may begin: anybody can begin them for nothing, and each makes this service ask another server. So many a minute in
/// all, and fewer from one address, so that one alone does not take the place of everybody.
package final class FlowRate: Sendable {
    private struct State {
        var began: ContinuousClock.Instant?
        var count = 0
        var counts: [String: Int] = [:]
    }

    private let state = Mutex(State())
    private let flowsMax: Int
    private let flowsOfAddressMax: Int
    private static let window: Duration = .seconds(60)

    package init(flowsMax: Int = 600, flowsOfAddressMax: Int = 30) {
        self.flowsMax = flowsMax
        self.flowsOfAddressMax = flowsOfAddressMax
    }

    /// Counts a flow that is to begin.
    /// - Parameter address: nil where it is not known: then it counts among all alone.
    /// - Returns: how long to wait, where it may not begin now.
    func admit(_ address: String?, now: ContinuousClock.Instant) -> Duration? {
        state.withLock { state in
            if state.began.map({ now - $0 >= Self.window }) ?? true { state = State(began: now) }
            let ofAddress = address.map { state.counts[$0] ?? 0 } ?? 0
            guard state.count < flowsMax, ofAddress < flowsOfAddressMax else { return Self.window - (now - (state.began ?? now)) }
            state.count += 1
            if let address { state.counts[address] = ofAddress + 1 }
            return nil
        }
    }

    /// Who asks, as far as it can be told: the peer, by its network where that is IPv6. Behind a proxy on this machine or its network it
    /// is the last that the proxy names; what a client says of itself before that counts for nothing.
    static func address(peer: SocketAddress?, headers: HTTPFields) -> String? {
        guard let peer, let bytes = peer.addressBytes else { return nil }
        guard isNear(bytes) else { return bytes.count == 4 ? "\(bytes)" : "\(bytes.prefix(8))" }
        let named = headers[values: .forwardedFor].joined(separator: ",").split(separator: ",").last
        return named.map { String($0.drop { $0 == " " }.prefix(64)) }
    }

    /// Loopback and private networks.
    private static func isNear(_ bytes: [UInt8]) -> Bool {
        guard bytes.count == 4 else { return bytes.dropLast().allSatisfy { $0 == 0 } || bytes[0] & 0xFE == 0xFC || isMapped(bytes) }
        return bytes[0] == 127 || bytes[0] == 10 || (bytes[0] == 172 && bytes[1] & 0xF0 == 16) || (bytes[0] == 192 && bytes[1] == 168)
    }

    /// An IPv4 address that an IPv6 socket took.
    private static func isMapped(_ bytes: [UInt8]) -> Bool {
        bytes.prefix(10).allSatisfy { $0 == 0 } && bytes[10...11].allSatisfy { $0 == 0xFF } && isNear(Array(bytes[12...]))
    }
}

extension HTTPField.Name {
    fileprivate static let forwardedFor = HTTPField.Name("X-Forwarded-For")!
}

extension SocketAddress {
    fileprivate var addressBytes: [UInt8]? {
        switch self {
        case .v4(let address): withUnsafeBytes(of: address.address.sin_addr) { Array($0) }
        case .v6(let address): withUnsafeBytes(of: address.address.sin6_addr) { Array($0) }
        case .unixDomainSocket: nil
        }
    }
}
