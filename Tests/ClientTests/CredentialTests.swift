import Client
import Testing

@Suite("Credentials and addresses")
struct CredentialTests {
    @Test("a token is visible ASCII of 1 to 8,192 bytes, and shows in no text")
    func token() throws {
        for kind in [Credential.Kind.bearer, .syncToken] {
            for text in ["", "a\r\nHost: b", "ä", String(repeating: "a", count: 8193)] { #expect(Credential(text, as: kind) == nil) }
        }
        #expect(Credential("a b", as: .bearer) == nil && Credential("a b", as: .syncToken) != nil)
        let credential = try #require(Credential(String(repeating: "s", count: 8192), as: .bearer))
        var dumped = ""
        dump(credential, to: &dumped)
        for text in ["\(credential)", String(reflecting: credential), dumped, "\([credential])"] { #expect(!text.contains("sss")) }
    }

    @Test("a service is an origin over TLS, or on this machine without")
    func address() {
        #expect(ServiceAddress("https://Stratos.Example.com:443/")?.description == "https://stratos.example.com")
        #expect(ServiceAddress("http://localhost:3100") != nil && ServiceAddress("http://127.0.0.1:1") != nil)
        for text in ["http://stratos.example.com", "https://a.example/path", "https://user@a.example", "wss://a.example", "a.example"] {
            #expect(ServiceAddress(text) == nil, "\(text)")
        }
    }
}
