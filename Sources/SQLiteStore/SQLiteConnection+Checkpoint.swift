internal import CGatheredWAL
internal import CSQLite

extension SQLiteConnection {
    /// Copies pages of the WAL into the file without waiting for readers (PASSIVE), syncing both.
    /// - Parameter truncates: leaves an empty WAL (TRUNCATE). For a file that only this connection has open and that is closed and opened
    ///   again: what is left in a WAL counts as new when it is next opened, so that it would grow for ever.
    /// - Returns: how many of the WAL's pages are in the file now, and how many are not: those that readers still need, or that
    ///   somebody wrote meanwhile.
    @discardableResult
    package func checkpoint(truncates: Bool = false) throws(SQLiteError) -> (copied: Int, left: Int) {
        var pages: Int32 = 0
        var copied: Int32 = 0
        let mode = truncates ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE
        let code = sqlite3_wal_checkpoint_v2(handle, "main", mode, &pages, &copied)
        guard code == SQLITE_OK else { throw SQLiteError("checkpoint", code: code, handle: handle, path: path) }
        walPages = max(0, Int(pages - copied))
        return (Int(copied), walPages)
    }

    /// Whether closing the file's last connection copies the WAL into it and removes the WAL; SQLite does so unless told.
    package var checkpointsWhenClosed: Bool {
        get { closesCleanly }
        set {
            closesCleanly = newValue
            csqlite_config_switch(handle, Int32(SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE), newValue ? 0 : 1)
        }
    }

    /// Hands what a commit writes to the WAL over some thirty pages at a time. For a connection that is `full`, because what is gathered is
    /// handed over when it is synced, and that has its WAL open, because it was read from.
    func gatherWAL() throws(SQLiteError) {
        let code = gathered_wal_begin(handle)
        guard code == SQLITE_OK else { throw SQLiteError("gather", code: code, handle: handle, path: path) }
    }

    /// Counts the WAL's pages from here on, in `walPages`. Replaces checkpoints by commits: the options must ask for none.
    func watchWAL() {
        sqlite3_wal_hook(
            handle,
            { context, _, _, pages in
                context?.assumingMemoryBound(to: Int.self).pointee = Int(pages)
                return SQLITE_OK
            }, walPageCount)
    }
}
