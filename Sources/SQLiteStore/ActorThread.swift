import ATProto
import Commands

/// A thread that alone has some actors' files open, and does what it is given in order. What waits is bounded; more is refused.
final class ActorThread: Sendable {
    private typealias Job = @Sendable (OpenActors) -> Void

    private let queue: BlockingQueue<Job>
    private let thread: BackgroundThread

    /// How long there must have been nothing to do before what was applied is committed.
    private static let restMilliseconds = 50

    init(
        places: OpenPlaces, directory: ActorDirectory, waitingMax: Int = 4096, onDamage: @escaping @Sendable (DID, any Error) -> Void
    ) {
        let queue = BlockingQueue<Job>(waitingMax: waitingMax)
        self.queue = queue
        thread = BackgroundThread {
            let open = OpenActors(directory: directory, places: places, onDamage: onDamage)
            while let jobs = queue.take(wait: open.isUnwritten ? .milliseconds(Self.restMilliseconds) : .forever, while: { _ in true }) {
                for job in jobs { job(open) }
                if jobs.isEmpty { open.commitAll() }
            }
            open.closeAll()
        }
    }

    /// Runs `body` on the thread.
    /// - Throws: `Refusal.overloaded` when too much waits or the thread has ended, and what `body` throws.
    func run<Result: Sendable>(_ body: @escaping @Sendable (OpenActors) throws -> Result) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            let push = queue.push { open in continuation.resume(with: Swift.Result { try body(open) }) }
            if push != .queued { continuation.resume(throwing: Refusal.overloaded) }
        }
    }

    /// Takes nothing more, does what waits, closes the files, and returns when that is done. Called once.
    func close() {
        queue.close()
        thread.join()
    }
}
