internal import EventLog

/// Threads that read, each with a connection of its own, behind one bounded queue: a read never blocks a task's thread.
final class LogReaderPool: Sendable {
    private typealias Job = @Sendable (LogReader) -> Void
    private let queue: BlockingQueue<Job>
    private let threads: [BackgroundThread]

    init(path: String, options: LogStoreOptions) throws(SQLiteError) {
        let queue = BlockingQueue<Job>(waitingMax: options.waitingMax)
        var threads: [BackgroundThread] = []
        do throws(SQLiteError) {
            for _ in 0..<options.readers {
                let connection = try SQLiteConnection(path: path, options: options.connection(.readOnly, cacheKiB: options.readerCacheKiB))
                threads.append(
                    BackgroundThread {
                        let reader = LogReader(connection: connection)
                        while let jobs = queue.take(wait: .forever, while: { _ in false }) {
                            for job in jobs { job(reader) }
                        }
                        connection.close()
                    })
            }
        } catch {
            queue.close()
            for thread in threads { thread.join() }
            throw error
        }
        self.queue = queue
        self.threads = threads
    }

    /// Runs `body` on one of the threads.
    func read<Value: Sendable>(_ body: @escaping @Sendable (LogReader) throws(EventLogError) -> Value) async throws(EventLogError) -> Value
    {
        let result = await withCheckedContinuation { (continuation: CheckedContinuation<Result<Value, EventLogError>, Never>) in
            let pushed = queue.push { reader in
                continuation.resume(returning: Result { () throws(EventLogError) in try body(reader) })
            }
            switch pushed {
            case .queued: break
            case .full: continuation.resume(returning: .failure(.overloaded))
            case .closed: continuation.resume(returning: .failure(.closed))
            }
        }
        return try result.get()
    }

    func close() {
        queue.close()
        for thread in threads { thread.join() }
    }
}
