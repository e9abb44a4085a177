import ATProto
import Devnet
import Foundation
import HTTPTypes
import Testing

@Suite("The pages for sign-in and consent")
struct ConsentPageTests {
    /// A browser as far as these pages need one: it keeps a cookie and sends the fields of forms back.
    private struct Browser {
        let pds: String
        var cookie: String?

        mutating func get(_ url: String) async throws -> HTTPCall.Answer { keep(try await HTTPCall.get(url, headers: headers)) }

        mutating func submit(_ page: HTTPCall.Answer, _ fields: [(String, String)], to path: String) async throws -> HTTPCall.Answer {
            let hidden = page.text.matches(of: /<input type="hidden" name="([^"]*)" value="([^"]*)">/).map {
                (String($0.1), String($0.2).replacing("&amp;", with: "&"))
            }
            #expect(page.text.contains("action=\"\(path)\""), "\(page.text)")
            return keep(try await HTTPCall.post(pds + path, form: hidden + fields, headers: headers))
        }

        private var headers: HTTPFields { cookie.map { [.cookie: $0] } ?? [:] }

        private mutating func keep(_ answer: HTTPCall.Answer) -> HTTPCall.Answer {
            if let set = answer.headers[.setCookie] { cookie = String(set.prefix { $0 != ";" }) }
            return answer
        }
    }

    @Test("a person signs in, reads who asks for what, and allows or denies it", arguments: ["accept", "deny"])
    func walk(decision: String) async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test", password: "right & \"proper\""))
            var browser = Browser(pds: devnet.pdsURL)
            let url = try flow.authorizationURL(try await flow.push())
            let signIn = try await browser.get(url)
            #expect(signIn.status == 200 && signIn.contentType.hasPrefix("text/html"))
            #expect(signIn.text.contains("value=\"alice.test\"") && signIn.text.contains("type=\"password\""))
            let set = try #require(signIn.headers[.setCookie])
            #expect(set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/oauth"))
            #expect(signIn.headers[.contentSecurityPolicy]?.contains("frame-ancestors 'none'") == true)
            #expect(signIn.headers[.cacheControl] == "no-store")

            let wrong = try await browser.submit(
                signIn, [("identifier", "alice.test"), ("password", "wrong")], to: "/oauth/authorize/sign-in")
            #expect(wrong.status == 400 && wrong.text.contains("Invalid identifier or password"))
            let right = try await browser.submit(
                wrong, [("identifier", "@alice.test"), ("password", "right & \"proper\"")], to: "/oauth/authorize/sign-in")
            #expect(right.status == 303)
            let consent = try await browser.get(devnet.pdsURL + (try #require(right.headers[.location])))
            #expect(consent.status == 200)
            for text in [
                "@alice.test", flow.clientID.replacing("&", with: "&amp;"), flow.redirect,
                "create, update, delete records of com.example.note",
                "<code>repo:com.example.note</code>",
            ] {
                #expect(consent.text.contains(text), "\(text) in \(consent.text)")
            }
            let end = try await browser.submit(consent, [("decision", decision)], to: "/oauth/authorize/decide")
            #expect(end.status == 302)
            let location = try #require(end.headers[.location])
            #expect(location.hasPrefix(flow.redirect + "?"))
            let items = try #require(URLComponents(string: location)?.queryItems).map { ($0.name, $0.value ?? "") }
            let answer = Dictionary(uniqueKeysWithValues: items)
            #expect(answer["state"] == flow.state && answer["iss"] == devnet.pdsURL)
            if decision == "accept" {
                #expect(try await flow.exchange(try #require(answer["code"])).status == 200)
            } else {
                #expect(answer["error"] == "access_denied" && answer["code"] == nil)
            }
            let again = try await browser.get(url)
            #expect(again.status == 400 && again.text.contains("decided already"))
        }
    }

    @Test("forms without the page's token, and other browsers, are refused and change nothing")
    func forgery() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            var browser = Browser(pds: devnet.pdsURL)
            let url = try flow.authorizationURL(try await flow.push())
            let page = try await browser.get(url)
            let fields = [("identifier", "alice.test"), ("password", "password")]
            let uri = try #require(page.text.firstMatch(of: /name="request_uri" value="([^"]*)"/)).1
            for token in [nil, "", "0"] {
                let form = [("client_id", flow.clientID), ("request_uri", String(uri))] + fields + (token.map { [("csrf", $0)] } ?? [])
                let answer = try await HTTPCall.post(
                    devnet.pdsURL + "/oauth/authorize/sign-in", form: form, headers: [.cookie: try #require(browser.cookie)])
                #expect(answer.status == 400 && answer.text.contains("does not come from the page"))
            }
            // The cookie is another browser's: the token is not.
            var other = Browser(pds: devnet.pdsURL)
            #expect(try await other.submit(page, fields, to: "/oauth/authorize/sign-in").status == 400)

            // Nobody has signed in yet, so there is nobody who could allow it.
            let form = page.text.replacing("/oauth/authorize/sign-in", with: "/oauth/authorize/decide")
            let unsigned = HTTPCall.Answer(status: 200, headers: [:], bytes: Array(form.utf8))
            let early = try await browser.submit(unsigned, [("decision", "accept")], to: "/oauth/authorize/decide")
            #expect(early.status == 400 && early.text.contains("Nobody has signed in"))

            let stranger = try await other.get(url)
            #expect(stranger.status == 400 && stranger.text.contains("another browser"))
            #expect(try await browser.get(url).status == 400, "the attempt has ended the request")
        }
    }

    @Test("what a client or a person writes is shown, and never becomes part of the page")
    func escaped() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let base = devnet.pdsURL + "/oauth/authorize?client_id="
            for query in ["%3Cscript%3E&request_uri=%22%3E%3Cscript%3E", "x", "x&request_uri=a&request_uri=b", "%zz"] {
                let answer = try await HTTPCall.get(base + query)
                #expect(answer.status == 400 && !answer.text.contains("<script>"), "\(query)")
            }
            var browser = Browser(pds: devnet.pdsURL)
            let page = try await browser.get(try flow.authorizationURL(try await flow.push()))
            let answer = try await browser.submit(
                page, [("identifier", "\"><script>"), ("password", "<script>")], to: "/oauth/authorize/sign-in")
            #expect(answer.status == 400 && !answer.text.contains("<script>"))
        }
    }

    @Test("another process scripts the consent over HTTP")
    func scripted() async throws {
        try await Devnet.run { devnet in
            let flow = OAuthFlow(devnet, try devnet.createAccount(handle: "alice.test"))
            let api = devnet.pdsURL + "/devnet/consent"
            for (decision, text) in [(nil, "code="), ("accept", "code="), ("deny", "error=access_denied")] as [(String?, String)] {
                let url = try flow.authorizationURL(try await flow.push())
                var input: ValueMap = ["url": .string(url), "account": "alice.test"]
                input["decision"] = decision.map(Value.string)
                let answer = try await HTTPCall.post(api, .map(input))
                #expect(try answer.json["location"]?.stringValue?.contains(text) == true, "\(answer.text)")
                #expect(try await HTTPCall.post(api, .map(input)).status == 400)
            }
            let url = Value.string(try flow.authorizationURL(try await flow.push()))
            for input in [["url": url], ["url": url, "account": "bob.test"], ["account": "alice.test"]] as [Value] {
                #expect(try await HTTPCall.post(api, input).status == 400)
            }
            let maybe: Value = ["url": url, "account": "alice.test", "decision": "maybe"]
            #expect(try await HTTPCall.post(api, maybe).status == 400)
        }
    }
}
