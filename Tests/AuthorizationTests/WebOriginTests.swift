import Authorization
import Testing

@Suite struct WebOriginTests {
    @Test(
        "an origin has one text",
        arguments: [
            ("https://pds.example.com", "https://pds.example.com"), ("HTTPS://PDS.Example.COM/", "https://pds.example.com"),
            ("https://pds.example.com:443", "https://pds.example.com"), ("https://pds.example.com:80", "https://pds.example.com:80"),
            ("http://localhost:80/", "http://localhost"), ("http://localhost:2583", "http://localhost:2583"),
            ("https://a:1", "https://a:1"), ("https://a:65535", "https://a:65535"), ("http://[::1]:2583/", "http://[::1]:2583"),
            ("https://192.0.2.1", "https://192.0.2.1"), ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ])
    func oneText(given: String, text: String) throws {
        let origin = try #require(WebOrigin(given))
        #expect(origin.description == text)
        #expect(WebOrigin(text) == origin)
    }

    @Test(
        "what is more or less than an origin is none",
        arguments: [
            "", "https", "https:", "https://", "https:///", "https://a//", "https://a/b", "https://a?b", "https://a#b", "https://u@a",
            "https://u:p@a",
            "https://a:", "https://a:0", "https://a:00443", "https://a:65536", "https://a:1a", "https://a:443:443", "//a", "ftp://a",
            "a.example",
            "https:/a", "https:\\\\a", "https://a b", "https://a\u{0}", "https://a..b", "https://.a", "https://a.", "https://-a",
            "https://a-",
            "https://a_b", "https://ä.example", "https://\u{212A}.example", "https://[::1", "https://::1", "https://[]",
            "https://[::1%25eth0]",
            "https://[::1]a", " https://a", "https://a ", "javascript:alert(1)", "https://a%2eb",
            "https://" + String(repeating: "a", count: 64),
            "https://" + String(repeating: "aaaaaaa.", count: 40) + "a",
        ])
    func none(text: String) {
        #expect(WebOrigin(text) == nil)
    }

    @Test("without TLS only this machine is trustworthy, and only where that is allowed")
    func trust() {
        for (text, isSecure, isLocal) in [
            ("https://a.example", true, false), ("http://a.example", false, false), ("http://localhost:1", false, true),
            ("http://127.0.0.1", false, true), ("http://[::1]", false, true), ("http://pds.localhost", false, true),
            ("http://localhost.example", false, false), ("http://127.0.0.2", false, false), ("http://mylocalhost", false, false),
        ] {
            #expect(WebOrigin(text)?.isTrustworthy(allowingHTTP: false) == isSecure, "\(text)")
            #expect(WebOrigin(text)?.isTrustworthy(allowingHTTP: true) == (isSecure || isLocal), "\(text)")
        }
    }
}
