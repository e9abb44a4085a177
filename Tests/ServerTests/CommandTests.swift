import ATProto
import Foundation
import Keys
import Simulation
import Testing

@Suite("Program: commands")
struct CommandTests {
    private static let bob = Service.bob

    /// What a command says: its exit code, and its JSON objects.
    private func said(_ program: ProgramUnderTest, _ arguments: [String]) async throws -> (status: Int32, values: [Value]) {
        let outcome = try await program.run(arguments + ["--json"])
        return (outcome.status, try outcome.lines.map { try DataModelJSON.decode(Array($0.utf8)) })
    }

    @Test("enroll: bare names are qualified, none gives the default, twice is refused, and the answer names key and commit")
    func enroll() async throws {
        guard let program = try ProgramUnderTest("enroll") else { return }
        let service = ServedDirectory.service
        let alice = try await program.json(["enroll", Service.alice, "--boundary", "writers", "--pds", "https://pds.example.com"])
        #expect(alice.mapValue?.map(\.key).sorted() == ["boundaries", "commit", "did", "rev", "signingKey"])
        #expect(alice["did"]?.stringValue == Service.alice)
        #expect(alice["boundaries"] == [.string("\(service)/writers")])
        #expect(alice["signingKey"]?.stringValue?.hasPrefix("did:key:zDnae") == true)
        _ = try CID(#require(alice["commit"]?.stringValue))
        _ = try TID(#require(alice["rev"]?.stringValue))
        let bob = try await program.json(["enroll", Service.bob])
        #expect(bob["boundaries"] == [.string("\(service)/general"), .string("\(service)/writers")])
        let carol = try await program.run(
            ["enroll", "did:plc:carol", "--json"], settings: ["STRATOS_AUTO_ENROLL_DOMAINS": "general"])
        #expect(carol.outputText.contains("\"boundaries\":[\"\(service)/general\"]"))
        let both = try await program.json(["enroll", "did:plc:daisy", "--boundary", "general", "--boundary", "\(service)/writers"])
        #expect(both["boundaries"]?.arrayValue?.count == 2)
        try await program.expectFailure(["enroll", Service.alice], 1, "AlreadyEnrolled", "already enrolled")
        try await program.expectFailure(["enroll", "did:plc:erin", "--boundary", "nowhere"], 1, "InvalidRequest", "nowhere", "general")
        try await program.expectFailure(["enroll", "did:plc:erin", "--boundary", "did:web:other.example/general"], 1, "InvalidRequest")
        try await program.expectFailure(["enroll", service], 1, "InvalidRequest")
        try await program.expectFailure(["enroll", "did:web:" + String(repeating: "a", count: 193)], 1, "InvalidRequest", "200")
        #expect(try await program.run(["enroll", "did:web:" + String(repeating: "a", count: 192)]).status == 0)
        let plain = try await program.run(["enroll", "did:plc:frank", "--boundary", "general"])
        #expect(plain.outputText.contains("did: did:plc:frank\n"))
        #expect(plain.outputText.contains("boundaries:\n  - \(service)/general\n"))
        #expect(try FileManager.default.attributesOfItem(atPath: program.served.path)[.posixPermissions] as? Int == 0o700)
    }

    @Test("every command says the same through the running server and without one", .timeLimit(.minutes(1)))
    func throughTheServer() async throws {
        guard let program = try ProgramUnderTest("commands through a server") else { return }
        let served = program.served
        try await served.succeed("enroll", Service.alice)
        try await served.succeed("enroll", Service.bob, "--boundary", "general")
        try await served.start()
        for number in 0..<5 { #expect(try await program.write("\(number)", as: Service.alice).status == 200) }
        let written = try await program.write("last", as: Service.alice)
        let uri = try #require(DataModelJSON.decode(written.body)["uri"]?.stringValue)
        let commands = [
            ["get", uri], ["usage"], ["usage", Service.alice], ["digest"], ["digest", "--actor", Service.alice],
            ["digest", "--until", "3"],
            ["log", "show", Service.alice], ["log", "stats"], ["verify"], ["get", uri + "x"], ["export", "did:plc:nobody"],
        ]
        var online: [(status: Int32, values: [Value])] = []
        for command in commands { online.append(try await said(program, command)) }
        let export = try await program.run(["export", Service.alice, "--output", program.file("online.car")])
        #expect(export.status == 0, "\(export.errorText)")
        try await served.stop()
        for (command, before) in zip(commands, online) {
            let after = try await said(program, command)
            #expect(after.status == before.status, "\(command)")
            // The last checkpoint may have moved pages; the count of bytes is the one thing that is the file's and not the log's.
            #expect(after.values.map(withoutBytes) == before.values.map(withoutBytes), "\(command)")
        }
        #expect(try await program.run(["export", Service.alice, "--output", program.file("offline.car")]).status == 0)
        let car = try program.directory.read("online.car")
        #expect(try program.directory.read("offline.car") == car)
        let piped = try await program.run(["export", Service.alice])
        #expect(piped.output == car)
        #expect(!FileManager.default.fileExists(atPath: program.file("online.car.part")))
        let record = online[0].values[0]
        #expect(record.mapValue?.map(\.key).sorted() == ["cid", "uri", "value"])
        #expect(record["value"]?["text"] == "last")
        #expect(online[1].values[0]["actors"]?.arrayValue?.count == 2)
        let usage = try #require(online[2].values[0]["actors"]?.arrayValue?.first)
        #expect(usage["records"] == 6)
        #expect(usage["collections"]?[Service.post]?["records"] == 6)
        #expect(usage["bytes"] == usage["collections"]?[Service.post]?["bytes"])
        #expect(online[3].values[0]["source"] == "rows")
        #expect(online[3].values[0]["actors"] == 2)
        #expect(online[5].values[0]["source"] == "log")
        #expect(online[9].status == 1 && online[9].values[0]["error"] == "RecordNotFound")
        #expect(online[10].status == 1 && online[10].values[0]["error"] == "NotEnrolled")
    }

    private func withoutBytes(_ value: Value) -> Value {
        guard case .map(var fields) = value, fields["head"] != nil else { return value }
        fields["bytes"] = nil
        return .map(fields)
    }

    @Test(
        "drop and rebuild bring the same digest, and need neither a key nor a setting; both go through the server too",
        .timeLimit(.minutes(1)))
    func rebuild() async throws {
        guard let program = try ProgramUnderTest("rebuild") else { return }
        let served = program.served
        try await served.succeed("enroll", Service.alice)
        try await served.succeed("enroll", Service.bob)
        try await served.start()
        for number in 0..<5 { #expect(try await program.write("\(number)", as: Service.alice).status == 200) }
        let digest = try #require(try await program.json(["digest"])["digest"])
        #expect(try await program.json(["projections", "drop"]) == ["removed": 2])
        #expect(try await program.json(["digest"])["digest"] == digest)
        let rebuilt = try await program.json(["rebuild"])
        #expect(rebuilt["digest"] == digest)
        #expect(rebuilt["actors"] == 2)
        #expect(rebuilt["events"] == 7)
        #expect(rebuilt["seconds"]?.integerValue != nil)
        #expect(try await program.write("more", as: Service.alice).status == 200, "the server goes on")
        let later = try #require(try await program.json(["digest"])["digest"])
        try await served.stop()
        // Without any key and any setting but the directory.
        try FileManager.default.moveItem(atPath: served.path + "/signing_key", toPath: program.file("signing_key"))
        let bare = ["STRATOS_DATA_DIR": served.path]
        for (arguments, expected) in [
            (["projections", "drop"], "\"removed\":2"), (["rebuild"], later.stringValue ?? ""),
            (["rebuild", "--actor", Service.alice], "\"actors\":1"),
            (["digest"], later.stringValue ?? ""),
        ] {
            let outcome = try await served.program.run(arguments + ["--json"], environment: bare)
            #expect(outcome.status == 0, "\(arguments): \(outcome.outputText)")
            #expect(outcome.outputText.contains(expected), "\(arguments): \(outcome.outputText)")
        }
        try await program.expectFailure(["enroll", "did:plc:carol"], 2, "ServiceKeyMissing", "signing_key", "STRATOS_SIGNING_KEY_HEX")
    }

    @Test("import takes an export, refuses what it must, and says how much came in", .timeLimit(.minutes(1)))
    func importing() async throws {
        guard let program = try ProgramUnderTest("import") else { return }
        let served = program.served
        try await served.succeed("enroll", Service.alice)
        let general = Value.string("\(ServedDirectory.service)/general")
        func post(_ number: Int) -> (path: String, record: Value) {
            (
                "\(Service.post)/\(TID(microseconds: 1_700_000_000_000_000 + Int64(number), clockID: 0))",
                ImportTests.post("\(number)", in: general)
            )
        }
        let foreign = ("app.bsky.feed.post/3lq2222222222", ["$type": "app.bsky.feed.post", "text": "x"] as Value)
        let elsewhere = ("\(Service.post)/3lq2222222222", ImportTests.post("x", in: "did:web:other.example/general"))
        let files = ["good": [post(1), post(2)], "foreign": [post(1), foreign], "elsewhere": [post(1), elsewhere]]
        for (name, records) in files { try program.directory.write(ImportTests.repo(of: Service.alice, records), to: "\(name).car") }
        try program.directory.write(Array(program.directory.read("good.car").dropLast()), to: "cut.car")
        try await program.expectFailure(["import", Service.alice, program.file("nothing.car")], 3, "Failed", "nothing.car")
        try await program.expectFailure(["import", Service.alice, program.file("cut.car")], 1, "InvalidCar")
        try await program.expectFailure(["import", Service.bob, program.file("good.car")], 1, "NotEnrolled")
        try await program.expectFailure(
            ["import", Service.alice, program.file("foreign.car")], 1, "InvalidRecord", "app.bsky.feed.post/3lq2222222222")
        try await program.expectFailure(["import", Service.alice, program.file("elsewhere.car")], 1, "InvalidRecord", "does not belong")
        let stranger = try PrivateKey(curve: .k256, rawBytes: [UInt8](repeating: 8, count: 32)).publicKey.didKey
        let signer = try PrivateKey(curve: .k256, rawBytes: [UInt8](repeating: 9, count: 32)).publicKey.didKey
        try await program.expectFailure(
            ["import", Service.alice, program.file("good.car"), "--verify-key", stranger], 1, "InvalidCar", "not signed with the key")
        let report = try await program.json(["import", Service.alice, program.file("good.car"), "--verify-key", signer])
        #expect(report["imported"] == 2)
        #expect(report.mapValue?.map(\.key).sorted() == ["commit", "data", "imported", "rev"])
        try await program.expectFailure(["import", Service.alice, program.file("good.car")], 1, "RepoAlreadyExists")
        // Both options, through a server, with a path that only the caller's own directory explains.
        for (did, name, option) in [
            ("did:plc:carol", "foreign", "--allow-foreign-collections"), ("did:plc:daisy", "elsewhere", "--drop-foreign-boundaries"),
        ] {
            try await served.succeed("enroll", did)
            try program.directory.write(ImportTests.repo(of: did, files[name]!), to: "own.car")
            if did == "did:plc:daisy" { try await served.start() }
            #expect(try await program.json(["import", did, program.file("own.car"), option])["imported"] == 2)
        }
        let list = try await program.ask(
            "GET", Service.target("com.atproto.repo.listRecords", [("repo", "did:plc:daisy"), ("collection", Service.post)]),
            as: Service.alice)
        #expect(try DataModelJSON.decode(list.body)["records"]?.arrayValue?.count == 1, "what lost its boundaries is its owner's alone")
    }

    @Test("keygen makes another key each time, and its did:key is that of the number")
    func keygen() async throws {
        guard let program = try ProgramUnderTest("keygen") else { return }
        let first = try await program.json(["keygen"]), second = try await program.json(["keygen"])
        #expect(first["hex"] != second["hex"])
        let hex = try #require(first["hex"]?.stringValue)
        #expect(hex.count == 64)
        let bytes = stride(from: 0, to: 64, by: 2).map { index in
            UInt8(hex.dropFirst(index).prefix(2), radix: 16) ?? 0
        }
        #expect(try PrivateKey(curve: .k256, rawBytes: bytes).publicKey.didKey == first["didKey"]?.stringValue)
        let plain = try await program.run(["keygen"])
        #expect(plain.lines.count == 2)
        // It can be used at once.
        let listing = try await program.run(["enroll", Service.alice, "--json"], settings: ["STRATOS_SIGNING_KEY_HEX": hex])
        #expect(listing.status == 0)
        #expect(!FileManager.default.fileExists(atPath: program.served.path + "/signing_key"), "a key that is given is not kept")
    }

    @Test("wrong usage is 2, in words or as JSON; help and the version are 0")
    func usage() async throws {
        guard let program = try ProgramUnderTest("usage") else { return }
        for arguments in [
            ["frobnicate"], ["enroll"], ["enroll", "alice"], ["get", "alice"], ["digest", "--until", "x"], ["serve", "--frobnicate"],
            ["enroll", Service.alice, "--boundary"], ["log", "show"],
        ] {
            let plain = try await program.run(arguments)
            #expect(plain.status == 2, "\(arguments): \(plain.status)")
            #expect(plain.output.isEmpty && !plain.errors.isEmpty, "\(arguments)")
            let json = try await program.run(arguments + ["--json"])
            #expect(json.status == 2, "\(arguments)")
            let value = try DataModelJSON.decode(json.output.filter { $0 != 0x0A })
            #expect(value["error"] == "InvalidArguments", "\(arguments): \(json.outputText)")
            #expect(value["message"]?.stringValue?.isEmpty == false)
        }
        for arguments in [["--help"], ["--version"], ["serve", "--help"], [], ["help", "enroll"]] {
            let outcome = try await program.run(arguments)
            #expect(outcome.status == 0, "\(arguments)")
            #expect(!outcome.output.isEmpty)
        }
        let unwritable = try await program.run(["export", Service.alice, "--output", "/nowhere/x.car", "--json"])
        #expect(unwritable.status == 3)
        #expect(unwritable.outputText.contains("\"error\":\"OutputFailed\""))
    }
}
