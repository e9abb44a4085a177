import Foundation

/// A WebSocket over a bare socket, which says what it is told to, also where that is no WebSocket any more. Calls block.
///
/// `@unchecked Sendable`: it may go from thread to thread, but only one at a time works with it.
package final class WebSocketClient: @unchecked Sendable {
    package enum Failure: Error {
        /// The handshake was answered otherwise.
        case refused(HTTPAnswer)
        case malformed(String)
    }

    package struct Frame: Sendable {
        package let opcode: UInt8
        package let payload: [UInt8]

        /// Of a close frame.
        package var code: UInt16? { payload.count >= 2 ? UInt16(payload[0]) << 8 | UInt16(payload[1]) : nil }
        package var reason: String { String(decoding: payload.dropFirst(2), as: UTF8.self) }
    }

    /// What became of a stream.
    package enum Event: Sendable {
        case message(SeenMessage)
        case closed(code: UInt16?, reason: String)
        /// Without a close frame.
        case cut
    }

    private let port: UInt16
    private let target: String
    private let sent: [(String, String)]
    /// To the handshake.
    package let headers: [(name: String, value: String)]
    package let connection: HTTPConnection

    package static let handshake = [
        ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]

    /// - Parameters:
    ///   - timeout: how long one call waits for the other end.
    ///   - receiveBytes: asks for a small receive buffer.
    package init(
        port: UInt16, _ target: String, headers: [(String, String)] = [], timeout: Duration = .seconds(30), receiveBytes: Int32? = nil
    ) throws {
        (self.port, self.target, sent) = (port, target, headers)
        connection = try HTTPConnection(port: port, timeout: timeout, receiveBytes: receiveBytes)
        try connection.send(HTTPConnection.head("GET", target, headers: Self.handshake + headers))
        let lines = try connection.head()
        guard lines[0].hasPrefix("HTTP/1.1 101") else { throw Failure.refused(try connection.answer(after: lines)) }
        self.headers = HTTPConnection.fields(of: lines)
    }

    package func close() { connection.close() }

    /// Asks for the same once more, over a connection beside this one, which stays open meanwhile.
    package func another<Result>(_ body: (WebSocketClient) throws -> Result) throws -> Result {
        try body(try WebSocketClient(port: port, target, headers: sent))
    }

    // MARK: In

    /// The next frame, whatever it is.
    package func frame() throws(HTTPConnection.Failure) -> Frame {
        let head = try connection.take(2)
        guard head[0] & 0x70 == 0, head[1] & 0x80 == 0 else { throw .malformed("a server's frame is plain and not masked") }
        guard head[0] & 0x80 != 0 else { throw .malformed("a fragment") }
        var count = Int(head[1])
        if count >= 126 { count = try connection.take(count == 126 ? 2 : 8).reduce(0) { $0 << 8 | Int($1) } }
        return Frame(opcode: head[0] & 0x0F, payload: try connection.take(count))
    }

    /// The next message, pings being answered on the way, or how the connection ended.
    package func next() throws -> Event {
        while true {
            let frame: Frame
            do throws(HTTPConnection.Failure) {
                frame = try self.frame()
            } catch {
                guard error == .closed else { throw error }
                return .cut
            }
            switch frame.opcode {
            case 0x2: return .message(try SeenMessage(frame.payload))
            case 0x8:
                // best effort: whoever closes may be gone already.
                try? send(0x8, Array(frame.payload.prefix(2)))
                return .closed(code: frame.code, reason: frame.reason)
            case 0x9: try send(0xA, frame.payload)
            case 0xA: continue
            default: throw Failure.malformed("opcode \(frame.opcode)")
            }
        }
    }

    /// Messages until there are so many, or the connection ends.
    package func messages(_ count: Int) throws -> [SeenMessage] {
        var messages: [SeenMessage] = []
        while messages.count < count, case .message(let message) = try next() { messages.append(message) }
        return messages
    }

    /// Reads on until the end: the messages before it, and the close frame's code and reason.
    package func end() throws -> (messages: [SeenMessage], code: UInt16?, reason: String) {
        var messages: [SeenMessage] = []
        while true {
            switch try next() {
            case .message(let message): messages.append(message)
            case .closed(let code, let reason): return (messages, code, reason)
            case .cut: return (messages, nil, "")
            }
        }
    }

    // MARK: Out

    /// - Parameters:
    ///   - first: the bits in front of the opcode: the last fragment, and three that are reserved.
    ///   - count: says another length than the payload has.
    package func send(
        _ opcode: UInt8, _ payload: [UInt8] = [], first: UInt8 = 0x80, isMasked: Bool = true, count: UInt64? = nil
    ) throws(HTTPConnection.Failure) {
        try connection.send(Self.frame(opcode, payload, first: first, isMasked: isMasked, count: count))
    }

    package static func frame(
        _ opcode: UInt8, _ payload: [UInt8] = [], first: UInt8 = 0x80, isMasked: Bool = true, count: UInt64? = nil
    ) -> [UInt8] {
        let count = count ?? UInt64(payload.count)
        let mask: UInt8 = isMasked ? 0x80 : 0
        var bytes = [first | opcode]
        switch count {
        case 0..<126: bytes.append(mask | UInt8(count))
        case 126...0xFFFF: bytes += [mask | 126, UInt8(count >> 8), UInt8(count & 0xFF)]
        default: bytes += [mask | 127] + (0..<8).map { UInt8(truncatingIfNeeded: count >> (56 - 8 * UInt64($0))) }
        }
        guard isMasked else { return bytes + payload }
        let key: [UInt8] = [0x37, 0xFA, 0x21, 0x3D]
        return bytes + key + payload.enumerated().map { $1 ^ key[$0 % 4] }
    }
}
