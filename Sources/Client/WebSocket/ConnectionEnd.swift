/// How a connection to a stream ended, or why there was none.
public enum ConnectionEnd: Error, Hashable, Sendable {
    /// The server closed it as the protocol asks, with this code: 1000 is the normal end.
    case closed(code: UInt16?)
    /// It broke.
    case lost
    /// The server said nothing for too long, and did not answer a ping either.
    case silent
    /// No handshake in time: name, connection, TLS and upgrade together.
    case handshakeTimedOut
    /// Nobody answers there: no such name, no connection.
    case unreachable
    /// The name stands for addresses alone that may not be connected to.
    case refusedAddress
    /// The server's certificate is not one that is trusted for its name.
    case untrusted
    /// The server answered the upgrade with another status than 101.
    case refusedUpgrade(status: Int)
    case handshake(HandshakeFault)
    case fault(WebSocketFault)
}

extension ConnectionEnd: CustomStringConvertible {
    public var description: String {
        switch self {
        case .closed(let code): "the server closed the stream\(code.map { " with code \($0)" } ?? "")"
        case .lost: "the connection broke"
        case .silent: "the server has gone silent"
        case .handshakeTimedOut: "no handshake in time"
        case .unreachable: "nobody answers there"
        case .refusedAddress: "the host has no address that may be connected to"
        case .untrusted: "the server's certificate is not trusted"
        case .refusedUpgrade(let status): "the server answered \(status) to the request for a stream"
        case .handshake(.notHTTP): "the server does not speak HTTP/1.1"
        case .handshake(.notWebSocket): "the server does not speak WebSocket"
        case .handshake(.notAskedFor): "the server chose an extension that was not asked for"
        case .fault(let fault): "the server broke the WebSocket protocol: \(fault)"
        }
    }
}
