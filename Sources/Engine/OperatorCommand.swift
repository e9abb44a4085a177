package import ATProto
import Projections

/// What the operator asks for on the machine itself, through the program. A command runs in the process that has the data
/// directory open: the program itself, or the running server, which it reaches through `stratos.sock`. The text form, one line
/// of JSON, is what travels through the socket.
package enum OperatorCommand: Hashable, Sendable {
    /// Boundaries are bare or qualified names; none given: the service's default for new members.
    case enroll(did: DID, boundaries: [String], pds: String?)
    case unenroll(did: DID, keepsContent: Bool)
    /// Gives a member a new commit key.
    case rekey(did: DID)
    case changeBoundaries(did: DID, BoundaryChange)
    case boundaries(did: DID)
    case enrollments
    case auditReads(did: DID)
    case importRepo(did: DID, path: String, options: ImportOptions)
    case export(did: DID)
    case get(uri: ATURI)
    case usage(did: DID?)
    case digest(actor: DID?, until: UInt64?)
    case rebuild(actor: DID?)
    case dropProjections
    case verify(actor: DID?, signatures: Bool)
    case logShow(did: DID, after: UInt64, limit: Int)
    case logTail(count: Int, follow: Bool)
    case logStatistics
    case reactors

    /// Whether the command may append to the log: then it needs the service's key, and begins a log where there is none. What only
    /// folds the log again signs nothing.
    package var appends: Bool {
        switch self {
        case .enroll, .unenroll, .rekey, .changeBoundaries, .importRepo: true
        case .boundaries, .enrollments, .auditReads, .rebuild, .dropProjections, .export, .get, .usage, .digest, .verify, .logShow,
            .logTail, .logStatistics, .reactors:
            false
        }
    }
}

package struct ImportOptions: Hashable, Sendable {
    /// Hosts records of any collection, for their owner alone.
    package var allowsForeignCollections = false
    /// Takes another service's boundaries off the records, which makes them their owner's alone.
    package var dropsForeignBoundaries = false
    /// The key that must have signed the source's commit, as a did:key.
    package var verifyingKey: String?

    package init(allowsForeignCollections: Bool = false, dropsForeignBoundaries: Bool = false, verifyingKey: String? = nil) {
        self.allowsForeignCollections = allowsForeignCollections
        self.dropsForeignBoundaries = dropsForeignBoundaries
        self.verifyingKey = verifyingKey
    }
}

/// What a command gives while it runs.
package enum OperatorOutput: Hashable, Sendable {
    /// One JSON object for standard output.
    case object(Value)
    /// Bytes for standard output or for the file that the caller named.
    case bytes([UInt8])
    case progress(done: Int, of: Int?)
}

/// How a command ended: the program's exit code (0 fine, 1 problems found or refused by a rule, 2 usage or settings, 3 could not),
/// and for everything but 0 what is to be said.
package struct OperatorFailure: Error, Hashable, Sendable {
    package let exitCode: Int32
    /// A short name such as `NotEnrolled`.
    package let name: String
    package let message: String

    package init(exitCode: Int32, name: String, message: String) {
        self.exitCode = exitCode
        self.name = name
        self.message = message
    }
}

