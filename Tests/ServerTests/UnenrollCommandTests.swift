import ATProto
import Foundation
import Simulation
import Testing

@Suite("Program: leaving and changing keys")
struct UnenrollCommandTests {
    @Test("unenroll ends a membership, in the server or beside it, and says what became of the records", .timeLimit(.minutes(1)))
    func unenroll() async throws {
        guard let program = try ProgramUnderTest("unenroll") else { return }
        let served = program.served
        for did in [Service.alice, Service.bob] { try await served.succeed("enroll", did, "--boundary", "general") }
        #expect(
            try await program.json(["unenroll", Service.bob, "--keep-content"])
                == ["did": .string(Service.bob), "unenrolled": true, "content": "kept"])
        try await program.expectFailure(["unenroll", Service.bob, "--keep-content"], 1, "NotEnrolled", "not enrolled")
        try await served.start()
        #expect(try await program.write("a text of Alice's", as: Service.alice).status == 200)
        #expect(
            try await program.json(["unenroll", Service.alice])
                == ["did": .string(Service.alice), "unenrolled": true, "content": "erase"])
        #expect(try await program.write("more", as: Service.alice).status == 401)
        try await program.expectFailure(["unenroll", Service.alice], 1, "NotEnrolled", "not enrolled")
        #expect(try await program.json(["unenroll", Service.bob])["content"] == "erase", "what was kept can be taken away later")
        #expect(try await program.json(["verify"])["ok"] == true)
        try await served.stop()
        #expect(try await program.run(["enrollments"]).outputText == "")
        #expect(try await program.json(["verify"])["ok"] == true)
        try await program.expectFailure(["unenroll", "nobody"], 2, "InvalidArguments", "not a DID")
        let keys = try FileManager.default.subpathsOfDirectory(atPath: served.path + "/actors").filter { $0.hasSuffix("signing_key") }
        #expect(keys == [])
    }

    @Test("account rekey gives a member a new key, and the member writes on under it", .timeLimit(.minutes(1)))
    func rekey() async throws {
        guard let program = try ProgramUnderTest("rekey") else { return }
        let served = program.served
        let before = try await program.json(["enroll", Service.alice, "--boundary", "general"])
        try await served.start()
        #expect(try await program.write("first", as: Service.alice).status == 200)
        let after = try await program.json(["account", "rekey", Service.alice])
        #expect(after["signingKey"] != before["signingKey"] && after["boundaries"] == before["boundaries"])
        #expect((after["rev"]?.stringValue ?? "") > (before["rev"]?.stringValue ?? ""))
        #expect(try await program.write("second", as: Service.alice).status == 200)
        try await program.expectFailure(["account", "rekey", Service.bob], 1, "NotEnrolled", "not enrolled")
        #expect(try await program.json(["verify"])["ok"] == true)
        try await served.stop()
    }
}
