// A disk in memory with a memory of its own past. See the header for what it promises.
//
// Invariants:
//   1. Everything is under `mutex`, but for the bytes of a WAL index, which SQLite's own locks and barriers order.
//   2. Inodes, names and recorded operations live as long as the disk's contents: nothing points to what is freed.
//   3. An operation is durable from `durable_at` on, the number of the sync that covered it. A sync that fails loses what
//      it should have covered, from `lost_at` on: the system takes the pages for clean, and no later sync writes them.

#include "CFaultyVFS.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { block_bytes = 4096, name_bytes_max = 512, shm_locks = SQLITE_SHM_NLOCK };
static const uint64_t never = UINT64_MAX;
static const uint32_t none = UINT32_MAX;

enum operation_kind { op_link, op_unlink, op_write, op_truncate, op_sync, op_sync_directory };

struct operation {
    enum operation_kind kind;
    uint32_t inode;
    uint32_t name;
    uint64_t offset;
    uint64_t count;
    size_t data;  // where the written bytes stand in the arena
    uint64_t durable_at;
    uint64_t lost_at;
};

struct numbers {
    uint64_t *values;
    size_t count, capacity;
};

struct bytes {
    uint8_t *start;
    size_t count, capacity;
};

struct shm {
    uint8_t **regions;
    int region_count, region_bytes;
    struct handle *handles;
};

struct inode {
    struct bytes content;
    struct bytes base;       // what it was before the first operation
    struct bytes allocated;  // a byte for each block that has room on the disk
    struct numbers pending;  // operations that no sync has covered yet
    struct handle *handles;
    struct shm *shm;
};

struct faulty_disk {
    sqlite3_vfs vfs;
    char *name;
    pthread_mutex_t mutex;
    pthread_cond_t released;

    struct inode **inodes;
    uint32_t inode_count, inode_capacity;
    char **names;
    uint32_t *entries;  // the inode behind each name, or none
    uint32_t *base_entries;
    uint32_t name_count, name_capacity;
    struct numbers pending_entries;

    int records;
    struct operation *operations;
    uint64_t operation_count, operation_capacity;
    struct bytes arena;

    uint64_t call_count;
    struct bytes call_kinds;
    faulty_plan plan;
    faulty_hit hit;
    uint32_t held_kinds;
    int holds_checkpoints;
    int held_count;
    int open_count;
    char pragma[32], answer[32];
};

struct handle {
    sqlite3_file base;
    faulty_disk *disk;
    struct inode *inode;
    uint32_t inode_number;
    uint32_t name;
    int syncs_directory;
    int lock;
    int shm_is_open;
    uint16_t shm_shared, shm_exclusive;
    struct handle *next;      // of the same inode
    struct handle *shm_next;  // of the same WAL index
};

// Memory

static void *resized(void *old, size_t count) {
    void *new = realloc(old, count ? count : 1);
    if (!new) {
        fprintf(stderr, "CFaultyVFS: no memory for %zu bytes\n", count);
        abort();
    }
    return new;
}

static void reserve(struct bytes *bytes, size_t count) {
    if (count <= bytes->capacity) return;
    size_t capacity = bytes->capacity ? bytes->capacity : block_bytes;
    while (capacity < count) capacity *= 2;
    bytes->start = resized(bytes->start, capacity);
    bytes->capacity = capacity;
}

/// Makes it so long; new bytes are zero.
static void set_count(struct bytes *bytes, size_t count) {
    reserve(bytes, count);
    if (count > bytes->count) memset(bytes->start + bytes->count, 0, count - bytes->count);
    bytes->count = count;
}

static void put(struct bytes *bytes, size_t offset, const void *source, size_t count) {
    if (offset + count > bytes->count) set_count(bytes, offset + count);
    if (count) memcpy(bytes->start + offset, source, count);
}

static void assign(struct bytes *to, const struct bytes *from) {
    reserve(to, from->count);
    if (from->count) memcpy(to->start, from->start, from->count);
    to->count = from->count;
}

static void push(struct numbers *numbers, uint64_t value) {
    if (numbers->count == numbers->capacity) {
        numbers->capacity = numbers->capacity ? numbers->capacity * 2 : 16;
        numbers->values = resized(numbers->values, numbers->capacity * sizeof *numbers->values);
    }
    numbers->values[numbers->count++] = value;
}

// Names and inodes

