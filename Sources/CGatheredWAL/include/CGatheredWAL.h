/* Gathers the writes of a write-ahead log.
 *
 * SQLite writes a WAL frame by frame, in two calls each: a commit of a hundred pages is two hundred system calls. Here what is written
 * one behind the other is kept in memory and handed to the file layer in one call, at the latest when the file is synced, read,
 * measured, cut or closed. So nothing is durable, or seen by another connection, sooner or in another order than without: SQLite
 * tells others of a commit only after the sync, and with `synchronous = FULL` every commit has one.
 *
 * A write that the disk refuses is therefore refused by the call that hands it over, most often the sync. What was gathered is then
 * dropped: SQLite takes the transaction back and writes the same place again. */
#pragma once
#include <sqlite3.h>

/* Gathers what `db` writes to its WAL, some 30 pages at a time, until it is closed. To be called once, when the WAL is open, on a
 * connection with `synchronous = FULL`. Returns a SQLite code. */
int gathered_wal_begin(sqlite3 *db);