extension OperatorCommand {
    package var encoded: Value {
        switch self {
        case .enroll(let did, let boundaries, let pds):
            Self.line(
                "enroll", ["did": .string(did.description), "boundaries": .array(boundaries.map(Value.string)), "pds": .optional(pds)])
        case .unenroll(let did, let keepsContent):
            Self.line("unenroll", ["did": .string(did.description), "keepContent": .bool(keepsContent)])
        case .rekey(let did): Self.line("rekey", ["did": .string(did.description)])
        case .changeBoundaries(let did, let change):
            Self.line(
                "changeBoundaries",
                ["did": .string(did.description), "change": .string(change.name), "names": .array(change.names.map(Value.string))])
        case .boundaries(let did): Self.line("boundaries", ["did": .string(did.description)])
        case .enrollments: Self.line("enrollments", [:])
        case .auditReads(let did): Self.line("auditReads", ["did": .string(did.description)])
        case .importRepo(let did, let path, let options):
            Self.line(
                "import",
                [
                    "did": .string(did.description), "path": .string(path),
                    "allowForeignCollections": .bool(options.allowsForeignCollections),
                    "dropForeignBoundaries": .bool(options.dropsForeignBoundaries), "verifyKey": .optional(options.verifyingKey),
                ])
        case .export(let did): Self.line("export", ["did": .string(did.description)])
        case .get(let uri): Self.line("get", ["uri": .string(uri.description)])
        case .usage(let did): Self.line("usage", ["did": .optional(did?.description)])
        case .digest(let actor, let until):
            Self.line("digest", ["actor": .optional(actor?.description), "until": until.map { .integer(Int64(clamping: $0)) } ?? .null])
        case .rebuild(let actor): Self.line("rebuild", ["actor": .optional(actor?.description)])
        case .dropProjections: Self.line("dropProjections", [:])
        case .verify(let actor, let signatures):
            Self.line("verify", ["actor": .optional(actor?.description), "signatures": .bool(signatures)])
        case .logShow(let did, let after, let limit):
            Self.line(
                "logShow", ["did": .string(did.description), "after": .integer(Int64(clamping: after)), "limit": .integer(Int64(limit))])
        case .logTail(let count, let follow): Self.line("logTail", ["count": .integer(Int64(count)), "follow": .bool(follow)])
        case .logStatistics: Self.line("logStatistics", [:])
        case .reactors: Self.line("reactors", [:])
        }
    }

    private static func line(_ command: String, _ fields: ValueMap) -> Value {
        var fields = fields
        fields["command"] = .string(command)
        return .map(fields)
    }

    /// Reads a line that came through the socket; nil for anything that `encoded` does not write.
    package init?(_ value: Value) {
        func did(_ key: String) -> DID? { value[key]?.stringValue.flatMap { try? DID($0) } }
        func number(_ key: String) -> Int64? { value[key]?.integerValue.flatMap { $0 >= 0 ? $0 : nil } }
        switch value["command"]?.stringValue {
        case "enroll":
            guard let did = did("did"), let names = value["boundaries"]?.arrayValue else { return nil }
            self = .enroll(did: did, boundaries: names.compactMap(\.stringValue), pds: value["pds"]?.stringValue)
        case "unenroll":
            guard let did = did("did"), let keepsContent = value["keepContent"]?.boolValue else { return nil }
            self = .unenroll(did: did, keepsContent: keepsContent)
        case "rekey":
            guard let did = did("did") else { return nil }
            self = .rekey(did: did)
        case "changeBoundaries":
            guard let did = did("did"), let names = value["names"]?.arrayValue?.compactMap(\.stringValue),
                let change = BoundaryChange(name: value["change"]?.stringValue ?? "", names: names)
            else { return nil }
            self = .changeBoundaries(did: did, change)
        case "boundaries":
            guard let did = did("did") else { return nil }
            self = .boundaries(did: did)
        case "enrollments": self = .enrollments
        case "auditReads":
            guard let did = did("did") else { return nil }
            self = .auditReads(did: did)
        case "import":
            guard let did = did("did"), let path = value["path"]?.stringValue else { return nil }
            let options = ImportOptions(
                allowsForeignCollections: value["allowForeignCollections"]?.boolValue ?? false,
                dropsForeignBoundaries: value["dropForeignBoundaries"]?.boolValue ?? false, verifyingKey: value["verifyKey"]?.stringValue)
            self = .importRepo(did: did, path: path, options: options)
        case "export":
            guard let did = did("did") else { return nil }
            self = .export(did: did)
        case "get":
            guard let uri = value["uri"]?.stringValue.flatMap({ try? ATURI($0) }) else { return nil }
            self = .get(uri: uri)
        case "usage": self = .usage(did: did("did"))
        case "digest": self = .digest(actor: did("actor"), until: number("until").map(UInt64.init))
        case "rebuild": self = .rebuild(actor: did("actor"))
        case "dropProjections": self = .dropProjections
        case "verify": self = .verify(actor: did("actor"), signatures: value["signatures"]?.boolValue ?? true)
        case "logShow":
            guard let did = did("did"), let after = number("after"), let limit = number("limit") else { return nil }
            self = .logShow(did: did, after: UInt64(after), limit: Int(limit))
        case "logTail":
            guard let count = number("count") else { return nil }
            self = .logTail(count: Int(count), follow: value["follow"]?.boolValue ?? false)
        case "logStatistics": self = .logStatistics
        case "reactors": self = .reactors
        default: return nil
        }
    }
}
