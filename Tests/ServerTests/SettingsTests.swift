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
    private static let secrets = [
        "STRATOS_SIGNING_KEY_HEX", "STRATOS_PG_PASSWORD", "STRATOS_POSTGRES_URL", "STRATOS_S3_ACCESS_KEY", "STRATOS_S3_SECRET_KEY",
        "STRATOS_ADMIN_PASSWORD", "STRATOS_SYNC_TOKEN", "STRATOS_OAUTH_CLIENT_SECRET",
    ]
    private static let key = String(repeating: "5a", count: 32)

    @Test("`config` lists every variable of the configuration document, with value, source and state")
    func listing() async throws {
        guard let program = try ProgramUnderTest("config") else { return }
        let listing = try await program.json(["config"])
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
                "STRATOS_SIGNING_KEY_HEX": " \(Self.key)\n",
            ])
        #expect(listing["STRATOS_PORT"]?["value"] == "3200")
        #expect(listing["STRATOS_DEV_MODE"]?["value"] == "true")
        #expect(listing["STRATOS_ALLOWED_DOMAINS"]?["value"] == "general , writers ,")
        #expect(listing["STRATOS_S3_BUCKET"]?["source"] == "unset")
        #expect(listing["STRATOS_SIGNING_KEY_HEX"]?["value"] == "********")
    }

    @Test("a value that is not allowed ends every command with 2, naming the variable and what is allowed")
    func refused() async throws {
        guard let program = try ProgramUnderTest("refused settings") else { return }
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        let cases: [(String, String)] = [
            ("STRATOS_PORT", "0"), ("STRATOS_PORT", "65536"), ("STRATOS_PORT", "3100.0"), ("STRATOS_SERVICE_DID", "stratos.example.com"),
            ("STRATOS_SERVICE_DID", "did:web:" + String(repeating: "a", count: 181)), ("STRATOS_PUBLIC_URL", "stratos.example.com"),
            ("STRATOS_PUBLIC_URL", "https://user:pass@stratos.example.com"), ("STRATOS_ALLOWED_DOMAINS", "a/b"),
            ("STRATOS_ALLOWED_DOMAINS", ","),
            ("STRATOS_ALLOWED_DOMAINS", String(repeating: "a", count: 65)), ("STRATOS_AUTO_ENROLL_DOMAINS", "elsewhere"),
            ("STORAGE_BACKEND", "postgres"), ("STRATOS_BLOB_STORAGE", "s3"), ("STRATOS_ENROLLMENT_MODE", "invite"),
            ("STRATOS_DEV_MODE", "yes"),
            ("STRATOS_DEV_MODE", "1"), ("STRATOS_LOG_LEVEL", "loud"), ("STRATOS_WRITE_RATE_MAX_WRITES", "0"),
            ("STRATOS_WRITE_RATE_WINDOW_MS", "-1"),
            ("STRATOS_IMPORT_MAX_BYTES", "256MiB"), ("STRATOS_ALLOWED_DIDS", "did:plc:a,b"), ("STRATOS_SERVICE_FRAGMENT", "a#b"),
            ("STRATOS_SIGNING_KEY_HEX", String(repeating: "0", count: 64)), ("STRATOS_SIGNING_KEY_HEX", order),
            ("STRATOS_SIGNING_KEY_HEX", String(repeating: "f", count: 64)), ("STRATOS_SIGNING_KEY_HEX", String(repeating: "1", count: 63)),
            ("STRATOS_SIGNING_KEY_HEX", String(repeating: "g", count: 64)),
        ]
        for (name, value) in cases {
            let outcome = try await program.run(["config", "--json"], settings: [name: value])
            #expect(outcome.status == 2, "\(name)=\(value): \(outcome.outputText)")
            let answer = try? DataModelJSON.decode(outcome.output.filter { $0 != 0x0A })
            #expect(answer?["error"] == "InvalidSetting", "\(name)=\(value)")
            #expect(answer?["message"]?.stringValue?.contains(name) == true, "\(name)=\(value): \(outcome.outputText)")
            if Self.secrets.contains(name) { #expect(!outcome.outputText.contains(value), "a secret is not said") }
        }
        let last = String(order.dropLast()) + "0"
        #expect(try await program.run(["config"], settings: ["STRATOS_SIGNING_KEY_HEX": last]).status == 0)
        #expect(
            try await program.run(["config"], settings: ["STRATOS_SERVICE_DID": "did:web:" + String(repeating: "a", count: 180)]).status
                == 0)
        try await program.expectFailure(["serve"], 2, "InvalidSetting", "STRATOS_PORT", settings: ["STRATOS_PORT": "x"])
        try await program.expectFailure(["usage"], 2, "InvalidSetting", "STRATOS_PORT", settings: ["STRATOS_PORT": "x"])
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
        for name in Self.secrets { settings[name] = "secret-of-\(name)" }
        settings["STRATOS_SIGNING_KEY_HEX"] = Self.key
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
            #expect(!answer.text.contains("secret-of-") && !answer.text.contains(Self.key))
        }
        let outcome = try #require(try await program.served.stop())
        #expect(outcome.errorText.contains("STRATOS_SYNC_TOKEN"), "a setting without effect is named")
        expectNoSecret(outcome, "serve")
        #expect(!outcome.errorText.contains(Service.alice + " "), "nobody's credential is logged")
        let other = try await program.run(["serve"], settings: ["STRATOS_SIGNING_KEY_HEX": String(repeating: "6b", count: 32)])
        #expect(other.status == 2)
        #expect(!other.errorText.contains("6b6b6b"))
    }

    private func expectNoSecret(_ outcome: Program.Outcome, _ what: String, sourceLocation: SourceLocation = #_sourceLocation) {
        for text in [outcome.outputText, outcome.errorText] {
            #expect(!text.contains("secret-of-"), "\(what)", sourceLocation: sourceLocation)
            #expect(!text.lowercased().contains(Self.key), "\(what)", sourceLocation: sourceLocation)
        }
    }
}