static uint32_t name_number(faulty_disk *disk, const char *name) {
    for (uint32_t i = 0; i < disk->name_count; i++) {
        if (!strcmp(disk->names[i], name)) return i;
    }
    if (disk->name_count == disk->name_capacity) {
        disk->name_capacity = disk->name_capacity ? disk->name_capacity * 2 : 8;
        disk->names = resized(disk->names, disk->name_capacity * sizeof *disk->names);
        disk->entries = resized(disk->entries, disk->name_capacity * sizeof *disk->entries);
        disk->base_entries = resized(disk->base_entries, disk->name_capacity * sizeof *disk->base_entries);
    }
    size_t count = strlen(name) + 1;
    disk->names[disk->name_count] = memcpy(resized(NULL, count), name, count);
    disk->entries[disk->name_count] = none;
    disk->base_entries[disk->name_count] = none;
    return disk->name_count++;
}

static uint32_t new_inode(faulty_disk *disk) {
    if (disk->inode_count == disk->inode_capacity) {
        disk->inode_capacity = disk->inode_capacity ? disk->inode_capacity * 2 : 8;
        disk->inodes = resized(disk->inodes, disk->inode_capacity * sizeof *disk->inodes);
    }
    struct inode *inode = resized(NULL, sizeof *inode);
    memset(inode, 0, sizeof *inode);
    disk->inodes[disk->inode_count] = inode;
    return disk->inode_count++;
}

static void clear(faulty_disk *disk) {
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        struct inode *inode = disk->inodes[i];
        free(inode->content.start);
        free(inode->base.start);
        free(inode->allocated.start);
        free(inode->pending.values);
        free(inode);
    }
    for (uint32_t i = 0; i < disk->name_count; i++) free(disk->names[i]);
    disk->inode_count = 0;
    disk->name_count = 0;
    disk->operation_count = 0;
    disk->arena.count = 0;
    disk->pending_entries.count = 0;
    disk->call_count = 0;
    disk->call_kinds.count = 0;
    memset(&disk->plan, 0, sizeof disk->plan);
    memset(&disk->hit, 0, sizeof disk->hit);
}

// Operations: each changes the files as they are seen, and is written down.

static void allocate(struct inode *inode, uint64_t offset, uint64_t count) {
    if (!count) return;
    size_t last = (size_t)((offset + count - 1) / block_bytes);
    if (inode->allocated.count <= last) set_count(&inode->allocated, last + 1);
    memset(inode->allocated.start + offset / block_bytes, 1, last + 1 - (size_t)(offset / block_bytes));
}

static void apply(faulty_disk *disk, const struct operation *operation, const uint8_t *data) {
    struct inode *inode = operation->inode == none ? NULL : disk->inodes[operation->inode];
    switch (operation->kind) {
    case op_link: disk->entries[operation->name] = operation->inode; break;
    case op_unlink: disk->entries[operation->name] = none; break;
    case op_write:
        put(&inode->content, (size_t)operation->offset, data, (size_t)operation->count);
        allocate(inode, operation->offset, operation->count);
        break;
    case op_truncate: {
        set_count(&inode->content, (size_t)operation->offset);
        size_t blocks = (size_t)((operation->offset + block_bytes - 1) / block_bytes);
        if (inode->allocated.count > blocks) inode->allocated.count = blocks;
        break;
    }
    case op_sync:
    case op_sync_directory: break;
    }
}

/// The operations that wait for the same sync as this one; NULL for a sync.
static struct numbers *pending_beside(faulty_disk *disk, const struct operation *operation) {
    switch (operation->kind) {
    case op_link:
    case op_unlink: return &disk->pending_entries;
    case op_write:
    case op_truncate: return &disk->inodes[operation->inode]->pending;
    default: return NULL;
    }
}

static void note(faulty_disk *disk, struct operation operation, const uint8_t *data) {
    if (!disk->records) return;
    if (disk->operation_count == disk->operation_capacity) {
        disk->operation_capacity = disk->operation_capacity ? disk->operation_capacity * 2 : 256;
        disk->operations = resized(disk->operations, (size_t)disk->operation_capacity * sizeof operation);
    }
    if (operation.kind == op_write) {
        operation.data = disk->arena.count;
        put(&disk->arena, disk->arena.count, data, (size_t)operation.count);
    }
    uint64_t number = disk->operation_count++;
    disk->operations[number] = operation;
    struct numbers *pending = pending_beside(disk, &operation);
    if (pending && operation.durable_at == never && operation.lost_at == never) push(pending, number);
}

static struct operation operation(enum operation_kind kind, uint32_t inode, uint32_t name, uint64_t offset, uint64_t count) {
    return (struct operation){kind, inode, name, offset, count, 0, never, never};
}

static void perform(faulty_disk *disk, struct operation operation, const uint8_t *data) {
    apply(disk, &operation, data);
    note(disk, operation, data);
}

