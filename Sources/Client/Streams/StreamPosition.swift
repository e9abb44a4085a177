public import ATProto

/// How far a stream was dealt with: what to save, and to come back with.
///
/// A cursor alone does not say it. A commit that is too long for one message comes in several, all but the last under the cursor from
/// before it, and no message says whether another follows; a reader may also be stopped between two operations of one message. Who
/// comes back is then sent all of the commit once more. So a position also holds what of the last commit was dealt with, until it is
/// known that no more of it comes: that is left out.
public struct StreamPosition: Hashable, Sendable {
    /// What was dealt with of the last commit.
    public struct Recent: Hashable, Sendable {
        public let rev: TID
        /// `collection/record-key` of each operation.
        public let paths: Set<String>
        /// Whether the cursor came with a message of this commit; if not, it is from before.
        public let gaveCursor: Bool

        public init(rev: TID, paths: Set<String>, gaveCursor: Bool) {
            self.rev = rev
            self.paths = paths
            self.gaveCursor = gaveCursor
        }
    }

    /// To be asked for: what comes after it. Nil is the beginning.
    public let cursor: UInt64?
    /// Nil where nothing of what comes can have come before.
    public let recent: Recent?

    public static let start = StreamPosition(cursor: nil)
    /// 2^53 − 1.
    public static let cursorMax = UInt64(DataModelJSON.integerMax)

    public init(cursor: UInt64?, recent: Recent? = nil) {
        precondition(cursor ?? 0 <= Self.cursorMax, "a cursor has 53 bits")
        self.cursor = cursor
        self.recent = recent
    }
}

/// A message, and the positions that it leads to.
public struct StreamEvent: Hashable, Sendable {
    /// Of a commit, only the operations that were not dealt with before.
    public let message: StreamMessage
    /// Where the stream was before.
    let before: StreamPosition
    /// Where the stream is when all of the message was dealt with: what to save then, and no sooner.
    public let position: StreamPosition

    /// Where the stream is when the first `count` operations were dealt with; of what is no commit, 0 is before it and 1 after.
    public func position(afterOperations count: Int) -> StreamPosition {
        guard case .commit(let commit) = message else { return count == 0 ? before : position }
        guard count < commit.operations.count else { return position }
        guard count > 0 else { return before }
        let earlier = before.recent.flatMap { $0.rev == commit.rev ? $0 : nil }
        return StreamPosition(
            cursor: before.cursor,
            recent: .init(
                rev: commit.rev, paths: (earlier?.paths ?? []).union(commit.operations.prefix(count).map(\.path)),
                gaveCursor: earlier?.gaveCursor ?? false))
    }
}
