import Authorization
import Foundation
import Simulation
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct OutboundClientTests {
    private func client(_ filter: AddressFilter = .any, transfersMax: Int = 64, waitingMax: Int = 256) -> OutboundClient {
        OutboundClient(filter: filter, userAgent: "Stratos/test (+https://example.com)", transfersMax: transfersMax, waitingMax: waitingMax)
    }

    private func request(_ url: String, bytesMax: Int = 1000, milliseconds: Int = 5000) -> OutboundRequest {
        OutboundRequest(url: url, accept: "application/json", bytesMax: bytesMax, timeout: .milliseconds(milliseconds))
    }

    private func error(_ outbound: Outbound, _ request: OutboundRequest) async -> OutboundError? {
        do throws(OutboundError) {
            _ = try await outbound.send(request)
            return nil
        } catch {
            return error
        }
    }

    @Test("a response comes back with status, type and body, and the request said who asks and for what")
    func plain() async throws {
        let server = try RawServer(status: 418, type: "application/json; charset=utf-8", body: "{}")
        let client = client()
        let response = try await client.outbound.send(request(server.origin + "/a?b=c"))
        #expect(response == OutboundResponse(status: 418, contentType: "application/json; charset=utf-8", body: [UInt8]("{}".utf8)))
        let head = try #require(server.requests.first)
        #expect(head.hasPrefix("GET /a?b=c HTTP/1.1\r\n"))
        for line in ["User-Agent: Stratos/test (+https://example.com)", "Accept: application/json", "Accept-Encoding: identity"] {
            #expect(head.contains("\r\n\(line)\r\n"), "\(head)")
        }
    }

    private func post(
        _ url: String, _ bytes: [UInt8], headers: [String: String] = [:], isRepeatable: Bool = true
    ) -> OutboundRequest {
        OutboundRequest(
            posting: .init(contentType: "application/x-www-form-urlencoded", bytes: bytes), to: url, accept: "application/json",
            headers: headers, isRepeatable: isRepeatable, bytesMax: 1000, timeout: .seconds(5))
    }

    @Test(
        "a body arrives as it is, with its type and length and the headers that were given, and nobody is asked first",
        arguments: [0, 1, 70_000, 1_100_000])
    func posted(count: Int) async throws {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        let server = try RawServer { connection in
            connection.respond(status: connection.body == bytes ? 201 : 400, body: [])
        }
        let client = client()
        let response = try await client.outbound.send(
            post(server.origin + "/token", bytes, headers: ["DPoP": "a.b.c", "Authorization": "DPoP x"]))
        #expect(response.status == 201)
        let head = try #require(server.requests.first)
        #expect(head.hasPrefix("POST /token HTTP/1.1\r\n"))
        for line in [
            "Content-Type: application/x-www-form-urlencoded", "Content-Length: \(count)", "DPoP: a.b.c", "Authorization: DPoP x",
            "Accept: application/json",
        ] {
            #expect(head.contains("\r\n\(line)\r\n"), "\(head)")
        }
        #expect(!head.lowercased().contains("\r\nexpect:"))
    }

    @Test("the headers that somebody reads come back, of the last response alone, and only where they are printable")
    func responseHeaders() async throws {
        let server = try RawServer { connection in
            connection.send(
                "HTTP/1.1 103 Early Hints\r\nDPoP-Nonce: early\r\nRetry-After: 9\r\n\r\nHTTP/1.1 401 Unauthorized\r\n"
                    + "dpop-nonce:  late \r\nWWW-Authenticate: DPoP error=\"use_dpop_nonce\"\r\nRetry-After: \u{e9}\r\nX-Other: z\r\n"
                    + "Content-Length: 0\r\nConnection: close\r\n\r\n")
        }
        let client = client()
        let response = try await client.outbound.send(request(server.origin))
        #expect(response.status == 401)
        #expect(response.headers == .init(nonce: "late", challenge: "DPoP error=\"use_dpop_nonce\""))
    }

    @Test(
        "a header that would end its line, or is none, refuses the request before anything is sent",
        arguments: [
            ("X", "a\r\nY: b"), ("X: a\r\nY", "b"), ("X Y", "a"), ("X", ""), ("", "a"), ("X:", "a"), ("X", "\u{e9}"), ("X", "a\0b"),
        ])
    func headerInjection(name: String, value: String) async throws {
        let server = try RawServer(body: "")
        let client = client()
        #expect(await error(client.outbound, post(server.origin, [], headers: [name: value])) == .invalidURL)
        #expect(server.connectionCount == 0)
    }

    @Test("what is good for once goes over a connection of its own, and is sent once, whatever becomes of it", arguments: [true, false])
    func once(isRepeatable: Bool) async throws {
        // The connection is kept after the first answer, and closed when another request has come over it.
        let again = Counter()
        let server = try RawServer { connection in
            guard !connection.path.hasSuffix("/once") else { return }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            if connection.waitForMore() > 0 { again.add() }
        }
        let client = client()
        #expect(try await client.outbound.send(post(server.origin + "/first", [1])).status == 200)
        let failure = await error(client.outbound, post(server.origin + "/once", [2], isRepeatable: isRepeatable))
        guard case .unreachable = failure else {
            Issue.record("\(String(describing: failure))")
            return
        }
        // On a kept connection libcurl sends what may be repeated, and then once more on a new one.
        #expect(again.value == (isRepeatable ? 1 : 0))
        #expect(server.requests.count { $0.hasPrefix("POST /once ") } == 1 && server.connectionCount == 2)
    }

    @Test("a redirect is the answer, and its target is not visited", arguments: ["http://169.254.169.254/latest/meta-data/", nil])
    func redirect(target: String?) async throws {
        let inner = try RawServer(body: "secret")
        let server = try RawServer(status: 302, headers: "Location: \(target ?? inner.origin)\r\n", body: "")
        let client = client()
        #expect(try await client.outbound.send(request(server.origin)).status == 302)
        #expect(inner.connectionCount == 0)
    }

    // MARK: addresses

    @Test(
        "no way of writing an address of this machine or its network gets past the public filter",
        arguments: [
            "127.0.0.1", "localhost", "a.localhost", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "2130706433", "017700000001",
            "0177.0.0.1",
            "0x7f.0.0.1", "0x7f000001", "127.1", "127.0.1", "0.0.0.0", "0", "[::]", "10.0.0.1", "169.254.169.254", "192.168.1.1",
            "[fe80::1]",
            "[fd00::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
        ])
    func privateAddresses(host: String) async throws {
        let server = try RawServer(body: "secret")
        let client = client(.publicOnly)
        #expect(await error(client.outbound, request("http://\(host):\(server.port)/")) == .refusedAddress)
        #expect(server.connectionCount == 0)
    }

    @Test(
        "the same names reach the server where the filter admits it",
        arguments: ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "127.1"])
    func admittedAddresses(host: String) async throws {
        let server = try RawServer(body: "hello")
        let client = client(.publicAnd(loopbackPorts: [server.port]))
        #expect(try await client.outbound.send(request("http://\(host):\(server.port)/")).status == 200)
    }

    @Test("an IPv6 address is judged by all of its bytes")
    func addressesOfIPv6() async throws {
        let server = try RawServer(body: "")
        let client = client(.publicAnd(loopbackPorts: [server.port]))
        // Nobody listens there, and libcurl may know no IPv6 here; what matters is that the filter did not refuse it.
        let loopback = await error(client.outbound, request("http://[::1]:\(server.port)/"))
        #expect(loopback != nil && loopback != .refusedAddress)
        #expect(await error(client.outbound, request("http://[::2]:\(server.port)/")) == .refusedAddress)
        #expect(await error(client.outbound, request("http://[::1]:\(server.port ^ 1)/")) == .refusedAddress)
    }

    @Test("opening one port of this machine opens no other")
    func otherPort() async throws {
        let (open, shut) = (try RawServer(body: "open"), try RawServer(body: "shut"))
        let client = client(.publicAnd(loopbackPorts: [open.port]))
        #expect(try await client.outbound.send(request(open.origin)).status == 200)
        #expect(await error(client.outbound, request(shut.origin)) == .refusedAddress)
        #expect(shut.connectionCount == 0)
    }

    @Test(
        "what is not an http or https URL, or names a user, is refused",
        arguments: [
            "", "example", "/path", "ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1/", "dict://127.0.0.1/", "http://",
            "http://user@127.0.0.1/", "http://user:secret@127.0.0.1/", "http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y",
            "http://127.0.0.1\u{0}.example",
            "http://ex\u{e4}mple.com/", "http://127.0.0.1:99999/", "http://127.0.0.1/" + String(repeating: "a", count: 4096),
        ])
    func invalidURLs(url: String) async {
        let client = client()
        #expect(await error(client.outbound, request(url)) == .invalidURL)
    }

    @Test("a proxy that the environment names is not used")
    func proxy() async {
        // In a process of its own, because nothing may read the environment while it is changed.
        await #expect(processExitsWith: .success) {
            let (proxy, server) = (try RawServer(body: "proxy"), try RawServer(body: "server"))
            for name in ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] { setenv(name, proxy.origin, 1) }
            let client = OutboundClient(filter: .any, userAgent: "test")
            let response = try await client.outbound.send(
                OutboundRequest(url: server.origin, accept: "*/*", bytesMax: 100, timeout: .seconds(5)))
            precondition(response.body == [UInt8]("server".utf8) && proxy.connectionCount == 0)
        }
    }

    // MARK: sizes

    @Test("a body of exactly the limit is taken, and one byte more is not, however it is sent", arguments: ["length", "chunked", "end"])
    func bodyLimit(framing: String) async throws {
        for count in [1000, 1001] {
            let body = String(repeating: "a", count: count)
            let server = try RawServer { connection in
                switch framing {
                case "length": connection.respond(body: [UInt8](body.utf8))
                case "chunked":
                    connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    connection.send("\(String(count / 2, radix: 16))\r\n\(body.prefix(count / 2))\r\n")
                    connection.send("\(String(count - count / 2, radix: 16))\r\n\(body.dropFirst(count / 2))\r\n0\r\n\r\n")
                default: connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
                }
            }
            let client = client()
            if count == 1000 {
                #expect(try await client.outbound.send(request(server.origin)).body.count == 1000)
            } else {
                #expect(await error(client.outbound, request(server.origin)) == .tooLarge(max: 1000))
            }
        }
    }

    @Test(
        "what never ends is cut off where its limit is",
        arguments: [
            ("HTTP/1.1 200 OK\r\n\r\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1000),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "8\r\naaaaaaaa\r\n", 1000),
            ("HTTP/1.1 200 OK\r\n", "X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 32 << 10),
            ("", "HTTP/1.1 100 Continue\r\n\r\n", 32 << 10),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-Trailer: aaaaaaaaaaaaaaaaaa\r\n", 32 << 10),
        ])
    func endless(start: String, more: String, max: Int) async throws {
        let server = try RawServer { connection in
            let block = String(repeating: more, count: 64)
            var goesOn = connection.send(start)
            while goesOn { goesOn = connection.send(block) }
        }
        let client = client()
        #expect(await error(client.outbound, request(server.origin)) == .tooLarge(max: max))
    }

    @Test(
        "a compressed body that nobody asked for stays as it is, and a compressed transfer is bounded by what comes out",
        arguments: ["Content", "Transfer"])
    func bomb(coding: String) async throws {
        let bomb = GzipBomb.bytes(expandingTo: 1 << 20)
        let server = try RawServer { connection in
            connection.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\(coding)-Encoding: gzip\r\nConnection: close\r\n\r\n")
            connection.send(bomb)
        }
        let client = client()
        if coding == "Content" {
            #expect(try await client.outbound.send(request(server.origin, bytesMax: bomb.count)).body == bomb)
        }
        #expect(await error(client.outbound, request(server.origin)) == .tooLarge(max: 1000))
    }

    // MARK: time

    @Test("a server that says nothing, or a byte now and then, is given up when the time is over", arguments: [false, true])
    func slow(dribbles: Bool) async throws {
        let server = try RawServer { connection in
            guard dribbles else { return connection.waitForEnd() }
            var goesOn = connection.send("HTTP/1.1 200 OK\r\n\r\n")
            while goesOn {
                connection.pause(milliseconds: 20)
                goesOn = connection.send("a")
            }
        }
        let client = client()
        let start = ContinuousClock.now
        #expect(await error(client.outbound, request(server.origin, milliseconds: 200)) == .timedOut)
        // Far from what a busy machine takes, and below what the silent server would take to end by itself.
        #expect(.milliseconds(190)...(.seconds(15)) ~= ContinuousClock.now - start)
    }

    @Test("of the requests beyond the transfers as many wait as may, and the others are refused")
    func overload() async throws {
        let gate = Gate()
        let server = try RawServer { connection in
            gate.wait()
            connection.respond(body: [])
        }
        let client = client(transfersMax: 2, waitingMax: 3)
        let outbound = client.outbound
        try await withThrowingTaskGroup(of: OutboundError?.self) { group in
            for _ in 0..<2 { group.addTask { await error(outbound, request(server.origin)) } }
            while server.connectionCount < 2 { try await Task.sleep(for: .milliseconds(2)) }
            for _ in 0..<8 { group.addTask { await error(outbound, request(server.origin)) } }
            for _ in 0..<5 { #expect(try await group.next() == .overloaded) }
            gate.open()
            for try await outcome in group { #expect(outcome == nil) }
        }
        #expect(server.requests.count == 5)
    }

    @Test("the time of a request runs while it waits for its turn, and then it is never sent")
    func waitingTime() async throws {
        let gate = Gate()
        let server = try RawServer { connection in
            gate.wait()
            connection.respond(body: [])
        }
        let client = client(transfersMax: 1)
        let outbound = client.outbound
        async let held = outbound.send(request(server.origin + "/held"))
        while server.connectionCount < 1 { try await Task.sleep(for: .milliseconds(2)) }
        #expect(await error(outbound, request(server.origin + "/hasty", milliseconds: 100)) == .timedOut)
        gate.open()
        #expect(try await held.status == 200)
        #expect(server.requests.count == 1)
    }

    @Test("closing ends what is under way and what waits, and takes nothing more")
    func closing() async throws {
        let server = try RawServer { $0.waitForEnd() }
        let client = client(transfersMax: 1)
        let outbound = client.outbound
        async let running = error(outbound, request(server.origin))
        while server.connectionCount < 1 { try await Task.sleep(for: .milliseconds(2)) }
        async let waiting = error(outbound, request(server.origin))
        try await Task.sleep(for: .milliseconds(20))
        client.close()
        client.close()
        #expect(await running == .closed)
        #expect(await waiting == .closed)
        #expect(await error(outbound, request(server.origin)) == .closed)
    }

    // MARK: faults

    @Test(
        "what is not HTTP, ends too early or does not listen is unreachable",
        arguments: [
            "", "\r\n\r\n", "garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ])
    func notHTTP(answer: String) async throws {
        let server = try RawServer { $0.send(answer) }
        let client = client()
        guard case .unreachable = await error(client.outbound, request(server.origin)) else {
            Issue.record("\(answer.debugDescription) was taken for an answer")
            return
        }
    }

    @Test("a port that nobody listens on is unreachable")
    func refusedConnection() async throws {
        let server = try RawServer(body: "")
        server.stop()
        let client = client()
        // The listening socket is closed by its thread, a moment later.
        var last = await error(client.outbound, request(server.origin))
        while last == nil { last = await error(client.outbound, request(server.origin)) }
        guard case .unreachable = last else {
            Issue.record("\(String(describing: last))")
            return
        }
    }

    @Test("TLS offers HTTP/2")
    func applicationProtocols() async throws {
        let server = try RawServer { _ in }
        let client = client()
        _ = await error(client.outbound, request("https://localhost:\(server.port)/"))
        let hello = try #require(server.requests.first)
        #expect(hello.contains("\u{2}h2\u{8}http/1.1"))
    }

    @Test("a certificate that nobody vouches for is refused, and so is one of another name")
    func certificates() async throws {
        guard let server = try TLSServer.start(name: "localhost") else { return }
        let outbound = client().outbound
        guard case .unreachable = await error(outbound, request("https://localhost:\(server.port)/", bytesMax: 1 << 20)) else {
            Issue.record("a self-signed certificate was accepted")
            return
        }
        let trusting = OutboundClient(filter: .any, userAgent: "test", certificateAuthorities: server.certificate).outbound
        #expect(try await trusting.send(request("https://localhost:\(server.port)/", bytesMax: 1 << 20)).status == 200)
        guard case .unreachable = await error(trusting, request("https://127.0.0.1:\(server.port)/", bytesMax: 1 << 20)) else {
            Issue.record("a certificate of another name was accepted")
            return
        }
    }
}