/// Makes the first `count` of what is pending durable as of the operation that is noted next, and loses the rest.
static void cover(faulty_disk *disk, struct numbers *pending, size_t count) {
    for (size_t i = 0; i < pending->count; i++) {
        struct operation *operation = &disk->operations[pending->values[i]];
        *(i < count ? &operation->durable_at : &operation->lost_at) = disk->operation_count;
    }
    pending->count = 0;
}

// Faults

static int can_fail(const faulty_disk *disk, int kind, int needs_room) {
    const faulty_plan *plan = &disk->plan;
    if (!plan->first || disk->call_count < plan->first || !(plan->calls >> kind & 1)) return 0;
    if (!plan->forever && disk->hit.count) return 0;
    return !plan->needs_room || needs_room;
}

/// Counts a call. The caller holds the mutex.
/// - Returns: 0, or the error that it must answer with.
static int begin(faulty_disk *disk, int kind, uint32_t name, int needs_room) {
    while (disk->held_kinds >> kind & 1) {
        disk->held_count++;
        pthread_cond_wait(&disk->released, &disk->mutex);
        disk->held_count--;
    }
    disk->call_count++;
    if (disk->records) {
        uint8_t byte = (uint8_t)kind;
        put(&disk->call_kinds, disk->call_kinds.count, &byte, 1);
    }
    if (!can_fail(disk, kind, needs_room)) return 0;
    if (!disk->hit.count) {
        disk->hit.number = disk->call_count;
        disk->hit.kind = kind;
        disk->hit.file = name == none ? "" : disk->names[name];
    }
    disk->hit.count++;
    return disk->plan.error;
}

/// How much of `count` a failing call does.
static uint64_t done(const faulty_disk *disk, uint64_t count) {
    switch (disk->plan.effect) {
    case faulty_whole: return count;
    case faulty_half: return count / 2;
    default: return 0;
    }
}

/// Ends a call: lets go of the mutex and leaves `errno` as a failed system call would.
static int end(faulty_disk *disk, int code, int error) {
    pthread_mutex_unlock(&disk->mutex);
    if (error) errno = error;
    return code;
}

static struct handle *lock(sqlite3_file *file) {
    struct handle *handle = (struct handle *)file;
    pthread_mutex_lock(&handle->disk->mutex);
    return handle;
}

// Files

static int file_close(sqlite3_file *file) {
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    struct handle **link = &handle->inode->handles;
    while (*link != handle) link = &(*link)->next;
    *link = handle->next;
    disk->open_count--;
    return end(disk, SQLITE_OK, 0);
}

static int file_read(sqlite3_file *file, void *buffer, int count, sqlite3_int64 offset) {
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    int error = begin(disk, faulty_read, handle->name, 0);
    if (error) return end(disk, SQLITE_IOERR_READ, error);
    const struct bytes *content = &handle->inode->content;
    size_t present = (size_t)offset >= content->count ? 0 : content->count - (size_t)offset;
    if (present > (size_t)count) present = (size_t)count;
    if (present) memcpy(buffer, content->start + offset, present);
    if (present == (size_t)count) return end(disk, SQLITE_OK, 0);
    memset((uint8_t *)buffer + present, 0, (size_t)count - present);
    return end(disk, SQLITE_IOERR_SHORT_READ, 0);
}

/// How many of the bytes fit without a block that the file does not have.
static uint64_t fitting(const struct inode *inode, uint64_t offset, uint64_t count) {
    uint64_t at = offset;
    while (at < offset + count) {
        size_t block = (size_t)(at / block_bytes);
        if (block >= inode->allocated.count || !inode->allocated.start[block]) return at - offset;
        at = (uint64_t)(block + 1) * block_bytes;
    }
    return count;
}

static int file_write(sqlite3_file *file, const void *buffer, int count, sqlite3_int64 offset) {
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    uint64_t fits = fitting(handle->inode, (uint64_t)offset, (uint64_t)count);
    int error = begin(disk, faulty_write, handle->name, fits < (uint64_t)count);
    uint64_t written = (uint64_t)count;
    if (error) written = disk->plan.needs_room && disk->plan.effect == faulty_half ? fits : done(disk, (uint64_t)count);
    if (written) perform(disk, operation(op_write, handle->inode_number, none, (uint64_t)offset, written), buffer);
    // As the operating system's layer: a disk without space has a code of its own, a quota has not.
    return end(disk, !error ? SQLITE_OK : error == ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE, error);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size) {
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    int error = begin(disk, faulty_truncate, handle->name, 0);
    if (!error || disk->plan.effect == faulty_whole) perform(disk, operation(op_truncate, handle->inode_number, none, (uint64_t)size, 0), NULL);
    return end(disk, error ? SQLITE_IOERR_TRUNCATE : SQLITE_OK, error);
}

