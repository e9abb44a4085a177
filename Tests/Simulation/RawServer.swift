package import Foundation
import Synchronization

/// A server on 127.0.0.1 whose every byte the test writes, one thread a connection, so that it can be as slow, endless and wrong
/// as a stranger's. It listens until it is stopped or let go.
package final class RawServer: Sendable {
    package struct Failure: Error {
        package let operation: String
        package let code: Int32

        package init(operation: String, code: Int32) {
            self.operation = operation
            self.code = code
        }
    }

    package let port: UInt16
    private let log: RequestLog
    private let listener: Int32

    /// - Parameter answer: called once for each connection, when its first request's head has arrived. The connection ends with it.
    package init(_ answer: @escaping @Sendable (RawConnection) -> Void) throws {
        let log = RequestLog()
        self.log = log
        (listener, port) = try Self.listen()
        Thread.detachNewThread { [listener] in
            while true {
                let connection = accept(listener, nil, nil)
                if connection < 0 { break }
                log.noteConnection()
                Thread.detachNewThread {
                    defer { close(connection) }
                    guard let raw = RawConnection(descriptor: connection) else { return }
                    log.note(raw.head)
                    answer(raw)
                }
            }
            close(listener)
        }
    }

    /// Answers every request with one response.
    package convenience init(status: Int = 200, type: String? = "application/json", headers: String = "", body: String) throws {
        try self.init { $0.respond(status: status, type: type, headers: headers, body: [UInt8](body.utf8)) }
    }

    deinit { stop() }

    package func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    package var origin: String { "http://127.0.0.1:\(port)" }
    /// The heads of the requests, as they came.
    package var requests: [String] { log.requests }
    package var connectionCount: Int { log.connectionCount }

    private static func listen() throws -> (listener: Int32, port: UInt16) {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard listener >= 0 else { throw Failure(operation: "socket", code: errno) }
        var address = sockaddr_in.loopback(port: 0)
        guard address.withSockaddr({ bind(listener, $0, $1) }) == 0 else { throw Failure(operation: "bind", code: errno) }
        guard Glibc.listen(listener, 128) == 0 else { throw Failure(operation: "listen", code: errno) }
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = address.withMutableSockaddr { getsockname(listener, $0, &length) }
        return (listener, UInt16(bigEndian: address.sin_port))
    }
}

private final class RequestLog: Sendable {
    private struct State {
        var requests: [String] = []
        var connectionCount = 0
    }

    private let state = Mutex(State())

    func noteConnection() { state.withLock { $0.connectionCount += 1 } }
    func note(_ head: String) { state.withLock { $0.requests.append(head) } }
    var requests: [String] { state.withLock { $0.requests } }
    var connectionCount: Int { state.withLock { $0.connectionCount } }
}

/// One connection to a `RawServer`, its first request read.
package struct RawConnection: Sendable {
    private let descriptor: Int32
    /// The request's head up to the empty line; of a client that does not speak HTTP, its first bytes.
    package let head: String

    /// As much of a body as the head announces.
    package let body: [UInt8]

    fileprivate init?(descriptor: Int32) {
        self.descriptor = descriptor
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        var end: Int?
        repeat {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count <= 0 { return nil }
            bytes.append(contentsOf: buffer[..<count])
            // The first byte of a TLS handshake.
            if bytes[0] == 0x16 { break }
            end = Self.headEnd(bytes)
        } while end.map { bytes.count < $0 + Self.bodyCount(bytes[..<$0]) } ?? true
        head = String(decoding: bytes[..<(end ?? bytes.count)], as: UTF8.self)
        body = Array(bytes[(end ?? bytes.count)...])
    }

    private static func headEnd(_ bytes: [UInt8]) -> Int? {
        bytes.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound
    }

    private static func bodyCount(_ head: ArraySlice<UInt8>) -> Int {
        let lines = String(decoding: head, as: UTF8.self).lowercased().split(separator: "\r\n")
        return lines.first { $0.hasPrefix("content-length: ") }.flatMap { Int($0.dropFirst("content-length: ".count)) } ?? 0
    }

    /// What follows the method.
    package var path: String { head.split(separator: " ").dropFirst().first.map(String.init) ?? "" }

    package func header(_ name: String) -> String? {
        head.split(separator: "\r\n").first { $0.lowercased().hasPrefix(name.lowercased() + ": ") }
            .map { String($0.dropFirst(name.count + 2)) }
    }

    /// - Returns: false once the client has gone.
    @discardableResult
    package func send(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { return false }
            sent += count
        }
        return true
    }

    @discardableResult
    package func send(_ text: String) -> Bool { send([UInt8](text.utf8)) }

    package func respond(status: Int = 200, type: String? = "application/json", headers: String = "", body: [UInt8]) {
        let typeLine = type.map { "Content-Type: \($0)\r\n" } ?? ""
        send("HTTP/1.1 \(status) X\r\n\(typeLine)\(headers)Content-Length: \(body.count)\r\nConnection: close\r\n\r\n")
        send(body)
    }

    /// What the client sent next, up to 64 KiB; empty once it has gone, or when nothing came for longer than any test takes.
    package func receive() -> [UInt8] {
        limitWait()
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return Array(buffer[..<max(0, count)])
    }

    /// Waits until the client has gone, or a little longer than any test.
    package func waitForEnd() {
        limitWait()
        var byte: UInt8 = 0
        while recv(descriptor, &byte, 1, 0) > 0 {}
    }

    /// Waits until the client sends more or has gone.
    /// - Returns: how many bytes came.
    package func waitForMore() -> Int { receive().count }

    private func limitWait() {
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    package func pause(milliseconds: UInt32) { usleep(milliseconds * 1000) }
}

extension sockaddr_in {
    package static func loopback(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = port.bigEndian
        return address
    }

    package mutating func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        withMutableSockaddr { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }

    package mutating func withMutableSockaddr<Result>(_ body: (UnsafeMutablePointer<sockaddr>) -> Result) -> Result {
        withUnsafeMutablePointer(to: &self) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1, body) }
    }
}
