import ATProto
import Simulation
import Testing

@Suite struct TIDTests {
    @Test("a TID holds 53 bits of microseconds and 10 bits of clock, and its text sorts as its number does")
    func parts() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        var earlier = TID(microseconds: 0, clockID: 0)
        #expect(earlier.description == "2222222222222")
        for _ in 0..<2000 {
            let microseconds = Int64.random(in: 0...TID.microsecondsMax, using: &generator)
            let tid = TID(microseconds: microseconds, clockID: UInt16.random(in: 0...TID.clockIDMax, using: &generator))
            #expect(tid.microseconds == microseconds && tid.description.utf8.count == 13)
            #expect(try TID(tid.description) == tid, "seed \(TestFiles.seed)")
            #expect((earlier < tid) == (earlier.description < tid.description), "seed \(TestFiles.seed)")
            earlier = tid
        }
        let last = TID(microseconds: TID.microsecondsMax, clockID: TID.clockIDMax)
        #expect(last.description == "bzzzzzzzzzzzz" && last.rawValue == .max >> 1)
        #expect(try TID("jzzzzzzzzzzzz").rawValue == .max, "the published syntax has 64 bits")
        #expect(RecordKey(last).description == last.description)
    }

    @Test("a TID that others published keeps its time")
    func published() throws {
        // 3kznmn7xqxl22 is the TID of the published lexicon records.
        let tid = try TID("3kznmn7xqxl22")
        #expect(Datetime(milliseconds: tid.microseconds / 1000)?.description.hasPrefix("202") == true)
        #expect(tid.clockID == 0)
    }

    @Test("a clock strictly rises while the machine's clock runs, stands still or jumps back (I10)")
    func rises() throws {
        var generator = SeededGenerator(seed: TestFiles.seed)
        var clock = TIDClock(clockID: 17)
        var (now, last) = (Int64(1_795_344_036_000_000), TID(microseconds: 0, clockID: 0))
        for _ in 0..<5000 {
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: now += Int64.random(in: 1...1_000_000, using: &generator)
            case 1: now -= Int64.random(in: 1...1_000_000_000, using: &generator)
            default: break
            }
            let tid = try clock.next(microseconds: now)
            #expect(tid > last && tid.clockID == 17 && tid.microseconds >= now, "seed \(TestFiles.seed)")
            last = tid
        }
    }

    @Test("a clock begins after the TID it was given, also one of another clock, of the future or with the time before 1970 (I10)")
    func begins() throws {
        let future = TID(microseconds: 4_000_000_000_000_000, clockID: 1023)
        var clock = TIDClock(clockID: 0, last: future)
        #expect(try clock.next(microseconds: 1) == TID(microseconds: 4_000_000_000_000_001, clockID: 0))
        var young = TIDClock(clockID: 3)
        #expect(try young.next(microseconds: .min) == TID(microseconds: 0, clockID: 3))
        #expect(try young.next(microseconds: 0) == TID(microseconds: 1, clockID: 3))
        young.observe(future)
        young.observe(TID(microseconds: 5, clockID: 9))
        #expect(try young.next(microseconds: 2) == TID(microseconds: 4_000_000_000_000_001, clockID: 3))
    }

    @Test("a clock gives the last of 53 bits, and then says that they are used up, as often as it is asked")
    func overflows() throws {
        var clock = TIDClock(clockID: 1, last: TID(microseconds: TID.microsecondsMax - 1, clockID: 5))
        let last = try clock.next(microseconds: 0)
        #expect(last == TID(microseconds: TID.microsecondsMax, clockID: 1))
        for _ in 0..<2 {
            #expect(throws: TIDClockError.exhausted(now: 0, last: last)) { try clock.next(microseconds: 0) }
        }
        var forged = TIDClock(clockID: 1, last: TID(rawValue: .max))
        #expect(throws: TIDClockError.exhausted(now: 0, last: TID(rawValue: .max))) { try forged.next(microseconds: 0) }
        var fresh = TIDClock(clockID: 1)
        let beyond = TID.microsecondsMax + 1
        #expect(throws: TIDClockError.exhausted(now: beyond, last: nil)) { try fresh.next(microseconds: beyond) }
        #expect(try fresh.next(microseconds: TID.microsecondsMax).microseconds == TID.microsecondsMax)
    }
}
