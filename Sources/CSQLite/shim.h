#pragma once
#include <sqlite3.h>

/* Swift cannot import the cast in SQLITE_TRANSIENT. */
static const sqlite3_destructor_type csqlite_transient = (sqlite3_destructor_type)(-1);

/* Swift cannot call a variadic function: sqlite3_db_config for the switches that take (int, int *). */
static inline int csqlite_config_switch(sqlite3 *db, int option, int on) { return sqlite3_db_config(db, option, on, (int *)0); }

/* The same for the connection's own small allocations, (void *, int, int): so many of so many bytes each. */
static inline int csqlite_config_lookaside(sqlite3 *db, int bytes, int count) {
    return sqlite3_db_config(db, SQLITE_DBCONFIG_LOOKASIDE, (void *)0, bytes, count);
}

/* sqlite3_config, before the library is used: for the options that take (int), and for the page cache's (void *, int, int). */
static inline int csqlite_config_library(int option, int value) { return sqlite3_config(option, value); }
static inline int csqlite_config_page_cache(int pages) { return sqlite3_config(SQLITE_CONFIG_PAGECACHE, (void *)0, 0, pages); }
