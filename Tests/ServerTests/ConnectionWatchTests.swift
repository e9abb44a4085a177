import NIOCore
import Testing

@testable import Server

@Suite("Connections: who keeps whom waiting")
struct ConnectionWatchTests {
    private static var patience: ConnectionPatience {
        var patience = ConnectionPatience()
        patience.head = .seconds(30)
        patience.body = .seconds(20)
        patience.bodyBytesPerSecond = 1000
        patience.answer = .seconds(60)
        patience.unwantedBytesMax = 10_000
        return patience
    }

    private func at(_ seconds: Double) -> NIODeadline { .uptimeNanoseconds(1_000_000_000_000) + .milliseconds(Int64(seconds * 1000)) }

    private var fresh: ConnectionWatch { ConnectionWatch(Self.patience, now: at(0)) }

    @Test("a head has 30 seconds from the connection, and from the end of the answer before")
    func head() {
        var watch = fresh
        #expect(!watch.isExpired(at: at(29.9)))
        #expect(watch.isExpired(at: at(30)))
        watch.headCame(at: at(29))
        watch.bodyEnded(at: at(29))
        #expect(!watch.isExpired(at: at(1000)), "the server works")
        watch.answerEnded(at: at(1000))
        #expect(!watch.isExpired(at: at(1029.9)))
        #expect(watch.isExpired(at: at(1030)))
    }

    @Test("a body has 20 seconds of waiting in all, and longer by what its bytes take at 1,000 a second")
    func body() {
        var watch = fresh
        watch.headCame(at: at(10))
        watch.wantsBytes(at: at(10))
        #expect(!watch.isExpired(at: at(29.9)))
        #expect(watch.isExpired(at: at(30)))
        // A byte a second is a wait like any other.
        for second in 11..<30 {
            watch.bodyCame(1, at: at(Double(second)))
            watch.wantsBytes(at: at(Double(second)))
            #expect(!watch.isExpired(at: at(Double(second))))
        }
        #expect(watch.isExpired(at: at(30.1)))
        // 5,000 bytes earn five seconds.
        watch.bodyCame(5000, at: at(29.5))
        watch.wantsBytes(at: at(29.5))
        #expect(!watch.isExpired(at: at(34.9)))
        #expect(watch.isExpired(at: at(35.1)))
    }

    @Test("while the server does not read, no time runs against the client")
    func serverIsSlow() {
        var watch = fresh
        watch.headCame(at: at(0))
        watch.wantsBytes(at: at(0))
        watch.bodyCame(100, at: at(1))
        #expect(!watch.isExpired(at: at(10_000)))
        watch.wantsBytes(at: at(10_000))
        #expect(!watch.isExpired(at: at(10_018)))
        #expect(watch.isExpired(at: at(10_020)))
    }

    @Test("an answer must be taken in: 60 seconds from when the socket is full")
    func answer() {
        var watch = fresh
        watch.headCame(at: at(0))
        watch.bodyEnded(at: at(0))
        watch.writabilityChanged(to: false, at: at(5))
        watch.writabilityChanged(to: false, at: at(50))
        #expect(!watch.isExpired(at: at(64.9)))
        #expect(watch.isExpired(at: at(65)))
        watch.writabilityChanged(to: true, at: at(64))
        #expect(!watch.isExpired(at: at(1000)))
    }

    @Test("requests that are sent ahead are each waited for: a body that stops behind a finished answer is not forgotten")
    func ahead() {
        var watch = fresh
        watch.headCame(at: at(0))
        watch.bodyEnded(at: at(0))
        watch.headCame(at: at(1))
        watch.wantsBytes(at: at(1))
        watch.answerEnded(at: at(2))
        #expect(!watch.isExpired(at: at(20.9)))
        #expect(watch.isExpired(at: at(21)))
    }

    @Test("of a body that was answered before its end so much is taken, in the time of a head, and no more")
    func unwanted() {
        var watch = fresh
        watch.headCame(at: at(0))
        watch.bodyCame(50_000, at: at(1))
        #expect(!watch.hasTakenEnough)
        watch.answerEnded(at: at(2))
        watch.bodyCame(10_000, at: at(3))
        #expect(!watch.hasTakenEnough)
        #expect(!watch.isExpired(at: at(31.9)))
        #expect(watch.isExpired(at: at(32)))
        watch.bodyCame(1, at: at(4))
        #expect(watch.hasTakenEnough)
        watch.headCame(at: at(5))
        #expect(!watch.hasTakenEnough)
    }

    @Test("an answer to what was no request leaves nothing due")
    func answerToNothing() {
        var watch = fresh
        watch.answerEnded(at: at(10))
        #expect(watch.isExpired(at: at(40)))
        watch.headCame(at: at(11))
        watch.bodyEnded(at: at(11))
        #expect(!watch.isExpired(at: at(1000)))
    }
}
