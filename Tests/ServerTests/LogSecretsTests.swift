import ATProto
import Devnet
import Foundation
import HTTPTypes
import Keys
import Simulation
import Testing

/// What is logged may be read by many: no credential, key, password, handle or text of a record stands in a line, at any level, and
/// no piece of one. Beside these tests, `Service` looks after every test of this target.
@Suite("Logs: no secrets")
struct LogSecretsTests {
    private static let text = "the meeting is at the old mill, nobody else knows"
    private static let password = "correct horse: battery \u{e9}"

    @Test("the search finds what was planted: whole, in digits, in base64 within a longer text, and sixteen bytes of it")
    func search() throws {
        let token = "eyJhbGciOiJFUzI1NksifQ.eyJpc3MiOiJkaWQ6cGxjOmFsaWNlIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
        let key = [UInt8](0x80..<0xA0)
        let hex = key.map { String($0, radix: 16) }.joined()
        let der = Data([0x30, 0x2E, 0x02, 0x01, 0x00, 0x04, 0x20] + key + [0xA0, 0x07]).base64EncodedString()
        let planted = [
            token, hex, hex.uppercased(), "short", Data(key).base64EncodedString(), Base64URL.encode(key), der,
            String(token.dropFirst(30).prefix(16)), String(hex.dropFirst(7).prefix(16)),
        ]
        for text in planted {
            let watch = LogWatch()
            watch.keep(token, as: "a token")
            watch.keep(key, as: "a key")
            watch.keep("short", as: "a word")
            watch.note(line: "info a line before")
            watch.note(line: "error something went wrong error=malformed(\"\(text)\")")
            let findings = watch.findings()
            #expect(!findings.isEmpty && findings.allSatisfy { $0.line.contains(text) }, "\(text)")
        }
        for text in ["eyJhbGciOiJFUzI", "shor t", String(token.prefix(7)), String(hex.dropFirst(7).prefix(7))] {
            let watch = LogWatch()
            watch.keep(token, as: "a token")
            watch.keep(key, as: "a key")
            watch.keep("short", as: "a word")
            watch.note(line: text)
            #expect(watch.findings().isEmpty, "\(text)")
        }
    }

    @Test("every request leaves its line at debug, with its method and status, and no more of it")
    func requests() async throws {
        let service = try await Service()
        let before = service.watch.lineCount
        for _ in 0..<3 { _ = try await service.get("zone.stratos.server.listDomains", as: Service.alice) }
        let secret = "an-opaque-credential-of-nobody"
        _ = try await service.ask(.get, "/\(secret)?\(secret)", headers: [.authorization: "Bearer \(secret)"])
        #expect(service.watch.lineCount >= before + 4)
        #expect(service.watch.findings().isEmpty)
        // The positive control of every test that `Service` looks after: what reaches the same logger is seen.
        service.engine.logger.trace("planted", metadata: ["value": "Bearer \(secret)"])
        let findings = service.watch.findings()
        #expect(!findings.isEmpty && findings.allSatisfy { $0.line.hasPrefix("trace planted") }, "\(findings)")
        service.watch.forget(findings)
    }

    @Test("a disk that fails while records are written is told of without them")
    func failures() async throws {
        var settings = Service.Settings()
        // Three members come, and one record.
        settings.log = { FaultyEventStore($0) { $0 > 4 ? .refused(.storage(operation: "append", code: 5)) : nil } }
        let service = try await Service(settings)
        try await service.write(Service.postRecord(Self.text, in: "general"), at: "3lq2222222222")
        let input: Value = [
            "repo": .string(Service.alice), "collection": .string(Service.post), "record": Service.postRecord(Self.text, in: "general"),
        ]
        let answer = try await service.call("com.atproto.repo.createRecord", input, as: Service.alice)
        #expect(answer.status >= 500, "\(answer.text)")
        #expect(!answer.text.contains("mill"))
        #expect(service.watch.hasLine { $0.hasPrefix("error request failed") }, "the failure itself is logged")
        #expect(service.watch.findings().isEmpty)
    }

    @Test("the program at its most talkative says nothing of what passes through it", .timeLimit(.minutes(1)))
    func program() async throws {
        guard let program = try ProgramUnderTest("secrets in its log") else { return }
        try await Devnet.run { devnet in
            let traffic = try Traffic(program, devnet)
            let planted = "STRATOS_PLANTED_IN_THE_ENVIRONMENT"
            for (name, value) in [
                ("STRATOS_LOG_LEVEL", "trace"), ("STRATOS_PLC_URL", devnet.plcURL), ("STRATOS_ADMIN_PASSWORD", Self.password),
                ("STRATOS_SIGNING_KEY_HEX", SettingRow.key), (planted, "1"), ("STRATOS_HYDRATE_BLOCKED", "true"),
                ("STRATOS_ENROLLMENT_MODE", "open"), ("STRATOS_OAUTH_CLIENT_SECRET", SettingRow.clientKey),
            ] { program.served.environment[name] = value }
            traffic.watch.keep([UInt8](repeating: 0x5A, count: 32), as: "the service's key")
            for user in [traffic.member, traffic.other] { try await program.served.succeed("enroll", user.did.description) }
            try await program.served.start()
            try await traffic.serve(text: Self.text, password: Self.password)
            traffic.watch.keep(SettingRow.clientKey, as: "the client's key")
            try await traffic.join()
            try await traffic.refuse(text: Self.text, password: Self.password)
            try await traffic.fail()
            for path in FileManager.default.enumerator(atPath: program.served.path)?.compactMap({ $0 as? String }) ?? []
            where path.hasSuffix("/signing_key") {
                traffic.watch.keep(
                    Array(FileManager.default.contents(atPath: "\(program.served.path)/\(path)") ?? Data()), as: "an actor's key")
            }
            let outcome = try #require(try await program.served.stop())
            for line in (outcome.errorText + outcome.outputText).split(separator: "\n") { traffic.watch.note(line: String(line)) }
            #expect(traffic.watch.lineCount > traffic.count, "each of \(traffic.count) requests has left a line")
            #expect(traffic.watch.secretCount > 150)
            #expect(traffic.watch.findings().isEmpty, "\(traffic.watch.findings())")
            // The positive control: what the program does say is found.
            traffic.watch.keep(planted, as: "planted")
            #expect(traffic.watch.findings().contains { $0.secret == "planted" })
        }
    }
}
