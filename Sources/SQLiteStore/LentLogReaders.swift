internal import EventLog
internal import Synchronization

/// Connections that read the log on the threads of whoever asks, one thread at a time each.
///
/// A thread that has an actor's rows open reads a record's block so: to wake a reader's thread and to be woken by it costs more than
/// the read. SQLite lets a connection pass from thread to thread as long as only one uses it, which each one's lock sees to.
final class LentLogReaders: Sendable {
    private final class Place: Sendable {
        /// Nil once closed.
        let reader: Mutex<LogReader?>

        init(path: String, options: LogStoreOptions) throws(SQLiteError) {
            let connection = try SQLiteConnection(path: path, options: options.connection(.readOnly, cacheKiB: options.readerCacheKiB))
            reader = Mutex(LogReader(connection: connection))
        }
    }

    private let places: [Place]

    init(path: String, options: LogStoreOptions) throws(SQLiteError) {
        var places: [Place] = []
        for _ in 0..<max(1, options.readers) { places.append(try Place(path: path, options: options)) }
        self.places = places
    }

    /// Runs `body` with a connection that is free, or with the first once it is.
    func read<Value: Sendable>(_ body: @Sendable (LogReader) throws(EventLogError) -> Value) throws(EventLogError) -> Value {
        for place in places {
            if let result = place.reader.withLockIfAvailable({ Self.result($0, body) }) { return try result.get() }
        }
        return try places[0].reader.withLock { Self.result($0, body) }.get()
    }

    private static func result<Value: Sendable>(
        _ reader: LogReader?, _ body: @Sendable (LogReader) throws(EventLogError) -> Value
    ) -> Result<Value, EventLogError> {
        guard let reader else { return .failure(.closed) }
        return Result { () throws(EventLogError) in try body(reader) }
    }

    func close() {
        for place in places {
            place.reader.withLock { reader in
                reader?.connection.close()
                reader = nil
            }
        }
    }
}