static int file_sync(sqlite3_file *file, int flags) {
    (void)flags;
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    int error = begin(disk, faulty_sync, handle->name, 0);
    struct numbers *pending = &handle->inode->pending;
    cover(disk, pending, error ? (size_t)done(disk, pending->count) : pending->count);
    note(disk, operation(op_sync, handle->inode_number, none, 0, 0), NULL);
    if (!error && handle->syncs_directory) {
        handle->syncs_directory = 0;
        cover(disk, &disk->pending_entries, disk->pending_entries.count);
        note(disk, operation(op_sync_directory, none, none, 0, 0), NULL);
    }
    return end(disk, error ? SQLITE_IOERR_FSYNC : SQLITE_OK, error);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size) {
    struct handle *handle = lock(file);
    int error = begin(handle->disk, faulty_size, handle->name, 0);
    *size = (sqlite3_int64)handle->inode->content.count;
    return end(handle->disk, error ? SQLITE_IOERR_FSTAT : SQLITE_OK, error);
}

static int others_hold(const struct handle *handle, int level) {
    for (struct handle *other = handle->inode->handles; other; other = other->next) {
        if (other != handle && other->lock >= level) return 1;
    }
    return 0;
}

static int file_lock(sqlite3_file *file, int level) {
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    if (handle->lock >= level) return end(disk, SQLITE_OK, 0);
    int error = begin(disk, faulty_lock, handle->name, 0);
    if (error) return end(disk, SQLITE_IOERR_LOCK, error);
    int code = SQLITE_OK;
    if (level == SQLITE_LOCK_SHARED) {
        if (others_hold(handle, SQLITE_LOCK_PENDING)) code = SQLITE_BUSY;
    } else if (others_hold(handle, SQLITE_LOCK_RESERVED)) {
        code = SQLITE_BUSY;
    } else if (level == SQLITE_LOCK_EXCLUSIVE && others_hold(handle, SQLITE_LOCK_SHARED)) {
        handle->lock = SQLITE_LOCK_PENDING;
        code = SQLITE_BUSY;
    }
    if (code == SQLITE_OK) handle->lock = level;
    return end(disk, code, 0);
}

static int file_unlock(sqlite3_file *file, int level) {
    struct handle *handle = lock(file);
    if (handle->lock > level) handle->lock = level;
    return end(handle->disk, SQLITE_OK, 0);
}

static int file_check_reserved_lock(sqlite3_file *file, int *answer) {
    struct handle *handle = lock(file);
    *answer = handle->lock >= SQLITE_LOCK_RESERVED || others_hold(handle, SQLITE_LOCK_RESERVED);
    return end(handle->disk, SQLITE_OK, 0);
}

static int file_control(sqlite3_file *file, int control, void *argument) {
    if (control != SQLITE_FCNTL_PRAGMA) return SQLITE_NOTFOUND;
    char **words = argument;
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    int answers = disk->pragma[0] && !strcmp(words[1], disk->pragma);
    if (answers) words[0] = sqlite3_mprintf("%s", disk->answer);
    return end(disk, answers ? SQLITE_OK : SQLITE_NOTFOUND, 0);
}

static int file_sector_size(sqlite3_file *file) {
    (void)file;
    return block_bytes;
}

