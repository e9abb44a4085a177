import NIOCore
import Simulation
import Testing

@testable import Server

/// What a client may send and how long it may keep the server waiting, with no socket and no clock.
@Suite("WebSocket: the rules")
struct WebSocketRulesTests {
    private typealias Frame = WebSocketRules.Frame
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

    private func rules(_ change: (inout StreamLimits) -> Void = { _ in }) -> WebSocketRules {
        var limits = StreamLimits(idle: .seconds(60))
        change(&limits)
        return WebSocketRules(limits, now: Self.start)
    }

    private func code(_ verdict: WebSocketRules.Verdict) -> UInt16? { if case .refuse(let close) = verdict { close.code } else { nil } }

    @Test("frames that no client may send are refused, each with its code")
    func refused() {
        let frames: [(Frame, UInt16)] = [
            (Frame(opcode: 2, isMasked: false), 1002), (Frame(opcode: 9, isMasked: false), 1002),
            (Frame(opcode: 2, hasReservedBits: true), 1002), (Frame(opcode: 3), 1002), (Frame(opcode: 0xB), 1002),
            (Frame(opcode: 1), 1003), (Frame(opcode: 1, isFinal: false), 1003), (Frame(opcode: 0), 1002),
            (Frame(opcode: 9, isFinal: false), 1002), (Frame(opcode: 8, byteCount: 126), 1002), (Frame(opcode: 8, byteCount: 1), 1002),
            (Frame(opcode: 8, byteCount: 2, code: 999), 1002), (Frame(opcode: 8, byteCount: 2, code: 1005), 1002),
            (Frame(opcode: 8, byteCount: 2, code: 1016), 1002), (Frame(opcode: 8, byteCount: 2, code: 2999), 1002),
            (Frame(opcode: 8, byteCount: 2, code: 5000), 1002), (Frame(opcode: 2, byteCount: 4097), 1009),
        ]
        for (frame, expected) in frames {
            var rules = rules()
            #expect(code(rules.take(frame, at: Self.start)) == expected, "\(frame)")
        }
    }

    @Test("messages may come in fragments with pings between them, and are bounded as a whole")
    func fragments() {
        var rules = rules()
        #expect(rules.take(Frame(opcode: 2, isFinal: false, byteCount: 4000), at: Self.start) == .ignore)
        #expect(rules.take(Frame(opcode: 9, byteCount: 125), at: Self.start) == .pong)
        #expect(rules.take(Frame(opcode: 0, isFinal: false, byteCount: 96), at: Self.start) == .ignore)
        #expect(rules.take(Frame(opcode: 0, byteCount: 0), at: Self.start) == .ignore)
        #expect(rules.take(Frame(opcode: 2, isFinal: false, byteCount: 4096), at: Self.start) == .ignore)
        #expect(code(rules.take(Frame(opcode: 0, byteCount: 1), at: Self.start)) == 1009)
        var other = self.rules()
        #expect(other.take(Frame(opcode: 2, isFinal: false), at: Self.start) == .ignore)
        #expect(code(other.take(Frame(opcode: 2), at: Self.start)) == 1002, "another message inside one")
    }

    @Test("a client closes with any code that an end may send, or none")
    func closes() {
        for code in [nil, 1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] as [UInt16?] {
            var rules = rules()
            #expect(rules.take(Frame(opcode: 8, byteCount: code == nil ? 0 : 2, code: code), at: Self.start) == .closed(code))
        }
    }

    @Test("frames are counted: so many at once, and so many more each second")
    func flood() {
        var rules = rules {
            $0.framesMax = 10
            $0.framesPerSecond = 5
        }
        for _ in 0..<10 { #expect(rules.take(Frame(opcode: 9), at: Self.start) == .pong) }
        #expect(code(rules.take(Frame(opcode: 9), at: Self.start)) == 1008)
        #expect(rules.take(Frame(opcode: 9), at: Self.start + .milliseconds(200)) == .pong)
        #expect(code(rules.take(Frame(opcode: 9), at: Self.start + .milliseconds(200))) == 1008)
        for _ in 0..<10 { #expect(rules.take(Frame(opcode: 9), at: Self.start + .seconds(100)) == .pong) }
        #expect(code(rules.take(Frame(opcode: 9), at: Self.start + .seconds(100))) == 1008)
    }

    @Test("who is silent is asked after half of the idle time and given up after all of it; any frame is a sign of life")
    func silence() {
        var rules = rules()
        #expect(rules.due(at: Self.start + .seconds(29)) == .nothing)
        #expect(rules.due(at: Self.start + .seconds(30)) == .ping)
        #expect(rules.due(at: Self.start + .seconds(31)) == .nothing, "not again at once")
        #expect(rules.take(Frame(opcode: 0xA), at: Self.start + .seconds(35)) == .ignore)
        #expect(rules.due(at: Self.start + .seconds(64)) == .nothing)
        #expect(rules.due(at: Self.start + .seconds(65)) == .ping)
        #expect(rules.due(at: Self.start + .seconds(94)) == .nothing)
        #expect(rules.due(at: Self.start + .seconds(95)) == .gone)
    }

    @Test("who does not take in what was sent is too slow after the idle time, and the closing itself is bounded")
    func slow() {
        var rules = rules()
        rules.writeBegan(at: Self.start)
        #expect(rules.due(at: Self.start + .seconds(59)) == .nothing)
        #expect(rules.due(at: Self.start + .seconds(60)) == .tooSlow)
        rules.closingBegan(at: Self.start + .seconds(60))
        #expect(rules.due(at: Self.start + .seconds(64)) == .nothing)
        #expect(rules.due(at: Self.start + .seconds(65)) == .end)
        #expect(rules.take(Frame(opcode: 1, isMasked: false), at: Self.start) == .ignore, "nobody argues with who is being closed")
        #expect(rules.take(Frame(opcode: 8, byteCount: 2, code: 1008), at: Self.start) == .closed(1008))
        var quick = self.rules()
        quick.writeBegan(at: Self.start)
        quick.writeEnded()
        #expect(quick.take(Frame(opcode: 0xA), at: Self.start + .seconds(50)) == .ignore)
        quick.writeBegan(at: Self.start + .seconds(50))
        #expect(quick.due(at: Self.start + .seconds(70)) == .nothing, "each batch has its own time")
    }
}
