/// An instant in UTC to the millisecond, between the years 1970 and 9999: the `time` of an event.
///
/// Its text has exactly one form, 24 bytes: `2026-11-22T10:40:36.123Z`. Times are testimony; they never decide an order.
package struct Timestamp: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Since 1970-01-01T00:00:00Z, without leap seconds.
    package let milliseconds: Int64

    /// 9999-12-31T23:59:59.999Z.
    package static let millisecondsMax: Int64 = 253_402_300_799_999
    package static let byteCount = 24

    /// - Parameter milliseconds: since 1970; held inside the range that the text can say.
    package init(milliseconds: Int64) { self.milliseconds = min(max(milliseconds, 0), Timestamp.millisecondsMax) }

    package init(_ text: String) throws(EventLogError) {
        var copy = text
        let parsed = copy.withUTF8 { Timestamp(parsing: UnsafeRawBufferPointer($0)) }
        guard let parsed else { throw .malformed("a time is written like 2026-11-22T10:40:36.123Z") }
        self = parsed
    }

    /// Reads the one form, or gives nil.
    init?(parsing bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Timestamp.byteCount,
            bytes[4] == 0x2D, bytes[7] == 0x2D, bytes[10] == 0x54, bytes[13] == 0x3A, bytes[16] == 0x3A, bytes[19] == 0x2E,
            bytes[23] == 0x5A,
            let year = Timestamp.number(bytes, 0, 4), let month = Timestamp.number(bytes, 5, 2), let day = Timestamp.number(bytes, 8, 2),
            let hour = Timestamp.number(bytes, 11, 2), let minute = Timestamp.number(bytes, 14, 2),
            let second = Timestamp.number(bytes, 17, 2),
            let fraction = Timestamp.number(bytes, 20, 3),
            year >= 1970, (1...12).contains(month), day >= 1, day <= Timestamp.days(inMonth: month, of: year), hour < 24, minute < 60,
            second < 60
        else { return nil }
        let seconds = ((Timestamp.dayNumber(year: year, month: month, day: day) * 24 + hour) * 60 + minute) * 60 + second
        milliseconds = seconds * 1000 + fraction
    }

    package var description: String {
        String(unsafeUninitializedCapacity: Timestamp.byteCount) { buffer in
            write(into: UnsafeMutableRawBufferPointer(buffer))
            return Timestamp.byteCount
        }
    }

    /// Writes the 24 bytes of the text.
    func write(into buffer: UnsafeMutableRawBufferPointer) {
        let (year, month, day) = Timestamp.date(dayNumber: milliseconds / 86_400_000)
        let inDay = milliseconds % 86_400_000
        let digits: [(at: Int, width: Int, value: Int64)] = [
            (0, 4, year), (5, 2, month), (8, 2, day),
            (11, 2, inDay / 3_600_000), (14, 2, inDay / 60_000 % 60), (17, 2, inDay / 1000 % 60), (20, 3, inDay % 1000),
        ]
        for (at, width, value) in digits {
            var rest = value
            for index in stride(from: at + width - 1, through: at, by: -1) {
                buffer[index] = UInt8(0x30 + rest % 10)
                rest /= 10
            }
        }
        buffer[4] = 0x2D
        buffer[7] = 0x2D
        buffer[10] = 0x54
        buffer[13] = 0x3A
        buffer[16] = 0x3A
        buffer[19] = 0x2E
        buffer[23] = 0x5A
    }

    package static func < (left: Timestamp, right: Timestamp) -> Bool { left.milliseconds < right.milliseconds }

    private static func number(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ count: Int) -> Int64? {
        var value: Int64 = 0
        for index in start..<(start + count) {
            let digit = bytes[index] &- 0x30
            guard digit < 10 else { return nil }
            value = value * 10 + Int64(digit)
        }
        return value
    }

    private static func days(inMonth month: Int64, of year: Int64) -> Int64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Days since 1970-01-01 of a date of the proleptic Gregorian calendar. Years are counted from March, so that the leap
    /// day is the last of its year and a month's start is a linear function of its number.
    private static func dayNumber(year: Int64, month: Int64, day: Int64) -> Int64 {
        let marchYear = month > 2 ? year : year - 1
        let marchMonth = month > 2 ? month - 3 : month + 9
        let dayOfYear = (153 * marchMonth + 2) / 5 + day - 1
        return marchYear * 365 + marchYear / 4 - marchYear / 100 + marchYear / 400 + dayOfYear - 719_468
    }

    private static func date(dayNumber: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let days = dayNumber + 719_468
        let era = days / 146_097
        let dayOfEra = days % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        return (era * 400 + yearOfEra + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
    }
}
