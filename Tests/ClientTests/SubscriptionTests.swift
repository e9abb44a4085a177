@testable import Client
import ATProto
import Foundation
import Simulation
import Synchronization
import Testing

@Suite("A subscription over sockets")
struct SubscriptionTests {
    private static let quick = StreamLimits(
        messageBytesMax: 1 << 16, fragmentsMax: 50, handshakeWithin: .milliseconds(800), pingAfter: .milliseconds(80),
        pongWithin: .milliseconds(80))

    private func subscription(
        _ server: RawServer, from position: StreamPosition = .start, credential: Credential? = nil, limits: StreamLimits = quick,
        failuresMax: Int? = nil, interrupted: @escaping @Sendable (ConnectionEnd, Duration) -> Void = { _, _ in }
    ) -> Subscription {
        StratosClient().subscribe(
            .init(
                service: server.address, account: StreamSample.account, position: position, credential: credential, limits: limits,
                backoff: Backoff(first: .milliseconds(1), longest: .milliseconds(2), failuresMax: failuresMax)),
            surroundings: .init(interrupted: interrupted))
    }

    /// The paths of the first `count` operations.
    private func paths(_ count: Int, of subscription: Subscription) async throws -> [String] {
        var paths: [String] = []
        for try await event in subscription {
            paths += event.told
            if paths.count >= count { break }
        }
        return paths
    }

    private func error(of subscription: Subscription) async -> StreamError? {
        do {
            for try await _ in subscription {}
            return nil
        } catch {
            return error
        }
    }

    private func expected(_ count: UInt64) -> [String] { (1...count).map { "\(StreamSample.post)/k\($0)" } }

    @Test("a stream is asked for by account, cursor and boundary, with the token where its kind belongs")
    func request() async throws {
        let server = try RawServer { StreamSample.serve($0, upTo: 3) }
        let header = try #require(Credential("secret.to.ken", as: .bearer))
        #expect(try await paths(3, of: subscription(server, credential: header)) == expected(3))
        let query = try #require(Credential("secret/token", as: .syncToken))
        _ = try await paths(1, of: subscription(server, from: StreamPosition(cursor: 2), credential: query))
        let first = try #require(server.requests.first), last = try #require(server.requests.last)
        #expect(first.hasPrefix("GET /xrpc/zone.stratos.sync.subscribeRecords?did=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz HTTP/1.1\r\n"))
        #expect(first.contains("\r\nAuthorization: Bearer secret.to.ken\r\n") && !first.contains("syncToken"))
        #expect(last.contains("&cursor=2&syncToken=secret%2Ftoken ") && !last.contains("Authorization"))
    }

    @Test("a server that ends the stream after every other message is come back to, and each message is told once")
    func reconnects() async throws {
        let server = try RawServer { peer in
            StreamSample.serve(peer, upTo: min(20, peer.cursor + 2))
            if peer.cursor % 4 == 0 { peer.close() }
        }
        #expect(try await paths(20, of: subscription(server)) == expected(20))
        #expect(server.connectionCount == 10)
    }

