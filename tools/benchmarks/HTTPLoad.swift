import Foundation
import Glibc
import Simulation

/// A closed load over HTTP/1.1: each of some connections sends its next request when the answer to the last is there. One thread, so
/// that it takes little from the server on the other core; every answer is looked at.
struct HTTPLoad {
    let port: UInt16
    let connections: Int

    struct Outcome {
        var answers = 0
        var seconds = 0.0
        /// Of this process.
        var processorSeconds = 0.0
        var latencies = Latencies()
        /// Answers other than 200, by status, and one of them.
        var refused: [Int: Int] = [:]
        var example = ""

        var rate: Double { Double(answers) / seconds }
    }

    /// - Parameter request: the bytes of the next request of a connection.
    func run(seconds: Double, request: (_ connection: Int) throws -> [UInt8]) throws -> Outcome {
        var sockets = try (0..<connections).map { _ in try Connection(port: port) }
        defer { for socket in sockets { Glibc.close(socket.descriptor) } }
        var outcome = Outcome()
        let processor = Clocks.processor()
        let start = Clocks.wall()
        let end = start + seconds
        for index in sockets.indices { try sockets[index].send(try request(index)) }
        var open = connections
        var waits = sockets.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        while open > 0 {
            guard poll(&waits, nfds_t(waits.count), 30_000) > 0 else { throw BenchmarkFailure("no answer within 30 s") }
            for index in waits.indices where waits[index].revents != 0 {
                guard let answer = try sockets[index].receive() else { continue }
                let now = Clocks.wall()
                outcome.answers += 1
                outcome.latencies.record(seconds: now - sockets[index].sent)
                if answer.status != 200 {
                    outcome.refused[answer.status, default: 0] += 1
                    outcome.example = answer.text
                }
                if now < end {
                    try sockets[index].send(try request(index))
                } else {
                    waits[index].fd = -1  // poll(2) passes over it.
                    open -= 1
                }
            }
        }
        outcome.seconds = Clocks.wall() - start
        outcome.processorSeconds = Clocks.processor() - processor
        guard outcome.refused.isEmpty else {
            throw BenchmarkFailure("of \(outcome.answers) answers some were not 200: \(outcome.refused), as this one: \(outcome.example)")
        }
        return outcome
    }

    /// The bytes of a request of somebody to the service.
    /// - Parameter did: who proves themselves by their bare DID, as in development; others bring what proves them in `headers`.
    static func request(
        _ method: String, _ target: String, by did: String? = nil, headers: [(name: String, value: String)] = [], json: String? = nil
    ) -> [UInt8] {
        var text = "\(method) \(target) HTTP/1.1\r\nHost: localhost\r\n"
        if let did { text += "Authorization: Bearer \(did)\r\n" }
        for (name, value) in headers { text += "\(name): \(value)\r\n" }
        if let json { text += "Content-Type: application/json\r\nContent-Length: \(json.utf8.count)\r\n" }
        return Array((text + "\r\n" + (json ?? "")).utf8)
    }

    /// Waits until the server answers.
    static func awaitHealth(port: UInt16, of process: ChildProcess) throws {
        for _ in 0..<600 {
            if var connection = try? Connection(port: port) {
                defer { Glibc.close(connection.descriptor) }
                try connection.send(request("GET", "/health"))
                while true { if let answer = try connection.receive(), answer.status == 200 { return } }
            }
            usleep(50_000)
        }
        throw BenchmarkFailure("the server did not answer within 30 s")
    }

    /// A port that nobody listens on now.
    static func freePort() throws -> UInt16 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { Glibc.close(descriptor) }
        var address = Connection.loopback(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, length) == 0 ? getsockname(descriptor, address, &length) : -1
            }
        }
        guard code == 0 else { throw BenchmarkFailure("no port is free: \(String(cString: strerror(errno)))") }
        return UInt16(bigEndian: address.sin_port)
    }
}

/// One connection and the answer that is arriving on it. Reads are blocking, after `poll` has said that there is something.
private struct Connection {
    struct Answer {
        let status: Int
        let text: String
    }

    let descriptor: Int32
    private(set) var sent = 0.0
    private var bytes: [UInt8] = []

    init(port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = Self.loopback(port: port)
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard code == 0 else {
            let code = errno
            Glibc.close(descriptor)
            throw BenchmarkFailure("connect: \(String(cString: strerror(code)))")
        }
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    static func loopback(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    mutating func send(_ request: [UInt8]) throws {
        sent = Clocks.wall()
        var done = 0
        while done < request.count {
            let count = request.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + done, $0.count - done, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw BenchmarkFailure("send: \(String(cString: strerror(errno)))") }
            done += count
        }
    }

    /// Takes what has arrived; nil: the answer is not whole yet. Every answer of ours says its length.
    mutating func receive() throws -> Answer? {
        try withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 8) { buffer in
            let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
            guard count > 0 else { throw BenchmarkFailure("the server closed a connection") }
            bytes.append(contentsOf: buffer[..<count])
        }
        guard let (head, length) = Self.head(of: bytes), bytes.count >= head + length else { return nil }
        guard bytes.count == head + length, bytes.count > 12 else { throw BenchmarkFailure("more than one answer to one request") }
        let status = bytes[9..<12].reduce(0) { $0 * 10 + Int($1) - 48 }
        let answer = Answer(status: status, text: status == 200 ? "" : String(decoding: bytes, as: UTF8.self))
        bytes.removeAll(keepingCapacity: true)
        return answer
    }

    /// Bytes of the head with its empty line, and of the body behind it; nil: the head is not whole yet.
    private static func head(of bytes: [UInt8]) -> (head: Int, body: Int)? {
        bytes.withUnsafeBytes { buffer in
            var line = 0
            var body = 0
            while let end = buffer[line...].firstIndex(of: 0x0D), end + 1 < buffer.count {
                if end == line { return (end + 2, body) }
                let field = buffer[line..<end]
                if field.count > contentLength.count, zip(field, contentLength).allSatisfy({ $0 | 0x20 == $1 }) {
                    body = field.dropFirst(contentLength.count).reduce(0) { $1 == 0x20 ? $0 : $0 * 10 + Int($1) - 48 }
                }
                line = end + 2
            }
            return nil
        }
    }

    /// In lower case; setting the bit of lower case changes neither the hyphen nor the colon.
    private static let contentLength = Array("content-length:".utf8)
}