static int file_characteristics(sqlite3_file *file) {
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

// The WAL index, in memory that all who have the file open share.

static int shm_map(sqlite3_file *file, int region, int bytes, int extend, void volatile **address) {
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    struct inode *inode = handle->inode;
    *address = NULL;
    if (!inode->shm) {
        inode->shm = resized(NULL, sizeof *inode->shm);
        memset(inode->shm, 0, sizeof *inode->shm);
        inode->shm->region_bytes = bytes;
    }
    struct shm *shm = inode->shm;
    if (!handle->shm_is_open) {
        handle->shm_is_open = 1;
        handle->shm_next = shm->handles;
        shm->handles = handle;
    }
    if (region < shm->region_count) {
        *address = shm->regions[region];
        return end(disk, SQLITE_OK, 0);
    }
    if (!extend) return end(disk, SQLITE_OK, 0);
    int error = begin(disk, faulty_map, handle->name, 1);
    if (error) return end(disk, error == ENOSPC ? SQLITE_IOERR_SHMSIZE : SQLITE_IOERR_SHMMAP, error);
    shm->regions = resized(shm->regions, (size_t)(region + 1) * sizeof *shm->regions);
    while (shm->region_count <= region) {
        shm->regions[shm->region_count] = memset(resized(NULL, (size_t)bytes), 0, (size_t)bytes);
        shm->region_count++;
    }
    *address = shm->regions[region];
    return end(disk, SQLITE_OK, 0);
}

static int shm_lock(sqlite3_file *file, int offset, int count, int flags) {
    struct handle *handle = lock(file);
    uint16_t mask = (uint16_t)((1u << (offset + count)) - (1u << offset));
    if (flags & SQLITE_SHM_UNLOCK) {
        handle->shm_shared &= (uint16_t)~mask;
        handle->shm_exclusive &= (uint16_t)~mask;
        return end(handle->disk, SQLITE_OK, 0);
    }
    for (struct handle *other = handle->inode->shm->handles; other; other = other->shm_next) {
        if (other == handle) continue;
        int shares = (flags & SQLITE_SHM_EXCLUSIVE) && (other->shm_shared & mask);
        if (shares || (other->shm_exclusive & mask)) return end(handle->disk, SQLITE_BUSY, 0);
    }
    if (flags & SQLITE_SHM_EXCLUSIVE) {
        handle->shm_exclusive |= mask;
    } else {
        handle->shm_shared |= mask;
    }
    return end(handle->disk, SQLITE_OK, 0);
}

static void shm_barrier(sqlite3_file *file) {
    __sync_synchronize();
    struct handle *handle = lock(file);
    end(handle->disk, SQLITE_OK, 0);
}

static int shm_unmap(sqlite3_file *file, int delete) {
    (void)delete;
    struct handle *handle = lock(file);
    struct shm *shm = handle->inode->shm;
    if (handle->shm_is_open) {
        struct handle **link = &shm->handles;
        while (*link != handle) link = &(*link)->shm_next;
        *link = handle->shm_next;
        handle->shm_is_open = 0;
        handle->shm_shared = handle->shm_exclusive = 0;
        // The first who opens it again makes it anew, as the operating system's layer does by truncating its file.
        if (!shm->handles) {
            for (int i = 0; i < shm->region_count; i++) free(shm->regions[i]);
            free(shm->regions);
            free(shm);
            handle->inode->shm = NULL;
        }
    }
    return end(handle->disk, SQLITE_OK, 0);
}

// Nothing is ever mapped.
static int file_fetch(sqlite3_file *file, sqlite3_int64 offset, int count, void **address) {
    (void)file, (void)offset, (void)count;
    *address = NULL;
    return SQLITE_OK;
}

// A checkpoint that finds the header changed has every mapping dropped before it looks at anything else.
static int file_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *address) {
    (void)offset, (void)address;
    struct handle *handle = lock(file);
    faulty_disk *disk = handle->disk;
    while (disk->holds_checkpoints) {
        disk->held_count++;
        pthread_cond_wait(&disk->released, &disk->mutex);
        disk->held_count--;
    }
    return end(disk, SQLITE_OK, 0);
}

static const sqlite3_io_methods methods = {
    .iVersion = 3,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = shm_map,
    .xShmLock = shm_lock,
    .xShmBarrier = shm_barrier,
    .xShmUnmap = shm_unmap,
    .xFetch = file_fetch,
    .xUnfetch = file_unfetch,
};

// The layer

