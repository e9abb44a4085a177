#include "CGatheredWAL.h"

#include <stdlib.h>
#include <string.h>

/* SQLite's own file layer takes the size of a write modulo 128 KiB. */
enum { bytes_max = 0x1ffff };

/* Stands in the place of the methods of one open file, whose own it calls. SQLite finds it through the file, and so do we. */
typedef struct {
    sqlite3_io_methods methods;
    const sqlite3_io_methods *below;
    sqlite3_int64 start;
    int count;
    char bytes[bytes_max];
} gathered;

static gathered *gathered_of(sqlite3_file *file) { return (gathered *)file->pMethods; }

static int hand_over(sqlite3_file *file) {
    gathered *it = gathered_of(file);
    int count = it->count;
    it->count = 0;
    return count == 0 ? SQLITE_OK : it->below->xWrite(file, it->bytes, count, it->start);
}

static int gather(sqlite3_file *file, const void *bytes, int count, sqlite3_int64 offset) {
    gathered *it = gathered_of(file);
    if (it->count > 0 && (offset != it->start + it->count || count > bytes_max - it->count)) {
        int code = hand_over(file);
        if (code != SQLITE_OK) return code;
    }
    if (count > bytes_max) return it->below->xWrite(file, bytes, count, offset);
    if (it->count == 0) it->start = offset;
    memcpy(it->bytes + it->count, bytes, (size_t)count);
    it->count += count;
    return SQLITE_OK;
}

static int sync_gathered(sqlite3_file *file, int flags) {
    int code = hand_over(file);
    return code == SQLITE_OK ? gathered_of(file)->below->xSync(file, flags) : code;
}

static int read_gathered(sqlite3_file *file, void *bytes, int count, sqlite3_int64 offset) {
    int code = hand_over(file);
    return code == SQLITE_OK ? gathered_of(file)->below->xRead(file, bytes, count, offset) : code;
}

static int truncate_gathered(sqlite3_file *file, sqlite3_int64 size) {
    int code = hand_over(file);
    return code == SQLITE_OK ? gathered_of(file)->below->xTruncate(file, size) : code;
}

static int size_gathered(sqlite3_file *file, sqlite3_int64 *size) {
    int code = hand_over(file);
    return code == SQLITE_OK ? gathered_of(file)->below->xFileSize(file, size) : code;
}

/* What was not synced belongs to no commit, so that nobody misses it where the disk refuses it. */
static int close_gathered(sqlite3_file *file) {
    gathered *it = gathered_of(file);
    int handed = hand_over(file);
    file->pMethods = it->below;
    free(it);
    int code = file->pMethods->xClose(file);
    return code == SQLITE_OK ? handed : code;
}

int gathered_wal_begin(sqlite3 *db) {
    sqlite3_file *file = NULL;
    int code = sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);
    if (code != SQLITE_OK) return code;
    if (!file || !file->pMethods) return SQLITE_MISUSE;
    gathered *it = malloc(sizeof *it);
    if (!it) return SQLITE_NOMEM;
    it->below = file->pMethods;
    it->start = 0;
    it->count = 0;
    it->methods = *it->below;
    it->methods.xClose = close_gathered;
    it->methods.xRead = read_gathered;
    it->methods.xWrite = gather;
    it->methods.xTruncate = truncate_gathered;
    it->methods.xSync = sync_gathered;
    it->methods.xFileSize = size_gathered;
    file->pMethods = &it->methods;
    return SQLITE_OK;
}
