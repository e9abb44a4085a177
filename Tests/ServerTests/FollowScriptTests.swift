import ATProto
import Foundation
import Simulation
import Testing

/// A program without our code, and with other people's libraries, follows the real program: `tools/follow.py`.
@Suite("Program: its streams, followed by Python")
struct FollowScriptTests {
    private static let token = "the token of this stream"

    @Test(
        "every record is rebuilt from the stream, over broken connections too, and after a rebuild the stream is the same, byte for byte",
        .enabled(if: PythonScript.isAvailable, "there is no tools/.venv"), .timeLimit(.minutes(1)))
    func independent() async throws {
        guard let program = try ProgramUnderTest("the script that follows streams") else { return }
        program.served.environment["STRATOS_SYNC_TOKEN"] = Self.token
        try await program.served.succeed("enroll", Service.alice)
        try await program.served.succeed("enroll", Service.bob)
        try await program.served.start()
        try await write(program)
        func follow(_ arguments: [String]) async throws -> Value {
            let result = try await PythonScript.run(
                "follow.py", ["http://localhost:\(program.served.port)", "--quiet", "0.5"] + arguments,
                environment: ["STRATOS_FOLLOW_TOKEN": Self.token, "STRATOS_READ_TOKEN": Service.alice])
            #expect(result.status == 0, "\(arguments): \(result.text)")
            let line = result.text.split(separator: "\n").last ?? "{}"
            return try DataModelJSON.decode(Array(line.utf8))
        }
        let alice = ["--did", Service.alice]
        let whole = try await follow(alice + ["--lists", "--repo"])
        #expect(whole["lists"] == "same" && whole["repo"] == "same")
        #expect(whole["records"] == 39 && whole["connections"] == 1)
        let hash = try #require(whole["sha256"]?.stringValue)
        let broken = try await follow(alice + ["--disconnect-every", "3"])
        #expect(broken["sha256"]?.stringValue == hash && broken["records"] == 39)
        #expect((broken["connections"]?.integerValue ?? 0) > 3)
        let members = try #require(try await follow([])["members"])
        #expect(Set(members.mapValue?.map(\.key) ?? []) == [Service.alice, Service.bob])
        #expect(members[Service.alice]?.arrayValue?.count == 2)
        try await program.served.succeed("rebuild")
        #expect(try await follow(alice)["sha256"]?.stringValue == hash)
        try await program.served.stop()
        try await program.served.start()
        #expect(try await follow(alice)["sha256"]?.stringValue == hash)
        TestFiles.note(
            "tools/follow.py: \(whole["records"]?.integerValue ?? 0) records rebuilt from \(whole["messages"]?.integerValue ?? 0) messages; "
                + "SHA-256 \(hash.prefix(16))… before and after a rebuild, and over \(broken["connections"]?.integerValue ?? 0) connections"
        )
        try await program.served.stop()
    }

    /// Single records, a batch, new versions and deletions: 39 records are left.
    private func write(_ program: ProgramUnderTest) async throws {
        for number in 0..<12 { #expect(try await program.write("\(number)", as: Service.alice, at: key(number)).status == 200) }
        let writes: [Value] = (0..<30).map { number in
            ["action": "create", "collection": .string(Service.post), "rkey": .string(key(100 + number)), "record": record("\(number)")]
        }
        let batch: Value = ["repo": .string(Service.alice), "writes": .array(writes)]
        #expect(try await program.ask("POST", "/xrpc/com.atproto.repo.applyWrites", as: Service.alice, body: batch).status == 200)
        for number in 0..<3 {
            func at(_ rkey: String) -> ValueMap {
                ["repo": .string(Service.alice), "collection": .string(Service.post), "rkey": .string(rkey)]
            }
            var put = at(key(100 + number))
            put["record"] = record("again \(number)")
            #expect(try await program.ask("POST", "/xrpc/com.atproto.repo.putRecord", as: Service.alice, body: .map(put)).status == 200)
            let delete = Value.map(at(key(number)))
            #expect(try await program.ask("POST", "/xrpc/com.atproto.repo.deleteRecord", as: Service.alice, body: delete).status == 200)
        }
    }

    private func key(_ number: Int) -> String { TID(microseconds: 1_700_000_000_000_000 + Int64(number), clockID: 1).description }

    private func record(_ text: String) -> Value {
        [
            "$type": .string(Service.post), "text": .string(text), "createdAt": "2026-01-01T00:00:00.000Z",
            "boundary": ["values": [["value": .string("\(ServedDirectory.service)/general")]]],
        ]
    }
}
