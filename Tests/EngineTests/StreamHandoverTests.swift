import Engine
import Simulation
import Testing

/// The hand-over from what is in the log to what is yet to come, with neither sockets nor clocks: a log that is a number, a bell that is
/// a flag, and every order in which the two may move.
@Suite("Streams: the hand-over")
struct StreamHandoverTests {
    /// A subscriber over a log of `count` events. An append is durable first, and rings later: in between anything may happen.
    private struct Model {
        var count: UInt64 = 0
        var unrung = 0
        var isRegistered = false
        var isRinging = false
        var told: [UInt64] = []

        mutating func ring() {
            unrung -= 1
            if isRegistered { isRinging = true }
        }
    }

    /// - Returns: false where the subscriber waits and nothing rings.
    private func step(_ handover: inout StreamHandover, _ model: inout Model, pageMax: UInt64) -> Bool {
        switch handover.next() {
        case .read(let place):
            let end = min(model.count, place.event + pageMax)
            model.told += (place.event..<end).map { $0 + 1 }
            handover.hasRead(upTo: StreamPlace(after: end), isAtEnd: end == model.count)
        case .register:
            model.isRegistered = true
            handover.registered()
        case .wait:
            guard model.isRinging else { return false }
            model.isRinging = false
            handover.woken()
        }
        return true
    }

    @Test("whatever the order of appends, rings and reads, every event is told once, in order, and nobody sleeps over one")
    func neverLost() {
        var random = SeededGenerator(seed: TestFiles.seed)
        for trial in 0..<3000 {
            var model = Model()
            model.count = UInt64.random(in: 0...5, using: &random)
            let start = UInt64.random(in: 0...model.count, using: &random)
            var handover = StreamHandover(after: StreamPlace(after: start))
            for _ in 0..<Int.random(in: 0...60, using: &random) {
                switch Int.random(in: 0..<4, using: &random) {
                case 0:
                    model.count += 1
                    model.unrung += 1
                case 1 where model.unrung > 0: model.ring()
                default: _ = step(&handover, &model, pageMax: UInt64.random(in: 1...3, using: &random))
                }
            }
            while model.unrung > 0 { model.ring() }
            var isAsleep = false
            for _ in 0..<200 where !isAsleep { isAsleep = !step(&handover, &model, pageMax: 2) }
            let isLive = handover.phase == .live
            #expect(isAsleep && isLive, "trial \(trial) of seed \(TestFiles.seed)")
            #expect(model.told == Array((start..<model.count).map { $0 + 1 }), "trial \(trial) of seed \(TestFiles.seed)")
        }
    }

    @Test("the phases follow each other: backfill, cut-over with one more read, live")
    func phases() {
        var handover = StreamHandover(after: StreamPlace(after: 3))
        expect(handover, .backfill, .read(after: StreamPlace(after: 3)))
        handover.hasRead(upTo: StreamPlace(after: 5), isAtEnd: false)
        expect(handover, .backfill, .read(after: StreamPlace(after: 5)))
        handover.hasRead(upTo: StreamPlace(after: 5), isAtEnd: true)
        expect(handover, .cutover, .register)
        handover.registered()
        expect(handover, .cutover, .read(after: StreamPlace(after: 5)))
        handover.hasRead(upTo: StreamPlace(after: 6), isAtEnd: true)
        expect(handover, .live, .wait)
        handover.woken()
        expect(handover, .live, .read(after: StreamPlace(after: 6)))
    }

    private func expect(
        _ handover: borrowing StreamHandover, _ phase: StreamHandover.Phase, _ action: StreamHandover.Action,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let (isPhase, isAction) = (handover.phase == phase, handover.next() == action)
        #expect(isPhase && isAction, "\(phase)", sourceLocation: sourceLocation)
    }
}
