/* A SQLite file layer that passes every call on to the one below it and counts what durability costs: the calls of xSync, each of
 * which is one fdatasync in SQLite's own layer, and the bytes written, file by file. */
#pragma once
#include <stdint.h>

typedef struct {
    uint64_t syncs;
    uint64_t writes;
    uint64_t bytes;
} counting_vfs_counts;

/* Registers the layer under `name`, which must stay where it is, upon the default one. Call it once. Returns a SQLite code. */
int counting_vfs_register(const char *name);

/* What was done to the files whose last path component is `name` since the layer was registered; zeros where there was none. */
counting_vfs_counts counting_vfs_counts_of(const char *name);
