package import ATProto
package import EventLog

/// One write that a client asks for.
package struct RecordWrite: Hashable, Sendable {
    package enum Action: Hashable, Sendable {
        /// Refused where a record stands at the key.
        case create
        /// Refused where none stands there.
        case update
        /// Create or update, whichever fits.
        case put
        case delete
    }

    /// What a client says stands at the key before the write.
    package enum Swap: Hashable, Sendable {
        case any
        case nothing
        case record(CID)
    }

    package let action: Action
    package let collection: NSID
    /// Nil: a fresh TID, for a create.
    package let recordKey: RecordKey?
    /// Nil for a delete.
    package let record: Value?
    package let swap: Swap

    package init(action: Action, collection: NSID, recordKey: RecordKey?, record: Value?, swap: Swap = .any) {
        self.action = action
        self.collection = collection
        self.recordKey = recordKey
        self.record = record
        self.swap = swap
    }

    /// Nil for a create whose key is yet to be made.
    package var path: RecordPath? { recordKey.map { RecordPath(collection: collection, recordKey: $0) } }
}

/// What a client asks to be written to its repo: one commit, one event, all or none.
package struct WriteRequest: Hashable, Sendable {
    package let repo: DID
    /// 1…200.
    package let writes: [RecordWrite]
    /// The commit that the repo must stand at.
    package let swapCommit: CID?
    /// Whether the records must keep the lexicons of their collections: true, and such a lexicon must be known here; nil, where it is
    /// known; false, no. It is about lexicons and nothing else.
    package let checksLexicons: Bool?
    /// Whether deleting what is not there is refused (a batch) or comes to nothing (a single delete).
    package let refusesAbsentDelete: Bool
    package let agent: Agent
    package let client: ClientRequest?
    /// What proved the caller, where it may be used once.
    package let use: SingleUse?

    package init(
        repo: DID, writes: [RecordWrite], swapCommit: CID? = nil, checksLexicons: Bool? = nil, refusesAbsentDelete: Bool = false,
        agent: Agent, client: ClientRequest? = nil, use: SingleUse? = nil
    ) {
        self.repo = repo
        self.writes = writes
        self.swapCommit = swapCommit
        self.checksLexicons = checksLexicons
        self.refusesAbsentDelete = refusesAbsentDelete
        self.agent = agent
        self.client = client
        self.use = use
    }

    package static let writesMax = 200
    package static let recordBytesMax = 1_000_000
    package static let blocksBytesMax = 2_000_000
}

/// What a write came to.
package struct WriteReceipt: Hashable, Sendable {
    package struct Result: Hashable, Sendable {
        package let path: RecordPath
        /// Nil for a delete.
        package let cid: CID?

        package init(path: RecordPath, cid: CID?) {
            self.path = path
            self.cid = cid
        }
    }

    package let results: [Result]
    /// The repo's newest commit; where nothing was to be done and no idempotency key was given, the one it stood at.
    package let commit: CID
    package let rev: TID
    /// Whether this call made the commit.
    package let isNew: Bool
    /// Whether an earlier call with the same idempotency key made it.
    package let isRepeated: Bool

    package init(results: [Result], commit: CID, rev: TID, isNew: Bool, isRepeated: Bool = false) {
        self.results = results
        self.commit = commit
        self.rev = rev
        self.isNew = isNew
        self.isRepeated = isRepeated
    }
}
