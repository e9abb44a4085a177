/// Which addresses the service connects to on behalf of strangers.
///
/// It judges the address that a connection is about to be made to, after DNS and for each connection anew. A name says nothing:
/// anybody can let theirs resolve to 127.0.0.1, or to a public address first and a private one a second later.
///
/// The blocks are those of the IANA special-purpose address registries (RFC 6890 and its updates) that are not globally
/// reachable, and those that carry an IPv4 address inside an IPv6 one: what comes out at the other end of a translator or a
/// tunnel would not be judged.
package struct AddressFilter: Sendable {
    private enum Scope: Sendable {
        case everywhere
        case publicInternet(loopbackPorts: Set<UInt16>)
    }

    private let scope: Scope

    /// The public Internet, and nothing else.
    package static let publicOnly = AddressFilter(scope: .publicInternet(loopbackPorts: []))

    /// The public Internet, and these ports of this machine.
    package static func publicAnd(loopbackPorts: Set<UInt16>) -> AddressFilter {
        AddressFilter(scope: .publicInternet(loopbackPorts: loopbackPorts))
    }

    /// Every address: for development alone, where directories and servers run on private networks.
    package static let any = AddressFilter(scope: .everywhere)

    /// - Parameter address: 4 bytes of IPv4 or 16 of IPv6, in network order; of any other length it is refused.
    package func admits(_ address: [UInt8], port: UInt16) -> Bool {
        guard address.count == 4 || address.count == 16 else { return false }
        switch scope {
        case .everywhere: return true
        case .publicInternet(let loopbackPorts):
            return Self.isPublic(address) || (loopbackPorts.contains(port) && Self.isLoopback(address))
        }
    }

    private static func isPublic(_ address: [UInt8]) -> Bool {
        address.count == 4
            ? !specialIPv4.contains { $0.holds(address) }
            : globalUnicast.holds(address) && !specialGlobalUnicast.contains { $0.holds(address) }
    }

    private static func isLoopback(_ address: [UInt8]) -> Bool {
        address.count == 4 ? loopbackIPv4.holds(address) : address == loopbackIPv6
    }

    private static let loopbackIPv4 = AddressBlock([127], bits: 8)
    private static let loopbackIPv6: [UInt8] = [UInt8](repeating: 0, count: 15) + [1]

    private static let specialIPv4 = [
        AddressBlock([0], bits: 8),  // this network
        AddressBlock([10], bits: 8),  // private
        AddressBlock([100, 64], bits: 10),  // shared by the customers of a carrier's translator
        loopbackIPv4,
        AddressBlock([169, 254], bits: 16),  // link-local, where clouds keep their credentials
        AddressBlock([172, 16], bits: 12),  // private
        AddressBlock([192, 0, 0], bits: 24),  // protocol assignments
        AddressBlock([192, 0, 2], bits: 24),  // documentation
        AddressBlock([192, 88, 99], bits: 24),  // relays of 6to4
        AddressBlock([192, 168], bits: 16),  // private
        AddressBlock([198, 18], bits: 15),  // benchmarks
        AddressBlock([198, 51, 100], bits: 24),  // documentation
        AddressBlock([203, 0, 113], bits: 24),  // documentation
        AddressBlock([224], bits: 3),  // multicast, reserved, broadcast
    ]

    /// All that is handed out to the public. Outside lie loopback, link-local, unique local and multicast addresses, the
    /// IPv4-mapped and -compatible ones, and those of translators (64:ff9b::/96, 64:ff9b:1::/48).
    private static let globalUnicast = AddressBlock([0x20], bits: 3)

    private static let specialGlobalUnicast = [
        AddressBlock([0x20, 0x01, 0x00], bits: 23),  // protocol assignments, Teredo among them
        AddressBlock([0x20, 0x01, 0x0D, 0xB8], bits: 32),  // documentation
        AddressBlock([0x20, 0x02], bits: 16),  // 6to4
        AddressBlock([0x3F, 0xFF], bits: 20),  // documentation
    ]
}

/// The addresses that begin with the same bits.
private struct AddressBlock: Sendable {
    private let prefix: [UInt8]
    private let bits: Int

    /// - Parameter prefix: as many bytes as `bits` touch; zero below them.
    init(_ prefix: [UInt8], bits: Int) {
        precondition(prefix.count <= (bits + 7) / 8, "a block is named by the bytes that its bits touch")
        self.prefix = prefix + [UInt8](repeating: 0, count: (bits + 7) / 8 - prefix.count)
        self.bits = bits
    }

    func holds(_ address: [UInt8]) -> Bool {
        prefix.indices.allSatisfy { index in
            let mask = UInt8(truncatingIfNeeded: 0xFF00 >> min(8, bits - 8 * index))
            return address[index] & mask == prefix[index]
        }
    }
}
