package import ATProto
package import Authorization
package import EventLog
package import Logging
package import Projections
import Synchronization

/// Brings what stands in public, on the members' own servers, to what the log says: enrollment records and stubs.
///
/// The log is read by position behind a saved cursor, and what each event touches is marked, durably, before the cursor moves past it.
/// Then the actors are worked on side by side, each alone and in the order of its events. What is done at a place is what the fold of
/// that moment wants there: events say where to look, never what to do, so what is done late, twice or after a restart leads to the same
/// end. An attempt is noted before it is begun, and its outcome after it is known. Where an outcome never came to be known, the same is
/// done once more after a while, since the server may carry out the earlier attempt late, over what was done meanwhile.
///
/// Nobody's write waits for any of it: an append sends a signal and no more. Who gave no session is parked until one comes; a server
/// that fails is asked again after longer and longer waits; one that refuses a record is not asked for it again, and goes on with the
/// next. Memory holds the actors that are worked on, and nothing else.
package final class Reactors: Sendable {
    /// Gives back the session that an account gave before this time. One that came later is another person's wish, and stays.
    package typealias Revoke = @Sendable (_ account: DID, _ before: Timestamp) async throws(PDSError) -> Void

    let engine: Engine
    let store: any ReactorStore
    let pds: PDSRecords
    let revoke: Revoke
    let publicRecords: PublicRecords
    let pace: ReactorPace
    let surroundings: Surroundings
    let logger: Logger

    /// Actors whose reconciliation is asked for and not noted yet.
    private let reconciles = Mutex<Set<DID>>([])
    /// Whether there may be events to read, and actors to work on.
    private let arrivals = WakeSignal()
    let changes = WakeSignal()

    private struct Running {
        var actors: [DID: String] = [:]
        var perHost: [String: Int] = [:]
    }

    private let running = Mutex(Running())

    package init(
        engine: Engine, store: any ReactorStore, pds: PDSRecords, revoke: @escaping Revoke, publicRecords: PublicRecords,
        pace: ReactorPace = ReactorPace(), surroundings: Surroundings, logger: Logger
    ) {
        self.engine = engine
        self.store = store
        self.pds = pds
        self.revoke = revoke
        self.publicRecords = publicRecords
        self.pace = pace
        self.surroundings = surroundings
        self.logger = logger
    }

    var now: Timestamp { Timestamp(milliseconds: surroundings.now() / 1000) }

    /// Something was appended. Costs a lock.
    package func wake(_ actor: DID) { arrivals.signal() }

    /// Brings everything of an actor to what the fold says, because a session came: also what was parked, refused or given up, and what
    /// the user may have changed. Costs a lock; it is noted a moment later. Should the process end before that, the next start tries
    /// again for everybody who is parked.
    package func reconcile(_ actor: DID) {
        _ = reconciles.withLock { $0.insert(actor) }
        arrivals.signal()
    }

    /// Works until the task is cancelled.
    package func run() async {
        await untilDone("the reactors cannot begin") { try await self.begin() }
        await withDiscardingTaskGroup { group in
            group.addTask { await self.readEvents() }
            group.addTask { await self.workOnActors() }
        }
    }

    /// All that is due now, one actor after the other, with no waiting: what tests call in the place of `run`.
    /// - Returns: when something is due next.
    package func settle() async throws -> Timestamp? {
        while true {
            try await noteReconciles()
            while try await readPage() {}
            let (taken, next) = try await take()
            if taken.isEmpty { return next }
            for actor in taken {
                defer { release(actor) }
                try await work(on: actor)
            }
        }
    }

    // MARK: Beginning

    /// Finds the place in the log, and whether everything must be done anew: another history, or another address of the service.
    package func begin() async throws {
        let cursor = try await store.transaction { try $0.cursor() }
        if cursor != .start {
            let at = try await engine.log.events(afterPosition: cursor.position - 1, limit: 1).first
            if at?.position != cursor.position || at?.cid != cursor.event {
                logger.warning("the log is another than the one that the reactors have read: everything is done anew")
                try await store.transaction { try $0.set(.start) }
            }
        }
        let (now, form) = (now, publicRecords.form)
        let known = try await store.transaction { rows in
            try rows.resumeParked(at: now)
            let known = try rows.form()
            if known == nil { try rows.set(form: form) }
            return known
        }
        guard let known, known != form else { return }
        logger.notice("the service's public address has changed: everything that names it is put anew")
        try await forgetDone()
        try await store.transaction { try $0.set(form: form) }
    }

    private func forgetDone() async throws {
        var after: DID?
        while true {
            let page = try await store.transaction { [after] in try $0.actors(after: after, limit: 64) }
            for actor in page { try await forgetDone(of: actor.did) }
            guard let last = page.last else { return }
            after = last.did
        }
    }

    private func forgetDone(of did: DID) async throws {
        let now = now
        var after: RecordPath?
        repeat {
            after = try await store.transaction { [after] rows in
                let page = try rows.items(of: did, after: after, limit: 256)
                for var item in page {
                    item.done = nil
                    item.mark(due: 0, item.path.collection == PublicRecords.enrollments ? .live : .backlog)
                    try rows.put(item, of: did)
                }
                if page.isEmpty, var row = try rows.actor(did) {
                    row.mark(at: now)
                    try rows.put(row)
                }
                return page.last?.path
            }
        } while after != nil
    }

    package func noteReconciles() async throws {
        for actor in reconciles.withLock({ $0 }) {
            try await noteReconcile(of: actor)
            // One that is asked for meanwhile is the same: nothing was begun upon it yet.
            _ = reconciles.withLock { $0.remove(actor) }
        }
    }

    private func noteReconcile(of actor: DID) async throws {
        guard try await engine.log.head(of: actor).sequence > 0 else { return }
        let (now, enrollmentPath) = (now, publicRecords.enrollmentPath)
        try await store.transaction { rows in
            var row = try rows.actor(actor) ?? ReactorActor(did: actor)
            row.resume(at: now)
            row.sweeps += 1
            row.tidies += 1
            try rows.put(row)
            guard let enrollmentPath else { return }
            var item = try rows.item(enrollmentPath, of: actor) ?? ReactorItem(path: enrollmentPath)
            item.done = nil
            item.mark(due: 0)
            try rows.put(item, of: actor)
        }
        changes.signal()
    }

    // MARK: Reading events

    /// Reads the next page of the log and marks what it touches.
    /// - Returns: whether there may be more.
    func readPage() async throws -> Bool {
        let cursor = try await store.transaction { try $0.cursor() }
        let events = try await engine.log.events(afterPosition: cursor.position, limit: pace.pageMax)
        guard !events.isEmpty else { return false }
        var marks = ReactorMarks(after: cursor, service: publicRecords.service)
        for event in events {
            marks.add(event)
            if marks.pathCount >= Self.pathsMax { break }
        }
        if marks.unreadable > 0 {
            logger.error(
                "events cannot be read by the reactors",
                metadata: ["count": .stringConvertible(marks.unreadable), "upTo": .stringConvertible(marks.cursor.position)])
        }
        let (now, enrollmentPath) = (now, publicRecords.enrollmentPath)
        try await store.transaction { [marks] rows in try marks.apply(to: rows, enrollmentPath: enrollmentPath, at: now) }
        changes.signal()
        return true
    }

    /// Paths that are written down at a time, but for those of one more event.
    private static let pathsMax = 4096

    private func readEvents() async {
        while !Task.isCancelled {
            await untilDone("the reactors cannot read on") {
                try await self.noteReconciles()
                while try await self.readPage() {}
            }
            // An append whose outcome was not learnt sends no signal that can be relied upon.
            await arrivals.wait(atMost: .seconds(30))
            // Events come together; and they are read together.
            await pause(.milliseconds(10))
        }
    }

    /// Tries until it is done or the task is cancelled; says so once.
    private func untilDone(_ failure: Logger.Message, _ body: () async throws -> Void) async {
        var isSaid = false
        while !Task.isCancelled {
            do { return try await body() } catch {
                if !isSaid, !Task.isCancelled { logger.error(failure, metadata: ["error": "\(error)"]) }
                isSaid = true
                await pause(.seconds(1))
            }
        }
    }

    /// best effort: ends early where the task is cancelled, which is what is wanted.
    private func pause(_ duration: Duration) async { try? await Task.sleep(for: duration) }

    // MARK: Working

    private func workOnActors() async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                var next: Timestamp?
                await untilDone("the reactors cannot look at what is due") {
                    var taken: [ReactorActor]
                    repeat {
                        (taken, next) = try await self.take()
                        for actor in taken { group.addTask { await self.run(actor) } }
                    } while !taken.isEmpty
                }
                let wait = next.map { Duration.milliseconds(max(1, $0.milliseconds - now.milliseconds)) } ?? .seconds(60)
                await changes.wait(atMost: min(wait, .seconds(60)))
            }
        }
    }

    private func run(_ actor: ReactorActor) async {
        do { try await work(on: actor) } catch {
            if !Task.isCancelled {
                logger.error("an actor's public records wait", metadata: ["actor": .string("\(actor.did)"), "error": "\(error)"])
                // It is still due, and whatever failed may need a moment.
                await pause(.seconds(1))
            }
        }
        release(actor)
        changes.signal()
    }

    /// Takes actors whose time has come, as many as may be worked on at once, in all and on one server.
    /// - Returns: them, and when the next one is due; nil also where a place must become free first.
    private func take() async throws -> (taken: [ReactorActor], next: Timestamp?) {
        let (busy, full) = running.withLock { running in
            (Set(running.actors.keys), Set(running.perHost.filter { $0.value >= pace.workersPerHostMax }.keys))
        }
        let free = pace.workersMax - busy.count
        guard free > 0 else { return ([], nil) }
        let now = now
        let (due, next) = try await store.transaction { rows in
            (try rows.due(at: now, limit: free, except: busy, hosts: full), try rows.nextDue(after: now))
        }
        let taken = running.withLock { running in
            due.filter { actor in
                guard running.perHost[actor.host, default: 0] < pace.workersPerHostMax else { return false }
                running.perHost[actor.host, default: 0] += 1
                running.actors[actor.did] = actor.host
                return true
            }
        }
        return (taken, next)
    }

    private func release(_ actor: ReactorActor) {
        running.withLock { running in
            guard let host = running.actors.removeValue(forKey: actor.did) else { return }
            let left = running.perHost[host, default: 1] - 1
            running.perHost[host] = left > 0 ? left : nil
        }
    }
}
