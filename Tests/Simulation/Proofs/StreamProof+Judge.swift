import ATProto
import EventLog
import SQLiteStore

/// What was due to each subscriber, by the log that the service left: every operation that shows to that subscriber and is still the
/// last word on its record, and every deletion. What was superseded or deleted since may have been told, if it was told in time; once,
/// and as it was.
struct StreamJudge {
    private enum Word: Hashable {
        case written(action: String, cid: CID)
        case deleted
    }

    /// What one event says of one record to one subscriber.
    private struct Operation {
        let word: Word
        /// Whether it must have been told.
        let isDue: Bool
    }

    private struct Commit {
        let cursor: Int64
        let operations: [RecordOperation]
    }

    private let directory: String
    private var commits: [String: [Commit]] = [:]
    /// The event that last changed a record, by actor and path.
    private var last: [String: Int64] = [:]
    private var enrollments: [(cursor: Int64, did: String, action: String)] = []
    private(set) var failures: [String] = []
    private(set) var due = 0
    private(set) var extra = 0

    init(directory: String) { self.directory = directory }

    mutating func readLog() async throws {
        let store = try LogStore(directory: directory) { error in preconditionFailure("\(error)") }
        defer { store.close() }
        var position: UInt64 = 0
        while true {
            let page = try await store.events(afterPosition: position, limit: 512)
            guard let end = page.last?.position else { return }
            for stored in page {
                let event = try Event(bytes: stored.bytes)
                guard let bytes = stored.body, let cursor = stored.position.map(Int64.init) else { continue }
                let did = event.did.description
                switch try EventBody(kind: event.kind, bytes: bytes) {
                case .repoWrite(let write):
                    commits[did, default: []].append(Commit(cursor: cursor, operations: write.operations))
                    for operation in write.operations { last["\(did)/\(operation.path)"] = cursor }
                case .accountEnroll: enrollments.append((cursor, did, "enroll"))
                case .accountBoundaries: enrollments.append((cursor, did, "update"))
                case .accountLeave: enrollments.append((cursor, did, "unenroll"))
                default: break
                }
            }
            position = end
        }
    }

    mutating func judge(_ follower: StreamFollower) {
        switch follower.interest {
        case .enrollments:
            let told = follower.told.map {
                "\($0.cursor ?? 0) \($0.body["action"]?.stringValue ?? "") \($0.body["did"]?.stringValue ?? "")"
            }
            let expected = enrollments.map { "\($0.cursor) \($0.action) \($0.did)" }
            due += expected.count
            if told != expected {
                failures.append("\(follower.interest): told \(told.count) of \(expected.count): \(Set(told).symmetricDifference(expected))")
            }
        case .commits(let actor, let domain, let byOwner):
            var messages = follower.told[...]
            for commit in commits[actor] ?? [] {
                let message = messages.first?.cursor == commit.cursor ? messages.popFirst() : nil
                judge(commit, message, of: actor) { boundaries in
                    (byOwner || !boundaries.isEmpty) && domain.map { boundaries.contains(StreamProof.boundary($0)) } ?? true
                } name: {
                    "\(follower.interest) at \(commit.cursor)"
                }
            }
            if let left = messages.first { failures.append("\(follower.interest): told of \(left.cursor ?? 0), where no commit is") }
        }
    }

    private mutating func judge(
        _ commit: Commit, _ message: SeenMessage?, of actor: String, sees: (BoundarySet) -> Bool, name: () -> String
    ) {
        var told = Dictionary((message?.operations ?? []).map { ($0.path, $0) }) { first, _ in first }
        if let message, message.operations.isEmpty || told.count != message.operations.count {
            failures.append("\(name()): \(message.operations)")
        }
        for operation in commit.operations {
            let isLast = last["\(actor)/\(operation.path)"] == commit.cursor
            let expected = Self.expected(operation, isLast: isLast, sees: sees)
            let was = told.removeValue(forKey: operation.path.description)
            switch (expected, was) {
            case (nil, nil): break
            case (nil, let was?): failures.append("\(name()): told \(was), which is hidden")
            case (let expected?, nil):
                if expected.isDue { failures.append("\(name()): not told of \(operation.path): \(expected.word)") }
            case (let expected?, let was?):
                if expected.isDue { due += 1 } else { extra += 1 }
                let word = was.cid.map { Word.written(action: was.action, cid: $0) } ?? .deleted
                let isWhole = was.record.map { CID(hashing: DAGCBOR.encode($0)) } == was.cid
                if word != expected.word || !isWhole { failures.append("\(name()): told \(was) where \(expected.word) was due") }
            }
        }
        for other in told.values { failures.append("\(name()): told \(other), which is not in the commit") }
    }

    private static func expected(_ operation: RecordOperation, isLast: Bool, sees: (BoundarySet) -> Bool) -> Operation? {
        let wasSeen = operation.previous.map { sees($0.boundaries) } ?? false
        guard let written = operation.written, sees(written.boundaries) else {
            return wasSeen ? Operation(word: .deleted, isDue: true) : nil
        }
        return Operation(word: .written(action: wasSeen ? "update" : "create", cid: written.cid), isDue: isLast)
    }
}
