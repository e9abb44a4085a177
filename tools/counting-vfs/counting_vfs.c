#include "counting_vfs.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>

/* One entry for each name of a file, never removed. The benchmarks open a handful of names. */
enum { names_max = 32, name_bytes = 64 };

typedef struct {
    char name[name_bytes];
    atomic_uint_fast64_t syncs, writes, bytes;
} entry;

static entry entries[names_max];
static atomic_int entry_count;
static sqlite3_vfs *below;

typedef struct {
    sqlite3_file base;
    entry *counts;
    /* The file of the layer below follows behind this structure. */
} counted_file;

static sqlite3_file *inner(sqlite3_file *file) { return (sqlite3_file *)((counted_file *)file + 1); }

static const char *last_component(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static entry *find(const char *name) {
    for (int index = 0; index < atomic_load(&entry_count); index++) {
        if (strcmp(entries[index].name, name) == 0) return &entries[index];
    }
    return NULL;
}

/* Under SQLite's own mutex, since two threads may open a file of a new name at once. NULL: more names than the table holds. */
static entry *find_or_add(const char *name) {
    sqlite3_mutex *mutex = sqlite3_mutex_alloc(SQLITE_MUTEX_STATIC_VFS1);
    sqlite3_mutex_enter(mutex);
    entry *found = find(name);
    int count = atomic_load(&entry_count);
    if (!found && count < names_max && strlen(name) < name_bytes) {
        found = &entries[count];
        strcpy(found->name, name);
        atomic_store(&entry_count, count + 1);
    }
    sqlite3_mutex_leave(mutex);
    return found;
}

static int counted_close(sqlite3_file *file) { return inner(file)->pMethods->xClose(inner(file)); }

static int counted_read(sqlite3_file *file, void *bytes, int count, sqlite3_int64 offset) {
    return inner(file)->pMethods->xRead(inner(file), bytes, count, offset);
}

static int counted_write(sqlite3_file *file, const void *bytes, int count, sqlite3_int64 offset) {
    entry *counts = ((counted_file *)file)->counts;
    atomic_fetch_add(&counts->writes, 1);
    atomic_fetch_add(&counts->bytes, (uint64_t)count);
    return inner(file)->pMethods->xWrite(inner(file), bytes, count, offset);
}

static int counted_truncate(sqlite3_file *file, sqlite3_int64 size) { return inner(file)->pMethods->xTruncate(inner(file), size); }

static int counted_sync(sqlite3_file *file, int flags) {
    int code = inner(file)->pMethods->xSync(inner(file), flags);
    /* Only what was done counts. */
    if (code == SQLITE_OK) atomic_fetch_add(&((counted_file *)file)->counts->syncs, 1);
    return code;
}

static int counted_size(sqlite3_file *file, sqlite3_int64 *size) { return inner(file)->pMethods->xFileSize(inner(file), size); }
static int counted_lock(sqlite3_file *file, int level) { return inner(file)->pMethods->xLock(inner(file), level); }
static int counted_unlock(sqlite3_file *file, int level) { return inner(file)->pMethods->xUnlock(inner(file), level); }
static int counted_reserved(sqlite3_file *file, int *held) { return inner(file)->pMethods->xCheckReservedLock(inner(file), held); }
static int counted_control(sqlite3_file *file, int op, void *arg) { return inner(file)->pMethods->xFileControl(inner(file), op, arg); }
static int counted_sector(sqlite3_file *file) { return inner(file)->pMethods->xSectorSize(inner(file)); }
static int counted_device(sqlite3_file *file) { return inner(file)->pMethods->xDeviceCharacteristics(inner(file)); }

static int counted_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **address) {
    return inner(file)->pMethods->xShmMap(inner(file), page, size, extend, address);
}

static int counted_shm_lock(sqlite3_file *file, int offset, int count, int flags) {
    return inner(file)->pMethods->xShmLock(inner(file), offset, count, flags);
}

