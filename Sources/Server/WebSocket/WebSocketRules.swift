import NIOCore

/// What one subscriber may cost in time and memory. The idle time and the number are settings; tests make the rest small.
package struct StreamLimits: Sendable {
    /// Streams at a time; further ones are told to try again later.
    package var connectionsMax: Int
    /// How long nothing may be heard of a client, which is asked to show itself after half of this; and how long some messages may take
    /// to be taken in.
    package var idle: Duration
    /// Of a message of the client's: none is asked for.
    package var messageBytesMax = 4096
    /// Frames of the client's at once, and how many more each second.
    package var framesMax = 100
    package var framesPerSecond = 10
    /// How long the end of a connection may take, from the close frame on.
    package var closing: Duration = .seconds(5)

    package init(connectionsMax: Int = 2000, idle: Duration = .seconds(60)) {
        self.connectionsMax = connectionsMax
        self.idle = idle
    }
}

/// Why a WebSocket is closed (RFC 6455, section 7.4).
struct WebSocketClose: Hashable, Sendable {
    let code: UInt16
    let reason: String

    static let goingAway = WebSocketClose(code: 1001, reason: "the service is stopping")
    static let textRefused = WebSocketClose(code: 1003, reason: "messages are binary")
    static let tooLarge = WebSocketClose(code: 1009, reason: "message too large")
    static let tooMany = WebSocketClose(code: 1008, reason: "too many frames")

    static func broken(_ reason: String) -> WebSocketClose { WebSocketClose(code: 1002, reason: reason) }
}

/// Judges what the client of one WebSocket sends (RFC 6455, section 5), and how long it keeps the server waiting: pure, times come in.
struct WebSocketRules {
    struct Frame {
        var opcode: UInt8
        var isFinal = true
        var hasReservedBits = false
        var isMasked = true
        var byteCount = 0
        /// Of a close frame.
        var code: UInt16?
    }

    enum Verdict: Equatable {
        case ignore
        case pong
        /// The client closes, with this code.
        case closed(UInt16?)
        case refuse(WebSocketClose)
    }

    enum Due: Equatable {
        case nothing
        case ping
        /// Nothing was heard for too long: nobody is there.
        case gone
        /// What was sent is not taken in.
        case tooSlow
        /// The closing has taken long enough.
        case end
    }

    private let limits: StreamLimits
    /// Bytes of the message that the client is in the middle of.
    private var messageBytes: Int?
    private var lastHeard: NIODeadline
    private var lastAsked: NIODeadline
    private var frames: Double
    private var framesSince: NIODeadline
    private var writingSince: NIODeadline?
    private var closingSince: NIODeadline?

    init(_ limits: StreamLimits, now: NIODeadline) {
        self.limits = limits
        lastHeard = now
        lastAsked = now
        frames = Double(limits.framesMax)
        framesSince = now
    }

    var isClosing: Bool { closingSince != nil }

    mutating func take(_ frame: Frame, at now: NIODeadline) -> Verdict {
        lastHeard = now
        // Whoever is being closed is waited for until the close frame comes, and not argued with.
        if isClosing { return frame.opcode == 0x8 ? .closed(frame.code) : .ignore }
        guard frame.isMasked else { return .refuse(.broken("a client masks its frames")) }
        guard !frame.hasReservedBits else { return .refuse(.broken("no extension was agreed upon")) }
        guard spend(at: now) else { return .refuse(.tooMany) }
        switch frame.opcode {
        case 0x0, 0x1, 0x2: return takeData(frame)
        case 0x8...0xA:
            guard frame.isFinal, frame.byteCount <= 125 else { return .refuse(.broken("control frames are whole and short")) }
            return takeControl(frame)
        default: return .refuse(.broken("unknown opcode"))
        }
    }

    private mutating func takeData(_ frame: Frame) -> Verdict {
        switch (frame.opcode, messageBytes) {
        case (0x0, nil): return .refuse(.broken("nothing was begun"))
        case (0x0, .some): break
        case (_, .some): return .refuse(.broken("a message was begun already"))
        case (0x1, nil): return .refuse(.textRefused)
        default: messageBytes = 0
        }
        let bytes = (messageBytes ?? 0) + frame.byteCount
        guard bytes <= limits.messageBytesMax else { return .refuse(.tooLarge) }
        messageBytes = frame.isFinal ? nil : bytes
        return .ignore
    }

    private func takeControl(_ frame: Frame) -> Verdict {
        switch frame.opcode {
        case 0x8:
            guard frame.byteCount != 1 else { return .refuse(.broken("a code has two bytes")) }
            guard frame.code.map(Self.isCode) ?? true else { return .refuse(.broken("no such code")) }
            return .closed(frame.code)
        case 0x9: return .pong
        default: return .ignore
        }
    }

    /// Codes that an end may send.
    private static func isCode(_ code: UInt16) -> Bool {
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: true
        default: false
        }
    }

    private mutating func spend(at now: NIODeadline) -> Bool {
        let seconds = Double((now - framesSince).nanoseconds) / 1e9
        frames = min(Double(limits.framesMax), frames + seconds * Double(limits.framesPerSecond))
        framesSince = now
        guard frames >= 1 else { return false }
        frames -= 1
        return true
    }

    mutating func writeBegan(at now: NIODeadline) { writingSince = writingSince ?? now }
    mutating func writeEnded() { writingSince = nil }
    mutating func closingBegan(at now: NIODeadline) { closingSince = closingSince ?? now }

    /// To be asked every so often; after `ping` a ping is sent.
    mutating func due(at now: NIODeadline) -> Due {
        let idle = TimeAmount(limits.idle)
        if let closingSince { return now - closingSince >= TimeAmount(limits.closing) ? .end : .nothing }
        if let writingSince { return now - writingSince >= idle ? .tooSlow : .nothing }
        if now - lastHeard >= idle { return .gone }
        guard now - max(lastHeard, lastAsked) >= .nanoseconds(idle.nanoseconds / 2) else { return .nothing }
        lastAsked = now
        return .ping
    }
}
