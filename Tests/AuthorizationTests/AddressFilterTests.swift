import Authorization
import Testing

@Suite struct AddressFilterTests {
    @Test("the public filter admits a public address and refuses loopback")
    func publicAndLoopback() {
        #expect(AddressFilter.publicOnly.admits([1, 1, 1, 1], port: 443))
        #expect(!AddressFilter.publicOnly.admits([127, 0, 0, 1], port: 443))
    }
}
