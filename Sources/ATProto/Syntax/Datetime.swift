/// A moment with its offset, as records write it: the part that RFC 3339, ISO 8601 and WHATWG have in common. Capital `T` and `Z`,
/// whole seconds, 0–20 digits of fraction, `Z` or `±hh:mm` (never `-00:00`), at most 64 bytes, not before the year 0.
/// Kept as it was given; `==` compares the text, `milliseconds` compares moments. (atproto spec: datetime)
public struct Datetime: Hashable, Sendable, CustomStringConvertible {
    public let description: String
    /// Since 1970-01-01T00:00:00Z, finer digits cut off; negative before that.
    public let milliseconds: Int64

    public init(_ string: String) throws(SyntaxError) {
        let (verdict, milliseconds) = Self.parse(string.utf8Span.span)
        try verdict.check(string, as: .datetime)
        self.milliseconds = milliseconds
        description = string
    }

    /// The form that specs prefer, `2026-01-31T12:00:00.000Z`. Nil outside the years 0…9999.
    public init?(milliseconds: Int64) {
        guard Self.yearZero..<Self.yearTenThousand ~= milliseconds else { return nil }
        self.milliseconds = milliseconds
        description = Self.text(milliseconds)
    }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict { parse(bytes).verdict }
}

extension Datetime {
    private static let yearZero: Int64 = -719_528 * millisecondsPerDay
    private static let yearTenThousand: Int64 = 2_932_897 * millisecondsPerDay
    private static let millisecondsPerDay: Int64 = 86_400_000

    /// The shape is judged before the meaning: month 13 is well formed, and no month. Leap seconds are refused, as Unix time has none.
    private static func parse(_ bytes: Span<UInt8>) -> (verdict: SyntaxVerdict, milliseconds: Int64) {
        guard bytes.count <= 64 else { return (.tooLong(bytesMax: 64), 0) }
        guard bytes.count >= 20, hasSeparators(bytes), let year = number(bytes, at: 0, digits: 4), let month = number(bytes, at: 5),
            let day = number(bytes, at: 8), let hour = number(bytes, at: 11), let minute = number(bytes, at: 14),
            let second = number(bytes, at: 17)
        else { return (.malformed, 0) }
        guard let (fraction, zone) = fraction(bytes), let offset = offset(bytes, at: zone) else { return (.malformed, 0) }
        guard 1...12 ~= month, 1...length(ofMonth: month, year: year) ~= day, hour <= 23, minute <= 59, second <= 59,
            offset.hours <= 23, offset.minutes <= 59
        else { return (.meaningless, 0) }
        let minutes = (hour - offset.sign * offset.hours) * 60 + minute - offset.sign * offset.minutes
        let days = daysSince1970(year: year, month: month, day: day)
        let milliseconds = Int64(days) * millisecondsPerDay + Int64(minutes * 60 + second) * 1000 + Int64(fraction)
        return milliseconds < yearZero ? (.meaningless, 0) : (.accepted, milliseconds)
    }

    private static func hasSeparators(_ bytes: Span<UInt8>) -> Bool {
        bytes[4] == 0x2D && bytes[7] == 0x2D && bytes[10] == 0x54 && bytes[13] == 0x3A && bytes[16] == 0x3A
    }

    /// The whole milliseconds after the seconds, and where the zone begins. Nil when a point has no digit, or more than 20, behind it.
    private static func fraction(_ bytes: Span<UInt8>) -> (milliseconds: Int, zone: Int)? {
        guard bytes[19] == 0x2E else { return (0, 19) }
        var (index, milliseconds) = (20, 0)
        while index < bytes.count, bytes[index].isDigit {
            if index < 23 { milliseconds = milliseconds * 10 + Int(bytes[index] &- 0x30) }
            index += 1
        }
        let digits = index - 20
        guard 1...20 ~= digits else { return nil }
        return (digits == 1 ? milliseconds * 100 : digits == 2 ? milliseconds * 10 : milliseconds, index)
    }

    /// What the local time is ahead of UTC, as `sign` × (`hours`, `minutes`). Nil when the text from `start` on is no zone.
    private static func offset(_ bytes: Span<UInt8>, at start: Int) -> (sign: Int, hours: Int, minutes: Int)? {
        guard start < bytes.count else { return nil }
        if bytes[start] == 0x5A { return start + 1 == bytes.count ? (1, 0, 0) : nil }
        guard bytes[start] == 0x2B || bytes[start] == 0x2D, start + 6 == bytes.count, bytes[start + 3] == 0x3A,
            let hours = number(bytes, at: start + 1), let minutes = number(bytes, at: start + 4)
        else { return nil }
        let sign = bytes[start] == 0x2B ? 1 : -1
        return sign < 0 && hours == 0 && minutes == 0 ? nil : (sign, hours, minutes)
    }

    private static func number(_ bytes: Span<UInt8>, at start: Int, digits: Int = 2) -> Int? {
        var number = 0
        for index in start..<start + digits {
            guard bytes[index].isDigit else { return nil }
            number = number * 10 + Int(bytes[index] &- 0x30)
        }
        return number
    }

    private static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }

    private static func length(ofMonth month: Int, year: Int) -> Int {
        switch month {
        case 2: isLeap(year) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Days from the first of January of year 0 to that of `year`, 0…10000, in the proleptic Gregorian calendar.
    private static func daysBefore(year: Int) -> Int { year * 365 + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400 }

    private static func daysSince1970(year: Int, month: Int, day: Int) -> Int {
        var days = daysBefore(year: year) - daysBefore(year: 1970) + day - 1
        for earlier in 1..<month { days += length(ofMonth: earlier, year: year) }
        return days
    }

    private static func text(_ milliseconds: Int64) -> String {
        var days = Int((milliseconds - yearZero) / millisecondsPerDay)
        let time = Int((milliseconds - yearZero) % millisecondsPerDay)
        // A year has at most 366 days, so this guess is never too late, and at most a few years early.
        var year = days / 366
        while daysBefore(year: year + 1) <= days { year += 1 }
        days -= daysBefore(year: year)
        var month = 1
        while days >= length(ofMonth: month, year: year) {
            days -= length(ofMonth: month, year: year)
            month += 1
        }
        let parts = [
            (year, 4), (month, 2), (days + 1, 2), (time / 3_600_000, 2), (time / 60_000 % 60, 2), (time / 1000 % 60, 2), (time % 1000, 3),
        ]
        let separators = ["-", "-", "T", ":", ":", ".", "Z"]
        return zip(parts, separators).map { part, separator in
            let digits = String(part.0)
            return String(repeating: "0", count: part.1 - digits.utf8.count) + digits + separator
        }.joined()
    }
}
