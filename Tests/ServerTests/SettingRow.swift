import ATProto
import Foundation
import Keys
import Simulation

/// What is known of one setting: a value that is taken, values that are not, and how it shows that the service does what it says.
struct SettingRow: Sendable {
    enum Effect: Sendable {
        /// It belongs to a part that this release does not have: listed as such, and named in a warning when it is given.
        case unused
        /// What `look` sees at a service where all rows' values are given, and at one with as few settings as a service can have;
        /// nil: it is not looked at there, because there is nothing to see.
        case seen(String, without: String?, look: @Sendable (SettingsSubject) async throws -> String)
    }

    let name: String
    /// `{port}`, `{directory}` and `{data}` stand for what only the run knows.
    let good: String
    /// As `config` shows it, where that is not the text itself.
    var inForce: String?
    let wrong: [String]
    var isSecret = false
    let effect: Effect

    static let key = String(repeating: "5a", count: 32)
    /// A P-256 key of nobody.
    static let clientKey =
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"K6YywRHlPCaJGAZfqXXJsol_WltH99jPM2VINIOZVWA\","
        + "\"y\":\"zUEX3_uSiy_jns7WckqWv-duCLYqlbuyaeOyoyB1gUI\",\"d\":\"YkGgHj0R_amzhSRFGEdAyv6dn0tyOh5E0A398BlXz8Y\"}"
    static let password = " a:b c%\u{e9}\"'\t/@ "

    private static let long = String(repeating: "a", count: 4001)

    static let all: [SettingRow] = used + streams + unused

