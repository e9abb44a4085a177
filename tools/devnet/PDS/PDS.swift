import ATProto
import Glibc
import Keys
import Synchronization

/// The personal data server: its accounts, their public records, and the keys that it signs tokens with. Routes and rules are in
/// the other files of this folder.
final class PDS: Sendable {
    struct Account: Sendable {
        let did: DID
        let handle: Handle
        let password: String
        /// Signs the repo's commits and service-auth tokens: `#atproto` of the DID document.
        var repoKey: PrivateKey
    }

    struct Record: Sendable {
        let cid: CID
        let value: Value

        init(_ value: Value) {
            self.value = value
            cid = CID(hashing: DAGCBOR.encode(value))
        }
    }

    /// What a restart must bring back. The rotation key and the secret stay as they are made.
    struct Contents: Sendable {
        let rotationKey: PrivateKey
        let secret: [UInt8]
        var accounts: [DID: Account] = [:]
        var handles: [Handle: DID] = [:]
        /// By DID, then collection, then record key.
        var records: [DID: [NSID: [RecordKey: Record]]] = [:]
        /// The last one signs; all are in the JWKS.
        var tokenKeys: [PrivateKey]
        /// What clients wrote, in order.
        var journal: [DevnetWrite] = []
        /// Names records that come without a key.
        var recordKeys: TIDClock
    }

    static let handleDomain = ".test"

    let directory: PLCDirectory
    let clock: DevnetClock
    let algorithm: DevnetConfiguration.TokenAlgorithm
    /// Controls every DID that is made here, as the one rotation key of a public PDS does.
    let rotationKey: PrivateKey
    /// Signs sessions, and access tokens where the PDS is a symmetric one.
    let secret: [UInt8]
    private let state: Mutex<Contents>
    private let listening: Listening

    convenience init(directory: PLCDirectory, listening: Listening, configuration: DevnetConfiguration) throws(DevnetError) {
        let contents = Contents(
            rotationKey: .generate(.k256), secret: try Self.randomBytes(32), tokenKeys: [.generate(.p256)],
            recordKeys: try Self.recordKeys())
        self.init(directory: directory, listening: listening, configuration: configuration, contents: contents)
    }

    init(directory: PLCDirectory, listening: Listening, configuration: DevnetConfiguration, contents: Contents) {
        self.directory = directory
        self.listening = listening
        rotationKey = contents.rotationKey
        secret = contents.secret
        clock = configuration.clock
        algorithm = configuration.tokens
        state = Mutex(contents)
    }

    var contents: Contents { state.withLock { $0 } }

    /// `http://localhost:PORT`: also the issuer of its tokens.
    var url: String { listening.pdsURL }

    /// The DID of the server itself, the audience of its tokens.
    var serviceDID: String { "did:web:" + url.dropFirst("http://".count).replacing(":", with: "%3A") }

    /// Seconds since 1970, as tokens count.
    var now: Int64 { clock() / 1000 }

    static func randomBytes(_ count: Int) throws(DevnetError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        guard getentropy(&bytes, count) == 0 else { throw .noRandomBytes }
        return bytes
    }

    /// `given`, or a new one that nobody has used.
    static func tokenIdentifier(_ given: String?) throws(DevnetError) -> String {
        if let given { given } else { try randomHex(16) }
    }

