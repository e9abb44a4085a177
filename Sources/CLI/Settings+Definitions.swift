/// One environment variable of the service: its exact name, its default, and what is allowed.
struct SettingDefinition: Sendable {
    enum State: String, Sendable {
        /// The service does what it says.
        case used
        /// It belongs to a part that this release does not have; it is parsed and listed, and changes nothing. Where that would be
        /// unsafe, its rule refuses what the release cannot do.
        case unused
    }

    enum Secrecy: Sendable {
        case open
        /// Never shown.
        case secret
        /// The same, and of any characters: it is what it is, to the last space.
        case password
    }

    let name: String
    var defaultText: String?
    var isRequired = false
    var secrecy = Secrecy.open
    var state = State.used
    let rule: SettingRule
}

extension Settings {
    static let definitions = service + storage + enrollment + callers + limits + streams + later

    private typealias Rules = SettingRules

    private static let service: [SettingDefinition] = [
        .init(name: "STRATOS_SERVICE_DID", isRequired: true, rule: Rules.serviceDID),
        .init(name: "STRATOS_PUBLIC_URL", isRequired: true, rule: Rules.url),
        .init(name: "STRATOS_ALLOWED_DOMAINS", isRequired: true, rule: Rules.names),
        .init(name: "STRATOS_PORT", defaultText: "3100", rule: Rules.integer(1...65535)),
        .init(name: "STRATOS_SERVICE_FRAGMENT", defaultText: "atproto_pns", rule: Rules.bareName),
        .init(name: "STRATOS_SIGNING_KEY_HEX", secrecy: .secret, rule: Rules.keyHex),
        .init(name: "STRATOS_LOG_LEVEL", defaultText: "info", rule: Rules.logLevel),
        .init(name: "LOG_LEVEL", rule: Rules.logLevel),
        .init(name: "STRATOS_DEV_MODE", defaultText: "false", rule: Rules.boolean),
        .init(name: "STRATOS_REPO_URL", rule: Rules.page),
        .init(name: "STRATOS_OPERATOR_CONTACT", rule: Rules.headerText),
    ]

    private static let storage: [SettingDefinition] = [
        .init(name: "STRATOS_DATA_DIR", defaultText: "./data", rule: Rules.line(bytesMax: 4000, "a path")),
        .init(name: "STORAGE_BACKEND", defaultText: "sqlite", rule: Rules.oneOf("sqlite", later: "postgres")),
        .init(name: "STRATOS_POSTGRES_URL", secrecy: .secret, state: .unused, rule: Rules.databaseURL),
        .init(name: "STRATOS_PG_HOST", state: .unused, rule: Rules.databaseHost),
        .init(name: "STRATOS_PG_PORT", defaultText: "5432", state: .unused, rule: Rules.integer(1...65535)),
        .init(name: "STRATOS_PG_USERNAME", defaultText: "stratos", state: .unused, rule: Rules.line(bytesMax: 63, "a name")),
        .init(name: "STRATOS_PG_PASSWORD", secrecy: .password, state: .unused, rule: Rules.password),
        .init(name: "STRATOS_PG_DBNAME", defaultText: "stratos", state: .unused, rule: Rules.line(bytesMax: 63, "a name")),
        .init(name: "STRATOS_PG_ACTOR_POOL_SIZE", state: .unused, rule: Rules.integer(1...10_000)),
        .init(name: "STRATOS_PG_ADMIN_POOL_SIZE", state: .unused, rule: Rules.integer(1...10_000)),
        .init(name: "STRATOS_BLOB_STORAGE", defaultText: "local", state: .unused, rule: Rules.oneOf("local", later: "s3")),
        .init(
            name: "STRATOS_S3_BUCKET", state: .unused,
            rule: Rules.ascii(bytesMax: 63, "up to 63 characters of a–z 0–9 . -") { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
            }),
        .init(name: "STRATOS_S3_REGION", state: .unused, rule: Rules.bareName),
        .init(name: "STRATOS_S3_ENDPOINT", state: .unused, rule: Rules.url),
        .init(name: "STRATOS_S3_ACCESS_KEY", secrecy: .secret, state: .unused, rule: Self.s3Key),
        .init(name: "STRATOS_S3_SECRET_KEY", secrecy: .secret, state: .unused, rule: Self.s3Key),
    ]

