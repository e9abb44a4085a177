import ATProto
import Foundation
import Simulation
import Testing

@Suite("Program: settings")
struct SettingsTests {
    /// The reference table of the configuration document, name by name.
    private static let documented = [
        "STRATOS_SERVICE_DID", "STRATOS_PUBLIC_URL", "STRATOS_ALLOWED_DOMAINS", "STRATOS_PORT", "STRATOS_SERVICE_FRAGMENT",
        "STRATOS_DATA_DIR", "STORAGE_BACKEND", "STRATOS_POSTGRES_URL", "STRATOS_PG_HOST", "STRATOS_PG_PORT", "STRATOS_PG_USERNAME",
        "STRATOS_PG_PASSWORD", "STRATOS_PG_DBNAME", "STRATOS_PG_ACTOR_POOL_SIZE", "STRATOS_PG_ADMIN_POOL_SIZE", "STRATOS_BLOB_STORAGE",
        "STRATOS_S3_BUCKET", "STRATOS_S3_REGION", "STRATOS_S3_ENDPOINT", "STRATOS_S3_ACCESS_KEY", "STRATOS_S3_SECRET_KEY",
        "STRATOS_ENROLLMENT_MODE", "STRATOS_ALLOWED_DIDS", "STRATOS_ALLOWED_PDS_ENDPOINTS", "STRATOS_AUTO_ENROLL_DOMAINS",
        "STRATOS_PLC_URL",
        "STRATOS_OAUTH_CLIENT_ID", "STRATOS_OAUTH_REDIRECT_URI", "STRATOS_ALLOWED_APPVIEWS", "STRATOS_SIGNING_KEY_HEX",
        "STRATOS_IMPORT_MAX_BYTES", "STRATOS_WRITE_RATE_MAX_WRITES", "STRATOS_WRITE_RATE_WINDOW_MS", "STRATOS_WRITE_RATE_COOLDOWN_MS",
        "STRATOS_WRITE_RATE_COOLDOWN_JITTER_MS", "STRATOS_LOG_LEVEL",
    ]
    @Test("`config` lists every variable of the configuration document, with value, source and state")
    func listing() async throws {
        guard let program = try ProgramUnderTest("config") else { return }
        let listing = try await program.json(["config"])
        let listed = try #require(listing.mapValue).map(\.key)
        #expect(
            Set(listed) == Set(SettingRow.all.map(\.name)), "every setting has its row, with an effect and with values that are refused")
        #expect(SettingRow.all.count == Set(SettingRow.all.map(\.name)).count)
        for name in Self.documented {
            let entry = try #require(listing[name]?.mapValue, "\(name)")
            #expect(entry.map(\.key).sorted() == ["source", "state", "value"])
        }
        if let document = try TestFiles.published("seed/configuration.txt") {
            let text = String(decoding: document, as: UTF8.self)
            let named = Set(text.matches(of: /(STRATOS|STORAGE)_[A-Z0-9_]*[A-Z0-9]/).map { String($0.output.0) })
            #expect(named.subtracting(Self.documented).filter { !text.contains($0 + "_*") } == [], "the document names them")
        }
        #expect(listing["STRATOS_PORT"] == ["value": .string("\(program.served.port)"), "source": "environment", "state": "used"])
        #expect(listing["STRATOS_SERVICE_FRAGMENT"] == ["value": "atproto_pns", "source": "default", "state": "used"])
        #expect(listing["STRATOS_S3_BUCKET"] == ["value": .null, "source": "unset", "state": "unused"])
        let plain = try await program.run(["config"])
        #expect(plain.status == 0)
        #expect(plain.outputText.contains("STRATOS_PORT:\n"))
        let given = try await program.json(["config", "--data-dir", "/somewhere"])
        #expect(given["STRATOS_DATA_DIR"]?["value"] == "/somewhere")
    }

    @Test("defaults are those of the document")
    func defaults() async throws {
        guard let program = try ProgramUnderTest("the defaults") else { return }
        let outcome = try await program.served.program.run(["config", "--json"])
        let listing = try DataModelJSON.decode(outcome.output.filter { $0 != 0x0A })
        for (name, value) in [
            ("STRATOS_PORT", "3100"), ("STRATOS_SERVICE_FRAGMENT", "atproto_pns"), ("STRATOS_DATA_DIR", "./data"),
            ("STORAGE_BACKEND", "sqlite"),
            ("STRATOS_BLOB_STORAGE", "local"), ("STRATOS_ENROLLMENT_MODE", "allowlist"), ("STRATOS_PLC_URL", "https://plc.directory"),
            ("STRATOS_IMPORT_MAX_BYTES", "268435456"), ("STRATOS_WRITE_RATE_MAX_WRITES", "300"), ("STRATOS_WRITE_RATE_WINDOW_MS", "60000"),
            ("STRATOS_WRITE_RATE_COOLDOWN_MS", "10000"), ("STRATOS_WRITE_RATE_COOLDOWN_JITTER_MS", "1000"), ("STRATOS_LOG_LEVEL", "info"),
            ("STRATOS_RETENTION_DAYS", "30"), ("STRATOS_STREAM_CONNECTIONS_MAX", "2000"), ("STRATOS_STREAM_IDLE_SECONDS", "60"),
            ("STRATOS_DEV_MODE", "false"), ("STRATOS_PG_PORT", "5432"),
        ] {
            #expect(listing[name] == ["value": .string(value), "source": "default", "state": listing[name]?["state"] ?? .null], "\(name)")
        }
        for name in ["STRATOS_SERVICE_DID", "STRATOS_PUBLIC_URL", "STRATOS_ALLOWED_DOMAINS", "STRATOS_SIGNING_KEY_HEX"] {
            #expect(listing[name]?["source"] == "unset")
        }
    }

    @Test("values are trimmed, and nothing but spaces is unset")
    func trimmed() async throws {
        guard let program = try ProgramUnderTest("trimming") else { return }
        let listing = try await program.json(
            ["config"],
            settings: [
                "STRATOS_PORT": " 3200\t", "STRATOS_DEV_MODE": " true ", "STRATOS_ALLOWED_DOMAINS": " general , writers ,",
                "STRATOS_S3_BUCKET": "  ",
                "STRATOS_SIGNING_KEY_HEX": " \(SettingRow.key)\n",
            ])
        #expect(listing["STRATOS_PORT"]?["value"] == "3200")
        #expect(listing["STRATOS_DEV_MODE"]?["value"] == "true")
        #expect(listing["STRATOS_ALLOWED_DOMAINS"]?["value"] == "general,writers")
        #expect(listing["STRATOS_S3_BUCKET"]?["source"] == "unset")
        #expect(listing["STRATOS_SIGNING_KEY_HEX"]?["value"] == "********")
    }

    @Test(
        "a value that is not allowed keeps the service from starting (2), and is named with what is allowed, masked where it is secret",
        arguments: 0..<4)
    func refused(part: Int) async throws {
        guard let program = try ProgramUnderTest("refused settings") else { return }
        for (number, row) in SettingRow.all.enumerated() where number % 4 == part {
            #expect(!row.wrong.isEmpty, "\(row.name) has a value that is not allowed")
            for value in row.wrong {
                let outcome = try await program.run(["serve", "--json"], settings: [row.name: value])
                #expect(outcome.status == 2, "\(row.name)=\(value): \(outcome.outputText)")
                let answer = try? DataModelJSON.decode(outcome.output.filter { $0 != 0x0A })
                #expect(answer?["error"] == "InvalidSetting", "\(row.name)=\(value)")
                let message = answer?["message"]?.stringValue ?? ""
                #expect(message.hasPrefix("\(row.name)=") || message.hasPrefix("\(row.name) names"), "\(row.name)=\(value): \(message)")
                let shown = row.isSecret ? "(secret)" : String(String(reflecting: value).dropLast().prefix(40))
                #expect(message.contains(shown) || message.hasSuffix(value), "\(row.name)=\(value): \(message)")
                #expect(message.count < 500, "\(row.name): a long value is cut")
                if row.isSecret { #expect(!(outcome.outputText + outcome.errorText).contains(value), "\(row.name) is not said") }
            }
        }
        #expect(!FileManager.default.fileExists(atPath: program.served.path), "nothing was made")
    }

    @Test("every command refuses what is not allowed, and what is just allowed is taken")
    func limits() async throws {
        guard let program = try ProgramUnderTest("the limits of settings") else { return }
        for command in ["config", "usage", "serve"] {
            try await program.expectFailure([command], 2, "InvalidSetting", "STRATOS_PORT", settings: ["STRATOS_PORT": "x"])
        }
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140"
        for (name, value) in [
            ("STRATOS_SIGNING_KEY_HEX", order), ("STRATOS_SERVICE_DID", "did:web:" + String(repeating: "a", count: 180)),
            ("STRATOS_PORT", "65535"), ("STRATOS_ADMIN_PASSWORD", String(repeating: "p", count: 1024)),
            ("STRATOS_PG_HOST", "/run/postgresql"),
            ("STRATOS_PG_HOST", "fe80::1"), ("STRATOS_POSTGRES_URL", "postgresql:///"), ("STRATOS_POSTGRES_URL", "postgresql://[::1]:1/d"),
            ("STRATOS_DATA_DIR", String(repeating: "a", count: 4000)), ("STRATOS_ADMIN_PASSWORD", " \n"),
        ] {
            let isAllowed = value != "postgresql:///"
            #expect(try await program.run(["config"], settings: [name: value]).status == (isAllowed ? 0 : 2), "\(name)=\(value)")
        }
        // A URL with a password in a place that takes none is refused without saying the password.
        let outcome = try await program.run(["config"], settings: ["STRATOS_PUBLIC_URL": "https://user:hidden@stratos.example.com"])
        #expect(outcome.status == 2 && outcome.errorText.contains("@stratos.example.com") && !outcome.errorText.contains("hidden"))
    }

    @Test("what `config` lists is the one form in force: of lists, of endpoints, of numbers")
    func inForce() async throws {
        guard let program = try ProgramUnderTest("settings in force") else { return }
        let subject = try SettingsSubject(program, isGiven: true)
        for row in SettingRow.all { program.served.environment[row.name] = subject.filled(row.good) }
        let listing = try await program.json(["config"])
        for row in SettingRow.all {
            let shown = row.isSecret ? "********" : subject.filled(row.inForce ?? row.good)
            let state = if case .unused = row.effect { "unused" } else { "used" }
            #expect(
                listing[row.name] == ["value": .string(shown), "source": "environment", "state": .string(state)],
                "\(row.name): \(String(describing: listing[row.name]))")
        }
    }

    @Test("every setting does what it says, or is named as one without effect in this release", .timeLimit(.minutes(1)))
    func effects() async throws {
        for isGiven in [true, false] {
            guard let program = try ProgramUnderTest("what settings do") else { return }
            let subject = try SettingsSubject(program, isGiven: isGiven)
            var environment = [
                "STRATOS_SERVICE_DID": ServedDirectory.service, "STRATOS_PUBLIC_URL": "http://localhost:\(program.served.port)",
                "STRATOS_ALLOWED_DOMAINS": "general,writers", "STRATOS_PORT": "\(program.served.port)",
                "STRATOS_DATA_DIR": program.served.path, "STRATOS_PLC_URL": subject.directory.origin, "LOG_LEVEL": "warn",
                "STRATOS_NO_SUCH_SETTING": "1",
            ]
            if isGiven { for row in SettingRow.all { environment[row.name] = subject.filled(row.good) } }
            program.served.environment = environment
            try await subject.start()
            for row in SettingRow.all {
                guard case .seen(let given, let without, let look) = row.effect, let expected = isGiven ? given : without else { continue }
                let seen = try await look(subject)
                #expect(seen == expected, "\(row.name), \(isGiven ? "given" : "not given")")
            }
            let said = try #require(try await program.served.stop()).errorText
            #expect(said.contains("STRATOS_NO_SUCH_SETTING"), "a setting that nobody knows is named")
            for row in SettingRow.all {
                guard case .unused = row.effect else { continue }
                #expect(said.contains("name=\(row.name)") == isGiven, "\(row.name) is named where it is given: it has no effect")
            }
        }
    }

    @Test("what a new service needs is named, and nothing is left in the directory")
    func missing() async throws {
        guard let program = try ProgramUnderTest("missing settings") else { return }
        let none: [String: String?] = ["STRATOS_SERVICE_DID": nil, "STRATOS_PUBLIC_URL": nil, "STRATOS_ALLOWED_DOMAINS": nil]
        for command in [["serve"], ["enroll", Service.alice], ["import", Service.alice, "/nothing.car"]] {
            try await program.expectFailure(
                command, 2, "SettingsMissing", "STRATOS_SERVICE_DID", "STRATOS_PUBLIC_URL", "STRATOS_ALLOWED_DOMAINS", settings: none)
            try await program.expectFailure(
                command, 2, "SettingsMissing", "STRATOS_ALLOWED_DOMAINS", settings: ["STRATOS_ALLOWED_DOMAINS": " "])
        }
        for command in [["digest"], ["usage"], ["rebuild"], ["projections", "drop"], ["export", Service.alice], ["verify"]] {
            try await program.expectFailure(command, 3, "NoLog", "holds no log")
        }
        #expect(!FileManager.default.fileExists(atPath: program.served.path), "nothing was made")
    }

    @Test("no secret is in any line that the program writes, at any level of its log, nor in its answers", .timeLimit(.minutes(1)))
    func secrets() async throws {
        guard let program = try ProgramUnderTest("secrets") else { return }
        var settings: [String: String] = ["STRATOS_LOG_LEVEL": "trace"]
        for row in SettingRow.all where row.isSecret { settings[row.name] = row.good }
        for (name, value) in settings { program.served.environment[name] = value }
        for arguments in [["config"], ["config", "--json"]] {
            let outcome = try await program.run(arguments)
            #expect(outcome.status == 0)
            expectNoSecret(outcome, "\(arguments)")
        }
        try await program.served.succeed("enroll", Service.alice)
        try await program.served.start()
        #expect(try await program.write("x", as: Service.alice).status == 200)
        for target in ["/", "/health", "/.well-known/did.json", "/nothing"] {
            let answer = try await program.ask("GET", target, as: Service.alice)
            for row in SettingRow.all where row.isSecret { #expect(!answer.text.contains(row.good), "\(row.name)") }
        }
        let outcome = try #require(try await program.served.stop())
        #expect(outcome.errorText.contains("STRATOS_S3_SECRET_KEY"), "a setting without effect is named")
        expectNoSecret(outcome, "serve")
        let requests = outcome.errorText.split(separator: "\n").filter { $0.contains("[Server]") }
        #expect(!requests.isEmpty && !requests.contains { $0.contains(Service.alice) }, "nobody's credential is logged")
        let other = try await program.run(["serve"], settings: ["STRATOS_SIGNING_KEY_HEX": String(repeating: "6b", count: 32)])
        #expect(other.status == 2)
        #expect(!other.errorText.contains("6b6b6b"))
    }

    private func expectNoSecret(_ outcome: Program.Outcome, _ what: String, sourceLocation: SourceLocation = #_sourceLocation) {
        for text in [outcome.outputText, outcome.errorText] {
            for row in SettingRow.all where row.isSecret {
                #expect(!text.lowercased().contains(row.good.lowercased()), "\(what): \(row.name)", sourceLocation: sourceLocation)
            }
        }
    }
}
