package import ATProto
import Commands
import EventLog
package import Projections
import Synchronization

/// Rows whose changes fail as a plan says: with nothing moved, or, as after a crash at the wrong moment, with all of it moved and the
/// caller none the wiser.
package final class FaultyReadModel: ReadModel {
    package enum Fault: Sendable {
        case refused
        case moved
        /// The thread that has the rows open takes no more work: neither this call nor those after it for the same change.
        case unreachable(calls: Int)
    }

    package struct Failure: Error {
        package init() {}
    }

    private let base: any ReadModel
    private let plan: @Sendable (Int) -> Fault?
    private let state = Mutex(State())

    private struct State {
        var applies = 0
        var unreachable = 0
        var rows: [DID: FaultyRows] = [:]
    }

    /// - Parameter plan: what happens to the n-th change of rows, from 1; nil: it goes through.
    package init(_ base: any ReadModel, plan: @escaping @Sendable (Int) -> Fault?) {
        self.base = base
        self.plan = plan
    }

    package func withActor<Result: Sendable>(
        _ actor: DID, _ body: @escaping @Sendable (any ActorRows) throws -> Result
    ) async throws -> Result {
        let isUnreachable = state.withLock { state in
            guard state.unreachable > 0 else { return false }
            state.unreachable -= 1
            return true
        }
        if isUnreachable { throw Failure() }
        return try await base.withActor(actor) { [self] rows in try body(wrapped(rows, of: actor)) }
    }

    package func actors() async throws -> [DID] { try await base.actors() }
    package func drop(_ actor: DID) async throws -> Bool { try await base.drop(actor) }

    private func wrapped(_ rows: any ActorRows, of actor: DID) -> FaultyRows {
        state.withLock { state in
            if let wrapped = state.rows[actor], wrapped.base === rows { return wrapped }
            let wrapped = FaultyRows(rows) { [unowned self] in nextFault() }
            state.rows[actor] = wrapped
            return wrapped
        }
    }

    private func nextFault() -> Fault? {
        state.withLock { state in
            state.applies += 1
            let fault = plan(state.applies)
            if case .unreachable(let calls) = fault { state.unreachable = calls }
            return fault
        }
    }
}

/// `@unchecked Sendable`: used on the one thread that has the rows open, as the rows themselves are.
private final class FaultyRows: ActorRows, @unchecked Sendable {
    let base: any ActorRows
    private let nextFault: () -> FaultyReadModel.Fault?

    init(_ base: any ActorRows, nextFault: @escaping () -> FaultyReadModel.Fault?) {
        self.base = base
        self.nextFault = nextFault
    }

    var memory: AnyObject?

    func state() throws -> ActorState? { try base.state() }
    func record(_ path: RecordPath) throws -> RecordRow? { try base.record(path) }
    func record(_ path: RecordPath, _ selection: RecordSelection) throws -> RecordRow? { try base.record(path, selection) }

    func records(_ collection: NSID, _ selection: RecordSelection, in range: KeyRange) throws -> [RecordRow] {
        try base.records(collection, selection, in: range)
    }

    func collections() throws -> [NSID: Usage] { try base.collections() }
    func adminReads(before: UInt64?, limit: Int) throws -> [AdminReadRow] { try base.adminReads(before: before, limit: limit) }
    func node(_ cid: CID) throws -> [UInt8]? { try base.node(cid) }
    func nodes() throws -> [CID: [UInt8]] { try base.nodes() }
    func everyRecordHasBoundary() throws -> Bool { try base.everyRecordHasBoundary() }

    func apply(_ changes: ActorChanges) throws {
        switch nextFault() {
        case nil: try base.apply(changes)
        case .refused, .unreachable: throw FaultyReadModel.Failure()
        case .moved:
            try base.apply(changes)
            throw FaultyReadModel.Failure()
        }
    }

    func forEachRow(_ visit: (_ projection: String, _ key: String, _ row: Value) throws -> Void) throws { try base.forEachRow(visit) }
}
