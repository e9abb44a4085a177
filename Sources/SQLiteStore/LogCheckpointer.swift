internal import Synchronization

/// Copies the WAL into `log.sqlite` beside the writer, on a thread and a connection of its own, so that no answer waits for it.
///
/// SQLite begins a WAL anew only when a transaction begins and all of it is in the file, and somebody who copies beside a busy
/// writer never gets there. So each pass copies what was written during the one before, until what is left is so little that the
/// writer copies it between two groups.
final class LogCheckpointer: Sendable {
    private final class Progress: Sendable {
        /// Pages of the WAL that are in the file, as far as is known: too few only costs another pass.
        let copied = Atomic<Int>(0)
        let isDiskFull = Atomic<Bool>(false)
    }

    private let progress = Progress()
    private let requests = BlockingQueue<Void>(waitingMax: 1)
    private let thread: BackgroundThread

    /// - Parameter onFailure: called on this thread, when nobody knows any longer what the file holds.
    init(connection: sending SQLiteConnection, state: LogState, onFailure: @escaping @Sendable (SQLiteError) -> Void) {
        let (progress, requests) = (progress, requests)
        thread = BackgroundThread {
            while requests.take(wait: .forever, while: { _ in true }) != nil {
                do throws(SQLiteError) {
                    let pass = try connection.checkpoint()
                    // All of it: the next transaction begins the WAL anew.
                    progress.copied.store(pass.left == 0 ? 0 : pass.copied, ordering: .releasing)
                    state.with { $0.activity.checkpoints += 1 }
                } catch {
                    // Busy: the writer copies at this moment.
                    if error.isNoSpace { progress.isDiskFull.store(true, ordering: .releasing) } else if !error.isBusy { onFailure(error) }
                }
            }
            connection.close()
        }
    }

    /// Asks for another pass; nothing where one is waiting already.
    func request() { _ = requests.push(()) }

    /// Of `pages` in the WAL, those that are not in the file yet.
    func left(of pages: Int) -> Int { pages - min(pages, progress.copied.load(ordering: .acquiring)) }

    /// The WAL was begun anew.
    func forget() { progress.copied.store(0, ordering: .releasing) }

    /// Whether the disk had no room for a pass since this was last asked.
    func takeDiskFull() -> Bool { progress.isDiskFull.exchange(false, ordering: .acquiringAndReleasing) }

    /// Ends the pass that is under way, and closes the file. Called once.
    func close() {
        requests.close()
        thread.join()
    }
}
