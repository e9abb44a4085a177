import ATProto
import Authorization
import Foundation
import Simulation
import Synchronization
import Testing

@testable import Server

/// Streams over bare sockets: handshakes, bad parameters, bad frames, and clients who do not do their part.
@Suite("Streams: over the wire")
struct StreamConnectionTests {
    private static let alice = [("Authorization", "Bearer \(Service.alice)")]

    private func begin(_ limits: StreamLimits = StreamLimits(), posts: Int = 3) async throws -> StreamService {
        let service = try await Service()
        for number in 0..<posts { try await service.write(Service.postRecord("post \(number)", in: "general")) }
        return try StreamService(service, limits)
    }

    @Test("a handshake is agreed to, and everything else on the same port is answered as before")
    func handshake() async throws {
        let it = try await begin()
        try await it.serve { port in
            let stream = try WebSocketClient(
                port: port, StreamService.target([("did", Service.alice)]),
                headers: Self.alice + [("Sec-WebSocket-Protocol", "other, xrpc.v0.cbor")])
            let fields = Dictionary(stream.headers.map { ($0.name, $0.value) }) { first, _ in first }
            #expect(fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455, section 1.3")
            #expect(fields["sec-websocket-protocol"] == "xrpc.v0.cbor")
            #expect(fields["dpop-nonce"] != nil)
            #expect(try stream.messages(3).allSatisfy { $0.type == "#commit" })

            let plain = try HTTPConnection(port: port)
            let answer = try plain.ask("GET", StreamService.target([("did", Service.alice)]), headers: Self.alice)
            #expect(answer.status == 426 && answer["upgrade"] == "websocket" && answer.text.contains("UpgradeRequired"))
            #expect(try plain.ask("GET", "/health").status == 200, "the connection goes on")
            #expect(try plain.ask("POST", StreamService.target([])).status == 400)
        }
    }