static void counted_shm_barrier(sqlite3_file *file) { inner(file)->pMethods->xShmBarrier(inner(file)); }
static int counted_shm_unmap(sqlite3_file *file, int deletes) { return inner(file)->pMethods->xShmUnmap(inner(file), deletes); }

/* Version 2: without memory mapping, which a log does not use. */
static const sqlite3_io_methods counted_methods = {
    .iVersion = 2,
    .xClose = counted_close,
    .xRead = counted_read,
    .xWrite = counted_write,
    .xTruncate = counted_truncate,
    .xSync = counted_sync,
    .xFileSize = counted_size,
    .xLock = counted_lock,
    .xUnlock = counted_unlock,
    .xCheckReservedLock = counted_reserved,
    .xFileControl = counted_control,
    .xSectorSize = counted_sector,
    .xDeviceCharacteristics = counted_device,
    .xShmMap = counted_shm_map,
    .xShmLock = counted_shm_lock,
    .xShmBarrier = counted_shm_barrier,
    .xShmUnmap = counted_shm_unmap,
};

static int counting_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *granted) {
    (void)vfs;
    file->pMethods = NULL;
    entry *counts = find_or_add(path ? last_component(path) : "(temporary)");
    if (!counts) return SQLITE_CANTOPEN;
    int code = below->xOpen(below, path, inner(file), flags, granted);
    if (code != SQLITE_OK) return code;
    ((counted_file *)file)->counts = counts;
    file->pMethods = &counted_methods;
    return SQLITE_OK;
}

static int counting_delete(sqlite3_vfs *vfs, const char *path, int syncs) {
    (void)vfs;
    return below->xDelete(below, path, syncs);
}

static int counting_access(sqlite3_vfs *vfs, const char *path, int flags, int *found) {
    (void)vfs;
    return below->xAccess(below, path, flags, found);
}

static int counting_full_path(sqlite3_vfs *vfs, const char *path, int count, char *full) {
    (void)vfs;
    return below->xFullPathname(below, path, count, full);
}

static int counting_randomness(sqlite3_vfs *vfs, int count, char *bytes) {
    (void)vfs;
    return below->xRandomness(below, count, bytes);
}

static int counting_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    return below->xSleep(below, microseconds);
}

static int counting_time(sqlite3_vfs *vfs, double *days) {
    (void)vfs;
    return below->xCurrentTime(below, days);
}

static int counting_last_error(sqlite3_vfs *vfs, int count, char *text) {
    (void)vfs;
    return below->xGetLastError(below, count, text);
}

static int counting_time_milliseconds(sqlite3_vfs *vfs, sqlite3_int64 *milliseconds) {
    (void)vfs;
    return below->xCurrentTimeInt64(below, milliseconds);
}

int counting_vfs_register(const char *name) {
    static sqlite3_vfs layer;
    below = sqlite3_vfs_find(NULL);
    if (!below || below->iVersion < 2) return SQLITE_NOTFOUND;
    layer = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = (int)sizeof(counted_file) + below->szOsFile,
        .mxPathname = below->mxPathname,
        .zName = name,
        .xOpen = counting_open,
        .xDelete = counting_delete,
        .xAccess = counting_access,
        .xFullPathname = counting_full_path,
        .xRandomness = counting_randomness,
        .xSleep = counting_sleep,
        .xCurrentTime = counting_time,
        .xGetLastError = counting_last_error,
        .xCurrentTimeInt64 = counting_time_milliseconds,
    };
    return sqlite3_vfs_register(&layer, 0);
}

counting_vfs_counts counting_vfs_counts_of(const char *name) {
    const entry *found = find(name);
    if (!found) return (counting_vfs_counts){0};
    return (counting_vfs_counts){
        .syncs = atomic_load(&found->syncs),
        .writes = atomic_load(&found->writes),
        .bytes = atomic_load(&found->bytes),
    };
}
