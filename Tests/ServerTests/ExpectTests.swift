import ATProto
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import HummingbirdTesting
import Simulation
import Testing

@testable import Server

/// `Expect: 100-continue`, as it stands on the wire.
@Suite("Connections: clients that ask before they send a body")
struct ExpectTests {
    private func serve(
        _ service: Service, _ limits: ServingLimits = ServingLimits(), _ test: @escaping @Sendable (UInt16) throws -> Void
    ) async throws {
        let application = Application(responder: service.router, server: .http1(limits), logger: service.engine.logger)
        try await application.test(.live) { client in
            let port = UInt16(try #require(client.port))
            try await onThread { try test(port) }
        }
    }

    private static let list = Service.target("com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post)])
    private static let alice = [("Authorization", "Bearer \(Service.alice)")]
    private static let bob = [("Authorization", "Bearer \(Service.bob)")]
    private static let create = DataModelJSON.encode([
        "repo": .string(Service.alice), "collection": .string(Service.post), "record": Service.postRecord("x", in: "general"),
    ])

    private static func head(
        _ length: Int, to method: String = "com.atproto.repo.createRecord", _ headers: [(String, String)] = alice,
        type: String = "application/json", expect: String = "100-continue"
    ) -> [UInt8] {
        HTTPConnection.head(
            "POST", "/xrpc/\(method)",
            headers: headers + [("Content-Type", type), ("Content-Length", "\(length)"), ("Expect", expect)])
    }

    @Test("whoever asks is told to send once the body is wanted, and may ask again on the same connection")
    func invited() async throws {
        let service = try await Service()
        try await serve(service) { port in
            let connection = try HTTPConnection(port: port)
            for expect in ["100-continue", "100-Continue"] {
                try connection.send(Self.head(Self.create.count, expect: expect))
                #expect(try connection.interimStatus() == 100)
                try connection.send(Self.create)
                let answer = try connection.answer()
                #expect(answer.status == 200 && answer["connection"] == nil, "\(answer.text)")
            }
            let chunked = HTTPConnection.head(
                "POST", "/xrpc/com.atproto.repo.createRecord",
                headers: Self.alice + [
                    ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"), ("Expect", "100-continue"),
                ])
            try connection.send(chunked)
            #expect(try connection.interimStatus() == 100)
            try connection.send(Array("\(String(Self.create.count, radix: 16))\r\n".utf8) + Self.create + Array("\r\n0\r\n\r\n".utf8))
            #expect(try connection.answer().status == 200)
            // By one who has no records, since no other repo takes an import.
            try connection.send(Self.head(10, to: "zone.stratos.repo.importRepo", Self.bob, type: "application/vnd.ipld.car"))
            #expect(try connection.interimStatus() == 100)
            try connection.send([UInt8](repeating: 0, count: 10))
            #expect(try connection.answer().status == 400, "these bytes are no CAR")
            #expect(try connection.ask("GET", Self.list, headers: Self.alice).status == 200)
        }
        #expect(try await service.events(of: Service.alice) == 4)
    }

    @Test("whoever is refused for the head is refused at once, without a word to send, and the connection ends")
    func refused() async throws {
        let service = try await Service(Service.Settings(importBytesMax: 1000))
        try await service.write(Service.postRecord("x", in: "general"), as: Service.bob)
        try await serve(service) { port in
            let car = "application/vnd.ipld.car"
            let cases: [(String, Int, [UInt8])] = [
                ("too long", 413, Self.head(XRPCDispatcher.jsonBytesMax + 1)), ("nobody", 401, Self.head(100, [])),
                ("a credential that proves nothing", 401, Self.head(100, [("Authorization", "Bearer x.y.z")])),
                ("another type", 400, Self.head(100, type: "text/plain")), ("no such method", 501, Self.head(100, to: "com.example.none")),
                ("no such page", 404, HTTPConnection.head("POST", "/x", headers: [("Content-Length", "9"), ("Expect", "100-continue")])),
                ("too long an import", 400, Self.head(1001, to: "zone.stratos.repo.importRepo", type: car)),
                ("an import by nobody", 401, Self.head(1000, to: "zone.stratos.repo.importRepo", [], type: car)),
                ("an import into a repo with records", 400, Self.head(1000, to: "zone.stratos.repo.importRepo", Self.bob, type: car)),
                ("a large body of nobody", 413, Self.head((16 << 10) + 1, to: "zone.stratos.repo.hydrateRecords", [])),
            ]
            for (name, status, head) in cases {
                let connection = try HTTPConnection(port: port)
                try connection.send(head)
                #expect(try connection.interimStatus() == status, "\(name)")
                #expect(connection.isClosedByPeer(), "\(name)")
                let other = try HTTPConnection(port: port)
                try other.send(head)
                #expect(try other.answer()["connection"] == "close", "\(name)")
            }
            // At the limits.
            for head in [
                Self.head(XRPCDispatcher.jsonBytesMax), Self.head(1000, to: "zone.stratos.repo.importRepo", type: car),
                Self.head(16 << 10, to: "zone.stratos.repo.hydrateRecords", []),
            ] {
                let connection = try HTTPConnection(port: port)
                try connection.send(head)
                #expect(try connection.interimStatus() == 100)
            }
        }
    }

    @Test("one file of a member is taken in at a time, and what a member's hold up is no other's")
    func staging() async throws {
        let service = try await Service()
        try await serve(service) { port in
            func upload(_ caller: [(String, String)]) throws -> (connection: HTTPConnection, status: Int) {
                let connection = try HTTPConnection(port: port)
                try connection.send(Self.head(1000, to: "zone.stratos.repo.importRepo", caller, type: "application/vnd.ipld.car"))
                return (connection, try connection.interimStatus())
            }
            let first = try upload(Self.alice)
            #expect(first.status == 100)
            #expect(try upload(Self.alice).status == 429)
            #expect(try upload(Self.bob).status == 100)
            first.connection.close()
            let end = ContinuousClock.now + .seconds(10)
            var status = 429
            while status == 429, ContinuousClock.now < end {
                Thread.sleep(.milliseconds(5))
                status = try upload(Self.alice).status
            }
            #expect(status == 100, "an upload that broke off makes room for the next")
        }
        #expect(try await service.events(of: Service.alice) == 1)
    }

    @Test("what comes behind such a refusal is nobody's request, be it the body or not, and is not read for ever")
    func behindRefusal() async throws {
        let service = try await Service()
        var patience = ConnectionPatience()
        patience.head = .milliseconds(400)
        patience.unwantedBytesMax = 256 << 10
        patience.interval = .milliseconds(50)
        try await serve(service, ServingLimits(patience: patience)) { port in
            let write = HTTPConnection.head(
                "POST", "/xrpc/com.atproto.repo.createRecord",
                headers: Self.alice + [("Content-Type", "application/json"), ("Content-Length", "\(Self.create.count)")])
            let inside = write + Self.create
            let behind: [(String, [UInt8])] = [
                ("a request in the place of the body", inside), ("the body, and a request", [UInt8](repeating: 0x61, count: 5) + inside),
            ]
            for (name, bytes) in behind {
                let connection = try HTTPConnection(port: port)
                let length = name.hasPrefix("the body") ? 5 : inside.count
                try connection.send(Self.head(length, []))
                #expect(try connection.answer().status == 401, "\(name)")
                try connection.send(bytes)
                #expect(throws: HTTPConnection.Failure.closed) { try connection.answer() }
            }
            // Neither a flood nor a drip of requests keeps it open.
            for pause in [0.0, 0.02] {
                let connection = try HTTPConnection(port: port)
                try connection.send(Self.head(100, []))
                _ = try connection.answer()
                let began = ContinuousClock.now
                do throws(HTTPConnection.Failure) {
                    while ContinuousClock.now - began < .seconds(15) {
                        try connection.send(inside)
                        if pause > 0 { Thread.sleep(forTimeInterval: pause) }
                    }
                    Issue.record("still open, with a pause of \(pause)")
                } catch {
                    #expect(error == .closed)
                }
            }
            #expect(try HTTPConnection(port: port).ask("GET", Self.list, headers: Self.alice).text == "{\"records\":[]}")
        }
        #expect(try await service.events(of: Service.alice) == 1)
    }

    @Test("whoever asks and does not wait is served like everybody else, refused or not")
    func impatient() async throws {
        let service = try await Service()
        try await serve(service) { port in
            let connection = try HTTPConnection(port: port)
            try connection.send(Self.head(Self.create.count) + Self.create + HTTPConnection.head("GET", Self.list, headers: Self.alice))
            #expect(try connection.answer().status == 200)
            #expect(try connection.answer().text.contains("\"uri\""))
            // Another expectation is passed over, and so is one about no body.
            try connection.send(Self.head(Self.create.count, expect: "more") + Self.create)
            #expect(try connection.interimStatus() == 200)
            let other = try HTTPConnection(port: port)
            let list = HTTPConnection.head("GET", Self.list, headers: Self.alice + [("Expect", "100-continue")])
            try other.send(list)
            #expect(try other.answer()["connection"] == nil)
            #expect(try other.ask("GET", Self.list, headers: Self.alice).status == 200)
        }
    }

    @Test("an answer to an earlier request is not taken for that to the one that asks")
    func ahead() {
        var invitation = BodyInvitation()
        var ends: [Bool] = []
        invitation.headCame(asksBeforeBody: false)
        invitation.headCame(asksBeforeBody: true)
        ends.append(invitation.answerBegins(isInterim: false))
        invitation.answerEnded()
        // The one that asks is told to send, and then answered.
        ends.append(invitation.answerBegins(isInterim: true))
        ends.append(invitation.answerBegins(isInterim: false))
        invitation.answerEnded()
        // This one does not wait.
        invitation.headCame(asksBeforeBody: true)
        invitation.bodyCame()
        ends.append(invitation.answerBegins(isInterim: false))
        invitation.answerEnded()
        #expect(ends == [false, false, false, false])
        invitation.headCame(asksBeforeBody: true)
        let isLast = invitation.answerBegins(isInterim: false)
        #expect(isLast)
    }
}