    @Test("a reader that was too slow comes back from where it was; what cannot change ends it by its name")
    func errorFrames() async throws {
        let server = try RawServer { peer in
            peer.accept()
            if peer.cursor < 5 {
                peer.send(message: StreamSample.single(peer.cursor + 1))
                peer.send(message: StreamSample.error("ConsumerTooSlow"))
            } else {
                peer.send(message: StreamSample.error("FutureCursor", "Cursor is in the future"))
            }
            peer.close(code: 1008)
        }
        var told: [String] = []
        await #expect(throws: StreamError.refused(name: "FutureCursor", message: "Cursor is in the future")) {
            for try await event in subscription(server) { told += event.told }
        }
        #expect(told == expected(5))
    }

    @Test("what came before a bad message is told, the bad one ends it")
    func malformed() async throws {
        let server = try RawServer { peer in
            peer.accept()
            peer.connection.send(StreamPeer.frame(2, StreamSample.single(1)) + StreamPeer.frame(2, [0xFF]))
            peer.connection.waitForEnd()
        }
        var told: [String] = []
        await #expect(throws: StreamError.self) { for try await event in subscription(server) { told += event.told } }
        #expect(told == expected(1))
    }

    enum Hostile: String, CaseIterable, Sendable {
        case masked, text, reserved, huge, hugeClaim, endlessFragments, emptyFragments, interleaved, badControl, control126
    }

    @Test("a server that breaks the protocol is left, with a close that says why", arguments: Hostile.allCases)
    func hostileFrames(hostile: Hostile) async throws {
        let answered = Mutex<[UInt8]>([])
        let server = try RawServer { peer in
            peer.accept()
            switch hostile {
            case .masked: peer.send(frame: 2, StreamSample.single(1), mask: true)
            case .text: peer.send(frame: 1, Array("{}".utf8))
            case .reserved: peer.send(frame: 2, StreamSample.single(1), reserved: 4)
            case .huge: peer.send(frame: 2, [UInt8](repeating: 0, count: 1 << 16 + 1))
            case .hugeClaim: peer.connection.send([0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])
            case .endlessFragments:
                var goesOn = peer.send(frame: 2, [UInt8](repeating: 0, count: 4096), isFinal: false)
                while goesOn { goesOn = peer.send(frame: 0, [UInt8](repeating: 0, count: 4096), isFinal: false) }
            case .emptyFragments:
                var goesOn = peer.send(frame: 2, [], isFinal: false)
                while goesOn { goesOn = peer.send(frame: 0, [], isFinal: false) }
            case .interleaved:
                peer.send(frame: 2, [1], isFinal: false)
                peer.send(frame: 2, [1])
            case .badControl: peer.send(frame: 9, [], isFinal: false)
            case .control126: peer.send(frame: 9, [UInt8](repeating: 0, count: 126))
            }
            while let frame = peer.receive() { if frame.opcode == 8, frame.wasMasked { answered.withLock { $0 = frame.payload } } }
        }
        let fault: WebSocketFault =
            switch hostile {
            case .masked: .masked
            case .text: .text
            case .reserved: .reservedBits
            case .huge, .hugeClaim, .endlessFragments: .messageTooLarge(bytesMax: 1 << 16)
            case .emptyFragments: .tooManyFragments(max: 50)
            case .interleaved: .interleaved
            case .badControl, .control126: .invalidControl
            }
        #expect(await error(of: subscription(server)) == .unusable(.fault(fault)), "\(hostile)")
        // One that sends without end finds the connection gone before it reads.
        guard hostile != .endlessFragments, hostile != .emptyFragments else { return }
        let code: UInt16 = hostile == .huge || hostile == .hugeClaim ? 1009 : hostile == .text ? 1003 : 1002
        let end = ContinuousClock.now + .seconds(2)
        while answered.withLock({ $0.isEmpty }), .now < end { try await Task.sleep(for: .milliseconds(5)) }
        #expect(answered.withLock { $0 } == [UInt8(code >> 8), UInt8(code & 0xFF)], "\(hostile)")
    }

    enum BadStart: String, CaseIterable, Sendable {
        case silent, dribbling, endlessHead, redirect, notFound, notHTTP, wrongKey, extensions, hangsUp, busy
    }

    @Test("a server that answers the handshake with something else is left, and no redirect is followed", arguments: BadStart.allCases)
    func badStarts(start: BadStart) async throws {
        let server = try RawServer { peer in
            switch start {
            case .silent: peer.connection.waitForEnd()
            case .dribbling:
                var goesOn = true
                while goesOn {
                    goesOn = peer.connection.send("H")
                    peer.connection.pause(milliseconds: 20)
                }
            case .endlessHead:
                var goesOn = peer.connection.send("HTTP/1.1 101 X\r\n")
                while goesOn { goesOn = peer.connection.send("X-A: b\r\n") }
            case .redirect: peer.connection.respond(status: 302, headers: "Location: http://127.0.0.1:1/\r\n", body: [])
            case .notFound: peer.connection.respond(status: 404, body: Array("{}".utf8))
            case .notHTTP: peer.connection.send("SSH-2.0-OpenSSH_9\r\n\r\n")
            case .wrongKey:
                peer.connection.send(
                    "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                )
            case .extensions: peer.accept(headers: "Sec-WebSocket-Extensions: permessage-deflate\r\n")
            case .hangsUp: break
            case .busy: peer.connection.respond(status: 503, body: [])
            }
        }
        let expected: StreamError =
            switch start {
            case .silent, .dribbling: .gaveUp(.handshakeTimedOut)
            case .endlessHead, .notHTTP: .unusable(.handshake(.notHTTP))
            case .redirect: .unusable(.refusedUpgrade(status: 302))
            case .notFound: .unusable(.refusedUpgrade(status: 404))
            case .wrongKey: .unusable(.handshake(.notWebSocket))
            case .extensions: .unusable(.handshake(.notAskedFor))
            case .hangsUp: .gaveUp(.unreachable)
            case .busy: .gaveUp(.refusedUpgrade(status: 503))
            }
        #expect(await error(of: subscription(server, failuresMax: 0)) == expected, "\(start)")
    }

    @Test("pings are answered, and a server that goes silent is asked, then left")
    func silence() async throws {
        let frames = Mutex<[(opcode: UInt8, payload: [UInt8], wasMasked: Bool)]>([])
        let server = try RawServer { peer in
            peer.accept()
            peer.send(frame: 9, Array("are you there".utf8))
            peer.send(message: StreamSample.single(1))
            while let frame = peer.receive() { frames.withLock { $0.append(frame) } }
        }
        let ends = Mutex<[ConnectionEnd]>([])
        let error = await error(
            of: subscription(server, failuresMax: 0, interrupted: { end, _ in ends.withLock { $0.append(end) } }))
        #expect(error == .gaveUp(.silent))
        let received = frames.withLock { $0 }
        #expect(received.first.map { $0.opcode == 10 && $0.payload == Array("are you there".utf8) && $0.wasMasked } == true)
        #expect(received.contains { $0.opcode == 9 && $0.wasMasked })
    }

    @Test("a server that answers pings is waited for, however long it has nothing to say")
    func patience() async throws {
        let server = try RawServer { peer in
            peer.accept()
            var pings = 0
            while let frame = peer.receive() {
                guard frame.opcode == 9 else { continue }
                pings += 1
                peer.send(frame: 10, frame.payload)
                if pings == 4 { peer.send(message: StreamSample.single(1)) }
            }
        }
        #expect(try await paths(1, of: subscription(server)) == expected(1))
        #expect(server.connectionCount == 1)
    }

    @Test("a reader that does not read fills its server's socket and no memory of its own")
    func backPressure() async throws {
        let sent = Mutex(0)
        let server = try RawServer { peer in
            peer.accept()
            var sequence: UInt64 = 0
            var goesOn = true
            while goesOn, sequence < 20_000 {
                sequence += 1
                let operation = StreamSample.create("k\(sequence)", String(repeating: "x", count: 32_000))
                goesOn = peer.send(message: StreamSample.frame("#commit", StreamSample.commit(sequence, rev: sequence, [operation])))
                sent.withLock { $0 = Int(sequence) }
            }
        }
        var iterator = subscription(server).makeAsyncIterator()
        _ = try await iterator.next()
        var before = -1
        // Until the server has stood still for a while.
        while sent.withLock({ $0 }) != before {
            before = sent.withLock { $0 }
            try await Task.sleep(for: .milliseconds(150))
        }
        #expect(before < 1000, "the sockets of both ends hold some megabytes, and nothing else does")
        var count = 1
        while count < before, try await iterator.next() != nil { count += 1 }
        #expect(count == before)
    }

    @Test(
        "a task that is cancelled ends the stream without an error, whatever it waits for", arguments: ["message", "handshake", "backoff"])
    func cancellation(waitsFor: String) async throws {
        let server = try RawServer { peer in
            if waitsFor == "handshake" { return peer.connection.waitForEnd() }
            peer.accept()
            if waitsFor == "message" { while peer.receive() != nil {} }
        }
        let limits = StreamLimits(handshakeWithin: .seconds(30))
        let subscription = StratosClient().subscribe(
            .init(service: server.address, limits: limits, backoff: Backoff(first: .seconds(100), longest: .seconds(100))),
            surroundings: .init(random: { .max }))
        let task = Task { await error(of: subscription) }
        while server.connectionCount == 0 { try await Task.sleep(for: .milliseconds(2)) }
        try await Task.sleep(for: .milliseconds(50))
        let start = ContinuousClock.now
        task.cancel()
        #expect(await task.value == nil)
        #expect(.now - start < .seconds(1))
    }

    @Test("a service that a stranger named is not connected to on this machine; one that was chosen is")
    func addresses() async throws {
        let server = try RawServer { StreamSample.serve($0, upTo: 1) }
        let named = try #require(ServiceAddress(namedByStranger: server.origin))
        let subscription = StratosClient().subscribe(.init(service: named, account: StreamSample.account))
        #expect(await error(of: subscription) == .unusable(.refusedAddress))
        #expect(server.connectionCount == 0)
    }
}
