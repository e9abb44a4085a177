import ATProto
import Foundation
import Keys
import Simulation
import Testing

@Suite("A data directory without its keys", .enabled(if: Program.built != nil, "no program was built beside the tests"))
struct KeylessTests {
    private let settings = [
        "STRATOS_SERVICE_DID": "did:web:stratos.example", "STRATOS_PUBLIC_URL": "https://stratos.example",
        "STRATOS_ALLOWED_DOMAINS": "general",
    ]
    private let did = "did:web:sample\(TestFiles.seed).example.com"

    @Test("verify and a full read work with every private key absent")
    func read() async throws {
        let program = try #require(Program.built)
        let directory = try TemporaryDirectory()
        let data = directory.file("data")
        let sample = try RepoSample(records: 20, seed: TestFiles.seed)
        try directory.write(sample.car(), to: "repo.car")
        let commands: [[String]] = [
            ["enroll", did], ["import", did, directory.file("repo.car"), "--allow-foreign-collections"],
        ]
        var answers: [Value] = []
        for command in commands {
            let outcome = try await program.run(command + ["--json", "--data-dir", data], environment: settings)
            try #require(outcome.status == 0, "\(command): \(outcome.outputText)\(outcome.errorText)")
            answers.append(try DataModelJSON.decodePlain(Array(try #require(outcome.lines.last).utf8)))
        }
        let key = try PublicKey(didKey: try #require(answers[0]["signingKey"]?.stringValue))

        var removed = 0
        for path in try FileManager.default.subpathsOfDirectory(atPath: data) where path.hasSuffix("signing_key") {
            try FileManager.default.removeItem(atPath: data + "/" + path)
            removed += 1
        }
        #expect(removed == 2)

        let record = RepoSample.key(0, of: sample.records)
        for command in [
            ["verify"], ["log", "show", did], ["log", "tail"], ["log", "stats"], ["usage"], ["digest"], ["digest", "--until", "3"],
            ["get", "at://\(did)/\(record)"], ["export", did, "--output", directory.file("out.car")],
        ] {
            let outcome = try await program.run(command + ["--json", "--data-dir", data])
            #expect(outcome.status == 0, "\(command): \(outcome.outputText)\(outcome.errorText)")
            if command == ["verify"] { #expect(outcome.lines == ["{\"ok\":true,\"events\":3,\"problems\":[]}"]) }
        }
        let report = try RepoVerifier.verify(try directory.read("out.car"), key: key)
        #expect(report.records == sample.records)
    }
}
