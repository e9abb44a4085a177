/// A disk in memory below SQLite, for tests: it knows what a loss of power would leave of it, and fails when it is told to.
///
/// Each disk is registered as a SQLite file layer under a name of its own. It holds the files of one directory, behaves towards
/// SQLite as the operating system's layer does, and writes down every operation that changes a file. A sync makes the earlier
/// operations on its file durable; a name that is new or gone is durable after the first sync of a file that was opened to be
/// made as a journal, a WAL or a super-journal, because that one syncs the directory too. From the operations any moment can
/// be had again, as a process that is killed leaves it or as a loss of power might.
///
/// Every function may be called from several threads at once, but a disk that is written by `faulty_disk_copy` or
/// `faulty_disk_cut`, cleared or destroyed must have no open file.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct faulty_disk faulty_disk;

/// The kinds of calls that are counted and can fail.
enum {
    faulty_open,
    faulty_read,
    faulty_write,
    faulty_truncate,
    faulty_sync,
    faulty_size,
    faulty_delete,
    faulty_access,
    faulty_lock,
    faulty_map,
};

/// How much of a failed call is done before it answers with its error.
enum { faulty_nothing, faulty_half, faulty_whole };

typedef struct {
    /// The number of the call with which it begins, from 1; 0: no call fails.
    uint64_t first;
    /// Also all calls after it; else only the first one that can fail.
    int forever;
    /// `errno`: EIO, ENOSPC, EDQUOT.
    int error;
    int effect;
    /// A bit, `1 << kind`, for each kind of call that can fail.
    uint32_t calls;
    /// Only what needs room that its file does not have yet.
    int needs_room;
} faulty_plan;

/// The first call that failed.
typedef struct {
    uint64_t number;
    int kind;
    /// The file's name, or empty; valid as long as the disk.
    const char *file;
    /// Calls that failed so far.
    uint64_t count;
} faulty_hit;

/// Registers an empty disk. NULL when there is one of that name.
faulty_disk *faulty_disk_create(const char *name);
void faulty_disk_destroy(faulty_disk *disk);

/// Whether operations are written down from here on. Off: moments cannot be had again, and nothing grows.
void faulty_disk_record(faulty_disk *disk, int on);
/// Removes all files, counts and plans.
void faulty_disk_clear(faulty_disk *disk);

void faulty_disk_set_plan(faulty_disk *disk, faulty_plan plan);
/// 0 when no call has failed since the plan was set.
int faulty_disk_hit(faulty_disk *disk, faulty_hit *hit);

uint64_t faulty_disk_call_count(faulty_disk *disk);
/// The kind of a call that was made, by its number from 1; -1 when there was none, or recording was off.
int faulty_disk_call_kind(faulty_disk *disk, uint64_t number);
uint64_t faulty_disk_operation_count(faulty_disk *disk);
int faulty_disk_open_file_count(faulty_disk *disk);

/// Lets every call of these kinds wait from here on; 0 lets them go.
void faulty_disk_hold(faulty_disk *disk, uint32_t calls);
/// Lets every checkpoint wait from here on, when it has read the header of the WAL's index and done nothing about it yet; 0 lets them go.
void faulty_disk_hold_checkpoints(faulty_disk *disk, int on);
/// How many calls wait.
int faulty_disk_held(faulty_disk *disk);

/// Answers a PRAGMA in SQLite's place, as layers do that know better; NULL: SQLite answers all of them.
void faulty_disk_answer(faulty_disk *disk, const char *pragma, const char *answer);

/// Makes `to` what `from` was after so many operations, as a killed process leaves it: what was not synced is still not.
void faulty_disk_copy(faulty_disk *from, uint64_t operations, faulty_disk *to);
/// Makes `to` what a loss of power after so many operations may leave: each operation that was not durable is kept, dropped, or
/// kept in some of its sectors, whatever became of those before it.
void faulty_disk_cut(faulty_disk *from, uint64_t operations, uint64_t seed, faulty_disk *to);

/// Files in order of their making; gone ones are left out.
int faulty_disk_file_count(faulty_disk *disk);
/// The name and the bytes of a file; valid until the disk changes.
const char *faulty_disk_file(faulty_disk *disk, int index, const uint8_t **bytes, size_t *count);