static faulty_disk *disk_of(sqlite3_vfs *vfs) { return vfs->pAppData; }

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *granted) {
    faulty_disk *disk = disk_of(vfs);
    struct handle *handle = (struct handle *)file;
    memset(handle, 0, sizeof *handle);
    pthread_mutex_lock(&disk->mutex);
    uint32_t name = path ? name_number(disk, path) : none;
    int is_missing = name != none && disk->entries[name] == none;
    int error = begin(disk, faulty_open, name, is_missing && (flags & SQLITE_OPEN_CREATE));
    if (!error && is_missing && !(flags & SQLITE_OPEN_CREATE)) error = ENOENT;
    int is_made = is_missing && (!error || (error != ENOENT && disk->plan.effect == faulty_whole && (flags & SQLITE_OPEN_CREATE)));
    uint32_t inode = name == none ? new_inode(disk) : disk->entries[name];
    if (is_made) {
        inode = new_inode(disk);
        perform(disk, operation(op_link, inode, name, 0, 0), NULL);
    }
    if (error) return end(disk, SQLITE_CANTOPEN, error);
    handle->base.pMethods = &methods;
    handle->disk = disk;
    handle->inode_number = inode;
    handle->inode = disk->inodes[inode];
    handle->name = name;
    int journals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;
    handle->syncs_directory = (flags & SQLITE_OPEN_CREATE) && (flags & journals);
    handle->next = handle->inode->handles;
    handle->inode->handles = handle;
    disk->open_count++;
    if (granted) *granted = flags;
    return end(disk, SQLITE_OK, 0);
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync_directory) {
    faulty_disk *disk = disk_of(vfs);
    pthread_mutex_lock(&disk->mutex);
    uint32_t name = name_number(disk, path);
    int error = begin(disk, faulty_delete, name, 0);
    if (!error && disk->entries[name] == none) return end(disk, SQLITE_IOERR_DELETE_NOENT, ENOENT);
    if (disk->entries[name] != none && (!error || disk->plan.effect == faulty_whole)) {
        perform(disk, operation(op_unlink, none, name, 0, 0), NULL);
    }
    if (error) return end(disk, SQLITE_IOERR_DELETE, error);
    if (sync_directory) {
        cover(disk, &disk->pending_entries, disk->pending_entries.count);
        note(disk, operation(op_sync_directory, none, none, 0, 0), NULL);
    }
    return end(disk, SQLITE_OK, 0);
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *answer) {
    faulty_disk *disk = disk_of(vfs);
    pthread_mutex_lock(&disk->mutex);
    uint32_t name = name_number(disk, path);
    int error = begin(disk, faulty_access, name, 0);
    uint32_t inode = disk->entries[name];
    // As the operating system's layer: to ask whether a file exists is to ask whether it has any bytes.
    *answer = !error && inode != none && (flags != SQLITE_ACCESS_EXISTS || disk->inodes[inode]->content.count > 0);
    return end(disk, error ? SQLITE_IOERR_ACCESS : SQLITE_OK, error);
}

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *path, int count, char *output) {
    (void)vfs;
    int needed = snprintf(output, (size_t)count, "%s%s", path[0] == '/' ? "" : "/", path);
    return needed < count ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int vfs_randomness(sqlite3_vfs *vfs, int count, char *output) {
    (void)vfs;
    sqlite3_vfs *system = sqlite3_vfs_find(NULL);
    return system->xRandomness(system, count, output);
}

static int vfs_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    sqlite3_vfs *system = sqlite3_vfs_find(NULL);
    return system->xSleep(system, microseconds);
}

static int vfs_current_time(sqlite3_vfs *vfs, double *time) {
    (void)vfs;
    sqlite3_vfs *system = sqlite3_vfs_find(NULL);
    return system->xCurrentTime(system, time);
}

static int vfs_last_error(sqlite3_vfs *vfs, int count, char *output) {
    (void)vfs, (void)count, (void)output;
    return errno;
}

faulty_disk *faulty_disk_create(const char *name) {
    if (sqlite3_vfs_find(name)) return NULL;
    faulty_disk *disk = resized(NULL, sizeof *disk);
    memset(disk, 0, sizeof *disk);
    size_t count = strlen(name) + 1;
    disk->name = memcpy(resized(NULL, count), name, count);
    disk->records = 1;
    pthread_mutex_init(&disk->mutex, NULL);
    pthread_cond_init(&disk->released, NULL);
    disk->vfs = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = sizeof(struct handle),
        .mxPathname = name_bytes_max,
        .zName = disk->name,
        .pAppData = disk,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_pathname,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_current_time,
        .xGetLastError = vfs_last_error,
    };
    if (sqlite3_vfs_register(&disk->vfs, 0) == SQLITE_OK) return disk;
    free(disk->name);
    free(disk);
    return NULL;
}

static void require_closed(const faulty_disk *disk) {
    if (!disk->open_count) return;
    fprintf(stderr, "CFaultyVFS: %s has %d open files\n", disk->name, disk->open_count);
    abort();
}

void faulty_disk_destroy(faulty_disk *disk) {
    if (!disk) return;
    require_closed(disk);
    sqlite3_vfs_unregister(&disk->vfs);
    clear(disk);
    free(disk->inodes);
    free(disk->names);
    free(disk->entries);
    free(disk->base_entries);
    free(disk->pending_entries.values);
    free(disk->operations);
    free(disk->arena.start);
    free(disk->call_kinds.start);
    pthread_cond_destroy(&disk->released);
    pthread_mutex_destroy(&disk->mutex);
    free(disk->name);
    free(disk);
}

void faulty_disk_clear(faulty_disk *disk) {
    pthread_mutex_lock(&disk->mutex);
    require_closed(disk);
    clear(disk);
    pthread_mutex_unlock(&disk->mutex);
}

void faulty_disk_record(faulty_disk *disk, int on) {
    pthread_mutex_lock(&disk->mutex);
    disk->records = on;
    pthread_mutex_unlock(&disk->mutex);
}

