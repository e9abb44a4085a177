@testable import Client
import ATProto
import Foundation
import Simulation

/// The server's end of a WebSocket, every byte of it the test's.
final class StreamPeer {
    let connection: RawConnection
    private var buffer: [UInt8] = []

    init(_ connection: RawConnection) { self.connection = connection }

    /// Answers the opening handshake as it should be.
    func accept(headers: String = "") {
        let key = connection.header("Sec-WebSocket-Key") ?? ""
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\(headers)"
                + "Sec-WebSocket-Accept: \(Handshake.accept(key))\r\n\r\n")
    }

    /// A query parameter of the request.
    func parameter(_ name: String) -> String? { URLComponents(string: connection.path)?.queryItems?.first { $0.name == name }?.value }

    /// The cursor that was asked for; 0 for none.
    var cursor: UInt64 { parameter("cursor").flatMap { UInt64($0) } ?? 0 }

    @discardableResult
    func send(message: [UInt8]) -> Bool { send(frame: 0x2, message) }

    @discardableResult
    func send(frame opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true, mask: Bool = false, reserved: UInt8 = 0) -> Bool {
        connection.send(Self.frame(opcode, payload, isFinal: isFinal, mask: mask, reserved: reserved))
    }

    static func frame(_ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true, mask: Bool = false, reserved: UInt8 = 0) -> [UInt8] {
        var bytes: [UInt8] = [(isFinal ? 0x80 : 0) | reserved << 4 | opcode]
        let maskBit: UInt8 = mask ? 0x80 : 0
        switch payload.count {
        case 0...125: bytes.append(maskBit | UInt8(payload.count))
        case 126...0xFFFF: bytes += [maskBit | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
        default: bytes += [maskBit | 127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
        }
        return bytes + (mask ? [0, 0, 0, 0] : []) + payload
    }

    func close(code: UInt16 = 1000) { send(frame: 0x8, [UInt8(code >> 8), UInt8(code & 0xFF)]) }

    /// The client's next frame, unmasked; nil once it has gone.
    func receive() -> (opcode: UInt8, payload: [UInt8], wasMasked: Bool)? {
        while true {
            if let frame = takeFrame() { return frame }
            let bytes = connection.receive()
            if bytes.isEmpty { return nil }
            buffer += bytes
        }
    }

    /// Frames of the client are short: pings, pongs and closes.
    private func takeFrame() -> (opcode: UInt8, payload: [UInt8], wasMasked: Bool)? {
        guard buffer.count >= 2 else { return nil }
        let count = Int(buffer[1] & 0x7F)
        let isMasked = buffer[1] & 0x80 != 0
        let start = isMasked ? 6 : 2
        guard buffer.count >= start + count else { return nil }
        let payload = (0..<count).map { buffer[start + $0] ^ (isMasked ? buffer[2 + $0 % 4] : 0) }
        defer { buffer.removeFirst(start + count) }
        return (buffer[0] & 0x0F, payload, isMasked)
    }
}

extension RawServer {
    /// A server whose connections are streams.
    convenience init(stream answer: @escaping @Sendable (StreamPeer) -> Void) throws {
        try self.init { answer(StreamPeer($0)) }
    }

    var address: ServiceAddress { ServiceAddress(origin)! }
}
