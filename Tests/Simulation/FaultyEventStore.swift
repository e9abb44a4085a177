package import ATProto
package import EventLog
package import Synchronization

/// A store whose appends fail as a plan says, with nothing stored or, as after a lost acknowledgement, with all of it stored; and that
/// tells what is read from it.
package final class FaultyEventStore: WrappingEventStore {
    package enum Fault: Sendable {
        /// Nothing is stored.
        case refused(EventLogError)
        /// Everything is stored, and the writer does not learn it.
        case persisted(EventLogError)
    }

    package let base: any EventStore
    private let plan: @Sendable (Int) -> Fault?
    private let note: @Sendable (String) -> Void
    private let hold: @Sendable (String) async -> Void
    private let appends = Mutex(0)
    /// What blocks are not removed for, from when it is set.
    package let erasureFault = Mutex<EventLogError?>(nil)

    /// - Parameters:
    ///   - plan: what happens to the n-th append, from 1; nil: it goes through.
    ///   - note: told of each read by its name: `head`, `events`, `blocks`.
    ///   - hold: waited for before blocks are read (`blocks`) and removed (`erase`).
    package init(
        _ base: any EventStore, plan: @escaping @Sendable (Int) -> Fault? = { _ in nil },
        note: @escaping @Sendable (String) -> Void = { _ in }, hold: @escaping @Sendable (String) async -> Void = { _ in }
    ) {
        self.base = base
        self.plan = plan
        self.note = note
        self.hold = hold
    }

    /// A fault in about one append of `every`, by seed; half of them persisted.
    /// - Parameter first: so many appends go through before.
    package convenience init(_ base: any EventStore, seed: UInt64, every: Int, after first: Int = 0) {
        self.init(base) { number in
            guard number > first else { return nil }
            var generator = SeededGenerator(seed: seed &+ UInt64(number))
            guard Int.random(in: 0..<every, using: &generator) == 0 else { return nil }
            let error = EventLogError.storage(operation: "append", code: 5)
            return Bool.random(using: &generator)
                ? .persisted(error) : .refused([error, .overloaded, .noSpace].randomElement(using: &generator)!)
        }
    }

    package func append(_ append: Append) async throws(EventLogError) -> [Appended] {
        let number = appends.withLock { count in
            count += 1
            return count
        }
        switch plan(number) {
        case nil: return try await base.append(append)
        case .refused(let error): throw error
        case .persisted(let error):
            _ = try await base.append(append)
            throw error
        }
    }

    package func head(of actor: DID) async throws(EventLogError) -> Head {
        note("head")
        return try await base.head(of: actor)
    }

    package func events(of actor: DID, after sequence: UInt64, limit: Int) async throws(EventLogError) -> [StoredEvent] {
        note("events")
        return try await base.events(of: actor, after: sequence, limit: limit)
    }

    package func block(_ cid: CID, of actor: DID) async throws(EventLogError) -> [UInt8]? {
        note("blocks")
        await hold("blocks")
        return try await base.block(cid, of: actor)
    }

    package func blocks(_ cids: [CID], of actor: DID) async throws(EventLogError) -> [CID: [UInt8]] {
        note("blocks")
        await hold("blocks")
        return try await base.blocks(cids, of: actor)
    }

    package func eraseBlocks(of actor: DID, at head: Head) async throws(EventLogError) -> Int {
        note("erase")
        await hold("erase")
        if let error = erasureFault.withLock({ $0 }) { throw error }
        return try await base.eraseBlocks(of: actor, at: head)
    }
}
