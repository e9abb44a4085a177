import ATProto
import Engine
import EventLog
import Simulation
import Testing

@Suite("Streams: enrollments")
struct EnrollmentStreamTests {
    private func told(_ messages: [SeenMessage]) -> [String] {
        messages.map { "\($0.body["action"]?.stringValue ?? "") \($0.body["did"]?.stringValue ?? "")" }
    }

    @Test("who joins, changes boundaries and leaves is told in the order of the log, from any cursor", arguments: Backend.allCases)
    func resumes(backend: Backend) async throws {
        let it = try await Trial(backend)
        let live = try await it.follow(nil)
        #expect(try await live.read().isEmpty)
        try await it.deployment.enroll(it.alice, ["engineering"])
        try await it.deployment.write(it.alice, [.create(it.deployment.post("one"), at: .tid(1))])
        try await it.deployment.enroll(it.bob, ["general"])
        #expect(try await told(live.read()) == ["enroll \(it.alice)", "enroll \(it.bob)"])
        try await it.perform(.changeBoundaries(did: it.bob, .add(["design"]))) { _ in }
        #expect(try await told(live.read()) == ["update \(it.bob)"])
        try await it.engine.leave(it.alice, content: .kept, reason: "", by: it.deployment.agent(it.alice))
        #expect(try await told(live.read()) == ["unenroll \(it.alice)"])
        for message in live.messages {
            try it.engine.lexicons.validate(message: message.body, named: "#enrollment", of: NSID("zone.stratos.sync.subscribeRecords"))
            #expect(message.body["service"]?.stringValue == "https://stratos.example")
            var bytes = DAGCBOR.encode(["t": "#enrollment", "op": 1])
            bytes += DAGCBOR.encode(message.body)
            #expect(bytes == message.bytes, "canonical")
        }
        #expect(live.messages[2].body["boundaries"]?.arrayValue?.count == 2 && live.messages[3].body["boundaries"] == nil)
        // Of somebody who has left it is told that they left, and nothing else.
        let replay = try await it.follow(nil).read()
        #expect(told(replay) == ["enroll \(it.bob)", "update \(it.bob)", "unenroll \(it.alice)"])
        for (index, message) in replay.enumerated() {
            let rest = try await it.follow(nil, after: UInt64(message.cursor ?? 0)).read()
            #expect(rest == Array(replay[(index + 1)...]))
        }
        try await it.deployment.enroll(it.alice, ["general"])
        #expect(try await told(live.read()) == ["enroll \(it.alice)"])
        #expect(
            try await told(it.follow(nil).read())
                == ["enroll \(it.alice)", "enroll \(it.bob)", "update \(it.bob)", "unenroll \(it.alice)", "enroll \(it.alice)"])
    }

    @Test("events of other kinds move the place on, and an enrollment behind many of them is told at once")
    func othersBetween() async throws {
        let it = try await Trial(.sqlite)
        let streams = try it.streams()
        let live = try await it.follow(nil, over: streams)
        try await it.deployment.enroll(it.alice, ["engineering"])
        try await live.read()
        for _ in 0..<3 {
            for number in 0..<40 { try await it.deployment.write(it.alice, [.put(it.deployment.post("\(number)"), at: .tid(number))]) }
            #expect(try await live.read().isEmpty)
        }
        try await it.deployment.enroll(it.bob, ["engineering"])
        #expect(try await told(live.read()) == ["enroll \(it.bob)"])
    }
}