    private static let s3Key = Rules.ascii(bytesMax: 256, "up to 256 characters of ASCII without spaces") { (0x21...0x7E).contains($0) }

    private static let enrollment: [SettingDefinition] = [
        .init(name: "STRATOS_ENROLLMENT_MODE", defaultText: "allowlist", rule: Rules.oneOf("open", "allowlist")),
        .init(name: "STRATOS_ALLOWED_DIDS", rule: Rules.list(Rules.enrolledDID)),
        .init(name: "STRATOS_ALLOWED_PDS_ENDPOINTS", rule: Rules.list(Rules.origin)),
        .init(name: "STRATOS_AUTO_ENROLL_DOMAINS", rule: Rules.names),
        .init(name: "STRATOS_OAUTH_CLIENT_ID", rule: Rules.page),
        .init(name: "STRATOS_OAUTH_CLIENT_SECRET", secrecy: .secret, rule: Rules.clientSecret),
        .init(name: "STRATOS_OAUTH_CLIENT_NAME", rule: Rules.line(bytesMax: 200, "a name")),
        .init(name: "STRATOS_OAUTH_REDIRECT_URI", rule: Rules.page),
        .init(name: "STRATOS_OAUTH_LOGO_URI", rule: Rules.page),
        .init(name: "STRATOS_OAUTH_TOS_URI", rule: Rules.page),
        .init(name: "STRATOS_OAUTH_POLICY_URI", rule: Rules.page),
    ]

    private static let callers: [SettingDefinition] = [
        .init(name: "STRATOS_PLC_URL", defaultText: "https://plc.directory", rule: Rules.url),
        .init(name: "STRATOS_ALLOWED_APPVIEWS", rule: Rules.list(Rules.did)),
        .init(name: "STRATOS_ADMIN_PASSWORD", secrecy: .password, rule: Rules.password),
        .init(name: "STRATOS_HYDRATE_BLOCKED", defaultText: "false", rule: Rules.boolean),
        .init(name: "STRATOS_MEMBER_PROOFS", defaultText: "false", rule: Rules.boolean),
        .init(name: "STRATOS_PUBLIC_ENROLLMENTS", defaultText: "false", rule: Rules.boolean),
    ]

    private static let limits: [SettingDefinition] = [
        .init(name: "STRATOS_IMPORT_MAX_BYTES", defaultText: "268435456", rule: Rules.integer(1...(1 << 40))),
        .init(name: "STRATOS_WRITE_RATE_MAX_WRITES", defaultText: "300", rule: Rules.integer(1...1_000_000_000)),
        .init(name: "STRATOS_WRITE_RATE_WINDOW_MS", defaultText: "60000", rule: Rules.integer(1...86_400_000)),
        .init(name: "STRATOS_WRITE_RATE_COOLDOWN_MS", defaultText: "10000", rule: Rules.integer(0...86_400_000)),
        .init(name: "STRATOS_WRITE_RATE_COOLDOWN_JITTER_MS", defaultText: "1000", rule: Rules.integer(0...86_400_000)),
    ]

    private static let streams: [SettingDefinition] = [
        .init(name: "STRATOS_SYNC_TOKEN", secrecy: .password, rule: Rules.password),
        .init(name: "STRATOS_RETENTION_DAYS", defaultText: "30", rule: Rules.integer(1...36_500)),
        .init(name: "STRATOS_STREAM_CONNECTIONS_MAX", defaultText: "2000", rule: Rules.integer(1...1_000_000)),
        .init(name: "STRATOS_STREAM_IDLE_SECONDS", defaultText: "60", rule: Rules.integer(1...86_400)),
    ]

    /// Of parts that are not in this release: the log in public.
    private static let later: [SettingDefinition] = [
        .init(name: "STRATOS_LOG_PUBLIC", defaultText: "false", state: .unused, rule: Rules.boolean)
    ]
}