    static func randomHex(_ byteCount: Int) throws(DevnetError) -> String {
        try randomBytes(byteCount).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

// MARK: Accounts

extension PDS {
    /// Makes a DID whose first operation names the handle, this server and the repo key, and keeps the account.
    func createAccount(handle: Handle, password: String, repoKey: PrivateKey) throws -> Account {
        let handle = handle.normalized
        let label = handle.description.dropLast(Self.handleDomain.count)
        guard handle.description.hasSuffix(Self.handleDomain), !label.contains(".") else {
            throw DevnetError.unsupportedHandle(handle.description)
        }
        let operation = try PLCOperation(
            content(handle: handle, repoKey: repoKey.publicKey), prev: nil, signedBy: rotationKey)
        let account = Account(did: try DID(operation.derivedDID), handle: handle, password: password, repoKey: repoKey)
        try state.withLock { state in
            guard state.handles[handle] == nil else { throw DevnetError.handleTaken(handle.description) }
            try directory.append(operation, to: operation.derivedDID)
            state.handles[handle] = account.did
            state.accounts[account.did] = account
        }
        return account
    }

    func account(_ did: DID) -> Account? { state.withLock { $0.accounts[did] } }

    func account(_ handle: Handle) -> Account? {
        state.withLock { state in state.handles[handle.normalized].flatMap { state.accounts[$0] } }
    }

    func account(_ identifier: ATIdentifier) -> Account? {
        switch identifier {
        case .did(let did): account(did)
        case .handle(let handle): account(handle)
        }
    }

    /// Every account, by handle.
    var accounts: [Account] { state.withLock { $0.accounts.values.sorted { $0.handle < $1.handle } } }

    /// Signs with another key from now on, and says so in the directory.
    func replaceRepoKey(of did: DID, with key: PrivateKey) throws {
        guard let account = account(did) else { throw DevnetError.noAccount(did.description) }
        try update(did, content(handle: account.handle, repoKey: key.publicKey))
        state.withLock { $0.accounts[did]?.repoKey = key }
    }

    /// Follows the last operation of `did`; a tombstone without `content`.
    func update(_ did: DID, _ content: PLCOperation.Content?) throws {
        let last = directory.log(of: did.description).last { !$0.isNullified }
        let operation = try PLCOperation(content, prev: last?.cid, signedBy: rotationKey)
        try directory.append(operation, to: did.description)
    }

    private func content(handle: Handle, repoKey: PublicKey) -> PLCOperation.Content {
        PLCOperation.Content(
            rotationKeys: [rotationKey.publicKey.didKey], verificationMethods: ["atproto": repoKey.didKey],
            alsoKnownAs: ["at://\(handle)"],
            services: ["atproto_pds": PLCOperation.Service(type: "AtprotoPersonalDataServer", endpoint: url)])
    }
}

// MARK: Records

/// Where a record stands.
struct RecordPlace: Hashable, Sendable {
    let did: DID
    let collection: NSID
    let key: RecordKey

    var uri: String { "at://\(did)/\(collection)/\(key)" }
}

extension PDS {
    enum Change: Sendable {
        case set(Record)
        case remove
        case refuse
    }

    /// Decides on what is there and does it in one step, and notes it in the journal.
    /// - Returns: nil when `decide` refused.
    func change(_ place: RecordPlace, _ decide: (Record?) -> Change) -> DevnetWrite? {
        state.withLock { state in
            let current = state.records[place.did]?[place.collection]?[place.key]
            let record: Record?
            switch decide(current) {
            case .refuse: return nil
            case .set(let new): record = new
            case .remove: record = nil
            }
            state.records[place.did, default: [:]][place.collection, default: [:]][place.key] = record
            let write = DevnetWrite(
                sequence: state.journal.count + 1, did: place.did,
                action: record == nil ? .delete : current == nil ? .create : .update, collection: place.collection, key: place.key,
                cid: record?.cid, isChange: record?.cid != current?.cid)
            state.journal.append(write)
            return write
        }
    }

    var journal: [DevnetWrite] { state.withLock { $0.journal } }

    /// A key that rises with each call.
    func newRecordKey() throws -> RecordKey {
        let now = clock() * 1000
        return RecordKey(try state.withLock { try $0.recordKeys.next(microseconds: now) })
    }

    static func recordKeys() throws(DevnetError) -> TIDClock {
        let bytes = try randomBytes(2)
        return TIDClock(clockID: (UInt16(bytes[0]) << 8 | UInt16(bytes[1])) & TID.clockIDMax)
    }

    func setRecord(_ value: Value, of did: DID, collection: NSID, key: RecordKey) throws(DevnetError) -> CID {
        let record = Record(value)
        let isKept = state.withLock { state in
            guard state.accounts[did] != nil else { return false }
            state.records[did, default: [:]][collection, default: [:]][key] = record
            return true
        }
        guard isKept else { throw .noAccount(did.description) }
        return record.cid
    }

    func record(of did: DID, collection: NSID, key: RecordKey) -> Record? {
        state.withLock { $0.records[did]?[collection]?[key] }
    }

    /// In the order of their keys.
    func records(of did: DID, collection: NSID) -> [(key: RecordKey, record: Record)] {
        let records = state.withLock { $0.records[did]?[collection] ?? [:] }
        return records.map { (key: $0.key, record: $0.value) }.sorted { $0.key.description < $1.key.description }
    }
}

// MARK: Token keys

extension PDS {
    /// The keys whose tokens this server stands by; the last one signs.
    var tokenKeys: [PrivateKey] { state.withLock { $0.tokenKeys } }

    /// Signs with a new key from now on. Without `keepingOld` the tokens that are out there verify no more.
    func rotateTokenKeys(keepingOld: Bool) {
        let key = PrivateKey.generate(.p256)
        state.withLock { $0.tokenKeys = (keepingOld ? $0.tokenKeys : []) + [key] }
    }
}
