import ATProto
import Foundation
import Simulation
import Testing

/// A program without our code, and with other people's libraries, verifies what the real program gives: `tools/verify_attestation.py`.
@Suite("Program: what it attests, verified by Python")
struct AttestationScriptTests {
    private func verify(_ arguments: [String]) async throws -> (status: Int32, text: String) {
        try await PythonScript.run("verify_attestation.py", arguments)
    }

    @Test(
        "attestation, did:keys, commit and proof hold, with a change of boundaries and of records, and with any byte changed they do not",
        .enabled(if: PythonScript.isAvailable, "there is no tools/.venv"), .timeLimit(.minutes(1)))
    func independent() async throws {
        guard let program = try ProgramUnderTest("the script that verifies attestations") else { return }
        try await program.served.succeed("enroll", Service.alice)
        try await program.served.start()
        // Enough records for a tree of more than one layer.
        for number in 0..<12 { #expect(try await program.write("\(number)", as: Service.alice).status == 200) }
        #expect(try await program.write("proved", as: Service.alice, at: "3lq2222222222").status == 200)
        func save(_ name: String, _ target: String, as caller: String) async throws -> String {
            let answer = try await program.ask("GET", target, as: caller)
            #expect(answer.status == 200, "\(target): \(answer.text)")
            try Data(answer.body).write(to: URL(filePath: program.file(name)))
            return program.file(name)
        }
        let document = try await save("did.json", "/.well-known/did.json", as: Service.alice)
        func bundle(_ rkey: String) async throws -> [String] {
            let path = [("did", Service.alice), ("collection", Service.post), ("rkey", rkey)]
            return [
                document,
                try await save(
                    "status.json", Service.target("zone.stratos.enrollment.status", [("did", Service.alice)]), as: Service.alice),
                try await save("\(rkey).car", Service.target("com.atproto.sync.getRecord", path), as: Service.alice),
                "at://\(Service.alice)/\(Service.post)/\(rkey)",
            ]
        }
        let present = try await bundle("3lq2222222222")
        let all = try await verify(present + ["--every-byte"])
        #expect(all.status == 0, "\(all.text)")
        let tried = try #require(all.text.firstMatch(of: /changes: ([0-9]+) tried, 0 accepted/)?.output.1, "\(all.text)")
        #expect(try #require(Int(tried)) > 2000)
        TestFiles.note("tools/verify_attestation.py: \(tried) changes of one byte tried, 0 accepted")
        let absent = try await bundle("3lq222222222z")
        let nothing = try await verify(absent + ["--absent"])
        #expect(nothing.status == 0 && nothing.text.contains("no record"), "\(nothing.text)")
        // Another key than the proof is of, the wrong claim, the wrong service's key, the attestation of before.
        let other = Array(present[..<3]) + [absent[3]]
        #expect(try await verify(other).status == 1)
        #expect(try await verify(present + ["--absent"]).text.contains("there is such a record"))
        let before = program.file("before.json")
        try FileManager.default.copyItem(atPath: present[1], toPath: before)
        try await program.served.succeed("boundaries", "remove", Service.alice, "writers")
        let after = try await bundle("3lq2222222222")
        let now = try await verify(after)
        #expect(now.status == 0 && now.text.contains("1 boundaries"), "\(now.text)")
        let old = try DataModelJSON.decode(Array(try Data(contentsOf: URL(filePath: before))))
        var mixed = try #require(try DataModelJSON.decode(Array(try Data(contentsOf: URL(filePath: after[1])))).mapValue)
        mixed["attestation"] = old["attestation"]
        try Data(DataModelJSON.encode(.map(mixed))).write(to: URL(filePath: program.file("mixed.json")))
        let stale = try await verify([after[0], program.file("mixed.json")] + after[2...])
        #expect(stale.status == 1 && stale.text.contains("attestation: does not verify"), "\(stale.text)")
        try await program.served.stop()
    }
}
