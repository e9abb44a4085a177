import ATProto
import Commands
import Keys
import Logging
import Server

/// One environment variable of the service: its exact name, its default, and what is allowed.
struct SettingDefinition: Sendable {
    enum State: String, Sendable {
        /// The service does what it says.
        case used
        /// It belongs to a part that this release does not have; it is parsed and listed, and changes nothing.
        case unused
    }

    let name: String
    var defaultText: String?
    var isRequired = false
    var isSecret = false
    /// A secret of any characters.
    var isPassword = false
    var state = State.used
    /// Says what is allowed, where a text is not.
    let refuse: @Sendable (String) -> String?
}

/// A setting that cannot be used. The text names the variable, its value (unless secret) and what is allowed.
struct SettingsError: Error, CustomStringConvertible {
    let description: String
}

/// The service's settings: every variable of the configuration document under its exact name and default, parsed strictly.
struct Settings: Sendable {
    /// The variables with the text in force and where it came from.
    let texts: [String: (text: String?, source: String)]
    /// Variables that are named like settings and are none of this release.
    let unknown: [String]

    init(environment: [String: String]) throws(SettingsError) {
        var texts: [String: (String?, String)] = [:]
        for definition in Self.definitions {
            // A password is what it is, to the last space.
            let text = environment[definition.name].map { definition.isPassword ? $0 : Self.trimmed($0[...]) }
            let given = text.flatMap { $0.isEmpty ? nil : $0 }
            if let given, let allowed = definition.refuse(given) {
                let shown = definition.isSecret ? "(secret)" : "\"\(given)\""
                throw SettingsError(description: "\(definition.name)=\(shown) is not allowed: \(allowed)")
            }
            texts[definition.name] = (
                given ?? definition.defaultText, given == nil ? (definition.defaultText == nil ? "unset" : "default") : "environment"
            )
        }
        self.texts = texts
        let names = Set(Self.definitions.map(\.name))
        unknown = environment.keys.filter { $0.hasPrefix("STRATOS_") && !names.contains($0) }.sorted()
        let notAllowed = autoEnrollDomains.filter { !allowedDomains.contains($0) }
        guard allowedDomains.isEmpty || notAllowed.isEmpty else {
            throw SettingsError(
                description:
                    "STRATOS_AUTO_ENROLL_DOMAINS names what STRATOS_ALLOWED_DOMAINS does not: \(notAllowed.joined(separator: ", "))")
        }
    }

    private func text(_ name: String) -> String? { texts[name]!.text }

    private func list(_ name: String) -> [String] {
        (text(name) ?? "").split(separator: ",").map(Self.trimmed).filter { !$0.isEmpty }
    }

    private func integer(_ name: String) -> Int { Int(text(name)!)! }  // `init` let nothing else through.

    var serviceDID: DID? { text("STRATOS_SERVICE_DID").flatMap { try? DID($0) } }
    var publicURL: String? { text("STRATOS_PUBLIC_URL").map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 } }
    var allowedDomains: [String] { list("STRATOS_ALLOWED_DOMAINS") }
    var autoEnrollDomains: [String] { list("STRATOS_AUTO_ENROLL_DOMAINS") }
    var port: Int { integer("STRATOS_PORT") }
    var serviceFragment: String { text("STRATOS_SERVICE_FRAGMENT")! }
    var dataDirectory: String { text("STRATOS_DATA_DIR")! }
    var signingKeyHex: String? { text("STRATOS_SIGNING_KEY_HEX") }
    var plcURL: String { text("STRATOS_PLC_URL")! }
    var appViews: Set<DID> { Set(list("STRATOS_ALLOWED_APPVIEWS").compactMap { try? DID($0) }) }  // `init` let nothing else through.
    var adminPassword: String? { text("STRATOS_ADMIN_PASSWORD") }
    var hydrateTellsBlocked: Bool { text("STRATOS_HYDRATE_BLOCKED") == "true" }
    var membersGetProofs: Bool { text("STRATOS_MEMBER_PROOFS") == "true" }
    var enrollmentsArePublic: Bool { text("STRATOS_PUBLIC_ENROLLMENTS") == "true" }

    /// What other servers see of us: `Stratos/VERSION (+URL; CONTACT)`.
    func userAgent(version: String) -> String {
        "Stratos/\(version) (+\(text("STRATOS_REPO_URL") ?? publicURL ?? "unknown"); \(text("STRATOS_OPERATOR_CONTACT") ?? "unknown"))"
    }
    var importBytesMax: Int { integer("STRATOS_IMPORT_MAX_BYTES") }
    var writeRate: WriteRate {
        WriteRate(
            writesMax: integer("STRATOS_WRITE_RATE_MAX_WRITES"), window: .milliseconds(integer("STRATOS_WRITE_RATE_WINDOW_MS")),
            cooldown: .milliseconds(integer("STRATOS_WRITE_RATE_COOLDOWN_MS")),
            jitter: .milliseconds(integer("STRATOS_WRITE_RATE_COOLDOWN_JITTER_MS")))
    }
    var isDevelopment: Bool { text("STRATOS_DEV_MODE") == "true" }

    var logLevel: Logger.Level {
        let name =
            texts["STRATOS_LOG_LEVEL"]!.source == "environment" ? text("STRATOS_LOG_LEVEL") : text("LOG_LEVEL") ?? text("STRATOS_LOG_LEVEL")
        return switch name {
        case "fatal", "silent": .critical
        case "error": .error
        case "warn": .warning
        case "debug": .debug
        case "trace": .trace
        default: .info
        }
    }

    /// The settings that a new deployment cannot do without and that are not there.
    var missing: [String] {
        Self.definitions.filter { $0.isRequired && texts[$0.name]!.text == nil }.map(\.name)
    }

    /// The variables that were given and change nothing, as this release lacks the part that they belong to.
    var unused: [String] {
        Self.definitions.filter { $0.state == .unused && texts[$0.name]!.source == "environment" }.map(\.name)
    }

    /// What `stratos config` prints: `{NAME: {value, source, state}}`, secrets masked.
    var listing: Value {
        var listing = ValueMap()
        for definition in Self.definitions {
            let (text, source) = texts[definition.name]!
            let shown: Value = text.map { .string(definition.isSecret ? "********" : $0) } ?? .null
            listing[definition.name] = .map([
                "value": shown, "source": .string(source), "state": .string(definition.state.rawValue),
            ])
        }
        return .map(listing)
    }

    private static func trimmed(_ text: Substring) -> String {
        var text = text
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}

