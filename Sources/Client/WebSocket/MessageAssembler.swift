/// What a server did that RFC 6455 does not let it do, or that is over a limit. The same server would do it again.
public enum WebSocketFault: Error, Hashable, Sendable {
    /// A server's frames are not masked.
    case masked
    /// A reserved bit without an extension that gives it a meaning; none was asked for.
    case reservedBits
    case unknownOpcode(UInt8)
    /// A text message on a stream of binary ones.
    case text
    /// A continuation of nothing.
    case unexpectedContinuation
    /// A new message before the last one was whole.
    case interleaved
    case messageTooLarge(bytesMax: Int)
    /// A message in more pieces than anybody needs, empty ones perhaps, without end.
    case tooManyFragments(max: Int)
    /// A ping, pong or close in pieces or of more than 125 bytes; or a close with half a code.
    case invalidControl
}

/// Puts the frames of a server together into messages (RFC 6455, sections 5.2–5.5). Pure: frames in, what to do out.
struct MessageAssembler {
    struct Frame {
        var opcode: UInt8
        var isFinal = true
        var isMasked = false
        var hasReservedBits = false
        var payload: [UInt8]
    }

    enum Outcome: Hashable {
        case nothing
        case message([UInt8])
        /// Answer with a pong of the same bytes.
        case ping([UInt8])
        /// - Parameter code: nil where the server gave none.
        case close(code: UInt16?)
    }

    private let bytesMax: Int
    private let fragmentsMax: Int
    private var pieces: [UInt8]?
    private var fragments = 0

    /// - Parameter bytesMax: of one message.
    init(bytesMax: Int, fragmentsMax: Int) {
        self.bytesMax = bytesMax
        self.fragmentsMax = fragmentsMax
    }

    mutating func take(_ frame: Frame) throws(WebSocketFault) -> Outcome {
        guard !frame.isMasked else { throw .masked }
        guard !frame.hasReservedBits else { throw .reservedBits }
        switch frame.opcode {
        case 0x0: return try take(continuation: frame)
        case 0x1: throw .text
        case 0x2: return try take(first: frame)
        case 0x8, 0x9, 0xA: return try take(control: frame)
        default: throw .unknownOpcode(frame.opcode)
        }
    }

    private mutating func take(first frame: Frame) throws(WebSocketFault) -> Outcome {
        guard pieces == nil else { throw .interleaved }
        guard frame.payload.count <= bytesMax else { throw .messageTooLarge(bytesMax: bytesMax) }
        if frame.isFinal { return .message(frame.payload) }
        pieces = frame.payload
        fragments = 1
        return .nothing
    }

    private mutating func take(continuation frame: Frame) throws(WebSocketFault) -> Outcome {
        guard let begun = pieces else { throw .unexpectedContinuation }
        guard frame.payload.count <= bytesMax - begun.count else { throw .messageTooLarge(bytesMax: bytesMax) }
        fragments += 1
        guard fragments <= fragmentsMax else { throw .tooManyFragments(max: fragmentsMax) }
        pieces?.append(contentsOf: frame.payload)
        guard frame.isFinal, let whole = pieces else { return .nothing }
        pieces = nil
        return .message(whole)
    }

    private func take(control frame: Frame) throws(WebSocketFault) -> Outcome {
        guard frame.isFinal, frame.payload.count <= 125 else { throw .invalidControl }
        switch frame.opcode {
        case 0x9: return .ping(frame.payload)
        case 0x8:
            guard frame.payload.count != 1 else { throw .invalidControl }
            return .close(code: frame.payload.isEmpty ? nil : UInt16(frame.payload[0]) << 8 | UInt16(frame.payload[1]))
        default: return .nothing
        }
    }
}
