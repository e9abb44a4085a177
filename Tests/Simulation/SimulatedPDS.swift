package import ATProto
package import Authorization
package import EventLog
import Synchronization

/// The public servers of some accounts: what stands there, who holds a session, every write in order, and failures as a plan says.
package final class SimulatedPDS: Sendable {
    package enum Call: Hashable, Sendable {
        case put(Value, RecordPath, DID)
        case delete(RecordPath, DID)
        case list(DID)
        case revoke(DID, givenBefore: Int64)

        package var account: DID {
            switch self {
            case .put(_, _, let did), .delete(_, let did), .list(let did), .revoke(let did, _): did
            }
        }
    }

    package enum Fault: Sendable {
        /// Nothing is done.
        case unavailable(after: Duration? = nil)
        /// All is done, and nobody learns it.
        case lost
        /// Nobody learns anything, and it is done when `carryOutLate` is called.
        case late
        case refused(Int, String)
        /// The session is gone from here on.
        case ended
    }

    /// What was written, in order; nil: deleted.
    package struct Entry: Hashable, Sendable {
        package let account: DID
        package let path: RecordPath
        package let value: Value?
    }

    private struct State {
        var records: [DID: [RecordPath: Value]] = [:]
        var journal: [Entry] = []
        /// Since when, in milliseconds.
        var sessions: [DID: Int64] = [:]
        var revoked: [DID] = []
        var late: [Call] = []
        var calls = 0
    }

    private let state = Mutex(State())
    private let plan: @Sendable (Int, Call) async -> Fault?

    /// - Parameter plan: what happens to the n-th call, from 1; nil: it is done. It may do whatever it likes meanwhile.
    package init(plan: @escaping @Sendable (Int, Call) async -> Fault? = { _, _ in nil }) { self.plan = plan }

    /// - Parameter time: milliseconds; one that is given back with what was given before another time is gone only if it was.
    package func giveSession(_ did: DID, at time: Int64 = 0) { state.withLock { $0.sessions[did] = time } }
    package func endSession(_ did: DID) { state.withLock { $0.sessions[did] = nil } }
    package func holdsSession(_ did: DID) -> Bool { state.withLock { $0.sessions[did] != nil } }

    package func records(of did: DID) -> [RecordPath: Value] { state.withLock { $0.records[did] ?? [:] } }
    package var journal: [Entry] { state.withLock { $0.journal } }
    package var lateCount: Int { state.withLock { $0.late.count } }
    package var callCount: Int { state.withLock { $0.calls } }
    package var revoked: [DID] { state.withLock { $0.revoked } }

    /// What the user does there without us.
    package func set(_ value: Value?, at path: RecordPath, of did: DID) { state.withLock { $0.records[did, default: [:]][path] = value } }

    /// Does what came late.
    package func carryOutLate() {
        state.withLock { state in
            for call in state.late { Self.carryOut(call, in: &state) }
            state.late = []
        }
    }

    package var records: PDSRecords {
        PDSRecords(
            put: { [self] value, collection, key, did async throws(PDSError) in
                try await perform(.put(value, RecordPath(collection: collection, recordKey: key), did))
                return CID(hashing: DAGCBOR.encode(value))
            },
            delete: { [self] collection, key, did async throws(PDSError) in
                try await perform(.delete(RecordPath(collection: collection, recordKey: key), did))
            },
            list: { [self] collection, did async throws(PDSError) in
                try await perform(.list(did))
                return records(of: did).filter { $0.key.collection == collection }.prefix(100).map { path, value in
                    PDSRecord(key: path.recordKey, cid: CID(hashing: DAGCBOR.encode(value)), value: value)
                }
            })
    }

    package var revoke: @Sendable (DID, Timestamp) async throws(PDSError) -> Void {
        { [self] did, time async throws(PDSError) in try await perform(.revoke(did, givenBefore: time.milliseconds)) }
    }

    private func perform(_ call: Call) async throws(PDSError) {
        guard holdsSession(call.account) else { throw .noSession }
        let number = state.withLock { state in
            state.calls += 1
            return state.calls
        }
        let fault = await plan(number, call)
        // While the plan did whatever it did, the session may have gone.
        guard holdsSession(call.account) else { throw .noSession }
        switch fault {
        case nil: state.withLock { Self.carryOut(call, in: &$0) }
        case .unavailable(let after): throw .unavailable(reason: "down", after: after)
        case .lost:
            state.withLock { Self.carryOut(call, in: &$0) }
            throw .unavailable(reason: "no answer")
        case .late:
            state.withLock { $0.late.append(call) }
            throw .unavailable(reason: "no answer")
        case .refused(let status, let name): throw .refused(status: status, name: name)
        case .ended:
            endSession(call.account)
            throw .sessionEnded
        }
    }

    private static func carryOut(_ call: Call, in state: inout State) {
        switch call {
        case .put(let value, let path, let did):
            state.records[did, default: [:]][path] = value
            state.journal.append(Entry(account: did, path: path, value: value))
        case .delete(let path, let did):
            state.records[did]?[path] = nil
            state.journal.append(Entry(account: did, path: path, value: nil))
        case .list: break
        case .revoke(let did, let time):
            guard let given = state.sessions[did], given < time else { return }
            state.sessions[did] = nil
            state.revoked.append(did)
        }
    }
}
