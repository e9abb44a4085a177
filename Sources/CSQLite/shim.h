#pragma once
#include <sqlite3.h>

/* Swift cannot import the cast in SQLITE_TRANSIENT. */
static const sqlite3_destructor_type csqlite_transient = (sqlite3_destructor_type)(-1);