void faulty_disk_set_plan(faulty_disk *disk, faulty_plan plan) {
    pthread_mutex_lock(&disk->mutex);
    disk->plan = plan;
    memset(&disk->hit, 0, sizeof disk->hit);
    pthread_mutex_unlock(&disk->mutex);
}

int faulty_disk_hit(faulty_disk *disk, faulty_hit *hit) {
    pthread_mutex_lock(&disk->mutex);
    *hit = disk->hit;
    pthread_mutex_unlock(&disk->mutex);
    return hit->count > 0;
}

uint64_t faulty_disk_call_count(faulty_disk *disk) {
    pthread_mutex_lock(&disk->mutex);
    uint64_t count = disk->call_count;
    pthread_mutex_unlock(&disk->mutex);
    return count;
}

int faulty_disk_call_kind(faulty_disk *disk, uint64_t number) {
    pthread_mutex_lock(&disk->mutex);
    int kind = number < 1 || number > disk->call_kinds.count ? -1 : disk->call_kinds.start[number - 1];
    pthread_mutex_unlock(&disk->mutex);
    return kind;
}

uint64_t faulty_disk_operation_count(faulty_disk *disk) {
    pthread_mutex_lock(&disk->mutex);
    uint64_t count = disk->operation_count;
    pthread_mutex_unlock(&disk->mutex);
    return count;
}

int faulty_disk_open_file_count(faulty_disk *disk) {
    pthread_mutex_lock(&disk->mutex);
    int count = disk->open_count;
    pthread_mutex_unlock(&disk->mutex);
    return count;
}

void faulty_disk_hold(faulty_disk *disk, uint32_t calls) {
    pthread_mutex_lock(&disk->mutex);
    disk->held_kinds = calls;
    pthread_cond_broadcast(&disk->released);
    pthread_mutex_unlock(&disk->mutex);
}

void faulty_disk_hold_checkpoints(faulty_disk *disk, int on) {
    pthread_mutex_lock(&disk->mutex);
    disk->holds_checkpoints = on;
    pthread_cond_broadcast(&disk->released);
    pthread_mutex_unlock(&disk->mutex);
}

int faulty_disk_held(faulty_disk *disk) {
    pthread_mutex_lock(&disk->mutex);
    int count = disk->held_count;
    pthread_mutex_unlock(&disk->mutex);
    return count;
}

void faulty_disk_answer(faulty_disk *disk, const char *pragma, const char *answer) {
    pthread_mutex_lock(&disk->mutex);
    snprintf(disk->pragma, sizeof disk->pragma, "%s", pragma ? pragma : "");
    snprintf(disk->answer, sizeof disk->answer, "%s", answer ? answer : "");
    pthread_mutex_unlock(&disk->mutex);
}

// Moments

/// What `from` was before its first operation: names, inodes and their bytes; inodes that came later are empty.
static void take_base(const faulty_disk *from, faulty_disk *to) {
    clear(to);
    for (uint32_t i = 0; i < from->inode_count; i++) {
        uint32_t number = new_inode(to);
        struct inode *inode = to->inodes[number];
        assign(&inode->base, &from->inodes[i]->base);
        assign(&inode->content, &inode->base);
        allocate(inode, 0, inode->content.count);
    }
    for (uint32_t i = 0; i < from->name_count; i++) {
        uint32_t name = name_number(to, from->names[i]);
        to->entries[name] = to->base_entries[name] = from->base_entries[i];
    }
}

static void lock_both(faulty_disk *from, faulty_disk *to) {
    pthread_mutex_lock(&from->mutex);
    pthread_mutex_lock(&to->mutex);
    require_closed(to);
}

static void unlock_both(faulty_disk *from, faulty_disk *to) {
    pthread_mutex_unlock(&to->mutex);
    pthread_mutex_unlock(&from->mutex);
}

void faulty_disk_copy(faulty_disk *from, uint64_t operations, faulty_disk *to) {
    lock_both(from, to);
    take_base(from, to);
    if (operations > from->operation_count) operations = from->operation_count;
    for (uint64_t i = 0; i < operations; i++) {
        struct operation copied = from->operations[i];
        const uint8_t *data = copied.kind == op_write ? from->arena.start + copied.data : NULL;
        if (copied.durable_at >= operations) copied.durable_at = never;
        if (copied.lost_at >= operations) copied.lost_at = never;
        apply(to, &copied, data);
        note(to, copied, data);
    }
    unlock_both(from, to);
}

struct random {
    uint64_t state;
};

static uint64_t next(struct random *random) {
    uint64_t mixed = random->state += 0x9E3779B97F4A7C15;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
    return mixed ^ (mixed >> 31);
}

