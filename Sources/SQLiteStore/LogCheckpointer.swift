internal import Synchronization

/// Copies the WAL into `log.sqlite` beside the writer, on a thread and a connection of its own, so that no answer waits for it.
///
/// SQLite begins a WAL anew only when a transaction begins and all of it is in the file, and somebody who copies beside a busy
/// writer never gets there. So each pass copies what was written during the one before, until what is left is so little that the
/// writer copies it between two groups.
///
/// Before 3.51.3 SQLite damages a WAL that a writer begins anew after a pass has read what it holds and before it acts on that: old
/// frames go into the file, and frames of the new WAL that never went there count as copied. So a reading transaction of another
/// connection lasts as long as each pass. Where it reads from the WAL, the WAL is not begun anew; where all of the WAL was in the file
/// when it began, it reads from the file, and nobody may write that meanwhile, the pass included.
final class LogCheckpointer: Sendable {
    /// What is known of the WAL that was begun as the `epoch`th: so many of its pages are in the file. Too few only costs another pass.
    private struct Progress {
        var epoch = 0
        var copied = 0
        var isDiskFull = false
    }

    private final class SharedProgress: Sendable { let value = Mutex(Progress()) }

    private let progress = SharedProgress()
    private let requests = BlockingQueue<Void>(waitingMax: 1)
    private let thread: BackgroundThread

    /// - Parameters:
    ///   - holder: another connection, which keeps the WAL from being begun anew during a pass.
    ///   - onFailure: called on this thread, when nobody knows any longer what the file holds.
    init(
        connection: sending SQLiteConnection, holder: sending SQLiteConnection, state: LogState,
        onFailure: @escaping @Sendable (SQLiteError) -> Void
    ) {
        let (progress, requests) = (progress, requests)
        thread = BackgroundThread {
            while requests.take(wait: .forever, while: { _ in true }) != nil {
                let epoch = progress.value.withLock { $0.epoch }
                do throws(SQLiteError) {
                    let copied = try holder.reading { () throws(SQLiteError) in
                        _ = try holder.single("SELECT count(*) FROM sqlite_schema") { $0.integer(0) }  // Only a read begins to hold.
                        return try connection.checkpoint().copied
                    }
                    // Of a WAL that has been begun anew meanwhile, nothing is said.
                    progress.value.withLock { if $0.epoch == epoch { $0.copied = copied } }
                    state.with { $0.activity.checkpoints += 1 }
                } catch {
                    // Busy: the writer copies at this moment.
                    if error.isNoSpace { progress.value.withLock { $0.isDiskFull = true } } else if !error.isBusy { onFailure(error) }
                }
            }
            connection.close()
            holder.close()
        }
    }

    /// Asks for another pass; nothing where one is waiting already.
    func request() { _ = requests.push(()) }

    /// Of `pages` in the WAL, those that are not in the file yet.
    func left(of pages: Int) -> Int { pages - min(pages, progress.value.withLock { $0.copied }) }

    /// The WAL was begun anew.
    func forget() {
        progress.value.withLock { progress in
            progress.epoch += 1
            progress.copied = 0
        }
    }

    /// Whether the disk had no room for a pass since this was last asked.
    func takeDiskFull() -> Bool {
        progress.value.withLock { progress in
            defer { progress.isDiskFull = false }
            return progress.isDiskFull
        }
    }

    /// Ends the pass that is under way, and closes the file. Called once.
    func close() {
        requests.close()
        thread.join()
    }
}
