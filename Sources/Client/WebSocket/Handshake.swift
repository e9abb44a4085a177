import ATProto
import Crypto

/// Why a server's answer to the request for a WebSocket is none.
public enum HandshakeFault: Error, Hashable, Sendable {
    /// Not HTTP/1.1, or a head of more than 16 KiB.
    case notHTTP
    /// The answer lacks `Upgrade` or `Connection`, or its `Sec-WebSocket-Accept` is not that of our key.
    case notWebSocket
    /// An extension or a subprotocol that was not asked for.
    case notAskedFor
}

/// The opening handshake of RFC 6455, section 4.1: one request, and a strict reading of what comes back.
struct Handshake {
    static let headBytesMax = 16 << 10

    enum Answer: Hashable {
        case accepted
        /// Any status but 101; a redirect is not followed.
        case refused(status: Int)
    }

    private let key: String

    /// - Parameter nonce: 16 random bytes.
    init(nonce: [UInt8]) {
        precondition(nonce.count == 16, "RFC 6455: a nonce of 16 bytes")
        key = Self.base64(nonce)
    }

    func request(host: String, target: String, headers: [(name: String, value: String)]) -> [UInt8] {
        var text = "GET \(target) HTTP/1.1\r\nHost: \(host)\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        text += "Sec-WebSocket-Key: \(key)\r\nSec-WebSocket-Version: 13\r\n"
        for (name, value) in headers { text += "\(name): \(value)\r\n" }
        return [UInt8]((text + "\r\n").utf8)
    }

    /// Where the head ends in what has come so far, the empty line included; nil while it has not.
    static func headEnd(in bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for index in 3..<bytes.count where bytes[index] == 10 && bytes[index - 1] == 13 && bytes[index - 2] == 10 && bytes[index - 3] == 13
        {
            return index + 1
        }
        return nil
    }

    /// - Parameter head: up to and with the empty line.
    func judge(_ head: [UInt8]) throws(HandshakeFault) -> Answer {
        guard head.count <= Self.headBytesMax, head.allSatisfy({ $0 == 13 || $0 == 10 || $0 == 9 || 0x20...0x7E ~= $0 }) else {
            throw .notHTTP
        }
        var lines = String(decoding: head, as: UTF8.self).utf8.split(separator: 10).map {
            String(Substring($0.last == 13 ? $0.dropLast() : $0))
        }
        guard !lines.isEmpty else { throw .notHTTP }
        let status = try Self.status(lines.removeFirst())
        guard status == 101 else { return .refused(status: status) }
        var fields: [String: [String]] = [:]
        for line in lines where !line.isEmpty {
            guard let colon = line.utf8.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex, line.first != " ", line.first != "\t"
            else {
                throw .notHTTP
            }
            let value = line[line.utf8.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
            fields[line[..<colon].lowercased(), default: []].append(Self.trimmedEnd(value))
        }
        guard fields["sec-websocket-extensions"] == nil, fields["sec-websocket-protocol"] == nil else { throw .notAskedFor }
        let connection = (fields["connection"] ?? []).flatMap { $0.lowercased().split { $0 == "," || $0 == " " } }
        guard fields["upgrade"]?.map({ $0.lowercased() }) == ["websocket"], connection.contains("upgrade"),
            fields["sec-websocket-accept"] == [accept]
        else { throw .notWebSocket }
        return .accepted
    }

    /// What the server must answer to our key.
    var accept: String { Self.accept(key) }

    static func accept(_ key: String) -> String {
        base64(Array(Insecure.SHA1.hash(data: Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))))
    }

    private static func base64(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        Base64.encode(bytes, into: &text)
        while text.count % 4 != 0 { text.append(UInt8(ascii: "=")) }
        return String(decoding: text, as: UTF8.self)
    }

    private static func status(_ line: String) throws(HandshakeFault) -> Int {
        let parts = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2, parts[0] == "HTTP/1.1", parts[1].utf8.count == 3, let status = Int(parts[1]), 100...599 ~= status else {
            throw .notHTTP
        }
        return status
    }

    private static func trimmedEnd(_ text: Substring) -> String {
        var text = text
        while let last = text.last, last == " " || last == "\t" { text.removeLast() }
        return String(text)
    }
}