static uint64_t below(struct random *random, uint64_t bound) { return next(random) % bound; }

enum fate { fate_dropped, fate_kept, fate_torn };

/// What becomes of the `number`-th of `count` operations that were not durable. `chosen` is one of them.
static enum fate fate(struct random *random, int pattern, uint64_t number, uint64_t chosen) {
    switch (pattern) {
    case 0: return fate_dropped;
    case 1: return fate_kept;
    case 2: return number == chosen ? (enum fate)(below(random, 2) * fate_torn) : fate_kept;          // all but one
    case 3: return number == chosen ? (enum fate)(fate_kept + below(random, 2)) : fate_dropped;       // one alone
    case 4: return number < chosen ? fate_kept : number == chosen ? fate_torn : fate_dropped;         // in order
    case 5: return number < chosen ? fate_dropped : number == chosen ? fate_torn : fate_kept;         // against the order
    default: return (enum fate)below(random, 3);                                                      // each for itself
    }
}

/// Keeps some sectors of a write. Where it made its file longer, the length may have come without the bytes, which are
/// then zeros or what stood there before.
static void apply_torn(struct random *random, struct inode *inode, const struct operation *operation, const uint8_t *data) {
    uint64_t sector = below(random, 4) ? 512 : block_bytes;
    uint64_t old_count = inode->content.count, stop = operation->offset + operation->count;
    int has_length = below(random, 2) == 0, has_noise = below(random, 8) == 0;
    if (has_length && stop > old_count) {
        set_count(&inode->content, (size_t)stop);
        uint64_t noise = old_count > operation->offset ? old_count : operation->offset;
        for (; has_noise && noise < stop; noise++) inode->content.start[noise] = (uint8_t)next(random);
    }
    for (uint64_t at = operation->offset; at < stop;) {
        uint64_t bound = (at / sector + 1) * sector;
        if (bound > stop) bound = stop;
        if (below(random, 2)) put(&inode->content, (size_t)at, data + (at - operation->offset), (size_t)(bound - at));
        at = bound;
    }
}

void faulty_disk_cut(faulty_disk *from, uint64_t operations, uint64_t seed, faulty_disk *to) {
    lock_both(from, to);
    take_base(from, to);
    if (operations > from->operation_count) operations = from->operation_count;
    struct random random = {seed};
    int pattern = (int)below(&random, 9);
    uint64_t pending = 0, number = 0;
    for (uint64_t i = 0; i < operations; i++) {
        const struct operation *operation = &from->operations[i];
        pending += operation->durable_at >= operations && pending_beside(from, operation) != NULL;
    }
    uint64_t chosen = pending ? below(&random, pending) : 0;
    for (uint64_t i = 0; i < operations; i++) {
        const struct operation *operation = &from->operations[i];
        if (!pending_beside(from, operation)) continue;
        enum fate becomes = operation->durable_at < operations ? fate_kept : fate(&random, pattern, number++, chosen);
        const uint8_t *data = operation->kind == op_write ? from->arena.start + operation->data : NULL;
        if (becomes == fate_torn && operation->kind == op_write) {
            apply_torn(&random, to->inodes[operation->inode], operation, data);
        } else if (becomes != fate_dropped) {
            apply(to, operation, data);
        }
    }
    // What is left is the disk's new beginning: all of it durable.
    for (uint32_t i = 0; i < to->inode_count; i++) {
        struct inode *inode = to->inodes[i];
        inode->allocated.count = 0;
        allocate(inode, 0, inode->content.count);
        if (to->records) assign(&inode->base, &inode->content);
    }
    for (uint32_t i = 0; i < to->name_count; i++) to->base_entries[i] = to->entries[i];
    unlock_both(from, to);
}

static uint32_t present_name(const faulty_disk *disk, int index) {
    for (uint32_t i = 0; i < disk->name_count; i++) {
        if (disk->entries[i] != none && index-- == 0) return i;
    }
    return none;
}

int faulty_disk_file_count(faulty_disk *disk) {
    pthread_mutex_lock(&disk->mutex);
    int count = 0;
    while (present_name(disk, count) != none) count++;
    pthread_mutex_unlock(&disk->mutex);
    return count;
}

const char *faulty_disk_file(faulty_disk *disk, int index, const uint8_t **bytes, size_t *count) {
    pthread_mutex_lock(&disk->mutex);
    uint32_t name = present_name(disk, index);
    const char *found = NULL;
    if (name != none) {
        const struct inode *inode = disk->inodes[disk->entries[name]];
        *bytes = inode->content.start;
        *count = inode->content.count;
        found = disk->names[name];
    }
    pthread_mutex_unlock(&disk->mutex);
    return found;
}
