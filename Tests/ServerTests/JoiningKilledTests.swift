import ATProto
import Devnet
import Foundation
import Simulation
import Testing

@Suite("OAuth: the service is killed while somebody joins", .timeLimit(.minutes(2)))
struct JoiningKilledTests {
    @Test("whatever a kill leaves of a callback, coming again makes a member with a session, once")
    func killed() async throws {
        guard let program = try ProgramUnderTest("joining through kills") else { return }
        try await Devnet.run { devnet in
            var generator = SeededGenerator(seed: TestFiles.seed)
            program.served.environment["STRATOS_PLC_URL"] = devnet.plcURL
            program.served.environment["STRATOS_ENROLLMENT_MODE"] = "open"
            try await program.served.start()
            var lateStatuses: [Int] = []
            for round in 0..<4 {
                let user = try devnet.createAccount(handle: "killed\(round).test")
                let (target, cookie) = try await flow(of: user, program, devnet)
                let port = program.served.port
                let pause = Int.random(in: 0..<30, using: &generator)
                async let answer = onThread { try? HTTPConnection(port: port).ask("GET", target, headers: [("Cookie", cookie)]) }
                try await Task.sleep(for: .milliseconds(pause))
                try await program.served.kill()
                let wasAnswered = try await answer?.status == 200
                try await program.served.start()
                let (again, other) = try await flow(of: user, program, devnet)
                let second = try await onThread { try HTTPConnection(port: port).ask("GET", again, headers: [("Cookie", other)]) }
                let said = try DataModelJSON.decode(second.body)
                #expect(second.status == 200 && said["success"] == true, "seed \(TestFiles.seed), \(pause) ms: \(second.text)")
                if wasAnswered {
                    #expect(said["enrolled"] == false, "seed \(TestFiles.seed), \(pause) ms: what was answered is durable (I6)")
                }
                // Killed before it was taken, the first flow may yet end; once it has, it is over.
                for _ in 0..<2 {
                    let late = try await onThread { try HTTPConnection(port: port).ask("GET", target, headers: [("Cookie", cookie)]) }
                    lateStatuses.append(late.status)
                }
                #expect(lateStatuses.suffix(2).last == 500, "seed \(TestFiles.seed), \(pause) ms")
            }
            try await program.served.stop()
            let members = try await program.run(["enrollments", "--json"])
            #expect(members.lines.count == 4, "seed \(TestFiles.seed): \(members.outputText)")
            #expect(try await program.run(["verify"]).status == 0)
        }
    }

    private func flow(
        of user: DevnetUser, _ program: ProgramUnderTest, _ devnet: Devnet
    ) async throws -> (target: String, cookie: String) {
        let port = program.served.port
        let began = try await onThread { try HTTPConnection(port: port).ask("GET", "/oauth/authorize?handle=\(user.did)") }
        let location = try #require(began["location"], "\(began.status) \(began.text)")
        let cookie = try #require(began["set-cookie"]?.split(separator: ";").first.map(String.init))
        return (String(try devnet.consent(at: location, as: user).dropFirst("http://127.0.0.1:\(port)".count)), cookie)
    }
}