    private static let used: [SettingRow] = [
        .init(
            name: "STRATOS_SERVICE_DID", good: "did:web:given.example",
            wrong: ["stratos.example.com", "did:web:" + String(repeating: "a", count: 181)],
            effect: .seen("did:web:given.example", without: ServedDirectory.service) { try await $0.document()["id"]?.stringValue ?? "" }),
        .init(
            name: "STRATOS_PUBLIC_URL", good: "HTTPS://Given.Example:443/at//", inForce: "https://given.example/at",
            wrong: [
                "stratos.example.com", "https://stratos.example.com/?a", "ftp://stratos.example.com", "https://a b.example", "https://",
                "https://stratos.example.com:0",
            ],
            effect: .seen("https://given.example/at", without: nil) {
                try await $0.document()["service"]?.arrayValue?.first?["serviceEndpoint"]?.stringValue ?? ""
            }),
        .init(
            name: "STRATOS_ALLOWED_DOMAINS", good: " general , writers,,others ", inForce: "general,writers,others",
            wrong: ["a/b", ",", String(repeating: "a", count: 65), "general,\u{e9}"],
            effect: .seen("general,writers,others", without: "general,writers") { subject in
                let domains = try await subject.ask("zone.stratos.server.listDomains")["domains"]?.arrayValue ?? []
                return domains.compactMap { $0.stringValue?.split(separator: "/").last.map(String.init) }.joined(separator: ",")
            }),
        .init(
            name: "STRATOS_PORT", good: "{port}", wrong: ["0", "65536", "3100.0", "+3100", "0x10", "\u{663}"],
            effect: .seen("200", without: nil) { try await String($0.answer("GET", "/health").status) }),
        .init(
            name: "STRATOS_SERVICE_FRAGMENT", good: "stratos_pns", wrong: ["a#b", "a b"],
            effect: .seen("stratos_pns", without: "atproto_pns") { subject in
                let id = try await subject.document()["verificationMethod"]?.arrayValue?.first?["id"]?.stringValue ?? ""
                return id.split(separator: "#").last.map(String.init) ?? ""
            }),
        .init(
            name: "STRATOS_SIGNING_KEY_HEX", good: key,
            wrong: [
                String(repeating: "0", count: 64), "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
                String(repeating: "f", count: 64), String(repeating: "1", count: 63), String(repeating: "g", count: 64),
            ], isSecret: true,
            effect: .seen("this key", without: "another key") { subject in
                let text = try await subject.document()["verificationMethod"]?.arrayValue?.first?["publicKeyMultibase"]?.stringValue
                let key = try PrivateKey(curve: .k256, rawBytes: [UInt8](repeating: 0x5A, count: 32))
                return text == key.publicKey.multibase ? "this key" : "another key"
            }),
        // Without it, LOG_LEVEL says: `warning` there.
        .init(
            name: "STRATOS_LOG_LEVEL", good: "info", wrong: ["loud", "INFO"],
            effect: .seen("info", without: "warning") { $0.lowestLevelLogged }),
        // Outranked where all are given.
        .init(
            name: "LOG_LEVEL", good: "fatal", wrong: ["notice", "2"], effect: .seen("info", without: "warning") { $0.lowestLevelLogged }),
        .init(
            name: "STRATOS_DEV_MODE", good: " true ", inForce: "true", wrong: ["yes", "1", "TRUE", "on", "fals"],
            effect: .seen("200", without: "401") {
                try await String($0.answer("GET", "/xrpc/zone.stratos.audit.listReads", authorization: "Bearer \(Service.alice)").status)
            }),
        .init(
            name: "STRATOS_REPO_URL", good: "HTTPS://Code.Example:443/Stratos/", inForce: "https://code.example/Stratos/",
            wrong: ["code.example", "https://code.example/#a"],
            effect: .seen("https://code.example/Stratos/", without: nil) {
                try await $0.userAgent().firstMatch(of: /\(\+(.*);/)?.output.1.description ?? ""
            }),
        .init(
            name: "STRATOS_OPERATOR_CONTACT", good: "ops@given.example", wrong: ["\u{e9}", "a\nb", String(repeating: "a", count: 201)],
            effect: .seen("ops@given.example", without: "unknown") {
                try await $0.userAgent().firstMatch(of: /; (.*)\)/)?.output.1.description ?? ""
            }),
        .init(
            name: "STRATOS_DATA_DIR", good: "{data}", wrong: [long, "a\nb"],
            effect: .seen("there", without: nil) { $0.logFile == nil ? "absent" : "there" }),
        .init(
            name: "STORAGE_BACKEND", good: "sqlite", wrong: ["postgres", "mysql", "SQLite"],
            effect: .seen("SQLite format 3", without: "SQLite format 3") { String(decoding: $0.logFile?.prefix(15) ?? [], as: UTF8.self) }),
        // What they admit is tried where they are asked; here, that the service has understood them.
        .init(
            name: "STRATOS_ENROLLMENT_MODE", good: "open", wrong: ["invite", "Open"],
            effect: .seen("mode=open", without: "nobody") { subject in
                if subject.said.contains("nobody may come in of their own accord") { return "nobody" }
                return subject.said.firstMatch(of: /mode=[a-z]+/)?.output.description ?? ""
            }),
        .init(
            name: "STRATOS_ALLOWED_DIDS", good: "did:plc:a , did:plc:b,did:plc:a", inForce: "did:plc:a,did:plc:b,did:plc:a",
            wrong: ["did:plc:a,b", "did:web:" + String(repeating: "a", count: 193)],
            effect: .seen("dids=2", without: nil) { $0.said.firstMatch(of: /dids=[0-9]+/)?.output.description ?? "" }),
        .init(
            name: "STRATOS_ALLOWED_PDS_ENDPOINTS", good: "HTTPS://PDS.One.Example:443/, http://two.example:80",
            inForce: "https://pds.one.example,http://two.example",
            wrong: ["https://pds.example/path", "pds.example", "https://pds.example?a"],
            effect: .seen("servers=2", without: nil) { $0.said.firstMatch(of: /servers=[0-9]+/)?.output.description ?? "" }),
        .init(
            name: "STRATOS_AUTO_ENROLL_DOMAINS", good: "writers, others", inForce: "writers,others", wrong: ["elsewhere", "a/b"],
            effect: .seen("others,writers", without: "general,writers") { try await $0.boundariesOfSomebodyNew().joined(separator: ",") }),
        .init(
            name: "STRATOS_OAUTH_CLIENT_ID", good: "https://given.example/client-metadata.json", wrong: ["client"],
            effect: .seen("https://given.example/client-metadata.json", without: nil) { try await $0.clientMetadata("client_id") }),
        .init(
            name: "STRATOS_OAUTH_CLIENT_SECRET", good: clientKey,
            wrong: ["hidden words", "{\"kty\":\"EC\",\"d\":\"AQ\"}", clientKey.replacing("P-256", with: "secp256k1")], isSecret: true,
            effect: .seen("private_key_jwt", without: "none") { try await $0.clientMetadata("token_endpoint_auth_method") }),
        .init(
            name: "STRATOS_OAUTH_CLIENT_NAME", good: "Stratos \u{e9}", wrong: [String(repeating: "a", count: 201)],
            effect: .seen("Stratos \u{e9}", without: "Stratos Service") { try await $0.clientMetadata("client_name") }),
        .init(
            name: "STRATOS_OAUTH_REDIRECT_URI", good: "https://given.example/back", wrong: ["/oauth/callback"],
            effect: .seen("https://given.example/back", without: nil) { try await $0.clientMetadata("redirect_uris") }),
        .init(
            name: "STRATOS_OAUTH_LOGO_URI", good: "https://given.example/logo.png?size=2", wrong: ["logo.png"],
            effect: .seen("https://given.example/logo.png?size=2", without: "") { try await $0.clientMetadata("logo_uri") }),
        .init(
            name: "STRATOS_OAUTH_TOS_URI", good: "https://given.example/tos", wrong: ["javascript:alert(1)"],
            effect: .seen("https://given.example/tos", without: "") { try await $0.clientMetadata("tos_uri") }),
        .init(
            name: "STRATOS_OAUTH_POLICY_URI", good: "https://given.example/policy", wrong: ["https:///policy"],
            effect: .seen("https://given.example/policy", without: "") { try await $0.clientMetadata("policy_uri") }),
        .init(
            name: "STRATOS_PLC_URL", good: "{directory}/", inForce: "{directory}", wrong: ["plc.directory", "https://plc.directory?a"],
            effect: .seen("200", without: nil) {
                try await String($0.answer("GET", "/xrpc/zone.stratos.audit.listReads", as: Service.alice).status)
            }),
        .init(
            name: "STRATOS_ALLOWED_APPVIEWS", good: " \(SettingsSubject.appView) ,", inForce: SettingsSubject.appView,
            wrong: ["did:web:a.example,b", "did:web:a.example#b"],
            effect: .seen("2", without: "NotEnrolled") { subject in
                let answer = try await subject.ask(
                    "com.atproto.repo.listRecords", [("repo", Service.alice), ("collection", Service.post)], as: SettingsSubject.appView)
                return answer["error"]?.stringValue ?? String(answer["records"]?.arrayValue?.count ?? 0)
            }),
        .init(
            name: "STRATOS_ADMIN_PASSWORD", good: password, wrong: [String(repeating: "p", count: 1025)], isSecret: true,
            effect: .seen("200", without: "401") { subject in
                let basic = "Basic " + Data("ines:\(password)".utf8).base64EncodedString()
                return try await String(
                    subject.answer("GET", "/xrpc/zone.stratos.admin.listEnrollments", authorization: basic).status)
            }),
        .init(
            name: "STRATOS_HYDRATE_BLOCKED", good: "true", wrong: ["yes", "True"],
            effect: .seen("blocked", without: "notFound") { subject in
                let answer = try await subject.ask(
                    "zone.stratos.repo.hydrateRecords", input: ["uris": [subject.hiddenURI]], as: Service.bob)
                return ["records", "notFound", "blocked"].first { answer[$0] == [subject.hiddenURI] } ?? "nowhere"
            }),
        .init(
            name: "STRATOS_MEMBER_PROOFS", good: "true", wrong: ["yes", "0"],
            effect: .seen("200", without: "400") { subject in
                let target = Service.target(
                    "com.atproto.sync.getRecord",
                    [("did", Service.alice), ("collection", Service.post), ("rkey", SettingsSubject.visibleKey)])
                return try await String(subject.answer("GET", target, as: Service.bob).status)
            }),
        .init(
            name: "STRATOS_PUBLIC_ENROLLMENTS", good: "true", wrong: ["all", "false,"],
            effect: .seen("true", without: "false") {
                try await $0.ask("zone.stratos.identity.resolveEnrollments", [("did", Service.bob)])["enrolled"] == true ? "true" : "false"
            }),
        .init(
            name: "STRATOS_IMPORT_MAX_BYTES", good: "1000", wrong: ["0", "256MiB", "-1", "1e6"],
            effect: .seen("CAR file exceeds maximum size of 1000 bytes", without: nil) {
                try await $0.upload([UInt8](repeating: 0, count: 1001), as: Service.alice)["message"]?.stringValue ?? ""
            }),
        .init(
            name: "STRATOS_WRITE_RATE_MAX_WRITES", good: "3", wrong: ["0", "many"],
            effect: .seen("3, not 4", without: "200, not 301") { subject in
                let writer = SettingsSubject.writers[0]
                guard subject.isGiven else {
                    let statuses = [try await subject.writeMany(200, as: writer), try await subject.writeMany(101, as: writer)].map(
                        \.status)
                    return statuses == [200, 429] ? "200, not 301" : "\(statuses)"
                }
                let isLimited = try await !subject.cooldowns().isEmpty
                return try await subject.writeMany(3, as: writer).status == 200 && isLimited ? "3, not 4" : "none"
            }),
        .init(
            name: "STRATOS_WRITE_RATE_WINDOW_MS", good: "300", wrong: ["0", "-1", "1s"],
            effect: .seen("again", without: "not yet") { subject in
                let most = subject.isGiven ? 3 : 200
                guard try await subject.writeMany(most, as: SettingsSubject.writers[1]).status == 200 else { return "never" }
                try await Task.sleep(for: .milliseconds(320))
                return try await subject.writeMany(most, as: SettingsSubject.writers[1]).status == 200 ? "again" : "not yet"
            }),
        .init(
            name: "STRATOS_WRITE_RATE_COOLDOWN_MS", good: "20000", wrong: ["-1", "20 s"],
            effect: .seen("at least 20 seconds", without: nil) {
                try await $0.cooldowns().allSatisfy { $0 >= 20 } ? "at least 20 seconds" : "less"
            }),
        .init(
            name: "STRATOS_WRITE_RATE_COOLDOWN_JITTER_MS", good: "3600000", wrong: ["-1", "86400001"],
            effect: .seen("up to an hour more", without: nil) {
                let cooldowns = try await $0.cooldowns()
                return cooldowns.contains { $0 > 21 } && cooldowns.allSatisfy { $0 <= 3621 } ? "up to an hour more" : "\(cooldowns)"
            }),
    ]

