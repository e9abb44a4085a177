import ATProto
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import HummingbirdTesting
import Simulation
import Testing

@testable import Server

/// What stands on the wire, asked over a bare socket of a server that listens.
@Suite("Connections: slow, half-open and broken clients")
struct ConnectionTests {
    /// Patience of a fraction of a second, so that its end is seen.
    private static var impatient: ServingLimits {
        var patience = ConnectionPatience()
        patience.head = .milliseconds(400)
        patience.body = .milliseconds(400)
        patience.bodyBytesPerSecond = 1 << 18
        patience.answer = .milliseconds(500)
        patience.unwantedBytesMax = 256 << 10
        patience.interval = .milliseconds(50)
        return ServingLimits(patience: patience)
    }

    private func serve(
        _ service: Service, _ limits: ServingLimits = ServingLimits(), _ test: @escaping @Sendable (UInt16) throws -> Void
    ) async throws {
        let application = Application(
            responder: service.router, server: .http1(limits),
            logger: service.engine.logger)
        try await application.test(.live) { client in
            let port = UInt16(try #require(client.port))
            try await onThread { try test(port) }
        }
    }

    private static let list = Service.target("com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post)])
    private static let alice = [("Authorization", "Bearer \(Service.alice)")]

    /// Sends these bytes, and expects that the server ends the connection: soon on an idle machine, at all on a busy one.
    private static func expectEnd(_ name: String, port: UInt16, _ pieces: [[UInt8]], every pause: Duration = .zero) throws {
        let connection = try HTTPConnection(port: port)
        let began = ContinuousClock.now
        do throws(HTTPConnection.Failure) {
            for piece in pieces where ContinuousClock.now - began < .seconds(20) {
                try connection.send(piece)
                if pause > .zero { Thread.sleep(pause) }
            }
        } catch {
            #expect(error == .closed, "\(name)")
        }
        #expect(connection.isClosedByPeer(), "\(name): still open after \(ContinuousClock.now - began)")
    }

    @Test("clients that keep the server waiting are cut off in a bounded time, and others are served meanwhile")
    func slow() async throws {
        let service = try await Service()
        try await serve(service, Self.impatient) { port in
            let head = HTTPConnection.head(
                "POST", "/xrpc/com.atproto.repo.createRecord", headers: Self.alice + [("Content-Type", "application/json")])
            let withLength = Array(head.dropLast(2)) + Array("Content-Length: 1000\r\n\r\n".utf8)
            let chunked = Array(head.dropLast(2)) + Array("Transfer-Encoding: chunked\r\n\r\n".utf8)
            let drip = [[UInt8]](repeating: [0x61], count: 1000)
            try Self.expectEnd("nothing", port: port, [])
            try Self.expectEnd("half a head", port: port, [Array(head.prefix(40))])
            try Self.expectEnd("a head that drips", port: port, head.prefix(100).map { [$0] }, every: .milliseconds(20))
            try Self.expectEnd("no body", port: port, [withLength])
            try Self.expectEnd("half a body", port: port, [withLength, [UInt8](repeating: 0x20, count: 500)])
            try Self.expectEnd("a body that drips", port: port, [withLength] + drip, every: .milliseconds(20))
            try Self.expectEnd("a chunk that never comes", port: port, [chunked, Array("3e8\r\n".utf8)])
            try Self.expectEnd("a chunk's extension without end", port: port, [chunked, Array("1;".utf8)] + drip, every: .milliseconds(20))
            try Self.expectEnd(
                "a body behind a refusal", port: port,
                [
                    Array("GET /xrpc/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".utf8)
                ])
            let other = try HTTPConnection(port: port)
            #expect(try other.ask("GET", Self.list, headers: Self.alice).status == 200)
        }
    }

    @Test("a client that sends as fast as it should is not cut off, however long its body takes")
    func steady() async throws {
        let service = try await Service(Service.Settings(importBytesMax: 8 << 20))
        try await serve(service, Self.impatient) { port in
            let connection = try HTTPConnection(port: port)
            let head = HTTPConnection.head(
                "POST", "/xrpc/zone.stratos.repo.importRepo",
                headers: Self.alice + [("Content-Type", "application/vnd.ipld.car"), ("Content-Length", "3000000")])
            try connection.send(head)
            // Some 2 MB/s where a quarter is asked for, over three times the patience.
            for _ in 0..<25 {
                try connection.send([UInt8](repeating: 0, count: 120_000))
                Thread.sleep(.milliseconds(50))
            }
            let answer = try connection.answer()
            #expect(answer.status == 400)
            #expect(answer.text.contains("InvalidCar"))
        }
    }

    @Test("an answer that nobody reads is given up, and its memory with it")
    func unread() async throws {
        let service = try await Service()
        let filling = String(repeating: "x", count: 900_000)
        for number in 0..<6 {
            try await service.write(["text": .string("\(number)\(filling)")], at: "key\(number)", collection: Service.thing)
        }
        try await serve(service, Self.impatient) { port in
            let connections = try (0..<8).map { _ in
                let connection = try HTTPConnection(port: port, receiveBytes: 4096)
                try connection.send(
                    HTTPConnection.head("GET", Service.target("zone.stratos.sync.getRepo", [("did", Service.alice)]), headers: Self.alice))
                return connection
            }
            // On a busy machine an answer begins late; those that are read behind the first have waited the longer.
            Thread.sleep(.milliseconds(1500))
            var givenUp = 0
            for connection in connections {
                do throws(HTTPConnection.Failure) { _ = try connection.answer() } catch {
                    #expect(error == .closed)
                    givenUp += 1
                }
            }
            #expect(givenUp > 0)
            let other = try HTTPConnection(port: port)
            let answer = try other.ask("GET", Service.target("zone.stratos.sync.getRepo", [("did", Service.alice)]), headers: Self.alice)
            #expect(answer.status == 200)
            #expect(answer["transfer-encoding"] == "chunked")
            _ = try RepoVerifier.verify(answer.body)
        }
    }

    @Test("a body that breaks off is never carried out, though what came of it was whole")
    func brokenBodies() async throws {
        let service = try await Service()
        let body = DataModelJSON.encode([
            "repo": .string(Service.alice), "collection": .string(Service.post), "record": Service.postRecord("x", in: "general"),
        ])
        try await serve(service) { port in
            for headers in [[("Content-Length", "\(body.count + 1)")], [("Transfer-Encoding", "chunked")]] {
                for closes in [true, false] {
                    let connection = try HTTPConnection(port: port)
                    let head = HTTPConnection.head(
                        "POST", "/xrpc/com.atproto.repo.createRecord",
                        headers: Self.alice + [("Content-Type", "application/json")] + headers)
                    let isChunked = headers[0].0 == "Transfer-Encoding"
                    try connection.send(
                        head + (isChunked ? Array("\(String(body.count, radix: 16))\r\n".utf8) + body + [0x0D, 0x0A] : body))
                    if closes {
                        connection.close()
                    } else {
                        connection.endSending()
                        if let answer = try? connection.answer() { #expect(answer.status == 400, "\(headers)") }
                        #expect(connection.isClosedByPeer())
                    }
                }
            }
            #expect(try HTTPConnection(port: port).ask("GET", Self.list, headers: Self.alice).text == "{\"records\":[]}")
        }
        #expect(try await service.events(of: Service.alice) == 1)
    }

    @Test("a client that ends its sending still gets its answer")
    func halfClosed() async throws {
        let service = try await Service()
        try await serve(service) { port in
            let connection = try HTTPConnection(port: port)
            try connection.send(HTTPConnection.head("GET", Self.list, headers: Self.alice))
            connection.endSending()
            #expect(try connection.answer().status == 200)
            #expect(connection.isClosedByPeer())
        }
    }

    @Test("requests that are sent ahead are answered in order, also behind one that is refused")
    func ahead() async throws {
        let service = try await Service()
        try await serve(service) { port in
            let connection = try HTTPConnection(port: port)
            let refused = HTTPConnection.head("GET", "/nothing")
            let head = HTTPConnection.head("HEAD", "/health")
            let streamed = HTTPConnection.head(
                "HEAD", Service.target("zone.stratos.sync.getRepo", [("did", Service.alice)]), headers: Self.alice)
            let list = HTTPConnection.head("GET", Self.list, headers: Self.alice)
            try connection.send(refused + head + streamed + list + list)
            #expect(try connection.answer().status == 404)
            #expect(try connection.answer(toHead: true).status == 200)
            #expect(try connection.answer(toHead: true)["content-length"].flatMap { Int($0) } ?? 0 > 100)
            #expect(try connection.answer().text == "{\"records\":[]}")
            #expect(try connection.answer().text == "{\"records\":[]}")
        }
    }

    @Test("a preflight, a HEAD and a refusal leave the connection good for more")
    func keepAlive() async throws {
        let service = try await Service()
        try await serve(service) { port in
            let connection = try HTTPConnection(port: port)
            let preflight = try connection.ask("OPTIONS", Self.list, headers: [("Access-Control-Request-Method", "GET")])
            #expect(preflight.status == 204)
            #expect(preflight["content-length"] == nil && preflight["transfer-encoding"] == nil)
            #expect(try connection.ask("GET", "/xrpc/com.example.none").status == 501)
            let post = [("Content-Type", "text/plain")] + Self.alice
            #expect(
                try connection.ask(
                    "POST", "/xrpc/com.atproto.repo.createRecord", headers: post, body: [UInt8](repeating: 0x61, count: 100_000)
                ).status == 400)
            let large = try connection.ask(
                "POST", "/xrpc/com.atproto.repo.createRecord", headers: [("Content-Type", "application/json")] + Self.alice,
                body: [UInt8](repeating: 0x61, count: 3 << 20))
            #expect(large.status == 413)
            #expect(try connection.ask("GET", Self.list, headers: Self.alice).status == 200)
        }
    }

    @Test("what is no HTTP, or too long for a head, ends the connection with 400 or nothing, and the server goes on")
    func noHTTP() async throws {
        let service = try await Service()
        let limits = ServingLimits()
        try await serve(service, limits) { port in
            let x = { (count: Int) in String(repeating: "x", count: count) }
            let heads: [(String, String)] = [
                ("no HTTP at all", "hello\r\n\r\n"), ("bytes of TLS", "\u{16}\u{03}\u{01}\u{02}\u{00}\r\n\r\n"),
                ("a target of 20 kB", "GET /\(x(20_000)) HTTP/1.1\r\nHost: x\r\n\r\n"),
                ("a field of 20 kB", "GET / HTTP/1.1\r\nHost: x\r\nA: \(x(20_000))\r\n\r\n"),
                ("fields of 40 kB", "GET / HTTP/1.1\r\nHost: x\r\n\((0..<40).map { "A\($0): \(x(1000))\r\n" }.joined())\r\n"),
                ("200 fields", "GET / HTTP/1.1\r\nHost: x\r\n\((0..<200).map { "A\($0): x\r\n" }.joined())\r\n"),
                ("two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
                ("a length and chunks", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                ("a negative length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
                ("a chunk that is no number", "POST /xrpc/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
                ("a field without a name", "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"),
                ("a NUL in a field", "GET / HTTP/1.1\r\nHost: x\r\nA: \u{0}\r\n\r\n"),
            ]
            for (name, text) in heads {
                let connection = try HTTPConnection(port: port)
                do throws(HTTPConnection.Failure) {
                    try connection.send(Array(text.utf8))
                    connection.endSending()
                    let answer = try connection.answer()
                    #expect(answer.status == 400, "\(name): \(answer.status)")
                } catch {
                    #expect(error == .closed, "\(name)")
                }
                #expect(connection.isClosedByPeer(), "\(name)")
            }
            let below = try HTTPConnection(port: port)
            #expect(try below.ask("GET", "/\(x(10_000))").status == 404)
            #expect(try below.ask("GET", "/health", headers: [("A", x(15_000))]).status == 200)
            #expect(try below.ask("GET", "/health", headers: (0..<90).map { ("A\($0)", "x") }).status == 200)
        }
    }
}

extension Thread {
    static func sleep(_ duration: Duration) {
        Thread.sleep(forTimeInterval: Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18)
    }
}
