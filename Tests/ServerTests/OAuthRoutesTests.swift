import ATProto
import Authorization
import Commands
import Devnet
import HTTPTypes
import Hummingbird
import NIOCore
import Simulation
import Testing

@testable import Server

@Suite("OAuth: joining over the routes", .timeLimit(.minutes(1)))
struct OAuthRoutesTests {
    private static let page: HTTPFields = [.accept: "text/html,application/xhtml+xml,application/json;q=0.9,*/*;q=0.8"]

    @Test("somebody joins, looks, posts with both credentials, leaves, and joins again")
    func whole() async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            let did = Value.string(world.user.did.description)
            let first = try await world.join()
            #expect(first.status == 200, "\(first.text)")
            #expect(
                try first.json == ["success": true, "did": did, "enrolled": true, "message": "Successfully enrolled in Stratos"])
            #expect(world.gained == [world.user.did])
            let status = try await world.service.ask(.get, "/oauth/status", headers: world.dpop("GET", "/oauth/status"))
            #expect(status.status == 200 && status["enrolled"] == true && status["enrolledAt"] != nil, "\(status.text)")
            #expect(status["boundaries"]?.arrayValue?.count == 3)
            #expect(status[header: HTTPField.Name("DPoP-Nonce")!] != nil)
            let create = "/xrpc/com.atproto.repo.createRecord"
            #expect(try await world.post(world.dpop("POST", create)).status == 200)
            #expect(try await world.post(world.bearer("com.atproto.repo.createRecord")).status == 200)
            let again = try await world.join()
            #expect(again["enrolled"] == false && again["message"] == "Already enrolled in Stratos")
            try await keepsRecords(world)
            let left = try await world.service.ask(.post, "/oauth/revoke", headers: world.dpop("POST", "/oauth/revoke"))
            #expect(
                try left.json == ["did": did, "revoked": true, "message": "Successfully unenrolled from Stratos"], "\(left.text)")
            expect(
                try await world.service.ask(.post, "/oauth/revoke", headers: world.dpop("POST", "/oauth/revoke")), 404, "NotFound",
                "User is not enrolled")
            expect(try await world.post(world.dpop("POST", create)), 400, "NotEnrolled")
            let back = try await world.join()
            #expect(back["enrolled"] == true, "\(back.text)")
            #expect(try await world.post(world.bearer("com.atproto.repo.createRecord")).status == 200)
        }
    }

    /// The session that the flow ended in writes to the person's own server, and can be given back.
    private func keepsRecords(_ world: JoiningWorld) async throws {
        let (collection, key) = (try NSID("zone.stratos.actor.enrollment"), try RecordKey(Service.did))
        let value: Value = ["$type": "zone.stratos.actor.enrollment", "service": .string(Service.publicURL)]
        let records = world.sessions.records
        _ = try await records.put(value, collection, key, world.user.did)
        try world.devnet.rotateNonces()
        let cid = try await records.put(value, collection, key, world.user.did)
        #expect(world.devnet.record(of: world.user.did, collection: collection, key: key) == value)
        #expect(try await records.list(collection, world.user.did) == [PDSRecord(key: key, cid: cid, value: value)])
        try await records.delete(collection, key, world.user.did)
        try await records.delete(collection, key, world.user.did)
        #expect(world.devnet.record(of: world.user.did, collection: collection, key: key) == nil)
        await #expect(throws: PDSError.self) {
            try await records.put(value, try NSID("app.bsky.feed.post"), try RecordKey("3lq2222222222"), world.user.did)
        }
        let count = world.devnet.sessions(of: world.user.did).count
        try await world.sessions.revoke(world.user.did)
        #expect(world.devnet.sessions(of: world.user.did).count == count - 1)
        #expect(try await !world.sessions.holds(world.user.did))
    }

    @Test("a session that its server has ended is found out about, and recorded")
    func endedElsewhere() async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            try await world.join()
            try devnet.revokeSessions(of: world.user.did)
            await #expect(throws: PDSError.sessionEnded) {
                try await world.sessions.records.put(
                    ["service": "x"], try NSID("zone.stratos.actor.enrollment"), try RecordKey(Service.did), world.user.did)
            }
            #expect(
                world.storage.session(of: world.user.did).map { if case .ended(let reason, _) = $0 { reason } else { "held" } }
                    == "RefreshRefused")
        }
    }

    @Test("a browser gets pages, everything else JSON, and no answer may be kept, framed, or told of elsewhere")
    func pages() async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            let flow = try await world.flow()
            let joined = try await world.come(back: try world.consent(flow), cookie: flow.cookie, headers: Self.page)
            #expect(joined.status == 200 && joined.text.contains("<h1>You have joined</h1>"), "\(joined.text)")
            #expect(joined.text.contains(world.user.did.description))
            let refused = try await world.come(back: "/oauth/callback?state=x&iss=y&code=z", cookie: nil, headers: Self.page)
            #expect(refused.status == 500 && refused.text.contains("UnknownState"))
            let unknown = try await world.service.ask(.get, "/oauth/authorize?handle=%3Cb%3E", headers: Self.page)
            #expect(unknown.status == 400 && !unknown.text.contains("<b>"))
            for answer in [joined, refused, unknown] {
                #expect(answer[header: .contentType] == "text/html; charset=utf-8")
                #expect(!answer.text.contains("http://") && !answer.text.contains("https://"), "nothing from elsewhere")
                let policy = try #require(answer[header: .contentSecurityPolicy])
                #expect(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"))
                #expect(!policy.contains("unsafe"))
            }
            let plain = try await world.come(back: "/oauth/callback?state=x&iss=y&code=z", cookie: nil)
            expect(plain, 500, "UnknownState")
            let begun = try await world.begin()
            for answer in [joined, refused, plain, begun] {
                #expect(answer[header: .cacheControl] == "no-store" && answer[header: .referrerPolicy] == "no-referrer")
                #expect(answer[header: .xContentTypeOptions] == "nosniff")
            }
            let cookie = try #require(begun[header: .setCookie])
            for part in ["; HttpOnly", "; SameSite=Lax", "; Max-Age=600", "; Path=/"] { #expect(cookie.contains(part), "\(cookie)") }
            #expect(joined[header: .setCookie]?.contains("Max-Age=0") == true, "the cookie is taken back")
        }
    }

    @Test("the way back leads to this service alone")
    func openRedirects() async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            for target in [
                "https://evil.example/", "https://stratos.example.com.evil.example/", "https://stratos.example.com@evil.example/",
                "//evil.example", "https:evil.example", "https://stratos.example.com:444/", "http://stratos.example.com/",
                "https://stratos.example.com\\@evil.example/", "javascript:alert(1)", "data:text/html,x",
                "https://stratos.example.com/#x", "https://\u{e9}vil.example/", "", "https://evil.example/?https://stratos.example.com/",
                "https://stratos.example.com%2eevil/", "https://stratos.example.com/\r\nX: y",
            ] {
                expect(try await world.begin([("redirect_uri", target)]), 400, "InvalidRequest")
            }
            #expect(world.storage.flowCount == 0)
        }
    }

    @Test("a place of this service is where the browser ends, with what happened in its query")
    func returns() async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            for (target, end) in [
                ("https://stratos.example.com/app?a=b", "https://stratos.example.com/app?a=b&stratos_enrolled=true"),
                ("HTTPS://stratos.example.com", "HTTPS://stratos.example.com?stratos_enrolled=true"),
            ] {
                let flow = try await world.flow([("redirect_uri", target)])
                let answer = try await world.come(back: try world.consent(flow), cookie: flow.cookie)
                #expect(answer.status == 302 && answer[header: .location] == end, "\(answer.text)")
            }
            expect(
                try await world.begin([("redirect_uri", "https://stratos.example.com/"), ("redirect_uri", "https://evil.example/")]), 400,
                "InvalidRequest")
            expect(
                try await world.begin([("redirect_uri", "http://127.0.0.1:3100/")]), 400, "InvalidRequest", "redirect_uri must use https")
        }
    }

    struct Attack: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let name: String
        let come: @Sendable (JoiningWorld, JoiningWorld.Flow) async throws -> Answer
    }

    static let attacks: [Attack] = [
        Attack(testDescription: "in another browser", name: "OtherBrowser") { world, flow in
            try await world.come(back: try world.consent(flow), cookie: nil)
        },
        Attack(testDescription: "in a browser with another flow", name: "OtherBrowser") { world, flow in
            try await world.come(back: try world.consent(flow), cookie: try await world.flow().cookie)
        },
        Attack(testDescription: "with the cookie twice", name: "OtherBrowser") { world, flow in
            try await world.come(back: try world.consent(flow), cookie: "\(flow.cookie); \(flow.cookie)")
        },
        Attack(testDescription: "a second time", name: "UnknownState") { world, flow in
            let target = try world.consent(flow)
            _ = try await world.come(back: target, cookie: flow.cookie)
            return try await world.come(back: target, cookie: flow.cookie)
        },
        Attack(testDescription: "from another issuer", name: "OtherIssuer") { world, flow in
            try await world.come(
                back: try world.consent(flow).replacing(/iss=[^&]*/, with: "iss=https%3A%2F%2Fevil.example"), cookie: flow.cookie)
        },
        Attack(testDescription: "from nobody", name: "MissingIssuer") { world, flow in
            try await world.come(back: try world.consent(flow).replacing(/iss=[^&]*/, with: "x=y"), cookie: flow.cookie)
        },
        Attack(testDescription: "with the code of another flow of the same person", name: "CodeRefused") { world, flow in
            let other = try world.consent(try await world.flow())
            let code = try #require(other.firstMatch(of: /code=[^&]*/)?.output)
            return try await world.come(back: try world.consent(flow).replacing(/code=[^&]*/, with: code), cookie: flow.cookie)
        },
        Attack(testDescription: "after the person said no", name: "NotAuthorized") { world, flow in
            try await world.come(back: try world.consent(flow, .deny), cookie: flow.cookie)
        },
        Attack(testDescription: "as another person than was asked for", name: "OtherSubject") { world, flow in
            let other = try world.devnet.createAccount(handle: "other.test")
            return try await world.come(back: try world.consent(flow, as: other), cookie: flow.cookie)
        },
        Attack(testDescription: "while the server calls itself by another name", name: "UnfitServer") { world, flow in
            let target = try world.consent(flow)
            world.devnet.setFault(.wrongIssuer, on: .authorizationServer)
            return try await world.come(back: target, cookie: flow.cookie)
        },
    ]

    @Test("a callback that is not this browser's answer makes nobody a member, and is named in the answer and the log", arguments: attacks)
    func refused(attack: Attack) async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            let events = try await world.service.store.statistics().events
            let answer = try await attack.come(world, try await world.flow())
            expect(answer, 500, attack.name)
            // What costs nobody anything is no news, however often it comes.
            let level = ["UnknownState", "OtherBrowser"].contains(attack.name) ? "debug" : "info"
            #expect(world.service.watch.hasLine { $0.hasPrefix("\(level) a flow was refused") && $0.contains("reason=\(attack.name)") })
            let isJoined = attack.testDescription == "a second time"
            #expect(try await world.service.engine.isEnrolled(world.user.did) == isJoined)
            #expect(try await world.service.store.statistics().events == events + (isJoined ? 1 : 0))
            #expect(devnet.sessions().count == (isJoined ? 1 : 0), "what was given is given back")
        }
    }

    @Test("HEAD begins no flow and ends none")
    func head() async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            let target = "/oauth/authorize?handle=\(world.user.did)"
            #expect(try await world.service.ask(.head, target).status == 405)
            #expect(world.storage.flowCount == 0)
            let flow = try await world.flow()
            let callback = try world.consent(flow)
            #expect(try await world.service.ask(.head, callback, headers: [.cookie: flow.cookie]).status == 405)
            #expect(try await world.come(back: callback, cookie: flow.cookie).status == 200)
        }
    }

    @Test("who is not let in is told so, gives back the session, and leaves nothing here")
    func denied() async throws {
        try await Devnet.run { devnet in
            var terms = JoiningWorld.Terms()
            terms.enrollment = EnrollmentTerms(mode: .allowlist, dids: [try DID("did:plc:somebodyelsesomebodyelse")])
            let world = try await JoiningWorld(devnet, terms)
            expect(
                try await world.join(), 403, "EnrollmentDenied", "Your account is not eligible for this Stratos service")
            #expect(devnet.sessions().isEmpty && world.gained.isEmpty)
            #expect(world.storage.session(of: world.user.did) == nil)
            #expect(try await !world.service.engine.isEnrolled(world.user.did))
            try await world.service.enroll(world.user.did.description, ["general"])
            #expect(try await world.join()["enrolled"] == false, "whom the operator let in may give a session")
            var others = JoiningWorld.Terms()
            others.enrollment = EnrollmentTerms(mode: .allowlist, pdsOrigins: [devnet.pdsURL])
            try await Devnet.run { second in
                let answer = try await JoiningWorld(second, others).join()
                #expect(answer.status == 403, "another server than the one that is listed")
            }
        }
    }

    @Test("a fault at the storage or the log makes nobody half a member for long: the next flow brings the rest")
    func faults() async throws {
        try await Devnet.run { devnet in
            var terms = JoiningWorld.Terms()
            // Three members come, and then the first attempt of a fourth.
            terms.log = { FaultyEventStore($0) { $0 == 4 ? .refused(.storage(operation: "append", code: 5)) : nil } }
            let world = try await JoiningWorld(devnet, terms)
            world.storage.failWrite(after: 0)
            expect(try await world.join(), 500, "CallbackError", "Failed to complete authorization")
            #expect(world.gained.isEmpty && devnet.sessions().isEmpty, "the session that could not be kept is given back")
            #expect(try await !world.service.engine.isEnrolled(world.user.did))
            expect(try await world.join(), 500, "CallbackError")
            #expect(try await world.sessions.holds(world.user.did))
            #expect(try await !world.service.engine.isEnrolled(world.user.did))
            #expect(try await world.join()["enrolled"] == true)
            #expect(try await world.service.engine.isEnrolled(world.user.did))
        }
    }

    @Test("flows that begin are counted: so many in all, and fewer from one address")
    func rate() async throws {
        let rate = FlowRate(flowsMax: 3, flowsOfAddressMax: 2)
        let now = ContinuousClock.now
        #expect(rate.begin("a", now: now) == nil && rate.begin("a", now: now) == nil)
        #expect(rate.begin("a", now: now) == .seconds(60))
        #expect(rate.begin("b", now: now) == nil)
        #expect(rate.begin(nil, now: now + .seconds(59)) == .seconds(1))
        #expect(rate.begin("a", now: now + .seconds(60)) == nil)
        try await Devnet.run { devnet in
            var terms = JoiningWorld.Terms()
            terms.rate = FlowRate(flowsMax: 2)
            let world = try await JoiningWorld(devnet, terms)
            for name in ["nobody", "@", "did:plc", "-.example.org"] {
                let answer = try await world.service.ask(.get, "/oauth/authorize?\(JoiningWorld.query([("handle", name)]))")
                expect(answer, 400, "UnknownAccount", "There is no account of this name")
            }
            for _ in 0..<2 { _ = try await world.flow() }
            let answer = try await world.begin()
            expect(answer, 429, "RateLimitExceeded")
            #expect(answer[header: .retryAfter] != nil && world.storage.flowCount == 2)
        }
    }

    @Test("of one address few flows are beginning at a time, whatever the minute; one that has begun makes room for the next")
    func beginning() {
        let rate = FlowRate()
        let now = ContinuousClock.now
        for _ in 0..<4 { #expect(rate.begin("a", now: now) == nil) }
        #expect(rate.begin("a", now: now) == .seconds(1))
        #expect(rate.begin("a", now: now + .seconds(60)) == .seconds(1), "the next minute forgets none that still asks")
        #expect(rate.begin("b", now: now) == nil)
        for _ in 0..<5 { #expect(rate.begin(nil, now: now) == nil) }
        rate.end(nil)
        rate.end("a")
        #expect(rate.begin("a", now: now) == nil)
        #expect(rate.begin("a", now: now) == .seconds(1))
    }

    @Test("an address is the peer's, by its network; what a proxy nearby says of it is believed to the last word, and no more")
    func addresses() throws {
        func address(_ peer: String, _ forwarded: String...) throws -> String? {
            var headers = HTTPFields()
            for value in forwarded { headers.append(HTTPField(name: HTTPField.Name("X-Forwarded-For")!, value: value)) }
            return ClientAddress.find(peer: try SocketAddress(ipAddress: peer, port: 1), headers: headers)
        }
        #expect(try address("198.51.100.7", "203.0.113.1") == address("198.51.100.7"))
        #expect(try address("198.51.100.7") != address("198.51.100.8"))
        #expect(try address("2001:db8:1:2::1") == address("2001:db8:1:2:ffff::2"))
        #expect(try address("2001:db8:1:2::1") != address("2001:db8:1:3::1"))
        #expect(try address("::ffff:198.51.100.7") == address("198.51.100.7"), "the same peer, taken by a socket of IPv6")
        for proxy in ["127.0.0.1", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.1", "192.168.1.1", "fd00::1", "::ffff:127.0.0.1"] {
            #expect(try address(proxy, "203.0.113.1", "6.6.6.6, 198.51.100.9") == address("198.51.100.9"), "\(proxy)")
            #expect(try address(proxy) == nil)
        }
        let named = [
            ("198.51.100.9:8080", "198.51.100.9"), ("::ffff:198.51.100.9", "198.51.100.9"), ("2001:db8:1:2:ffff::9", "2001:db8:1:2::1"),
            ("[2001:db8:1:2::9]", "2001:db8:1:2::1"), ("[2001:db8:1:2::9]:443", "2001:db8:1:2::1"),
        ]
        for (name, same) in named { #expect(try address("10.0.0.1", name) == address(same), "\(name)") }
        for garbage in ["unknown", "_hidden", "198.51.100", "198.51.100.9:1:2", "300.1.1.1", String(repeating: "1", count: 65)] {
            #expect(try address("10.0.0.1", "203.0.113.1, \(garbage)") == nil, "\(garbage)")
        }
        #expect(try address("172.32.0.1", "203.0.113.1") == address("172.32.0.1"))
        #expect(ClientAddress.find(peer: nil, headers: [:]) == nil)
    }

    @Test("members' routes: a proof is for the whole address and once, and what is no credential is asked for")
    func members() async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            for (verb, path) in [(HTTPRequest.Method.get, "/oauth/status"), (.post, "/oauth/revoke")] {
                let bare = try await world.service.ask(verb, path)
                expect(bare, 401, "Unauthorized", "Authorization required")
                #expect(bare[header: .wwwAuthenticate] == "DPoP realm=\"stratos\"" && bare[header: HTTPField.Name("DPoP-Nonce")!] != nil)
            }
            try await world.join()
            expect(try await world.service.ask(.get, "/oauth/status", headers: world.dpop("GET", "/status")), 401, "Unauthorized")
            let headers = try world.dpop("GET", "/oauth/status")
            #expect(try await world.service.ask(.get, "/oauth/status", headers: headers).status == 200)
            expect(try await world.service.ask(.get, "/oauth/status", headers: headers), 401, "Unauthorized")
            let leaving = try world.dpop("POST", "/oauth/revoke")
            #expect(try await world.service.ask(.post, "/oauth/revoke", headers: leaving).status == 200)
            try await world.join()
            expect(try await world.service.ask(.post, "/oauth/revoke", headers: leaving), 401, "Unauthorized")
            #expect(try await world.service.engine.isEnrolled(world.user.did), "a proof of leaving is good for leaving once")
            let token = try world.bearer("zone.stratos.enrollment.unenroll")
            expect(try await world.service.ask(.get, "/oauth/status", headers: token), 401, "Unauthorized")
            #expect(
                try await world.service.ask(.post, "/oauth/revoke", headers: world.bearer("zone.stratos.enrollment.unenroll")).status
                    == 200)
        }
    }

    @Test("the metadata stands at both of its places")
    func metadata() async throws {
        try await Devnet.run { devnet in
            let world = try await JoiningWorld(devnet)
            for path in ["/client-metadata.json", "/.well-known/oauth-client-metadata.json"] {
                let answer = try await world.service.ask(.get, path)
                #expect(answer["scope"]?.stringValue == OAuthScope.requested && answer["dpop_bound_access_tokens"] == true)
            }
        }
    }

    @Test("what a browser asks for is read by its weights")
    func accepts() {
        for (accept, isPage) in [
            ("text/html", true), ("*/*", false), ("application/json", false), ("text/html, application/json", true),
            ("text/html;q=0.5, application/json", false), ("text/html;q=0", false), ("TEXT/HTML ; q=0.9, */*;q=0.8", true), ("", false),
        ] {
            let head = HTTPRequest(method: .get, scheme: nil, authority: nil, path: "/", headerFields: [.accept: accept])
            #expect(Request(head: head, body: .init(buffer: .init())).wantsPage == isPage, "\(accept)")
        }
    }
}
