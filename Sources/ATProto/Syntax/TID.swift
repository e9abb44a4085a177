/// A timestamp identifier: 53 bits of microseconds since 1970 and 10 bits of clock identifier below a zero bit, written in
/// 13 characters of base32-sortable, so that the order of texts is the order of numbers. (atproto spec: TID)
public struct TID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Below 2^63 in every TID that a clock makes. The published syntax lets the top bit be set, so one that was read may exceed it.
    public let rawValue: UInt64

    public static let microsecondsMax: Int64 = (1 << 53) - 1
    public static let clockIDMax: UInt16 = 1023

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// - Parameter microseconds: since 1970, 0…2^53−1.
    /// - Parameter clockID: 0…1023.
    public init(microseconds: Int64, clockID: UInt16) {
        precondition(0...Self.microsecondsMax ~= microseconds && clockID <= Self.clockIDMax, "a TID has 53 and 10 bits")
        rawValue = UInt64(microseconds) << 10 | UInt64(clockID)
    }

    public init(_ string: String) throws(SyntaxError) {
        let bytes = string.utf8Span.span
        try Self.verdict(bytes).check(string, as: .tid)
        var rawValue: UInt64 = 0
        for index in bytes.indices { rawValue = rawValue << 5 | UInt64(Self.digit(bytes[index])) }
        self.rawValue = rawValue
    }

    /// Since 1970, 0…2^53−1; up to 2^54−1 where the top bit is set.
    public var microseconds: Int64 { Int64(rawValue >> 10) }

    /// 0…1023.
    public var clockID: UInt16 { UInt16(rawValue & 0x3FF) }

    public var description: String {
        String(unsafeUninitializedCapacity: 13) { buffer in
            for index in 0..<13 {
                let digit = UInt8(truncatingIfNeeded: rawValue >> UInt64(60 - 5 * index)) & 31
                buffer[index] = digit < 6 ? 0x32 + digit : 0x61 + digit - 6
            }
            return 13
        }
    }

    public static func < (left: TID, right: TID) -> Bool { left.rawValue < right.rawValue }

    package static func verdict(_ bytes: Span<UInt8>) -> SyntaxVerdict {
        guard bytes.count == 13, digit(bytes[0]) < 16 else { return .malformed }
        for index in 1..<13 where digit(bytes[index]) == 0xFF { return .malformed }
        return .accepted
    }

    /// 0…31 of `234567a…z`, 255 of any other byte.
    @inline(__always)
    private static func digit(_ byte: UInt8) -> UInt8 {
        if byte.isLowercase { return byte &- 0x61 &+ 6 }
        return byte &- 0x32 < 6 ? byte &- 0x32 : 0xFF
    }
}

public enum TIDClockError: Error, Equatable, Sendable, CustomStringConvertible {
    /// No later TID exists: `last`, or the clock of the machine, has used up the 53 bits of time. Before the year 2255 only a forged
    /// or damaged TID, or a broken clock, leads here: refuse what brought it in.
    case exhausted(now: Int64, last: TID?)

    public var description: String {
        switch self {
        case .exhausted(let now, let last):
            "no TID follows \(last.map(\.description) ?? "none") at \(now) microseconds: 53 bits of time are used up"
        }
    }
}

/// Gives TIDs that strictly rise (I10), whatever the clock of the machine does: one that stands still or jumps back is overtaken by a
/// microsecond at a time. Seed it with the last TID used, so that it rises across restarts and migrations too.
public struct TIDClock: Hashable, Sendable {
    /// 0…1023.
    public let clockID: UInt16
    /// The highest TID given or begun with.
    public private(set) var last: TID?

    /// - Parameter clockID: 0…1023.
    /// - Parameter last: any TID that the new ones must exceed, also one of another clock.
    public init(clockID: UInt16, last: TID? = nil) {
        precondition(clockID <= TID.clockIDMax, "a clock identifier has 10 bits")
        self.clockID = clockID
        self.last = last
    }

    /// The next TID: of `now`, or of the microsecond after the last one where the clock is not past it.
    /// - Parameter now: microseconds since 1970; a time before that counts as 1970.
    /// - Throws: `exhausted` when no later TID exists; the clock is left as it was.
    public mutating func next(microseconds now: Int64) throws(TIDClockError) -> TID {
        let earliest = last.map { $0.microseconds + 1 } ?? 0
        let microseconds = max(now, earliest)
        guard microseconds <= TID.microsecondsMax else { throw .exhausted(now: now, last: last) }
        let tid = TID(microseconds: microseconds, clockID: clockID)
        last = tid
        return tid
    }

    /// Lifts the clock over a TID that came from elsewhere; one that is behind changes nothing.
    public mutating func observe(_ tid: TID) { last = max(last ?? tid, tid) }
}