extension Settings {
    static let definitions: [SettingDefinition] = [
        .init(name: "STRATOS_SERVICE_DID", isRequired: true, refuse: serviceDIDText),
        .init(name: "STRATOS_PUBLIC_URL", isRequired: true, refuse: url),
        .init(name: "STRATOS_ALLOWED_DOMAINS", isRequired: true, refuse: names),
        .init(name: "STRATOS_PORT", defaultText: "3100", refuse: integer(1...65535)),
        .init(name: "STRATOS_SERVICE_FRAGMENT", defaultText: "atproto_pns", refuse: fragment),
        .init(name: "STRATOS_DATA_DIR", defaultText: "./data", refuse: { _ in nil }),
        .init(name: "STORAGE_BACKEND", defaultText: "sqlite", refuse: oneOf("sqlite", later: "postgres")),
        .init(name: "STRATOS_POSTGRES_URL", isSecret: true, state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_PG_HOST", state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_PG_PORT", defaultText: "5432", state: .unused, refuse: integer(1...65535)),
        .init(name: "STRATOS_PG_USERNAME", defaultText: "stratos", state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_PG_PASSWORD", isSecret: true, isPassword: true, state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_PG_DBNAME", defaultText: "stratos", state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_PG_ACTOR_POOL_SIZE", state: .unused, refuse: integer(1...10_000)),
        .init(name: "STRATOS_PG_ADMIN_POOL_SIZE", state: .unused, refuse: integer(1...10_000)),
        .init(name: "STRATOS_BLOB_STORAGE", defaultText: "local", refuse: oneOf("local", later: "s3")),
        .init(name: "STRATOS_S3_BUCKET", state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_S3_REGION", state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_S3_ENDPOINT", state: .unused, refuse: url),
        .init(name: "STRATOS_S3_ACCESS_KEY", isSecret: true, state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_S3_SECRET_KEY", isSecret: true, state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_ENROLLMENT_MODE", defaultText: "allowlist", state: .unused, refuse: oneOf("open", "allowlist")),
        .init(name: "STRATOS_ALLOWED_DIDS", state: .unused, refuse: dids),
        .init(name: "STRATOS_ALLOWED_PDS_ENDPOINTS", state: .unused, refuse: urls),
        .init(name: "STRATOS_AUTO_ENROLL_DOMAINS", refuse: names),
        .init(name: "STRATOS_PLC_URL", defaultText: "https://plc.directory", refuse: url),
        .init(name: "STRATOS_OAUTH_CLIENT_ID", state: .unused, refuse: url),
        .init(name: "STRATOS_OAUTH_REDIRECT_URI", state: .unused, refuse: url),
        .init(name: "STRATOS_ALLOWED_APPVIEWS", refuse: dids),
        .init(name: "STRATOS_SIGNING_KEY_HEX", isSecret: true, refuse: keyHex),
        .init(name: "STRATOS_IMPORT_MAX_BYTES", defaultText: "268435456", refuse: integer(1...(1 << 40))),
        .init(name: "STRATOS_WRITE_RATE_MAX_WRITES", defaultText: "300", refuse: integer(1...1_000_000_000)),
        .init(name: "STRATOS_WRITE_RATE_WINDOW_MS", defaultText: "60000", refuse: integer(1...86_400_000)),
        .init(name: "STRATOS_WRITE_RATE_COOLDOWN_MS", defaultText: "10000", refuse: integer(0...86_400_000)),
        .init(name: "STRATOS_WRITE_RATE_COOLDOWN_JITTER_MS", defaultText: "1000", refuse: integer(0...86_400_000)),
        .init(name: "STRATOS_LOG_LEVEL", defaultText: "info", refuse: logLevel),
        .init(name: "LOG_LEVEL", refuse: logLevel),
        .init(name: "STRATOS_DEV_MODE", defaultText: "false", refuse: oneOf("true", "false")),
        .init(name: "STRATOS_ADMIN_PASSWORD", isSecret: true, isPassword: true, refuse: { _ in nil }),
        .init(name: "STRATOS_SYNC_TOKEN", isSecret: true, isPassword: true, state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_RETENTION_DAYS", defaultText: "30", state: .unused, refuse: integer(1...36_500)),
        .init(name: "STRATOS_HYDRATE_BLOCKED", defaultText: "false", refuse: oneOf("true", "false")),
        .init(name: "STRATOS_MEMBER_PROOFS", defaultText: "false", refuse: oneOf("true", "false")),
        .init(name: "STRATOS_PUBLIC_ENROLLMENTS", defaultText: "false", refuse: oneOf("true", "false")),
        .init(name: "STRATOS_STREAM_CONNECTIONS_MAX", defaultText: "2000", state: .unused, refuse: integer(1...1_000_000)),
        .init(name: "STRATOS_STREAM_IDLE_SECONDS", defaultText: "60", state: .unused, refuse: integer(1...86_400)),
        .init(name: "STRATOS_OAUTH_CLIENT_SECRET", isSecret: true, state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_OAUTH_CLIENT_NAME", state: .unused, refuse: { _ in nil }),
        .init(name: "STRATOS_OAUTH_LOGO_URI", state: .unused, refuse: url),
        .init(name: "STRATOS_OAUTH_TOS_URI", state: .unused, refuse: url),
        .init(name: "STRATOS_OAUTH_POLICY_URI", state: .unused, refuse: url),
        .init(name: "STRATOS_REPO_URL", refuse: url),
        .init(name: "STRATOS_OPERATOR_CONTACT", refuse: headerText),
    ]

    @Sendable private static func serviceDIDText(_ text: String) -> String? {
        guard (try? DID(text)) != nil, text.utf8.count <= 188 else {
            return "a DID of at most 188 bytes, such as did:web:stratos.example.com"
        }
        return nil
    }

    @Sendable private static func headerText(_ text: String) -> String? {
        text.utf8.count <= 200 && text.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) ? nil : "up to 200 characters of ASCII"
    }

    @Sendable private static func url(_ text: String) -> String? {
        let rest = text.hasPrefix("https://") ? text.dropFirst(8) : text.hasPrefix("http://") ? text.dropFirst(7) : ""
        guard let first = rest.first, first != "/", !text.contains(where: { $0.isWhitespace || $0 == "?" || $0 == "#" || $0 == "@" }) else {
            return "an http or https URL without credentials, query or fragment"
        }
        return nil
    }

    @Sendable private static func urls(_ text: String) -> String? {
        text.split(separator: ",").map(trimmed).compactMap(url).first.map { "a list, separated by commas, of: \($0)" }
    }

    @Sendable private static func dids(_ text: String) -> String? {
        text.split(separator: ",").map(trimmed).allSatisfy { (try? DID($0)) != nil } ? nil : "a list of DIDs, separated by commas"
    }

    @Sendable private static func names(_ text: String) -> String? {
        let names = text.split(separator: ",").map(trimmed)
        guard !names.isEmpty, names.allSatisfy(BoundaryName.isBare) else {
            return "a list, separated by commas, of bare names of 1 to 64 characters of A–Z a–z 0–9 . _ -"
        }
        return nil
    }

    @Sendable private static func fragment(_ text: String) -> String? {
        BoundaryName.isBare(text) ? nil : "1 to 64 characters of A–Z a–z 0–9 . _ -"
    }

    @Sendable private static func keyHex(_ text: String) -> String? {
        let isHex = text.utf8.count == 64 && text.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit })
        guard isHex, (try? PrivateKey(curve: .k256, rawBytes: Hex.decode(text))) != nil else {
            return "64 hexadecimal digits, a secp256k1 private key (not zero, and below the order of the curve)"
        }
        return nil
    }

    @Sendable private static func logLevel(_ text: String) -> String? {
        ["fatal", "error", "warn", "info", "debug", "trace", "silent"].contains(text)
            ? nil : "one of fatal, error, warn, info, debug, trace, silent"
    }

    private static func integer(_ range: ClosedRange<Int>) -> @Sendable (String) -> String? {
        { text in Int(text).map(range.contains) == true ? nil : "a whole number from \(range.lowerBound) to \(range.upperBound)" }
    }

    private static func oneOf(_ allowed: String..., later: String? = nil) -> @Sendable (String) -> String? {
        { text in
            if text == later { return "\(text) is not in this release; allowed: \(allowed.joined(separator: ", "))" }
            return allowed.contains(text) ? nil : "one of \(allowed.joined(separator: ", "))"
        }
    }
}
