import ATProto

/// What was decided, by kind. Salted, so that its CID in the event betrays nothing once the body is erased.
package enum EventBody: Hashable, Sendable {
    case serviceStart(ServiceStart)
    case serviceKey(ServiceKey)
    case serviceConfig(ServiceConfig)
    case accountEnroll(AccountEnroll)
    case accountBoundaries(AccountBoundaries)
    case accountAttest(AccountAttest)
    case accountKey(AccountKey)
    case accountLeave(AccountLeave)
    case repoWrite(RepoWrite)
    case repoImport(RepoImport)
    case blobPut(BlobPut)
    case blobState(BlobState)
    case moderationTakedown(Moderation)
    case moderationRestore(Moderation)
    case erasure(Erasure)
    case erasureDone(ErasureDone)
    case adminRead(AdminRead)

    static let limits = DecodingLimits(bytesMax: SignedEvent.bodyBytesMax, depthMax: 8, countMax: 20_000, keyBytesMax: 64)

    /// Reads a body: canonical, at most 1 MiB, with the known fields of its kind and no others.
    /// - Throws: `malformed`, `tooLarge`; `unknownKind` for a kind of a later version.
    package init(kind: EventKind, bytes: [UInt8]) throws(EventLogError) {
        guard bytes.count <= SignedEvent.bodyBytesMax else { throw .tooLarge(bytes: bytes.count, max: SignedEvent.bodyBytesMax) }
        let value: Value
        do { value = try DAGCBOR.decode(bytes, limits: EventBody.limits) } catch { throw .malformed("\(kind): \(error)") }
        var fields = try FieldReader(value, in: kind.text)
        try self.init(kind: kind, &fields)
        try fields.finish()
    }

    private init(kind: EventKind, _ fields: inout FieldReader) throws(EventLogError) {
        switch kind {
        case .repoWrite: self = .repoWrite(try RepoWrite(&fields))
        case .repoImport: self = .repoImport(try RepoImport(&fields))
        case .accountEnroll: self = .accountEnroll(try AccountEnroll(&fields))
        case .accountBoundaries: self = .accountBoundaries(try AccountBoundaries(&fields))
        case .accountAttest: self = .accountAttest(try AccountAttest(&fields))
        case .accountKey: self = .accountKey(try AccountKey(&fields))
        case .accountLeave: self = .accountLeave(try AccountLeave(&fields))
        case .blobPut: self = .blobPut(try BlobPut(&fields))
        case .blobState: self = .blobState(try BlobState(&fields))
        case .moderationTakedown: self = .moderationTakedown(try Moderation(&fields))
        case .moderationRestore: self = .moderationRestore(try Moderation(&fields))
        case .erasure: self = .erasure(try Erasure(&fields))
        case .erasureDone: self = .erasureDone(try ErasureDone(&fields))
        case .adminRead: self = .adminRead(try AdminRead(&fields))
        case .serviceStart: self = .serviceStart(try ServiceStart(&fields))
        case .serviceKey: self = .serviceKey(try ServiceKey(&fields))
        case .serviceConfig: self = .serviceConfig(try ServiceConfig(&fields))
        default: throw .unknownKind(kind.text)
        }
    }

    /// The canonical DAG-CBOR.
    package func encoded() -> [UInt8] {
        var map = ValueMap()
        provenance.encode(into: &map)
        switch self {
        case .serviceStart(let body): body.encode(into: &map)
        case .serviceKey(let body): body.encode(into: &map)
        case .serviceConfig(let body): body.encode(into: &map)
        case .accountEnroll(let body): body.encode(into: &map)
        case .accountBoundaries(let body): body.encode(into: &map)
        case .accountAttest(let body): body.encode(into: &map)
        case .accountKey(let body): body.encode(into: &map)
        case .accountLeave(let body): body.encode(into: &map)
        case .repoWrite(let body): body.encode(into: &map)
        case .repoImport(let body): body.encode(into: &map)
        case .blobPut(let body): body.encode(into: &map)
        case .blobState(let body): body.encode(into: &map)
        case .moderationTakedown(let body), .moderationRestore(let body): body.encode(into: &map)
        case .erasure(let body): body.encode(into: &map)
        case .erasureDone(let body): body.encode(into: &map)
        case .adminRead(let body): body.encode(into: &map)
        }
        return DAGCBOR.encode(.map(map))
    }

    package var kind: EventKind {
        switch self {
        case .serviceStart: .serviceStart
        case .serviceKey: .serviceKey
        case .serviceConfig: .serviceConfig
        case .accountEnroll: .accountEnroll
        case .accountBoundaries: .accountBoundaries
        case .accountAttest: .accountAttest
        case .accountKey: .accountKey
        case .accountLeave: .accountLeave
        case .repoWrite: .repoWrite
        case .repoImport: .repoImport
        case .blobPut: .blobPut
        case .blobState: .blobState
        case .moderationTakedown: .moderationTakedown
        case .moderationRestore: .moderationRestore
        case .erasure: .erasure
        case .erasureDone: .erasureDone
        case .adminRead: .adminRead
        }
    }

    package var provenance: Provenance {
        switch self {
        case .serviceStart(let body): body.provenance
        case .serviceKey(let body): body.provenance
        case .serviceConfig(let body): body.provenance
        case .accountEnroll(let body): body.provenance
        case .accountBoundaries(let body): body.provenance
        case .accountAttest(let body): body.provenance
        case .accountKey(let body): body.provenance
        case .accountLeave(let body): body.provenance
        case .repoWrite(let body): body.provenance
        case .repoImport(let body): body.provenance
        case .blobPut(let body): body.provenance
        case .blobState(let body): body.provenance
        case .moderationTakedown(let body), .moderationRestore(let body): body.provenance
        case .erasure(let body): body.provenance
        case .erasureDone(let body): body.provenance
        case .adminRead(let body): body.provenance
        }
    }

    /// The tag key that a body brings, in force from its own event on.
    package var tagKey: [UInt8]? {
        switch self {
        case .serviceStart(let body): body.tagKey
        case .accountEnroll(let body): body.tagKey
        default: nil
        }
    }

    /// The commit that a body carries.
    package var commit: ActorCommit? {
        switch self {
        case .accountEnroll(let body): body.commit
        case .accountKey(let body): body.commit
        case .repoWrite(let body): body.commit
        case .repoImport(let body): body.commit
        default: nil
        }
    }

    /// The generation that a body opens, where it does.
    package var opensGeneration: UInt64? {
        if case .serviceStart(let body) = self, body.before != nil { body.generation } else { nil }
    }
}
