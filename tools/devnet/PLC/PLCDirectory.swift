package import ATProto
import Keys
import Synchronization

/// The did:plc directory: a log of signed operations for each DID, and the rules by which it grows.
///
/// An operation follows the last one, signed by one of that one's rotation keys. Or it follows an earlier one and nullifies what
/// came after, for 72 hours, if a stronger key signs it than signed the first that it nullifies. A tombstone ends the log.
package final class PLCDirectory: Sendable {
    package struct Entry: Sendable {
        package let operation: PLCOperation
        package let cid: CID
        /// Milliseconds since 1970.
        package let createdAt: Int64
        package fileprivate(set) var isNullified: Bool

        init(_ operation: PLCOperation, createdAt: Int64, isNullified: Bool = false) {
            self.operation = operation
            self.createdAt = createdAt
            self.isNullified = isNullified
            cid = operation.cid
        }
    }

    private static let recoveryWindow: Int64 = 72 * 3_600_000

    private let logs: Mutex<[String: [Entry]]>
    private let clock: DevnetClock

    init(clock: @escaping DevnetClock, logs: [String: [Entry]] = [:]) {
        self.clock = clock
        self.logs = Mutex(logs)
    }

    /// Adds an operation that somebody sent for `did`.
    func submit(_ value: Value, for did: String) throws(PLCError) {
        try append(try PLCOperation(value), to: did)
    }

    /// - Throws: what the rules above refuse; the log is then as it was.
    func append(_ operation: PLCOperation, to did: String) throws(PLCError) {
        let now = clock()
        let entry = Entry(operation, createdAt: now)
        let outcome = logs.withLock { logs in
            Result { () throws(PLCError) in
                var log = logs[did] ?? []
                if log.isEmpty {
                    try Self.checkGenesis(operation, did: did)
                } else {
                    for index in try Self.nullified(by: operation, in: log, now: now) { log[index].isNullified = true }
                }
                logs[did] = log + [entry]
            }
        }
        try outcome.get()
    }

    var contents: [String: [Entry]] { logs.withLock { $0 } }

    /// Every operation that was accepted, nullified ones too; empty for an unknown DID.
    package func log(of did: String) -> [Entry] { logs.withLock { $0[did] ?? [] } }

    /// What `did` says of itself now.
    package func content(of did: String) throws(PLCError) -> PLCOperation.Content {
        guard let last = log(of: did).last(where: { !$0.isNullified }) else { throw .notRegistered(did) }
        guard let content = last.operation.content else { throw .notAvailable(did) }
        return content
    }

    package func document(of did: String) throws(PLCError) -> Value { Self.document(of: did, try content(of: did)) }

    private static func checkGenesis(_ operation: PLCOperation, did: String) throws(PLCError) {
        guard let content = operation.content, operation.prev == nil else { throw .misordered }
        guard operation.signer(among: content.rotationKeys) != nil else { throw .invalidSignature }
        guard operation.derivedDID == did else { throw .genesisHash(expected: operation.derivedDID) }
    }

    /// Which entries of `log` end with the acceptance of `operation`.
    private static func nullified(by operation: PLCOperation, in log: [Entry], now: Int64) throws(PLCError) -> [Int] {
        let valid = log.indices.filter { !log[$0].isNullified }
        guard let place = valid.firstIndex(where: { log[$0].cid == operation.prev }), let parent = log[valid[place]].operation.content
        else {
            throw .misordered
        }
        let after = valid[(place + 1)...]
        guard let first = after.first else {
            guard operation.signer(among: parent.rotationKeys) != nil else { throw .invalidSignature }
            return []
        }
        guard let disputed = log[first].operation.signer(among: parent.rotationKeys) else { throw .invalidSignature }
        let stronger = Array(parent.rotationKeys.prefix { $0 != disputed })
        guard operation.signer(among: stronger) != nil else { throw .invalidSignature }
        let elapsed = now - log[first].createdAt
        guard elapsed <= recoveryWindow else { throw .lateRecovery(milliseconds: elapsed) }
        return Array(after)
    }

    /// The DID document in the form of the public directory: Multikey, absolute ids of keys, relative ids of services.
    private static func document(of did: String, _ content: PLCOperation.Content) -> Value {
        var context: [Value] = ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"]
        var methods: [Value] = []
        for (id, text) in content.verificationMethods.sorted(by: { $0.key < $1.key }) {
            guard let key = try? PublicKey(didKey: text) else { preconditionFailure("keys were checked when they came in") }
            let suite: Value =
                key.curve == .p256 ? "https://w3id.org/security/suites/ecdsa-2019/v1" : "https://w3id.org/security/suites/secp256k1-2019/v1"
            if !context.contains(suite) { context.append(suite) }
            methods.append([
                "id": .string("\(did)#\(id)"), "type": "Multikey", "controller": .string(did), "publicKeyMultibase": .string(key.multibase),
            ])
        }
        let services = content.services.sorted(by: { $0.key < $1.key }).map { id, service -> Value in
            ["id": .string("#\(id)"), "type": .string(service.type), "serviceEndpoint": .string(service.endpoint)]
        }
        return [
            "@context": .array(context), "id": .string(did), "alsoKnownAs": .array(content.alsoKnownAs.map(Value.string)),
            "verificationMethod": .array(methods), "service": .array(services),
        ]
    }
}