    private static let streams: [SettingRow] = [
        .init(
            name: "STRATOS_SYNC_TOKEN", good: "a sync token", wrong: [String(repeating: "t", count: 1025)], isSecret: true,
            effect: .seen("#enrollment", without: "AuthenticationRequired") { subject in
                try await subject.follow(syncToken: "a sync token") { stream in
                    guard case .message(let message) = try stream.next() else { return "nothing" }
                    return message.type ?? message.error ?? ""
                }
            }),
        .init(
            name: "STRATOS_RETENTION_DAYS", good: "007", inForce: "7", wrong: ["0", "36501"],
            effect: .seen("create, update", without: nil) { subject in
                try await subject.rewrite(SettingsSubject.visibleKey)
                return try await subject.follow(SettingsSubject.visibleKey, as: Service.alice)
            }),
        .init(
            name: "STRATOS_STREAM_CONNECTIONS_MAX", good: "2", wrong: ["0"],
            effect: .seen("2, not 3", without: nil) { subject in
                try await Task.sleep(for: .milliseconds(300))  // Until the places of those before are free.
                return try await subject.follow { first in
                    _ = try first.messages(1)
                    return try first.another { second in
                        _ = try second.messages(1)
                        return try second.another { third in try third.end().code == 1013 ? "2, not 3" : "3" }
                    }
                }
            }),
        .init(
            name: "STRATOS_STREAM_IDLE_SECONDS", good: "2", wrong: ["0.5"],
            effect: .seen("asked after one second", without: nil) { subject in
                try await subject.follow { stream in
                    let began = ContinuousClock.now
                    while try stream.frame().opcode != 0x9 {}
                    let passed = ContinuousClock.now - began
                    return passed > .milliseconds(700) && passed < .seconds(10) ? "asked after one second" : "\(passed)"
                }
            }),
    ]

