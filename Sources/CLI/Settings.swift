import ATProto
import Authorization
import Commands
import Keys
import Logging
import Server

/// A setting that cannot be used. The text names the variable, its value (unless secret) and what is allowed.
struct SettingsError: Error, CustomStringConvertible {
    let description: String
}

/// The service's settings: every variable of the configuration document under its exact name and default, parsed strictly
/// (`SettingRules`) and brought into one form.
struct Settings: Sendable {
    /// The variables with the text in force and where it came from.
    let texts: [String: (text: String?, source: String)]
    /// Variables that are named like settings and are none of this release.
    let unknown: [String]

    init(environment: [String: String]) throws(SettingsError) {
        var texts: [String: (String?, String)] = [:]
        for definition in Self.definitions {
            let text = environment[definition.name].map { definition.secrecy == .password ? $0 : $0[...].trimmed }
            var inForce = definition.defaultText
            let given = text.flatMap { $0.isEmpty ? nil : $0 }
            if let given {
                do throws(NotAllowed) {
                    // Bytes that are no UTF-8 have become this by now: a password would not be the one that was meant.
                    guard !given.unicodeScalars.contains("\u{FFFD}") else { throw NotAllowed("text in UTF-8") }
                    inForce = try definition.rule(given)
                } catch {
                    throw SettingsError(
                        description: "\(definition.name)=\(Self.shown(given, of: definition)) is not allowed: \(error.allowed)")
                }
            }
            texts[definition.name] = (inForce, given == nil ? (definition.defaultText == nil ? "unset" : "default") : "environment")
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
        (text(name) ?? "").split(separator: ",").map(String.init)
    }

    private func integer(_ name: String) -> Int { Int(text(name)!)! }  // `init` let nothing else through.

    var serviceDID: DID? { text("STRATOS_SERVICE_DID").flatMap { try? DID($0) } }
    var publicURL: String? { text("STRATOS_PUBLIC_URL") }
    var allowedDomains: [String] { list("STRATOS_ALLOWED_DOMAINS") }
    var autoEnrollDomains: [String] { list("STRATOS_AUTO_ENROLL_DOMAINS") }
    /// Who may come in of their own accord. Origins stand here in the form that `WebOrigin` gives them.
    var enrollmentTerms: EnrollmentTerms {
        EnrollmentTerms(
            mode: EnrollmentTerms.Mode(rawValue: text("STRATOS_ENROLLMENT_MODE")!)!,  // `init` let nothing else through.
            dids: Set(list("STRATOS_ALLOWED_DIDS").compactMap { try? DID($0) }), pdsOrigins: Set(list("STRATOS_ALLOWED_PDS_ENDPOINTS")))
    }
    var port: Int { integer("STRATOS_PORT") }
    var serviceFragment: String { text("STRATOS_SERVICE_FRAGMENT")! }
    var dataDirectory: String { text("STRATOS_DATA_DIR")! }
    var signingKeyHex: String? { text("STRATOS_SIGNING_KEY_HEX") }
    var plcURL: String { text("STRATOS_PLC_URL")! }
    var appViews: Set<DID> { Set(list("STRATOS_ALLOWED_APPVIEWS").compactMap { try? DID($0) }) }  // `init` let nothing else through.
    var adminPassword: String? { text("STRATOS_ADMIN_PASSWORD") }
    var syncToken: SyncToken? { text("STRATOS_SYNC_TOKEN").map(SyncToken.init) }
    var retentionDays: Int { integer("STRATOS_RETENTION_DAYS") }
    var streamLimits: StreamLimits {
        StreamLimits(connectionsMax: integer("STRATOS_STREAM_CONNECTIONS_MAX"), idle: .seconds(integer("STRATOS_STREAM_IDLE_SECONDS")))
    }
    var hydrateTellsBlocked: Bool { text("STRATOS_HYDRATE_BLOCKED") == "true" }
    var membersGetProofs: Bool { text("STRATOS_MEMBER_PROOFS") == "true" }
    var enrollmentsArePublic: Bool { text("STRATOS_PUBLIC_ENROLLMENTS") == "true" }

    /// Who the service at `publicURL` is to authorization servers.
    func oauthIdentity(publicURL: String) -> OAuthIdentity {
        OAuthIdentity(
            publicURL: publicURL, id: text("STRATOS_OAUTH_CLIENT_ID"), redirectURI: text("STRATOS_OAUTH_REDIRECT_URI"),
            secret: text("STRATOS_OAUTH_CLIENT_SECRET").flatMap { try? ClientSecret.key($0) },  // `init` let nothing else through.
            presentation: OAuthIdentity.Presentation(
                name: text("STRATOS_OAUTH_CLIENT_NAME"), logoURI: text("STRATOS_OAUTH_LOGO_URI"), termsURI: text("STRATOS_OAUTH_TOS_URI"),
                policyURI: text("STRATOS_OAUTH_POLICY_URI")))
    }

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
            let shown: Value = text.map { .string(definition.secrecy == .open ? $0 : "********") } ?? .null
            listing[definition.name] = .map([
                "value": shown, "source": .string(source), "state": .string(definition.state.rawValue),
            ])
        }
        return .map(listing)
    }

    /// A value that was refused, in quotes, as a human may see it: short, on one line, and without what may be a password.
    private static func shown(_ text: String, of definition: SettingDefinition) -> String {
        guard definition.secrecy == .open else { return "(secret)" }
        var shown = text
        if let scheme = shown.firstRange(of: "://"), let at = shown.lastIndex(of: "@"), scheme.upperBound < at {
            shown.replaceSubrange(scheme.upperBound..<at, with: "********")
        }
        return String(reflecting: String(shown.prefix(200))) + (shown.count > 200 ? "…" : "")
    }
}