    @Test("an upgrade that is none of ours is answered over HTTP, and that is the connection's last answer")
    func otherUpgrades() async throws {
        let it = try await begin()
        try await it.serve { port in
            let target = StreamService.target([("did", Service.alice)])
            let right = WebSocketClient.handshake
            func changed(_ name: String, _ value: String?) -> [(String, String)] {
                right.filter { $0.0 != name } + (value.map { [(name, $0)] } ?? [])
            }
            let cases: [(String, String, [(String, String)], Int)] = [
                ("GET", "/xrpc/com.atproto.sync.subscribeRepos", right, 501),
                ("GET", "/xrpc/zone.stratos.sync.subscribeRecord", right, 501),
                ("GET", "/health", right, 200), ("GET", "/nowhere", right, 404), ("POST", target, right + [("Content-Length", "0")], 400),
                ("GET", target, changed("Upgrade", "h2c"), 426), ("GET", target, changed("Sec-WebSocket-Version", "8"), 426),
                ("GET", target, changed("Sec-WebSocket-Key", nil), 426), ("GET", target, changed("Sec-WebSocket-Key", "short"), 426),
                ("GET", target, right + [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")], 426),
            ]
            for (verb, target, headers, status) in cases {
                let connection = try HTTPConnection(port: port)
                let answer = try connection.ask(verb, target, headers: headers + Self.alice)
                #expect(answer.status == status, "\(verb) \(target) \(headers): \(answer.text)")
                #expect(answer["x-trace-id"] != nil)
                #expect(connection.isClosedByPeer(), "\(verb) \(target)")
            }
            let second = try HTTPConnection(port: port)
            #expect(try second.ask("GET", "/health").status == 200)
            #expect(try second.ask("GET", target, headers: right + Self.alice).status == 426, "a stream is a connection's first request")
        }
    }

    @Test("who asks for nothing, half a head or no HTTP is dealt with as without streams")
    func beforeTheFirstHead() async throws {
        let it = try await begin()
        var patience = ConnectionPatience()
        patience.head = .milliseconds(200)
        patience.interval = .milliseconds(50)
        try await it.serve(limits: ServingLimits(patience: patience)) { port in
            for bytes in [[], Array("GET /health HT".utf8)] as [[UInt8]] {
                let connection = try HTTPConnection(port: port)
                try connection.send(bytes)
                #expect(connection.isClosedByPeer())
            }
            let connection = try HTTPConnection(port: port)
            try connection.send(Array("this is no HTTP\r\n\r\n".utf8))
            #expect(try connection.answer().status == 400)
            #expect(connection.isClosedByPeer())
            let long = try HTTPConnection(port: port)
            try long.send(Array("GET /\(String(repeating: "a", count: 40_000)) HTTP/1.1\r\n\r\n".utf8))
            #expect(try long.answer().status == 400)
        }
    }

    @Test("bad parameters and missing credentials are told in an error frame, and the connection is closed with 1008")
    func refusedRequests() async throws {
        let it = try await begin()
        let sync = ("syncToken", StreamService.syncToken)
        let cases: [([(String, String)], [(String, String)], String)] = [
            ([("did", Service.alice)], [], "AuthenticationRequired"), ([], Self.alice, "AuthenticationRequired"),
            ([("did", Service.bob)], Self.alice, "AuthenticationRequired"),
            ([("did", Service.alice)], [("Authorization", "Bearer did:plc:nobodynobodynobodynobodn2")], "AuthenticationRequired"),
            ([("syncToken", "the token of no streams")], [], "AuthenticationRequired"),
            ([("syncToken", Service.alice), ("did", Service.alice)], [], "AuthenticationRequired"),
            ([sync, ("did", Service.alice)], Self.alice, "AuthenticationRequired"),
            ([sync, ("did", "did:plc:nobodynobodynobodynobodn2")], [], "NotFound"), ([sync, ("did", Service.did)], [], "NotFound"),
            ([sync, ("cursor", "-1")], [], "InvalidRequest"), ([sync, ("cursor", "one")], [], "InvalidRequest"),
            ([sync, ("cursor", "1.5")], [], "InvalidRequest"), ([sync, ("cursor", "9007199254740992")], [], "InvalidRequest"),
            ([sync, ("cursor", "99999999999999999999")], [], "InvalidRequest"),
            ([sync, ("cursor", "1"), ("cursor", "2")], [], "InvalidRequest"),
            ([sync, ("cursor", "9007199254740991")], [], "FutureCursor"), ([sync, ("cursor", "1000")], [], "FutureCursor"),
            ([sync, ("did", Service.alice), ("cursor", "1000")], [], "FutureCursor"), ([sync, ("did", "alice")], [], "InvalidRequest"),
            ([sync, ("domain", String(repeating: "a", count: 254))], [], "InvalidRequest"),
        ]
        try await it.serve { port in
            for (parameters, headers, error) in cases {
                let stream = try WebSocketClient(port: port, StreamService.target(parameters), headers: headers)
                let end = try stream.end()
                #expect(end.messages.map(\.error) == [error], "\(parameters): \(end)")
                #expect(end.code == 1008 && end.reason == error, "\(parameters): \(end)")
                #expect(stream.connection.isClosedByPeer())
            }
            let broken = try WebSocketClient(port: port, "/xrpc/\(StreamService.method)?did=%zz")
            #expect(try broken.end().messages.map(\.error) == ["InvalidRequest"])
        }
    }

    @Test("frames that no client may send close the connection with their code, and others go on")
    func badFrames() async throws {
        let it = try await begin()
        let frame = WebSocketClient.frame
        let half: UInt8 = 0x00
        let cases: [(String, [UInt8], UInt16?)] = [
            ("unmasked", frame(0x2, [1], 0x80, false, nil), 1002), ("text", frame(0x1, [0x61], 0x80, true, nil), 1003),
            ("reserved bit", frame(0x2, [], 0xC0, true, nil), 1002), ("opcode 3", frame(0x3, [], 0x80, true, nil), 1002),
            ("huge", frame(0x2, [], 0x80, true, 1 << 40), 1009), ("of 2^63", frame(0x2, [], 0x80, true, 1 << 63), 1009),
            ("one byte more", frame(0x2, [UInt8](repeating: 0, count: 4097), 0x80, true, nil), 1009),
            (
                "fragments that are too much",
                frame(0x2, [UInt8](repeating: 0, count: 4000), half, true, nil)
                    + frame(0x0, [UInt8](repeating: 0, count: 97), 0x80, true, nil),
                1009
            ),
            ("a continuation of nothing", frame(0x0, [1], 0x80, true, nil), 1002),
            ("two messages in one another", frame(0x2, [1], half, true, nil) + frame(0x2, [1], half, true, nil), 1002),
            ("a ping in pieces", frame(0x9, [1], half, true, nil), 1002),
            ("a long ping", frame(0x9, [UInt8](repeating: 0, count: 126), 0x80, true, nil), 1002),
            ("a close of one byte", frame(0x8, [3], 0x80, true, nil), 1002),
            ("a close without a code", frame(0x8, [], 0x80, true, nil), nil),
            ("a close", frame(0x8, [0x03, 0xE8], 0x80, true, nil), 1000),
            ("a code that none is", frame(0x8, [0, 0], 0x80, true, nil), 1002),
            ("pings without end", (0..<200).flatMap { _ in frame(0x9, [1], 0x80, true, nil) }, 1008),
        ]
        try await it.serve { port in
            let steady = try StreamService.follow(Service.alice, port: port)
            for (name, bytes, code) in cases {
                let stream = try StreamService.follow(Service.alice, port: port)
                _ = try stream.messages(3)
                try stream.connection.send(bytes)
                #expect(try stream.end().code == code, "\(name)")
                #expect(stream.connection.isClosedByPeer(), "\(name)")
            }
            // Fragments with a ping between them are right, and so is an answer to it.
            _ = try steady.messages(3)
            try steady.send(0x2, [1, 2], first: half)
            try steady.send(0x9, Array("are you there".utf8))
            try steady.send(0x0, [3])
            let pong = try steady.frame()
            #expect(pong.opcode == 0xA && pong.payload == Array("are you there".utf8))
        }
    }

    @Test("who shows no sign of life is given up, who answers is kept, and both in a bounded time")
    func halfOpen() async throws {
        let it = try await begin(StreamLimits(idle: .milliseconds(400)))
        try await it.serve { port in
            let dead = try StreamService.follow(Service.alice, port: port)
            let alive = try StreamService.follow(Service.alice, port: port)
            let began = ContinuousClock.now
            var pings = 0
            while ContinuousClock.now - began < .milliseconds(1000) {
                let frame = try alive.frame()
                if frame.opcode == 0x9 {
                    pings += 1
                    try alive.send(0xA, frame.payload)
                }
            }
            #expect(pings >= 2)
            #expect(dead.connection.isClosedByPeer())
        }
        #expect(it.server.openCount == 0, "their places are free again")
    }

    @Test("who takes nothing in is closed as too slow in a bounded time, and holds up nobody")
    func stalled() async throws {
        var limits = StreamLimits(idle: .milliseconds(500))
        limits.closing = .milliseconds(500)
        let it = try await begin(limits, posts: 0)
        let filling = String(repeating: "x", count: 900_000)
        for number in 0..<12 {
            try await it.service.write(
                ["text": .string("\(number)\(filling)"), "boundary": ["values": [["value": Service.boundary("general")]]]],
                at: "key\(number)", collection: Service.thing)
        }
        let server = it.server
        try await it.serve { port in
            let stalled = try StreamService.follow(Service.alice, port: port, receiveBytes: 4096)
            let quick = try StreamService.follow(Service.alice, port: port)
            #expect(try quick.messages(12).count == 12)
            let end = ContinuousClock.now + .seconds(10)
            while server.openCount > 1, ContinuousClock.now < end {
                // Whoever reads goes on showing that it lives.
                try quick.send(0xA)
                Thread.sleep(.milliseconds(150))
            }
            #expect(server.openCount == 1, "the stalled one is gone")
            // best effort: what had gone out before can still be read.
            _ = try? stalled.end()
        }
    }

    @Test("as many streams as the setting says, the next one is told to come later, and a place that is left is taken again")
    func connectionsMax() async throws {
        let it = try await begin(StreamLimits(connectionsMax: 3))
        let server = it.server
        try await it.serve { port in
            var streams = try (0..<3).map { _ in try StreamService.follow(Service.alice, port: port) }
            for stream in streams { _ = try stream.messages(3) }
            let refused = try StreamService.follow(Service.alice, port: port).end()
            #expect(refused.messages.map(\.error) == ["TooManyConnections"] && refused.code == 1013)
            streams.removeLast().close()
            let end = ContinuousClock.now + .seconds(10)
            while server.openCount > 2, ContinuousClock.now < end { Thread.sleep(.milliseconds(5)) }
            #expect(try StreamService.follow(Service.alice, port: port).messages(3).count == 3)
        }
    }

    /// How many handshakes are held at a gate.
    private final class Held: Sendable {
        let gate = AsyncGate()
        private let arrived = Mutex(0)

        var count: Int { arrived.withLock { $0 } }

        func arrive() async {
            arrived.withLock { $0 += 1 }
            await gate.wait()
        }
    }

    @Test("a handshake takes no place among the streams before it is known whose it is, and so many may be undecided")
    func undecided() async throws {
        let held = Held()
        var settings = Service.Settings()
        settings.authenticator = { engine in
            let keys = CallerKeys(
                signingKey: { _, _ async throws(CredentialRefusal) in nil },
                issuerKey: { _ async throws(CredentialRefusal) in throw .unavailable(message: "no issuers in this test") })
            return Authenticator(
                service: try DID(Service.did), appViews: [], nonces: DPoPNonces(serviceKey: Service.key), keys: keys, administrators: nil,
                believesBareDIDs: true,
                isEnrolled: { did in
                    await held.arrive()
                    return try await engine.isEnrolled(did)
                }, now: { 1_790_000_000 })
        }
        let it = try StreamService(try await Service(settings), StreamLimits(connectionsMax: 2))
        let server = it.server
        try await it.serve { port in
            defer { held.gate.open() }
            func hold(_ count: Int) throws -> WebSocketClient {
                let client = try WebSocketClient(port: port, StreamService.target([("did", Service.alice)]), headers: Self.alice)
                let end = ContinuousClock.now + .seconds(10)
                while held.count < count, ContinuousClock.now < end { Thread.sleep(.milliseconds(5)) }
                #expect(held.count == count)
                return client
            }
            let first = try hold(1)
            // One after the other, since there is room for one handshake beside the one that is held.
            let open = try (0..<2).map { _ in
                let stream = try StreamService.follow(nil, port: port)
                #expect(try stream.messages(3).count == 3)
                return stream
            }
            #expect(server.openCount == 2)
            let second = try hold(2)
            #expect(server.openCount == 2)
            let refused = try StreamService.follow(nil, port: port).end()
            #expect(refused.messages.map(\.error) == ["TooManyConnections"] && refused.code == 1013)
            held.gate.open()
            // Both have a right to a stream, and there is no place for them.
            for client in [first, second] { #expect(try client.end().code == 1013) }
            withExtendedLifetime(open) {}
        }
        #expect(server.openCount == 0)
    }

    @Test("a server that stops says so to its streams, also to one that takes nothing in, and has stopped soon")
    func stops() async throws {
        var limits = StreamLimits()
        limits.closing = .milliseconds(400)
        let it = try await begin(limits)
        let streams = Streams()
        try await it.serve { port in
            streams.open = try [
                StreamService.follow(Service.alice, port: port), StreamService.follow(nil, port: port),
                StreamService.follow(Service.alice, port: port, receiveBytes: 4096),
            ]
            _ = try streams.open[0].messages(3)
        }
        #expect(it.server.openCount == 0)
        let ends = try streams.open.map { try $0.end() }
        #expect(ends.map(\.code) == [1001, 1001, 1001])
    }

    private final class Streams: @unchecked Sendable {
        // Set on one thread, and read when that has ended.
        var open: [WebSocketClient] = []
    }

    @Test("what is written while somebody follows is told at once, and resumed from any message")
    func live() async throws {
        let it = try await begin(posts: 2)
        let service = it.service
        try await it.serve { port in
            let stream = try StreamService.follow(Service.alice, port: port)
            var messages = try stream.messages(2)
            let connection = try HTTPConnection(port: port)
            for number in 0..<5 {
                let body: Value = [
                    "repo": .string(Service.alice), "collection": .string(Service.post),
                    "record": Service.postRecord("live \(number)", in: "general"),
                ]
                let answer = try connection.ask(
                    "POST", "/xrpc/com.atproto.repo.createRecord", headers: Self.alice + [("Content-Type", "application/json")],
                    body: DataModelJSON.encode(body))
                #expect(answer.status == 200)
                messages += try stream.messages(1)
            }
            #expect(messages.count == 7)
            let rest = try StreamService.follow(Service.alice, after: messages[3].cursor, port: port)
            #expect(try rest.messages(3) == Array(messages[4...]))
            let filtered = try StreamService.follow(Service.alice, port: port, more: [("domain", "writers")])
            let everybody = try StreamService.follow(nil, port: port)
            #expect(try everybody.messages(3).map { $0.body["action"]?.stringValue } == ["enroll", "enroll", "enroll"])
            try filtered.send(0x8, [0x03, 0xE8])
            #expect(try filtered.end().messages.isEmpty, "none of these is in that boundary")
        }
        #expect(service.watch.hasLine { $0.contains("stream opened") })
        service.close()
    }
}