    private static func unused(_ name: String, _ good: String, inForce: String? = nil, wrong: String..., isSecret: Bool = false)
        -> SettingRow
    {
        SettingRow(name: name, good: good, inForce: inForce, wrong: wrong, isSecret: isSecret, effect: .unused)
    }

    private static let unused: [SettingRow] = [
        unused(
            "STRATOS_POSTGRES_URL", "postgres://stratos:p%40ss%2Fw%25rd@db-1.example.com:5432,db-2.example.com/stratos?sslmode=require",
            wrong: "postgres://u:p@ss@db.example.com/d", "postgres://u:a%zz@db.example.com/d", "postgres://u:p/w@db.example.com/d",
            "postgres://db.example.com", "mysql://u:hidden@db.example.com/d", "postgres://u:hidden pass@h/d", isSecret: true),
        unused(
            "STRATOS_PG_HOST", "DB.example.com", inForce: "db.example.com", wrong: "db.example.com:5432", "https://db.example.com", "a,b"),
        unused("STRATOS_PG_PORT", "6432", wrong: "0", "65536"),
        unused("STRATOS_PG_USERNAME", "stratos \u{e9}", wrong: String(repeating: "a", count: 64)),
        unused("STRATOS_PG_PASSWORD", " p@ss/w%rd:\u{e9} ", wrong: String(repeating: "p", count: 1025), isSecret: true),
        unused("STRATOS_PG_DBNAME", "stratos2", wrong: String(repeating: "a", count: 64), "a\nb"),
        unused("STRATOS_PG_ACTOR_POOL_SIZE", "20", wrong: "0", "10001"),
        unused("STRATOS_PG_ADMIN_POOL_SIZE", "3", wrong: "-3"),
        unused("STRATOS_BLOB_STORAGE", "local", wrong: "s3", "disk"),
        unused("STRATOS_S3_BUCKET", "my-stratos.blobs", wrong: "My_Bucket", String(repeating: "a", count: 64)),
        unused("STRATOS_S3_REGION", "us-east-1", wrong: "us east"),
        unused("STRATOS_S3_ENDPOINT", "http://MinIO.local:9000/", inForce: "http://minio.local:9000", wrong: "minio.local:9000"),
        unused("STRATOS_S3_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE", wrong: "AKIA hidden", isSecret: true),
        unused("STRATOS_S3_SECRET_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", wrong: "wJalr\u{e9}hidden", isSecret: true),
        unused("STRATOS_LOG_PUBLIC", "true", wrong: "yes"),
    ]
}
