import Authorization
import Simulation
import Testing

@Suite struct AddressFilterTests {
    /// First and last address of each block that is not public, and whether it may be told by more than the table under test.
    private static let blocksIPv4 = [
        ("0.0.0.0", "0.255.255.255"), ("10.0.0.0", "10.255.255.255"), ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"), ("169.254.0.0", "169.254.255.255"), ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"), ("192.0.2.0", "192.0.2.255"), ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"), ("198.18.0.0", "198.19.255.255"), ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"), ("224.0.0.0", "255.255.255.255"),
    ]

    /// The public space is 2000::/3 without these.
    private static let blocksIPv6 = [
        ("2001:0:0:0:0:0:0:0", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8:0:0:0:0:0:0", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002:0:0:0:0:0:0:0", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("3fff:0:0:0:0:0:0:0", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ]

    private static func bytes(_ text: String) -> [UInt8] {
        text.contains(":")
            ? text.split(separator: ":").flatMap { part -> [UInt8] in
                let group = UInt16(part, radix: 16)!
                return [UInt8(group >> 8), UInt8(group & 0xFF)]
            } : text.split(separator: ".").map { UInt8($0)! }
    }

    private static func number(_ bytes: [UInt8]) -> UInt128 { bytes.reduce(0) { $0 << 8 | UInt128($1) } }

    private static func bytes(_ number: UInt128, count: Int) -> [UInt8] {
        (0..<count).reversed().map { UInt8(truncatingIfNeeded: number >> UInt128(8 * $0)) }
    }

    private static func ranges(_ blocks: [(String, String)]) -> [ClosedRange<UInt128>] {
        blocks.map { number(bytes($0.0))...number(bytes($0.1)) }
    }

    @Test("no address of a special IPv4 block is public, and the addresses on both sides of each block are")
    func edgesOfIPv4() {
        let ranges = Self.ranges(Self.blocksIPv4)
        for range in ranges {
            for address in [range.lowerBound, range.upperBound, range.lowerBound + (range.upperBound - range.lowerBound) / 2] {
                #expect(!AddressFilter.publicOnly.admits(Self.bytes(address, count: 4), port: 443), "\(Self.bytes(address, count: 4))")
            }
            for address in [range.lowerBound &- 1, range.upperBound + 1] where address <= UInt128(UInt32.max) {
                let isSpecial = ranges.contains { $0.contains(address) }
                #expect(AddressFilter.publicOnly.admits(Self.bytes(address, count: 4), port: 443) != isSpecial, "\(address)")
            }
        }
    }

    @Test("random addresses are judged as the plain ranges judge them")
    func rangesAsModel() {
        var random = SeededGenerator(seed: TestFiles.seed)
        let ranges4 = Self.ranges(Self.blocksIPv4)
        let ranges6 = Self.ranges(Self.blocksIPv6)
        let global = Self.number(Self.bytes("2000:0:0:0:0:0:0:0"))...Self.number(Self.bytes("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
        for _ in 0..<5000 {
            let address4 = UInt128(UInt32.random(in: 0...UInt32.max, using: &random))
            #expect(
                AddressFilter.publicOnly.admits(Self.bytes(address4, count: 4), port: 443) == !ranges4.contains { $0.contains(address4) },
                "seed \(TestFiles.seed): \(Self.bytes(address4, count: 4))")
            // Near the edge of some block, where a wrong number of bits would show.
            let edge = ranges6.randomElement(using: &random)!
            let near =
                (Bool.random(using: &random) ? edge.lowerBound : edge.upperBound) ^ (1 << UInt128(Int.random(in: 0..<128, using: &random)))
            let expected = global.contains(near) && !ranges6.contains { $0.contains(near) }
            #expect(
                AddressFilter.publicOnly.admits(Self.bytes(near, count: 16), port: 443) == expected,
                "seed \(TestFiles.seed): \(Self.bytes(near, count: 16))")
        }
    }

    @Test(
        "an IPv6 address that is not of the public space is refused, and so is one that carries an IPv4 address",
        arguments: [
            "0:0:0:0:0:0:0:0", "0:0:0:0:0:0:0:1", "0:0:0:0:0:0:7f00:1", "0:0:0:0:0:ffff:7f00:1", "0:0:0:0:0:ffff:101:101",
            "64:ff9b:0:0:0:0:7f00:1", "64:ff9b:1:0:0:0:a00:1", "100:0:0:0:0:0:0:1", "2001:0:0:0:0:0:0:1", "2002:7f00:1:0:0:0:0:1",
            "1fff:ffff:0:0:0:0:0:1", "4000:0:0:0:0:0:0:1", "5f00:0:0:0:0:0:0:1", "fc00:0:0:0:0:0:0:1", "fdff:0:0:0:0:0:0:1",
            "fe80:0:0:0:0:0:0:1", "fec0:0:0:0:0:0:0:1", "ff02:0:0:0:0:0:0:1",
        ])
    func specialIPv6(text: String) {
        #expect(!AddressFilter.publicOnly.admits(Self.bytes(text), port: 443))
        #expect(AddressFilter.any.admits(Self.bytes(text), port: 443))
    }

    @Test("public IPv6 addresses are admitted", arguments: ["2606:4700:4700:0:0:0:0:1111", "2001:200:0:0:0:0:0:1", "3ffe:0:0:0:0:0:0:1"])
    func publicIPv6(text: String) {
        #expect(AddressFilter.publicOnly.admits(Self.bytes(text), port: 443))
    }

    @Test("loopback is open on the ports that are named and on no other, and nothing else is opened by that")
    func loopbackPorts() {
        let filter = AddressFilter.publicAnd(loopbackPorts: [2582])
        #expect(filter.admits([127, 0, 0, 1], port: 2582))
        #expect(filter.admits([127, 9, 9, 9], port: 2582))
        #expect(filter.admits(Self.bytes("0:0:0:0:0:0:0:1"), port: 2582))
        #expect(!filter.admits([127, 0, 0, 1], port: 2583))
        #expect(!filter.admits(Self.bytes("0:0:0:0:0:0:0:2"), port: 2582))
        #expect(!filter.admits(Self.bytes("0:0:0:0:0:ffff:7f00:1"), port: 2582))
        #expect(!filter.admits([10, 0, 0, 1], port: 2582))
        #expect(filter.admits([1, 1, 1, 1], port: 443))
    }

    @Test("what is no address is refused, even where all are admitted", arguments: [0, 1, 3, 5, 15, 17])
    func noAddress(count: Int) {
        #expect(!AddressFilter.any.admits([UInt8](repeating: 1, count: count), port: 443))
    }
}
