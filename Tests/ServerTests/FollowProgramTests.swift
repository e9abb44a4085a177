import ATProto
import Devnet
import Foundation
import Simulation
import Testing

/// `stratos follow` and `stratos serve`, both as programs, with a directory and a PDS between them.
@Suite("Program: follow")
struct FollowProgramTests {
    @Test(
        "an account's DID leads to its service, and each record is proven with the account's own key; a false enrollment is not followed",
        .timeLimit(.minutes(1)))
    func verified() async throws {
        guard let program = try ProgramUnderTest("stratos follow") else { return }
        try await Devnet.run { devnet in
            let user = try devnet.createAccount(handle: "alice.test")
            let did = user.did.description
            let service = "did:web:localhost%3A\(program.served.port)"
            program.served.environment["STRATOS_SERVICE_DID"] = service
            program.served.environment["STRATOS_PLC_URL"] = devnet.plcURL
            try await program.served.succeed("enroll", did)
            try await program.served.start()
            let status = try await program.ask("GET", Service.target("zone.stratos.enrollment.status", [("did", did)]), as: did)
            let enrollment = try DataModelJSON.decode(status.body)
            var record: ValueMap = [
                "service": .string("http://localhost:\(program.served.port)"), "boundaries": enrollment["boundaries"] ?? .null,
                "signingKey": enrollment["signingKey"] ?? .null, "attestation": enrollment["attestation"] ?? .null,
                "createdAt": "2026-01-01T00:00:00.000Z",
            ]
            func publish() throws {
                try devnet.setRecord(
                    .map(record), of: user.did, collection: try NSID("zone.stratos.actor.enrollment"),
                    key: try RecordKey("did:web:localhost:\(program.served.port)"))
            }
            try publish()
            let keys = (0..<3).map { TID(microseconds: 1_700_000_000_000_000 + $0, clockID: 1).description }
            for number in 0..<3 { try await write("text \(number)", as: did, of: service, at: keys[number], program) }
            try await write("newer", as: did, of: service, at: keys[0], program)

            let environment = ["STRATOS_PLC_URL": devnet.plcURL, "STRATOS_DEV_MODE": "true", "STRATOS_FOLLOW_TOKEN": did]
            let running = try program.served.program.start(["follow", "--did", did, "--verify"], environment: environment)
            #expect(try await running.waits(until: { $0.count(where: { $0 == 10 }) == 4 }, within: .seconds(10)))
            running.signal(SIGINT)
            let outcome = try await running.finish()
            #expect(outcome.status == 0, "\(outcome.errorText)")
            let lines = try outcome.lines.map { try DataModelJSON.decode(Array($0.utf8)) }
            try #require(lines.count == 4)
            #expect(lines.map { $0["path"]?.stringValue } == (keys + [keys[0]]).map { "\(Service.post)/\($0)" })
            #expect(lines.map { $0["record"]?["text"] } == ["text 0", "text 1", "text 2", "newer"])
            #expect(lines.map { $0["level"] } == ["cid-integrity", "user-signature", "user-signature", "user-signature"])
            #expect(lines[0]["note"]?.stringValue?.hasPrefix("superseded") == true)

            record["boundaries"] = [["value": .string("\(service)/general")]]
            try publish()
            let refused = try await program.served.program.run(["follow", "--did", did], environment: environment)
            #expect(refused.status == 1 && refused.errorText.contains("is not believed"), "\(refused.errorText)")
            try await program.served.stop()
        }
    }

    private func write(_ text: String, as did: String, of service: String, at rkey: String, _ program: ProgramUnderTest) async throws {
        let record: Value = [
            "$type": .string(Service.post), "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": [["value": .string("\(service)/general")]]],
        ]
        let input: Value = ["repo": .string(did), "collection": .string(Service.post), "rkey": .string(rkey), "record": record]
        let answer = try await program.ask("POST", "/xrpc/com.atproto.repo.putRecord", as: did, body: input)
        #expect(answer.status == 200, "\(answer.text)")
    }
}
