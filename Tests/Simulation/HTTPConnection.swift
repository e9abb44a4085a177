import Foundation

/// A connection that speaks HTTP/1.1 over a bare socket, so that a test says what stands on the wire, to the byte, also where that
/// is no HTTP. Calls block: they belong on a thread of their own (`onThread`).
///
/// `@unchecked Sendable`: it may go from thread to thread, but only one at a time works with it.
package final class HTTPConnection: @unchecked Sendable {
    package enum Failure: Error, Equatable {
        /// The system's error number, and what was tried.
        case system(String, Int32)
        /// The other end closed the connection before an answer was whole.
        case closed
        case timedOut
        case malformed(String)
    }

    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var isOpen = true

    /// - Parameters:
    ///   - timeout: how long one call waits for the other end.
    ///   - receiveBytes: asks for a small receive buffer, so that a server that is not listened to notices soon.
    package init(port: UInt16, timeout: Duration = .seconds(30), receiveBytes: Int32? = nil) throws(Failure) {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw .system("socket", errno) }
        var time = timeval(
            tv_sec: Int(timeout.components.seconds), tv_usec: Int(timeout.components.attoseconds / 1_000_000_000_000))
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        if var receiveBytes { setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBytes, socklen_t(MemoryLayout<Int32>.size)) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard code == 0 else {
            let reason = errno
            Foundation.close(descriptor)
            isOpen = false
            throw .system("connect", reason)
        }
    }

    deinit { close() }

    package func close() {
        if isOpen { Foundation.close(descriptor) }
        isOpen = false
    }

    /// Says that nothing more will be sent.
    package func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    package func send(_ bytes: [UInt8]) throws(Failure) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Foundation.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count < 0 {
                switch errno {
                case EINTR: continue
                case EAGAIN: throw .timedOut
                case EPIPE, ECONNRESET: throw .closed
                default: throw .system("send", errno)
                }
            }
            sent += count
        }
    }

    /// Sends a request and takes its answer.
    /// - Parameter body: sent with its length; nil sends neither.
    package func ask(
        _ method: String, _ target: String, headers: [(String, String)] = [], body: [UInt8]? = nil
    ) throws(Failure) -> HTTPAnswer {
        try send(HTTPConnection.head(method, target, headers: headers + (body.map { [("Content-Length", String($0.count))] } ?? [])))
        if let body { try send(body) }
        return try answer(toHead: method == "HEAD")
    }

    package static func head(_ method: String, _ target: String, headers: [(String, String)] = []) -> [UInt8] {
        Array("\(method) \(target) HTTP/1.1\r\nHost: localhost\r\n\(headers.map { "\($0.0): \($0.1)\r\n" }.joined())\r\n".utf8)
    }

    /// The status of the next answer, of which only the head is taken: an interim answer (1xx) has no more.
    package func interimStatus() throws(Failure) -> Int {
        let line = try head()[0]
        guard let status = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else { throw .malformed(line) }
        return status
    }

    /// The next answer, whole. Interim answers (1xx) are passed over.
    package func answer(toHead: Bool = false) throws(Failure) -> HTTPAnswer {
        while true {
            let lines = try head()
            if lines[0].hasPrefix("HTTP/1.1 1") { continue }
            return try answer(after: lines, toHead: toHead)
        }
    }

    /// The rest of an answer whose head was taken.
    package func answer(after lines: [String], toHead: Bool = false) throws(Failure) -> HTTPAnswer {
        let start = lines[0].split(separator: " ", maxSplits: 2)
        guard start.count >= 2, start[0] == "HTTP/1.1", let status = Int(start[1]) else { throw .malformed(lines[0]) }
        var answer = HTTPAnswer(status: status, headers: Self.fields(of: lines), body: [])
        if !toHead, status != 204, status != 304 { answer.body = try body(of: answer) }
        return answer
    }

    /// The header fields behind the first line, names in lower case.
    package static func fields(of lines: [String]) -> [(name: String, value: String)] {
        lines.dropFirst().map { line in
            let colon = line.firstIndex(of: ":") ?? line.endIndex
            return (name: line[..<colon].lowercased(), value: line[colon...].dropFirst().trimmingCharacters(in: .whitespaces))
        }
    }

    /// The lines of the next head, interim ones (1xx) too.
    package func head() throws(Failure) -> [String] {
        var searched = 0
        while true {
            let end: [UInt8] = [0x0D, 0x0A, 0x0D, 0x0A]
            var index = searched
            while index + 4 <= buffer.count {
                if buffer[index] == 0x0D, Array(buffer[index..<index + 4]) == end {
                    let text = String(decoding: buffer[..<index], as: UTF8.self)
                    buffer.removeFirst(index + 4)
                    return text.components(separatedBy: "\r\n")
                }
                index += 1
            }
            searched = max(0, buffer.count - 3)
            try receive()
        }
    }

    private func body(of answer: HTTPAnswer) throws(Failure) -> [UInt8] {
        if answer["transfer-encoding"] == "chunked" {
            var body: [UInt8] = []
            while true {
                guard let count = Int(try line(), radix: 16) else { throw .malformed("chunk") }
                body += try take(count)
                guard try line().isEmpty else { throw .malformed("chunk end") }
                if count == 0 { return body }
            }
        }
        guard let length = answer["content-length"].flatMap({ Int($0) }) else { throw .malformed("no length") }
        return try take(length)
    }

    private func line() throws(Failure) -> String {
        while true {
            if let end = buffer.firstIndex(of: 0x0A) {
                defer { buffer.removeFirst(end + 1) }
                return String(decoding: buffer[..<end].filter { $0 != 0x0D }, as: UTF8.self)
            }
            try receive()
        }
    }

    /// The next bytes, so many.
    package func take(_ count: Int) throws(Failure) -> [UInt8] {
        while buffer.count < count { try receive() }
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }

    private func receive() throws(Failure) {
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        let count = recv(descriptor, &piece, piece.count, 0)
        guard count > 0 else {
            if count == 0 || errno == ECONNRESET { throw .closed }
            if errno == EINTR { return }
            throw errno == EAGAIN ? .timedOut : .system("recv", errno)
        }
        buffer += piece[..<count]
    }

    /// Reads on until the other end closes; false when it has not within the connection's timeout.
    package func isClosedByPeer() -> Bool {
        while true {
            do { try receive() } catch { return error != .timedOut }
            buffer = []
        }
    }
}

package struct HTTPAnswer: Sendable {
    package let status: Int
    /// Names in lower case, in order.
    package let headers: [(name: String, value: String)]
    package var body: [UInt8]

    package subscript(name: String) -> String? { headers.first { $0.name == name }?.value }
    package var text: String { String(decoding: body, as: UTF8.self) }
}

/// Runs what blocks on a thread of its own, so that it takes none of those that tasks run on.
package func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        let thread = Thread { continuation.resume(with: Result { try body() }) }
        thread.stackSize = 1 << 20
        thread.start()
    }
}
