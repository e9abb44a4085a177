internal import CSQLite

/// Settings of the library itself, made before its first use in the process.
///
/// It is not to count its memory, which takes a lock that all threads share at every allocation; and a connection takes pages as
/// it needs them instead of twenty at once, because a thousand small files are open at a time.
enum SQLiteLibrary {
    private static let isConfigured: Bool = {
        // best effort: where another part of the process has used the library already, it works all the same.
        csqlite_config_library(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK && csqlite_config_page_cache(0) == SQLITE_OK
    }()

    static func configure() { _ = isConfigured }
}
