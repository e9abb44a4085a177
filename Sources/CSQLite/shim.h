#pragma once
#include <sqlite3.h>

/* Swift cannot import the cast in SQLITE_TRANSIENT. */
static const sqlite3_destructor_type csqlite_transient = (sqlite3_destructor_type)(-1);

/* Swift cannot call a variadic function: sqlite3_db_config for the switches that take (int, int *). */
static inline int csqlite_config_switch(sqlite3 *db, int option, int on) { return sqlite3_db_config(db, option, on, (int *)0); }
