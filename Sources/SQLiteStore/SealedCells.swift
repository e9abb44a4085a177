internal import CSQLite
internal import EventLog

/// The two columns of what is kept sealed, as they were read: the slot of its key, an integer or NULL, and the bytes, a blob or NULL
/// once they are erased.
///
/// The types are looked at as well as the values. In a row whose header was damaged SQLite may take one column for the next, and then
/// gives NULL for the last, which the row seems to be too old to have: bytes that are there would look erased. But what is given for the
/// slot is then the bytes.
struct SealedCells {
    let bytes: [UInt8]?
    private let slot: Int64?
    private let isOfItsTypes: Bool

    init(_ row: SQLiteStatement, slot: Int32, bytes: Int32) {
        let (slotType, bytesType) = (row.type(slot), row.type(bytes))
        isOfItsTypes =
            (slotType == SQLITE_NULL || slotType == SQLITE_INTEGER) && (bytesType == SQLITE_NULL || bytesType == SQLITE_BLOB)
        self.slot = slotType == SQLITE_NULL ? nil : row.integer(slot)
        self.bytes = bytesType == SQLITE_NULL ? nil : row.blob(bytes)
    }

    /// The content; nil once erased.
    func opened() throws(EventLogError) -> [UInt8]? {
        guard isOfItsTypes else { throw .malformed("its columns are not of the types that were written") }
        guard let bytes else { return nil }
        return try SealedRow(stored: bytes, slot: slot).opened()
    }
}
